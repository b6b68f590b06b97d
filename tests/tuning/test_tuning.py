"""A search for settings: what it tries, what it keeps, what its best settings train, and what it never reads."""

import json
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from conftest import files_under, load_script
from optuna.distributions import CategoricalDistribution
from safetensors.torch import load_file

from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.errors import CheckFailed, Interrupted, UsageError
from recipe.metrics import intervals
from recipe.training import train
from recipe.training.job import TrainingJob, prepare
from recipe.training.trainer import ReviewTrainer
from recipe.tuning import search
from recipe.tuning.page import draw_trials, findings, page
from recipe.tuning.record import TrialRecord, Tuning, best_of, f1_interval
from recipe.tuning.run import tune
from recipe.tuning.space import first_of, require_searchable, settings_of, space_of
from recipe.tuning.trial import train_trial

Parse = Callable[..., Arguments]
FLAGS = "--learning_rate 3e-3 --max_length 16".split()
# Of 60 steps in the first trial, and 30 to 120 in the others.
SHORT = [*FLAGS, "--num_train_epochs", "2"]


@pytest.fixture(scope="module")
def job(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A training of the tiny run's flags that does not start."""
    folder = tmp_path_factory.mktemp("job")
    return prepare(parse_arguments([*tiny_flags, *FLAGS, "--output_dir", str(folder)]))


def trial(number: int, f1: float | None, ended_early: str = "", **settings: Any) -> TrialRecord:
    """A trial that is done."""
    tried = {"learning_rate": 5e-5, "num_train_epochs": 8, "global_batch_size": 8, "warmup_ratio": 0.1}
    return TrialRecord(
        number, {**tried, "max_length": 64, **settings}, f1, 0.5, 2.0, [[5, 1], [1, 5]], 60.0, ended_early
    )


def tuning_of(trials: list[TrialRecord], best: int, interval: list[float], seen: int | None = None) -> Tuning:
    """A search that is done."""
    names = ("learning_rate", "num_train_epochs", "global_batch_size", "warmup_ratio", "max_length")
    return Tuning(
        recipe="0",
        versions={},
        labels=["bad", "good"],
        rows={"train": 240, "validation": 60},
        seed=42,
        space=dict.fromkeys(names, "1 to 2"),
        wanted=len(trials),
        seen=seen or len(trials),
        trials=trials,
        best=best,
        interval=interval,
    )


def test_the_space_holds_the_first_trial(job: TrainingJob) -> None:
    first, study = first_of(job.arguments), optuna.create_study()
    assert first["learning_rate"] == 3e-3 and first["num_train_epochs"] == 4 and first["max_length"] == 16
    study.enqueue_trial(first)
    with warnings.catch_warnings():
        # Optuna warns of a value outside of what is tried, and takes another.
        warnings.simplefilter("error")
        assert study.ask(space_of(job)).params == first


def test_a_length_is_tried_only_if_it_cuts_otherwise(job: TrainingJob, tiny_arguments: Parse) -> None:
    longest = max(job.trainer.train_dataset["tokens"][:])  # type: ignore[index]
    assert 16 < longest < 32, "some reviews are cut at 16, none at 32"
    # The tiny BERT reads no more than 64.
    assert space_of(job)["max_length"] == CategoricalDistribution((16, 64))
    uncut = prepare(tiny_arguments("--max_length", "32"))
    assert space_of(uncut)["max_length"] == CategoricalDistribution((32,))


@pytest.mark.parametrize(
    ("flags", "batches"),
    [
        # 240 rows: twice 4 epochs of 30 steps are enough, twice 4 of 15 are not.
        ([], (8,)),
        (["--num_train_epochs", "8"], (8, 16)),
        (["--num_train_epochs", "8", "--global_batch_size", "12"], (8, 12, 16)),
        (["--num_train_epochs", "8", "--gradient_accumulation_steps", "16", "--global_batch_size", "16"], (16,)),
    ],
)
def test_a_batch_is_tried_if_it_divides_and_leaves_200_steps(
    flags: list[str], batches: tuple[int, ...], tiny_arguments: Parse
) -> None:
    assert space_of(prepare(tiny_arguments(*flags)))["global_batch_size"] == CategoricalDistribution(batches)


def test_the_first_trial_has_the_settings_that_train_py_takes(tiny_bert: Path, reviews_folder: Path) -> None:
    words = f"--model_name_or_path {tiny_bert} --dataset_name {reviews_folder} --max_length 32 --use_cpu".split()
    for flags in ([], ["--num_train_epochs", "12"], ["--learning_rate", "1e-4"], ["--eval_strategy", "epoch"]):
        arguments = scheduled(parse_arguments([*words, *flags]), 240)
        assert settings_of(first_of(arguments), arguments, 240) == arguments.resolved, flags


def test_a_trial_is_validated_as_often_as_the_schedule_would(tiny_bert: Path, reviews_folder: Path) -> None:
    words = f"--model_name_or_path {tiny_bert} --dataset_name {reviews_folder} --max_length 32 --use_cpu".split()
    arguments = scheduled(parse_arguments(words), 240)
    found = settings_of(first_of(arguments) | {"num_train_epochs": 13, "global_batch_size": 16}, arguments, 240)
    # Every third of 15 epochs, of 15 steps each.
    assert (found["num_train_epochs"], found["eval_strategy"], found["eval_steps"]) == (15.0, "steps", 45)
    found = settings_of(first_of(arguments) | {"num_train_epochs": 4}, arguments, 240)
    assert (found["num_train_epochs"], found["eval_strategy"]) == (4.0, "epoch") and "eval_steps" not in found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--max_steps 5", "--max_steps 5 fixes what is searched for"),
        ("--warmup_steps 5", "--warmup_steps 5 fixes what is searched for"),
        ("--num_train_epochs 2.5", "--num_train_epochs 2.5 is no whole number"),
        ("--eval_strategy steps --save_strategy steps --eval_steps 9", "--eval_strategy steps does not go with"),
        ("--metric_for_best_model accuracy", "--metric_for_best_model accuracy is not searched by"),
        ("--resume", "--resume is not needed"),
        ("--overwrite_output_dir", "--overwrite_output_dir would remove the trials"),
        ("--inspect_data", "--inspect_data is of train.py"),
        ("--refit --unlabelled_file a.csv", r"--unlabelled_file \S*a\.csv is for the best settings"),
        ("--refit --unlabelled_file a.csv b.csv", r"--unlabelled_file \S*a\.csv and 1 more is for the best settings"),
    ],
)
def test_a_setting_that_a_search_cannot_have_is_refused(flags: str, message: str, tiny_arguments: Parse) -> None:
    with pytest.raises(UsageError, match=message):
        tune(tiny_arguments(*flags.split()), 2, Path("nowhere"))
    assert not Path("nowhere").exists()


def test_the_metrics_that_mean_f1_are_both_taken(tiny_arguments: Parse) -> None:
    for name in ("f1", "eval_f1"):
        require_searchable(tiny_arguments("--metric_for_best_model", name))


def test_no_trial_and_a_missing_optuna_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("tune")
    with pytest.raises(UsageError, match="--n_trials 0 runs no trial"):
        script.main(["--n_trials", "0"])
    monkeypatch.setattr("recipe.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"optuna is not installed: run pip install -e '\.\[tune\]'"):
        script.main(["--n_trials", "2"])


def test_a_folder_with_other_files_is_left_alone(tiny_arguments: Parse, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files than a search"):
        tune(tiny_arguments(), 2, tmp_path)
    assert files_under(tmp_path) == {"notes.txt"}


def test_the_best_is_the_first_of_equals_among_those_trained_to_their_end() -> None:
    trials = [
        trial(1, 0.8),
        trial(2, 0.9),
        trial(3, 0.9),
        trial(4, 0.95, "pruned after epoch 2"),
        trial(5, None, "lost"),
    ]
    assert (found := best_of(trials)) and found.number == 2
    assert best_of(trials[3:]) is None


def test_the_interval_of_counts_is_that_of_their_rows() -> None:
    labels, predicted = [0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 1, 1]
    exact = intervals.f1_interval(np.array(labels), np.array(predicted))
    assert f1_interval([[1, 2], [1, 4]]) == pytest.approx(exact)


def test_what_was_found_says_how_often_the_validation_rows_were_seen_and_whether_it_may_be_chance() -> None:
    same = " ".join(findings(tuning_of([trial(1, 0.9), trial(2, 0.8)], 1, [0.8, 0.95])))
    assert "No trial was better than the first" in same and "60 validation rows have now seen 2 trials" in same
    chance = " ".join(findings(tuning_of([trial(1, 0.85), trial(2, 0.9)], 2, [0.8, 0.95], seen=22)))
    assert "the gain may be chance" in chance and "seen 22 trials" in chance and "flattered" in chance
    more = " ".join(findings(tuning_of([trial(1, 0.5), trial(2, 0.9)], 2, [0.8, 0.95])))
    assert "below the interval" in more and "chance" not in more
    assert "was lost" in findings(tuning_of([trial(1, None, "lost"), trial(2, 0.9)], 2, [0.8, 0.95]))[0]


def test_a_best_trial_that_gives_one_label_to_every_review_is_said() -> None:
    one_label = replace(trial(1, 0.67), confusion=[[0, 30], [0, 30]])
    assert "The model gives 'good' to every review." in findings(tuning_of([one_label, trial(2, 0.5)], 1, [0.5, 0.8]))
    assert "to every review" not in " ".join(findings(tuning_of([one_label, trial(2, 0.9)], 2, [0.8, 0.95])))


def test_the_page_and_the_picture_show_every_trial() -> None:
    trials = [trial(1, 0.9), trial(2, 0.7, "pruned after epoch 2", learning_rate=2.5e-5), trial(3, None, "lost")]
    found = tuning_of(trials, 1, [0.8, 0.95])
    text = page(found, Path("runs/search"))
    assert "| 2 | 2.5e-05 | 8 | 8 | 0.10 | 64 | 0.7000 | 2 | 60.0 | pruned after epoch 2 |" in text
    assert "| 3 | 5e-05 | 8 | 8 | 0.10 | 64 | – |" in text and "train.py --config runs/search/best.yaml" in text
    left, right = draw_trials(found).axes
    points = {line.get_label(): line for line in right.lines}
    assert list(points["trained to its end"].get_xydata()[0]) == [5e-5, 0.9]  # type: ignore[index]
    assert list(points["ended early"].get_xydata()[0]) == [2.5e-5, 0.7]  # type: ignore[index]


def test_a_trial_is_ended_where_the_median_of_three_was_better_by_then(tiny_arguments: Parse, tmp_path: Path) -> None:
    job = prepare(tiny_arguments("--learning_rate", "1e-5", "--max_length", "32"))
    study, space = search.open_study(tmp_path, job, space_of(job)), space_of(job)
    for _ in range(3):
        values = {1: 0.999, 2: 0.999}
        study.add_trial(
            optuna.trial.create_trial(
                params=first_of(job.arguments), distributions=space, value=1.0, intermediate_values=values
            )
        )
    best, ended_early = train_trial(job, study.ask(space), "trial")
    # Of four epochs the second is the first after a third of the training.
    assert ended_early == "pruned after epoch 2" and best and best.f1 < 0.999
    assert job.trainer.state.global_step == 60
    assert not list(tmp_path.rglob("checkpoint-*")) and not list(Path(str(job.trainer.args.output_dir)).iterdir())


def test_a_line_that_was_cut_off_is_left_out_and_a_damaged_one_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    space = space_of(job)
    study = search.open_study(tmp_path, job, space)
    study.tell(study.ask(space), 0.5)
    file = tmp_path / "trials.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":')
    again = search.open_study(tmp_path, job, space)
    again.tell(again.ask(space), 0.6)
    assert [found.value for found in search.open_study(tmp_path, job, space).trials] == [0.5, 0.6]
    assert all(json.loads(line) for line in file.read_text().splitlines()), "JSON, and no pickle"
    file.write_bytes(whole[:40] + b"\n" + whole[40:])
    with pytest.raises(UsageError, match="trials.jsonl is damaged"):
        search.open_study(tmp_path, job, space)


def test_a_trial_that_was_killed_is_tried_again_with_its_settings(job: TrainingJob, tmp_path: Path) -> None:
    space = space_of(job)
    study = search.open_study(tmp_path, job, space)
    study.tell(study.ask(space), 0.5)
    killed = study.ask(space).params
    again = search.open_study(tmp_path, job, space)
    assert again.trials[1].state == optuna.trial.TrialState.FAIL
    assert again.ask(space).params == killed


def test_other_rows_or_settings_are_another_search(job: TrainingJob, tmp_path: Path, tiny_arguments: Parse) -> None:
    search.open_study(tmp_path, job, space_of(job))
    other = prepare(tiny_arguments("--seed", "7", "--learning_rate", "3e-3", "--max_length", "16"))
    with pytest.raises(UsageError, match=r"is of another run: rows of train \(.*seed \(42, now 7\) changed"):
        search.open_study(tmp_path, other, space_of(other))


@pytest.mark.slow
def test_the_best_settings_train_the_same_model_to_the_bit(
    tiny_arguments: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_of_test_rows: list[str]
) -> None:
    weights: list[dict[str, str]] = []
    original = ReviewTrainer.evaluate

    def evaluate(trainer: ReviewTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        weights.append(hashes(trainer.model.state_dict()))
        return original(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ReviewTrainer, "evaluate", evaluate)
        found = tune(tiny_arguments(*SHORT), 3, tmp_path / "search")
    assert not reads_of_test_rows
    assert files_under(tmp_path / "search") == {
        *("trials.jsonl", "tuning.json", "best.yaml", "README.md", "trials.png"),
    }
    best = found.trial(found.best)
    assert best.f1 == max(trial.f1 for trial in found.trials if trial.f1 and not trial.ended_early)
    monkeypatch.chdir(tmp_path)
    run = train(parse_arguments(["--config", str(tmp_path / "search" / "best.yaml")]))
    record = run.read_record()
    assert run.path == tmp_path / "search_best" and run.read_config()["tuned_trials"] == 3
    assert (record.best.f1, record.best.loss, record.best.epoch) == (best.f1, best.loss, best.epoch)
    assert hashes(load_file(run.path / "model.safetensors")) in weights
    flags = ["--config", str(tmp_path / "search" / "best.yaml"), "--refit", "--output_dir", str(tmp_path / "refitted")]
    refitted = train(parse_arguments(flags))
    assert refitted.read_record().best.f1 == best.f1 and refitted.read_record().best.loss == best.loss
    assert hashes(load_file(refitted.path / "model.safetensors")) not in weights


def hashes(tensors: dict[str, Any]) -> dict[str, str]:
    """The sha256 of each tensor."""
    return {name: sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}


class Killed(BaseException):
    """What nothing catches, as a SIGKILL."""


@pytest.mark.slow
def test_a_search_that_was_killed_and_stopped_finds_the_same(
    tiny_arguments: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(tiny_arguments(*SHORT), 3, tmp_path / "whole")
    original, steps = ReviewTrainer.training_step, iter(range(1, 10_000))

    def step(trainer: ReviewTrainer, *args: Any, **kwargs: Any) -> Any:
        number = next(steps)
        if number == 50:
            raise Killed
        if number == 130:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(trainer, *args, **kwargs)

    monkeypatch.setattr(ReviewTrainer, "training_step", step)
    with pytest.raises(Killed):
        tune(tiny_arguments(*SHORT), 3, tmp_path / "cut")
    with pytest.raises(Interrupted, match="stopped: 1 of 3 trials are done and kept") as end:
        tune(tiny_arguments(*SHORT), 3, tmp_path / "cut")
    assert end.value.code == 143 and (tmp_path / "cut" / "best.yaml").is_file()
    cut = tune(tiny_arguments(*SHORT), 3, tmp_path / "cut")

    def but_seconds(found: Tuning) -> list[dict[str, Any]]:
        return [vars(trial) | {"seconds": None} for trial in found.trials]

    assert but_seconds(cut) == but_seconds(whole) and cut.best == whole.best
    settings = [yaml.safe_load((tmp_path / name / "best.yaml").read_text()) for name in ("whole", "cut")]
    assert settings[0] | {"output_dir": ""} == settings[1] | {"output_dir": ""}


@pytest.mark.slow
def test_a_trial_whose_loss_is_lost_counts_and_is_never_the_best(tiny_arguments: Parse, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="none of 1 trials .* came to its end: lost: its loss is not finite"):
        tune(tiny_arguments("--learning_rate", "1e30"), 1, tmp_path / "search")


def test_a_search_that_begins_with_tuned_settings_counts_both_searches(tiny_arguments: Parse, tmp_path: Path) -> None:
    found = search.Search(tiny_arguments(*FLAGS, "--tuned_trials", "20"), tmp_path)
    done = found.study.ask(found.space)
    figures = {"f1": 0.5, "loss": 1.0, "epoch": 1.0, "confusion": [[1, 1], [1, 1]], "seconds": 1.0, "ended_early": ""}
    done.set_user_attr("figures", figures)
    found.study.tell(done, 0.5)
    tuning = found.tuning(5)
    assert tuning.seen == 21 and found.best_settings(tuning)["tuned_trials"] == 21

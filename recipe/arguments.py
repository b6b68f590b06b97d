"""What a run is: three dataclasses, read from one YAML file and the flags that override it."""

import argparse
import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
import yaml
from transformers import HfArgumentParser

from recipe.command_line import OneLineErrors, unknown_name, usable_cores
from recipe.errors import UsageError

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_CONFIG = "quickstart"
# What validation computes, and so what the best epoch can be picked by.
METRICS = ("f1", "accuracy", "precision", "recall")


@dataclass
class ModelArguments:
    """Which pretrained weights to start from."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased",
        metadata={
            "help": "A model on the Hub, a local folder, or package:NAME for weights that an installed package holds."
        },
    )
    model_revision: str = field(
        default="main", metadata={"help": "Commit, tag or branch of a model on the Hub; the commit goes into run.json."}
    )


@dataclass
class DataArguments:
    """Which labelled reviews to use, how many, and how much of each is read."""

    dataset_name: str = field(
        default="fancyzhx/amazon_polarity",
        metadata={
            "help": "A dataset on the Hub, a local folder in the Hub's layout, or package:NAME for reviews that an "
            "installed package holds."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the dataset, where it has several."}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Your own reviews, in place of the dataset: .csv, .tsv, .jsonl, .parquet, or .txt (fastText)."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "The same for validation; without it, rows of train are set aside."}
    )
    test_file: str | None = field(
        default=None, metadata={"help": "The same for test; without it, nothing is evaluated."}
    )
    dataset_revision: str | None = field(
        default=None,
        metadata={"help": "Commit, tag or branch of a dataset on the Hub. By default the recipe's pin, else main."},
    )
    text_columns: list[str] = field(
        default_factory=lambda: ["content"],
        metadata={"help": "One column, or two that are read as BERT's sentence pair (title content)."},
    )
    label_column: str = field(default="label", metadata={"help": "Column of the label: 0/1, 1/2 or names."})
    sampling: Literal["first", "random"] = field(
        default="first",
        metadata={
            "help": "Which rows max_train_samples and max_test_samples take: the first, which are read alone, or a "
            "stratified sample drawn by --seed (of test the same with every seed), which needs the whole dataset."
        },
    )
    max_train_samples: int = field(
        default=20_000, metadata={"help": "Take N train rows, validation included; -1 takes all."}
    )
    max_test_samples: int = field(default=5_000, metadata={"help": "Take N test rows; -1 takes all."})
    validation_fraction: float = field(
        default=0.2, metadata={"help": "Share of the train rows set aside for validation, stratified and seeded."}
    )
    inspect_data: bool = field(
        default=False,
        metadata={"help": "Only look at the data: print the report, write <run>/data.json, train nothing."},
    )
    max_length: int = field(
        default=128, metadata={"help": "Word pieces a review is cut at, [CLS] and [SEP] counted in."}
    )

    @property
    def files(self) -> dict[str, str]:
        """Return the user's own files by split, none if a dataset is read."""
        named = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        return {split: path for split, path in named.items() if path is not None}

    @property
    def max_rows(self) -> dict[str, int]:
        """Return how many rows of a split are wanted, -1 for all; of validation rows always all."""
        return {"train": self.max_train_samples, "validation": -1, "test": self.max_test_samples}

    @property
    def first_rows(self) -> dict[str, int]:
        """Return how many of a split's first rows are read, -1 for all, as a random sample may need any of them."""
        return self.max_rows if self.sampling == "first" else dict.fromkeys(self.max_rows, -1)

    def __post_init__(self) -> None:
        """Check what can be checked without looking at any data.

        Raises:
            UsageError: A value is out of its range.
        """
        for name in ("max_train_samples", "max_test_samples"):
            if (rows := getattr(self, name)) < 1 and rows != -1:
                raise UsageError(f"--{name} {rows} takes no row: give a number from 1, or -1 for all rows")
        if not 0 < self.validation_fraction < 1:
            raise UsageError(f"--validation_fraction {self.validation_fraction} is not between 0 and 1")
        if self.max_length < 3:
            raise UsageError(f"--max_length {self.max_length} leaves no room for a word between [CLS] and [SEP]")
        if not 1 <= len(self.text_columns) <= 2:
            raise UsageError(f"--text_columns takes one column or two, not {len(self.text_columns)}")
        columns = [*self.text_columns, self.label_column]
        if len(set(columns)) < len(columns) or "label" in self.text_columns:
            raise UsageError(
                f"--text_columns and --label_column name a column twice, or read 'label' as text: {columns}"
            )


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """Everything that transformers' `TrainingArguments` has, with the original recipe's defaults."""

    num_train_epochs: float = field(default=5.0, metadata={"help": "Epochs to train for."})
    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    global_batch_size: int = field(
        default=16, metadata={"help": "Reviews per step of the optimiser, whatever the number of devices."}
    )
    # None until `_share_batch`; transformers, which reads them later, has plain numbers here.
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Reviews that a device computes at once. By default its share of global_batch_size; with fewer it "
            "accumulates gradients until the step is whole."
        },
    )
    gradient_accumulation_steps: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Follows from the two above; where given, the size per device follows."}
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Reviews per device and validation batch."})
    precision: Literal["auto", "bf16", "fp16", "fp32"] = field(
        default="auto",
        metadata={"help": "auto: bf16 where the GPU has it, else fp16 on a GPU, fp32 on the CPU."},
    )
    optim: str = field(default="adamw_torch_fused", metadata={"help": "The optimiser: AdamW, in one kernel."})
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata={"help": "balanced: reviews of a rare label weigh more in the train loss."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after N validations in a row without a better one."}
    )
    # How often in a row no validation was better, above all.
    restore_callback_states_from_checkpoint: bool = field(default=True, metadata={"help": "On --resume, theirs too."})
    resume: bool = field(
        default=False, metadata={"help": "Go on from the newest whole checkpoint in output_dir, as if never stopped."}
    )
    save_steps: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "A checkpoint every N steps as well, between those of the validations."}
    )
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Processes that pad batches ahead: by default up to 4 on a GPU, none on a CPU."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate: epoch, steps or no."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: as eval_strategy."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log the training loss."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Reload the best epoch at the end."})
    metric_for_best_model: str = field(default="f1", metadata={"help": "Validation metric that picks the best epoch."})
    group_by_length: bool = field(default=True, metadata={"help": "Batch reviews of like length: less padding."})
    # Trainer does not recognise every label column by itself, and then skips `compute_metrics` without a word
    # (transformers#40217, #28530).
    label_names: list[str] = field(
        default_factory=lambda: ["labels"], metadata={"help": "The label's name in a batch."}
    )
    # By default transformers takes the silence asked of its logging for a wish to see no progress bar.
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})
    # Every parameter takes part in every step, and looking for others costs one more walk over the graph.
    ddp_find_unused_parameters: bool = field(default=False, metadata={"help": "As PyTorch's DistributedDataParallel."})
    report_to: str = field(default="none", metadata={"help": "Where to send logs: none, tensorboard, …"})

    def __post_init__(self) -> None:
        """Let transformers check and complete its own arguments, then refuse what would break the recipe.

        Raises:
            UsageError: A number is not positive, or the best epoch could not be found or reloaded.
        """
        for name in (
            *("num_train_epochs", "learning_rate", "gradient_accumulation_steps", "global_batch_size"),
            *("per_device_train_batch_size", "per_device_eval_batch_size", "early_stopping_patience"),
        ):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name} {value} must be more than 0, and finite")
        self._share_batch(int(os.environ.get("WORLD_SIZE", "1")))
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed} must be from 0 to {2**32 - 1}")
        if (metric := self.metric_for_best_model.removeprefix("eval_")) not in (*METRICS, "loss"):
            raise UsageError(f"--metric_for_best_model {metric} is not one of {', '.join(METRICS)}, loss")
        self._set_hardware(0 if self.use_cpu else torch.cuda.device_count())
        self._set_checkpoint_steps()
        super().__post_init__()
        if not self.load_best_model_at_end:
            raise UsageError("--load_best_model_at_end False would keep the last epoch, not the best: leave it on")
        if self.eval_strategy == "no":
            raise UsageError("--eval_strategy no leaves nothing to pick the best epoch by: use epoch or steps")
        if self.save_strategy == "best":
            # It reloads the last checkpoint instead of the best (transformers PR #40221).
            raise UsageError("--save_strategy best does not reload the best epoch: use epoch or steps")
        if self.resume_from_checkpoint is not None:
            raise UsageError(
                "--resume_from_checkpoint does not look at what it resumes: give --output_dir and --resume"
            )
        if self.resume and self.overwrite_output_dir:
            raise UsageError("--resume goes on with a run, --overwrite_output_dir removes it: give one of them")
        if self.eval_on_start:
            raise UsageError("--eval_on_start would validate once more on every --resume: leave it out")
        if self.auto_find_batch_size:
            raise UsageError("--auto_find_batch_size would change the batch: give --per_device_train_batch_size")

    def _set_hardware(self, gpus: int) -> None:
        """Choose precision, TF32, compiling and workers as the device has them, unless told otherwise.

        Raises:
            UsageError: There are more processes than GPUs, or the device does not have the precision.
        """
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if gpus and processes > gpus:
            raise UsageError(f"{processes} processes but {gpus} GPU(s) on this machine: give --num_processes {gpus}")
        if not gpus and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Accelerate would not join processes on a CPU that it was not told of: each would train alone.
            self.use_cpu = True
        # By flag, or by `accelerate launch` and its configuration through the environment.
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        asked = "bf16" if self.bf16 else "fp16" if self.fp16 else "auto" if launched == "no" else launched
        has_bf16 = bool(gpus) and torch.cuda.is_bf16_supported(including_emulation=False)
        chosen = effective_precision(asked if self.precision == "auto" else self.precision, bool(gpus), has_bf16)
        self.bf16, self.fp16 = chosen == "bf16", chosen == "fp16"
        os.environ["ACCELERATE_MIXED_PRECISION"] = chosen if chosen in ("bf16", "fp16") else "no"
        if self.tf32 is None and gpus and torch.cuda.get_device_capability() >= (8, 0):
            self.tf32 = True
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = min(4, usable_cores() // processes) if gpus else 0
        if self.torch_compile:
            # Lengths change from batch to batch; without it each new one is compiled until the limit is reached.
            os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"] = "true"

    def _set_checkpoint_steps(self) -> None:
        """Read `save_steps` as the distance of checkpoints between validations, where those decide when to save.

        Raises:
            UsageError: It is not a whole number.
        """
        given, self.save_steps = self.save_steps, 500 if self.save_steps is None else self.save_steps
        self.checkpoint_steps = 0
        if given is not None and self.save_strategy == "epoch":
            if not math.isfinite(given) or given != int(given) or given < 1:
                raise UsageError(f"--save_steps {given:g} must be a whole number of steps, from 1")
            self.checkpoint_steps = int(given)

    def _share_batch(self, processes: int) -> None:
        """Set the size per device and the accumulation steps so that a step sees `global_batch_size` reviews.

        Raises:
            UsageError: It cannot be shared out; names the nearest that can.
        """
        per_device, steps = self.per_device_train_batch_size, self.gradient_accumulation_steps
        share = processes * (per_device or 1) * (steps or 1)
        if per_device and steps and share != self.global_batch_size:
            raise UsageError(
                f"{processes} process(es) with --per_device_train_batch_size {per_device} and "
                f"--gradient_accumulation_steps {steps} make a batch of {share}, not --global_batch_size "
                f"{self.global_batch_size}: leave one of the three out"
            )
        if self.global_batch_size % share:
            lower = self.global_batch_size // share * share
            raise UsageError(
                f"--global_batch_size {self.global_batch_size} does not divide by {share} ({processes} process(es)"
                + (f" of {per_device} reviews" if per_device else "")
                + (f", {steps} accumulation steps" if steps else "")
                + f"): the nearest that do are {f'{lower} and ' if lower else ''}{lower + share}"
            )
        self.per_device_train_batch_size = per_device or self.global_batch_size // share
        self.gradient_accumulation_steps = self.global_batch_size // (processes * self.per_device_train_batch_size)


def effective_precision(asked: str, has_gpu: bool, has_bf16: bool) -> str:
    """Return bf16, fp16 or fp32: what was asked for, or with "auto" the fastest that the device has.

    Raises:
        UsageError: The device does not have it.
    """
    if asked == "auto":
        return "bf16" if has_bf16 else "fp16" if has_gpu else "fp32"
    if asked in ("bf16", "fp16") and not has_gpu:
        raise UsageError(f"{asked} needs a GPU, and there is none: leave --precision and mixed precision out")
    if asked == "bf16" and not has_bf16:
        raise UsageError("this GPU has no bf16: use --precision fp16, or leave it out")
    return asked


@dataclass
class Arguments:
    """A whole run's arguments.

    Attributes:
        config: The YAML file they were read from.
        model, data, training: The three dataclasses.
        resolved: Every setting that is not both transformers' default and ours, and the seed, as `--config` takes them.
    """

    config: Path
    model: ModelArguments
    data: DataArguments
    training: TrainingArguments
    resolved: dict[str, Any]


class RunParser(OneLineErrors, HfArgumentParser):
    """Reads the three dataclasses, whose every field is a flag."""

    def __init__(self, description: str | None = None) -> None:
        """Show `description`, a script's docstring, above the flags."""
        super().__init__(
            (ModelArguments, DataArguments, TrainingArguments),  # type: ignore[arg-type]
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--config",
            default=DEFAULT_CONFIG,
            help=f"A run's YAML file, or the name of one in recipe/configs/: {', '.join(config_names())} "
            f"(default: {DEFAULT_CONFIG}). Its every key is also a flag, and a flag wins.",
        )


def config_names() -> list[str]:
    """Return the names that `--config` knows."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(name_or_path: str) -> Path:
    """Return the YAML file that `--config` means.

    Raises:
        UsageError: There is none; the message lists those in `recipe/configs/`.
    """
    for path in (CONFIGS / f"{name_or_path}.yaml", Path(name_or_path)):
        if path.is_file():
            return path
    raise UsageError(
        f"no config {name_or_path!r}: give a YAML file, or one of {', '.join(config_names())} from recipe/configs/"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings of a run's YAML file.

    Raises:
        UsageError: The file is not YAML, or not a mapping.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{path} must hold `key: value` lines, not a {type(settings).__name__}")
    return settings


def parse_arguments(argv: list[str], description: str | None = None) -> Arguments:
    """Return the run that the command line asks for.

    Args:
        argv: The flags, as in `sys.argv[1:]`.
        description: What `--help` shows above them.

    Raises:
        UsageError: An unknown config, key or flag, or a value that is not allowed.
    """
    parser = RunParser(description)
    config = find_config(_config_of(argv, parser))
    from_file = _parse_config(config, parser)
    parser.set_defaults(**from_file)
    if _names_files(vars(parser.parse_known_flags(argv))) and not _names_files(from_file):
        # How many rows the config reads was meant for the dataset that these files take the place of.
        parser.set_defaults(max_train_samples=-1, max_test_samples=-1)
    values = vars(parser.parse_known_flags(argv))
    del values["config"]
    values["output_dir"] = values["output_dir"] or f"runs/{_run_name(values, parser, config)}"
    model, data, training = _build(values, parser)
    # They are no part of what the run is.
    del values["inspect_data"], values["resume"]
    return Arguments(config, model, data, training, _resolved(values))


def data_arguments_of(settings: dict[str, Any]) -> DataArguments:
    """Return the data arguments of a run's resolved settings, as `Arguments.resolved` holds them.

    Raises:
        UsageError: They are not what a run writes.
    """
    names = {f.name for f in dataclasses.fields(DataArguments)}
    try:
        return DataArguments(**{name: value for name, value in settings.items() if name in names})
    except TypeError as error:
        raise UsageError(f"config.yaml of the run is damaged: {error}") from error


def _names_files(settings: dict[str, Any]) -> bool:
    """Return whether settings name files of the user's own."""
    return any(settings.get(key) is not None for key in ("train_file", "validation_file", "test_file"))


def _run_name(values: dict[str, Any], parser: RunParser, config: Path) -> str:
    """Return what a run is called unless told: as its config, or as the reviews that take the place of the config's."""
    for key in ("train_file", "dataset_name"):
        if values[key] and values[key] != parser.get_default(key):
            return Path(values[key]).resolve().stem
    return config.stem


def _config_of(argv: list[str], parser: RunParser) -> str:
    """Return what `--config` says, before the rest can be parsed: its file gives the others their defaults."""
    only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    only.error = parser.error  # type: ignore[method-assign]
    only.add_argument("--config", default=DEFAULT_CONFIG)
    return str(only.parse_known_args(argv)[0].config)


def _parse_config(path: Path, parser: RunParser) -> dict[str, Any]:
    """Return the YAML file's settings, each checked and converted just as its flag would be.

    YAML alone would leave `2e-5` a string, and would let a list stand where a number belongs.
    """
    settings = read_config(path)
    known = set(vars(parser.parse_args([]))) - {"config"}
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"{unknown_name('key', str(key), known)} (in {path})")
        if value is None and parser.get_default(key) is not None:
            raise UsageError(f"{key} has no value (in {path})")
        if isinstance(value, list) and parser._option_string_actions[f"--{key}"].nargs != "+":
            raise UsageError(f"{key} takes one value, not a list (in {path})")
    given = {key: value for key, value in settings.items() if value is not None}
    argv = [word for key, value in given.items() for word in (f"--{key}", *_words(value))]
    try:
        parsed = vars(parser.parse_known_flags(argv))
    except UsageError as error:
        raise UsageError(f"{error} (in {path})") from error
    return {key: parsed[key] if key in given else None for key in settings}


def _words(value: Any) -> list[str]:
    """Return a YAML value as the words of a command line."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return [json.dumps(value) if isinstance(value, dict) else str(value)]


def _build(values: dict[str, Any], parser: RunParser) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """Return the three dataclasses, turning what transformers refuses into a `UsageError`."""
    try:
        model, data, training = parser.parse_dict(values)
    except (ValueError, ImportError, TypeError) as error:
        raise UsageError(str(error)) from error
    return model, data, training


def _resolved(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that make this run what it is, paths made absolute so that they hold from anywhere.

    What equals both transformers' default and ours is left out: over a hundred settings that nobody chose.
    """
    ours = vars(RunParser().parse_args([]))
    library = vars(HfArgumentParser(transformers.TrainingArguments).parse_args([]))  # type: ignore[arg-type]
    chosen = {key for key, value in values.items() if key not in library or not value == ours[key] == library[key]}
    resolved = {key: values[key] for key in chosen | {"seed"}}
    for key in ("model_name_or_path", "dataset_name", "train_file", "validation_file", "test_file"):
        if resolved[key] and (path := Path(resolved[key]).expanduser()).exists():
            resolved[key] = str(path.resolve())
    return dict(sorted(resolved.items()))

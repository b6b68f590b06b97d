"""Parse a run's three dataclasses from one YAML file and the flags that override it."""

import argparse
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import yaml
from transformers import HfArgumentParser

from recipe.arguments.data import FILES, PATHS, DataArguments
from recipe.arguments.model import ModelArguments
from recipe.arguments.schedule import SCHEDULED, Schedule, left_open, schedule
from recipe.arguments.training import TrainingArguments
from recipe.command_line import OneLineErrors, unknown_name
from recipe.errors import UsageError
from recipe.files.parts import find_parts

CONFIGS = Path(__file__).parents[1] / "configs"
DEFAULT_CONFIG = "quickstart"
# What `--help` shows; `--help_all` shows the rest too.
FIRST_FLAGS = (
    *("config", *PATHS, "text_columns", "label_column", "model_name_or_path", "dataset_name", "output_dir"),
    *("overwrite_output_dir", "resume", "inspect_data", "max_length", "max_train_samples", "num_train_epochs"),
    *("global_batch_size", "learning_rate", "precision", "class_weights", "early_stopping_patience", "seed", "seeds"),
)
# What a command asks of the folder once; config.yaml, which trains the same again, does not ask for it.
ORDERS = {"inspect_data", "resume", "overwrite_output_dir"}


@dataclass
class Arguments:
    """All arguments of a run.

    Attributes:
        config: The YAML file they were read from.
        model, data, training: The three dataclasses.
        resolved: Every setting that is not both transformers' default and ours, and the seed, as `--config` takes them.
        from_rows: Settings that nobody chose for the user's own reviews. Until `scheduled` is told how many there are,
            `training` has what a single one would get, and `resolved` has nothing.
        reason: Why the schedule is what it is, in words.
    """

    config: Path
    model: ModelArguments
    data: DataArguments
    training: TrainingArguments
    resolved: dict[str, Any]
    from_rows: frozenset[str] = frozenset()
    reason: str = "as given"


class RunParser(OneLineErrors, HfArgumentParser):
    """Reads the three dataclasses, whose every field is a flag.

    Attributes:
        defaults: The default of every flag but `--config`.
    """

    def __init__(self, description: str | None = None, show_all: bool = False) -> None:
        """Show `description`, a script's docstring, above the flags: `FIRST_FLAGS`, or all of them."""
        classes = (ModelArguments, DataArguments, TrainingArguments)
        super().__init__(
            classes,  # type: ignore[arg-type]
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--config",
            help=f"A run's YAML file, or the name of one in recipe/configs/: {', '.join(config_names())} "
            f"(default: {DEFAULT_CONFIG}). Its every key is also a flag, and a flag wins.",
        )
        self.add_argument("--help_all", action="help", help="Show every flag, those of transformers among them.")
        shown = {f"--{name}" for name in (*FIRST_FLAGS, "help", "help_all")}
        for action in self._actions:
            if not (show_all or shown & set(action.option_strings)):
                action.help = argparse.SUPPRESS
        self.defaults = _defaults(*classes)
        # No flag can give None, so it marks the flags that were not chosen.
        self.set_defaults(**dict.fromkeys(self.defaults))

    def parse_chosen(self, argv: list[str]) -> dict[str, Any]:
        """Return the values of the flags in `argv` alone, without any default; a mistake raises a `UsageError`."""
        return {name: value for name, value in vars(self.parse_known_flags(argv)).items() if value is not None}


def config_names() -> list[str]:
    """Return the names that `--config` knows."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(name_or_path: str) -> Path:
    """Return the YAML file that `--config` means; if there is none, a `UsageError` lists those of the recipe."""
    for path in (CONFIGS / f"{name_or_path}.yaml", Path(name_or_path)):
        if path.is_file():
            return path
    raise UsageError(
        f"no config {name_or_path!r}: give a YAML file, or one of {', '.join(config_names())} from recipe/configs/"
    )


def read_config(path: Path, parser: RunParser) -> dict[str, Any]:
    """Return the settings of a run's YAML file, each checked and converted as its flag would be.

    YAML alone would leave `2e-5` a string, and would accept a list in place of a number.

    Raises:
        UsageError: The file is not a YAML mapping, a key is unknown, or a value is not allowed.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{path} must hold `key: value` lines, not a {type(settings).__name__}")
    words: list[str] = []
    for key, value in settings.items():
        if key not in parser.defaults:
            raise UsageError(f"{unknown_name('key', str(key), parser.defaults)} (in {path})")
        if value is None and parser.defaults[key] is not None:
            raise UsageError(f"{key} has no value (in {path})")
        if isinstance(value, list) and key not in PATHS and not isinstance(parser.defaults[key], list):
            raise UsageError(f"{key} takes one value, not a list (in {path})")
        # A flag of several values takes at least one, so none can only be the default.
        if value is not None and not value == [] == parser.defaults[key]:
            values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
            words += [f"--{key}", *map(str, values)]
    try:
        return parser.parse_chosen(words)
    except UsageError as error:
        raise UsageError(f"{error} (in {path})") from error


def parse_arguments(argv: list[str], description: str | None = None) -> Arguments:
    """Return the run that the command line asks for.

    Args:
        argv: The flags, as in `sys.argv[1:]`.
        description: Shown above the flags by `--help`.

    Raises:
        UsageError: An unknown config, key or flag, or a value that is not allowed.
    """
    parser = RunParser(description, show_all="--help_all" in argv)
    flags = parser.parse_chosen(argv)
    config = find_config(flags.pop("config", DEFAULT_CONFIG))
    from_file = read_config(config, parser)
    # Only a flag replaces a run: the config.yaml of an earlier version has it from the run that it describes.
    from_file.pop("overwrite_output_dir", None)
    values = parser.defaults | from_file
    run_name = config.stem
    if flags.get("dataset_name") not in (None, values["dataset_name"]):
        run_name = Path(flags["dataset_name"]).resolve().stem
    if flags.get("train_file") not in (None, values["train_file"]):
        run_name = _files_name(flags["train_file"])
    if set(FILES) & flags.keys() and not set(FILES) & from_file.keys():
        # The config's numbers of rows were meant for the dataset that the user's files replace.
        values |= {"max_train_samples": -1, "max_test_samples": -1}
    chosen = {*from_file, *flags}
    if "unlabelled_file" in chosen and "refit" not in chosen:
        flags["refit"] = True
    values |= flags
    _require_sense(values)
    values["output_dir"] = values["output_dir"] or f"runs/{run_name}"
    from_rows: frozenset[str] = frozenset()
    is_ours = config.resolve().parent == CONFIGS.resolve()
    if values["train_file"] or values["dataset_name"] != (from_file if is_ours else parser.defaults)["dataset_name"]:
        if is_ours:
            # Its schedule was made for the dataset that the user's reviews replace.
            from_file = {name: value for name, value in from_file.items() if name not in SCHEDULED}
            values |= {name: parser.defaults[name] for name in SCHEDULED if name not in flags}
        from_rows = left_open({**from_file, **flags})
    try:
        model, data, training = parser.parse_dict(values | _schedule(values, from_rows, rows=1).settings)
    except (ValueError, ImportError, TypeError, OSError) as error:
        raise UsageError(str(error)) from error
    return Arguments(config, model, data, training, _resolved(values, parser.defaults, from_rows), from_rows)


def _require_sense(values: dict[str, Any]) -> None:
    """Raise a `UsageError` where validation rows would be learned from and kept apart, or a teacher has no pupil."""
    if values["teacher"] is not None and not values["unlabelled_file"]:
        raise UsageError("--teacher answers the reviews of --unlabelled_file: give that too")
    learned = "--refit learns from the validation rows too"
    if values["unlabelled_file"]:
        learned = "--unlabelled_file is learned from after --refit, which learns from the validation rows too"
        if not values["refit"]:
            raise UsageError(f"{learned}: give --refit, or leave the file out")
    if values["refit"] and values["validation_file"]:
        raise UsageError(f"{learned}, and --validation_file keeps them apart: give one")


def scheduled(arguments: Arguments, rows: int, contrast: bool = False) -> Arguments:
    """Return the arguments with the settings that follow from the number of train rows; the same if all were chosen.

    `contrast` is whether the weights can begin with the mean of their tokens.
    """
    if not arguments.from_rows:
        return arguments
    found = _schedule(arguments.resolved, arguments.from_rows, rows, contrast)
    return with_settings(arguments, arguments.resolved | found.settings, found.reason)


def with_settings(arguments: Arguments, settings: dict[str, Any], reason: str) -> Arguments:
    """Return the arguments with other settings of the training and another `max_length`, and the reason for them.

    `settings` are all that are resolved.
    """
    names = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
    given = settings | {name: getattr(arguments.training, name) for name in ORDERS & names}
    return dataclasses.replace(
        arguments,
        training=TrainingArguments(**{name: value for name, value in given.items() if name in names}),
        data=dataclasses.replace(arguments.data, max_length=settings["max_length"]),
        resolved=dict(sorted(settings.items())),
        reason=reason,
    )


def _schedule(settings: dict[str, Any], from_rows: frozenset[str], rows: int, contrast: bool = False) -> Schedule:
    """Return what `rows` train rows make of the settings `from_rows`, beside the others."""
    found = schedule(
        rows,
        share=int(os.environ.get("WORLD_SIZE", "1"))
        * (settings.get("per_device_train_batch_size") or 1)
        * (settings.get("gradient_accumulation_steps") or 1),
        batch=None if "global_batch_size" in from_rows else settings["global_batch_size"],
        contrast=contrast if "contrast_labels" in from_rows else settings.get("contrast_labels", False),
    )
    chosen = {name: value for name, value in found.settings.items() if name in from_rows}
    return Schedule(chosen, found.reason if "num_train_epochs" in from_rows else "as given")


def _resolved(values: dict[str, Any], ours: dict[str, Any], from_rows: frozenset[str]) -> dict[str, Any]:
    """Return the settings that make this run what it is, paths made absolute so that they hold from anywhere.

    Settings equal to both transformers' default and ours are left out: over a hundred that nobody chose. No warm-up is
    stated, as it would follow from the rows otherwise.
    """
    library = _defaults(transformers.TrainingArguments)
    chosen = {key for key, value in values.items() if key not in library or not value == ours[key] == library[key]}
    resolved = {key: values[key] for key in (chosen | {"seed", "warmup_ratio"}) - ORDERS - from_rows}
    for key in ("model_name_or_path", "dataset_name", "teacher"):
        resolved[key] = resolved[key] and _absolute(resolved[key])
    for key in PATHS:
        # The files of today: a part that comes later is none of this run's.
        parts = list(map(_absolute, find_parts(resolved[key] or ())))
        resolved[key] = parts if len(parts) > 1 else next(iter(parts), None)
    return dict(sorted(resolved.items()))


def _absolute(name: str) -> str:
    """Return the absolute path of what is there, and any other name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name


def _files_name(given: list[str]) -> str:
    """Return the name of a run on the user's files: that of the file, or of the folder that its parts are in."""
    parts = find_parts(given)
    return Path(parts[0]).resolve().stem if parts == given[:1] else Path(parts[0]).resolve().parent.name


def _defaults(*classes: type) -> dict[str, Any]:
    """Return the default of each field of some dataclasses."""
    fields = [f for cls in classes for f in dataclasses.fields(cls) if f.init]
    return {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in fields}

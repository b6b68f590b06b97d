"""What a run is: three dataclasses, read from one YAML file and the flags that override it."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import yaml
from transformers import HfArgumentParser

from recipe.arguments.data import DataArguments
from recipe.arguments.model import ModelArguments
from recipe.arguments.training import TrainingArguments
from recipe.command_line import OneLineErrors, unknown_name
from recipe.errors import UsageError

CONFIGS = Path(__file__).parents[1] / "configs"
DEFAULT_CONFIG = "quickstart"


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

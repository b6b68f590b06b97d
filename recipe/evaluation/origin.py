"""Where a run's weights and rows come from, as a model card may say it: no path, and no local folder as a Hub id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub import metadata_load, try_to_load_from_cache

from recipe import quickstart
from recipe.evaluation.types import Measured
from recipe.files.parts import joined_name
from recipe.run_folder import RunRecord

PACKAGES = {quickstart.PREFIX + package.name: package for package in (quickstart.WEIGHTS, quickstart.REVIEWS)}
# What a card's front matter says that also holds for a model which is made from it.
FACTS = ("license", "license_name", "license_link", "language")


@dataclass(frozen=True)
class Origin:
    """Weights, or rows of one kind.

    Attributes:
        name: A name that is not a path.
        pin: What pins it, in words; empty if nothing does.
        hub_id: The repository on the Hub, if there is one.
        revision, config: Of a repository on the Hub.
        facts: `license` and `language`, where they are known.
    """

    name: str
    pin: str = ""
    hub_id: str | None = None
    revision: str | None = None
    config: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def weights_of(record: RunRecord) -> Origin:
    """Return where training started."""
    return _named("model", record.weights)


def rows_of(record: RunRecord, split: str, measured: Measured | None = None) -> Origin:
    """Return where the rows of a split come from; `measured` are files of test rows that are not the run's own."""
    files = measured.files if measured and split == "test" else record.dataset.get("files", {}).get(split)
    if files:
        return files_origin(files if isinstance(files, list) else [files])
    if split == "validation" and "files" in record.dataset:
        return rows_of(record, "train")
    return _named("dataset", record.dataset)


def files_origin(parts: Sequence[Mapping[str, str]]) -> Origin:
    """Return the user's own files, each given by its path, `file`, and its `sha256`."""
    pin = f"sha256 {parts[0]['sha256']}" if len(parts) == 1 else ""
    return Origin(joined_name([Path(part["file"]).name for part in parts]), pin)


def _named(kind: Literal["model", "dataset"], source: Mapping[str, Any]) -> Origin:
    """Return weights or a dataset by their description in `run.json`."""
    name = source["name"]
    if package := PACKAGES.get(name):
        pin = f"from the package {package.name} {source['version']}"
        return Origin(package.hub_id or package.name, pin, package.hub_id, facts=package.facts)
    if revision := source.get("revision"):
        card = try_to_load_from_cache(name, "README.md", revision=revision, repo_type=kind)
        facts = _facts(Path(card)) if isinstance(card, str) else {}
        return Origin(name, f"revision {revision}", name, revision, source.get("config"), facts)
    folder = Path(name).expanduser()
    return Origin(folder.resolve().name, facts=_facts(folder / "README.md"))


def _facts(card: Path) -> dict[str, Any]:
    """Return the facts that a card's front matter states; nothing of a card that is missing or cannot be read."""
    try:
        found = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    facts = {name: value if isinstance(value := found.get(name), list) else [value] for name in FACTS}
    # The Hub takes texts alone, and YAML reads the Norwegian `no` as false.
    valid = {name: value for name, value in facts.items() if value and all(isinstance(part, str) for part in value)}
    return {name: value if len(value) > 1 else value[0] for name, value in valid.items()}

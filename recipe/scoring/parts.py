"""Lay out a folder of scored parts: one for each input file, wherever the folder is and whoever scores.

    scored/a.csv                the part of the input a.csv, whole or missing; scoring that file alone gives its bytes
    scored/_a.csv.errors.jsonl  its skipped rows, if there are any
    scored/.a.csv.json          which input it was made of, and its counts; written before the part
    scored/_scoring.json        the settings that all parts have in common; written before everything else

Spark, pyarrow and this project take no name that begins with a dot or an underscore for a part.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recipe.errors import UsageError
from recipe.files.atomic import as_json, write_whole
from recipe.files.readers import SCORED_FORMATS, file_format

MANIFEST = "_scoring.json"
# The totals in a part's record, those of `recipe.scoring.summary.Summary`.
COUNTS = ("rows", "truncated", "wordless", "tokens", "unknown", "skipped")
# What a kill leaves of a record or a manifest, see `recipe.files.atomic.replacing`.
UNFINISHED = re.compile(r"\..+\.json\.\d+")


class Storage(Protocol):
    """A folder on this machine or elsewhere; `str` names it."""

    def names(self) -> list[str]:
        """Return the names in it, none where there is no such folder."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, `None` where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, and make the folder if needed."""

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""


@dataclass(frozen=True)
class LocalStorage:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        """Return its path."""
        return str(self.path)

    def names(self) -> list[str]:
        """Return the names in it, none where there is no such folder."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def read(self, name: str) -> bytes | None:
        """Return a file's content, `None` where there is none."""
        file = self.path / name
        return file.read_bytes() if file.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, and make the folder if needed."""
        write_whole(self.path / name, content)

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        if (self.path / name).is_dir():
            shutil.rmtree(self.path / name)
        else:
            (self.path / name).unlink(missing_ok=True)


def part_names(inputs: Iterable[str], output_format: str | None = None) -> dict[str, str]:
    """Return the input of each part by the part's name: the input's own, with the extension of another format.

    Args:
        inputs: Paths or addresses.
        output_format: `csv`, `tsv`, `jsonl` or `parquet`; `None` keeps the input's.

    Raises:
        UsageError: Two inputs would be written to one part, or one has an unknown extension.
    """
    parts: dict[str, str] = {}
    for path in inputs:
        name = _part_name(path, output_format)
        if name in parts:
            raise UsageError(f"{parts[name]} and {path} would both be written to {name}: score them one by one")
        parts[name] = path
    return parts


def _part_name(path: str, output_format: str | None) -> str:
    name, found = path.rsplit("/", 1)[-1], file_format(path, SCORED_FORMATS, "--input")
    # Rows are written one by one.
    extension = f".{output_format}" if output_format else ".jsonl" if found.extension == ".json" else found.extension
    if extension == found.extension:
        return name
    stem = name[: len(name) - len(found.extension + found.compression)]
    return stem + extension + ("" if extension == ".parquet" else found.compression)


def errors_name(part: str) -> str:
    """Return the name of the file that lists a part's skipped rows."""
    return f"_{part}.errors.jsonl"


@dataclass
class PartFolder:
    """A folder of scored parts.

    Attributes:
        parts: The names of all parts that this scoring makes.
    """

    storage: Storage
    parts: Collection[str]

    def __str__(self) -> str:
        """Return the folder's name."""
        return str(self.storage)

    def require_same(self, settings: Mapping[str, Any], adding: bool = False) -> None:
        """Raise `UsageError` if the folder holds parts of other settings, or anything that is none of the parts.

        Args:
            adding: Whether parts of other inputs may stand beside the new ones.
        """
        present = self.storage.names()
        known = [*self.parts, *(self._recorded() if adding else ())]
        strange = [name for name in present if name not in known and not name.startswith((".", "_"))]
        if strange:
            self._refuse(f"holds {strange[0]}, which is no part of this scoring")
        found = self._settings()
        if changes := changed(found, settings) if found else []:
            self._refuse(f"holds parts of something else: {', '.join(changes)}")
        if not found and (unknown := [name for name in present if name in self.parts]):
            self._refuse(f"holds {unknown[0]}, which no scoring has written")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Name the settings of the parts in the folder, and remove the parts that were made with others."""
        for unfinished in filter(UNFINISHED.fullmatch, self.storage.names()):
            self.storage.remove(unfinished)
        if (found := self._settings()) == settings:
            return
        for part in {*(self._recorded() if found else ()), *self.parts}:
            self.remove(part)
        self.storage.write(MANIFEST, as_json(settings))

    def scored(self) -> list[str]:
        """Return the names of all parts that stand in the folder, those of other inputs too."""
        there = set(self.storage.names())
        return [part for part in self._recorded() if part in there]

    def whole(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the record, as `record` has written it, of each part that is whole and has these settings."""
        if self._settings() != settings:
            return {}
        there = set(self.storage.names())
        found = {part: self._read(_record_name(part)) for part in self.parts if part in there}
        return {part: record for part, record in found.items() if record.keys() >= {"input", *COUNTS}}

    def is_of(self, part: str, record: Mapping[str, Any], identity: str, overwrite: bool) -> bool:
        """Return whether a part that is whole was made of the input of this identity.

        Raises:
            UsageError: It was not, and may not be overwritten.
        """
        same = bool(record["input"] == identity)
        if not (same or overwrite):
            self._refuse(f"holds {part} of another input: the file has changed since")
        return same

    def record(self, part: str, identity: str, counts: Mapping[str, int]) -> None:
        """Write what a part is made of, before the part takes its place.

        Args:
            identity: What changes when the input does, such as its sha256.
            counts: The totals of `Summary`.
        """
        self.storage.write(_record_name(part), as_json({"input": identity, **counts}))

    def remove(self, part: str) -> None:
        """Remove a part and all that belongs to it; the record last, so that a kill leaves nothing unnamed."""
        for name in (f".{part}.parts", errors_name(part), part, _record_name(part)):
            self.storage.remove(name)

    def _recorded(self) -> list[str]:
        names = self.storage.names()
        return [name[1 : -len(".json")] for name in names if name.startswith(".") and name.endswith(".json")]

    def _settings(self) -> dict[str, Any]:
        return self._read(MANIFEST)

    def _read(self, name: str) -> dict[str, Any]:
        """Return a file's content, empty if there is none that can be read."""
        try:
            return dict(json.loads(self.storage.read(name) or b"{}"))
        except (ValueError, TypeError):
            return {}

    def _refuse(self, reason: str) -> None:
        raise UsageError(f"{self} {reason}; choose another --output, or give --overwrite")


def changed(found: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what to say of each setting that is another now."""
    changes = []
    for key, value in now.items():
        if found.get(key) != value:
            is_digest = isinstance(value, str) and len(value) == 64
            changes.append(f"the {key} has changed{'' if is_digest else f' from {found.get(key)} to {value}'}")
    return changes


def _record_name(part: str) -> str:
    return f".{part}.json"

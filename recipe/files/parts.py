"""Find the files that a user names by paths, patterns, and folders of parts."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recipe.errors import UsageError


class Place(NamedTuple):
    """What messages call some rows; `parts` are their files in order, each with its number of rows."""

    name: str
    parts: list[tuple[str, int]]

    def __str__(self) -> str:
        """Return the name of all rows."""
        return self.name

    def row(self, number: int) -> str:
        """Return what to call the row of a number from 0: the number, from 1, that it has in its own file."""
        for name, rows in self.parts[:-1]:
            if number < rows:
                return f"row {number + 1} of {name}"
            number -= rows
        return f"row {number + 1} of {self.parts[-1][0]}"


def find_parts(given: Iterable[str]) -> list[str]:
    """Return the files that paths, patterns and folders name, each folder's and each pattern's sorted by name.

    An existing path is never taken for a pattern. A name that finds nothing is returned as it is, for the reader to
    refuse.

    Raises:
        UsageError: A folder holds more than the parts of one file, or a file is named twice.
    """
    files: list[str] = []
    for name in given:
        path = Path(name).expanduser()
        matches = [name] if path.exists() else sorted(glob.glob(str(path), recursive=True)) or [name]
        for match in matches:
            files += _in_folder(match) if Path(match).expanduser().is_dir() else [match]
    known = [Path(file).expanduser().resolve() for file in files]
    if len(set(known)) < len(known):
        twice = next(file for number, file in enumerate(files) if known[number] in known[:number])
        raise UsageError(f"{twice} is named twice: its rows would count double")
    return files


def first_missing(given: Iterable[str]) -> str:
    """Return the first file, of paths, patterns and folders, that does not exist, or an empty string."""
    return next((file for file in find_parts(given) if not Path(file).expanduser().exists()), "")


def joined_name(given: list[str]) -> str:
    """Return one name for what a user gave."""
    return given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"


def _in_folder(folder: str) -> list[str]:
    """Return a folder's files, without the hidden ones and those that Spark and Hive mark by an underscore."""
    found = sorted(path for path in Path(folder).expanduser().iterdir() if path.name[0] not in "._")
    if inner := next((path for path in found if path.is_dir()), None):
        raise UsageError(f"{folder} holds a folder, {inner.name}: name the files, as with '{folder}/**/*.csv'")
    if not found:
        raise UsageError(f"{folder} is a folder without files")
    return list(map(str, found))

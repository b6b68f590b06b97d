"""Read reviews without labels, which may be learned from but are never a test row."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset

from recipe.arguments.data import DataArguments
from recipe.data.duplicates import text_keys
from recipe.data.labels import NO_LABEL
from recipe.data.mapping import progress_bars
from recipe.data.own_files import read_files
from recipe.data.reviews import Reviews, Split, without_nulls
from recipe.errors import UsageError
from recipe.files.parts import Place

# Or as many as are labelled, if that is more. On a CPU they take as long as the 120 steps of a training on few labels.
MOST_LEARNED = 2_000


@dataclass(frozen=True)
class Unlabelled(Split):
    """Reviews whose labels, if their file has any, were not read.

    Attributes:
        files: Name and sha256 of each file.
        dropped: Rows left out, by reason: `no_text`, `repeated`, and `also_in_train_or_validation`.
        most: A training learns from so many of the rows.
    """

    files: list[dict[str, str]]
    dropped: dict[str, int]
    most: int

    @property
    def origin(self) -> dict[str, Any]:
        """Return which rows of which files these are, for `run.json`."""
        return {"files": self.files, "rows": len(self), "learned": len(self.learned), "dropped": self.dropped}

    @cached_property
    def learned(self) -> Split:
        """The rows that a training learns from, evenly spread."""
        return self.spread(self.most)


@progress_bars(False)
def read_unlabelled(given: list[str], args: DataArguments, reviews: Reviews) -> Unlabelled:
    """Return the reviews of some files that are neither empty, nor repeated, nor in train or validation.

    Texts are the same if they differ in case and white space alone.

    Args:
        given: Files, patterns and folders of parts, as `--train_file` takes them; a label column is not needed.
        args: Names the text columns, and says how csv and tsv are spelled.
        reviews: The labelled reviews.

    Raises:
        UsageError: A file cannot be read or lacks a text column, test rows stand in it, or no row is left.
    """
    rows, keys, place, files = _read(given, args)
    require_none_in_test(keys, str(place), reviews, "leave them out of one of the two")
    known = [np.isin(keys.normalised, reviews.splits[name].keys.normalised) for name in ("train", "validation")]
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(keys.normalised, return_index=True)[1]] = False
    reasons = {
        "no_text": keys.empty,
        "repeated": repeated & ~keys.empty,
        "also_in_train_or_validation": np.logical_or(*known) & ~repeated & ~keys.empty,
    }
    kept: np.ndarray = np.flatnonzero(~np.logical_or.reduce([*reasons.values()]))
    if not len(kept):
        raise UsageError(f"every review of {place} is empty or stands in train or validation: none is new")
    return Unlabelled(
        rows.select(kept),
        args.text_columns,
        np.full(len(kept), NO_LABEL, dtype=np.int64),
        keys[kept],
        files,
        {reason: int(dropped.sum()) for reason, dropped in reasons.items()},
        max(MOST_LEARNED, sum(len(reviews.splits[name]) for name in ("train", "validation"))),
    )


def require_no_test_row(given: list[str], args: DataArguments, reviews: Reviews, remedy: str) -> None:
    """Check that no test row stands in files of unlabelled reviews, which are as `read_unlabelled` takes them."""
    _, keys, place, _ = _read(given, args)
    require_none_in_test(keys, str(place), reviews, remedy)


def require_none_in_test(keys: np.recarray, where: str, reviews: Reviews, remedy: str) -> None:
    """Check that no text that is learned from is a test row.

    Args:
        keys: Of the texts, as `text_keys` returns them.
        where: Where they stand, and `remedy`, what to do about it: in words.

    Raises:
        UsageError: Some are, and it says how many.
    """
    if "test" not in reviews.splits:
        return
    if count := int((np.isin(keys.normalised, reviews.test.keys.normalised) & ~keys.empty).sum()):
        raise UsageError(
            f"{count:,} of the {len(keys):,} reviews of {where} stand in the test rows, which would then no longer be "
            f"new to the model: {remedy}"
        )


def _read(given: list[str], args: DataArguments) -> tuple[Dataset, np.recarray, Place, list[dict[str, str]]]:
    """Return the rows of some files, the keys of their texts, their place, and name and sha256 of each file."""
    found = read_files(given, args.text_columns, None, args.dialect)
    rows = without_nulls(found.rows, args.text_columns, found.place)
    return rows, text_keys(rows.select_columns(args.text_columns)), found.place, found.origin

"""Read reviews without labels, which may be learned from but are never a test row."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.duplicates import text_keys
from recipe.data.labels import NO_LABEL
from recipe.data.mapping import progress_bars
from recipe.data.own_files import read_files
from recipe.data.reviews import Reviews, Split, files_sha256, without_nulls
from recipe.errors import RecipeWarning, UsageError
from recipe.files.parts import Place, first_missing, joined_name
from recipe.run_folder import RunRecord

# On a CPU they take as long as the 120 steps of a training on few labels.
MOST_LEARNED = 2_000


@dataclass(frozen=True)
class Unlabelled(Split):
    """Reviews whose labels, if their file has any, were not read.

    Attributes:
        files: Name and sha256 of each file.
        dropped: Rows left out, by reason: `no_text`, `repeated`, and `also_in_train_or_validation`.
    """

    files: list[dict[str, str]]
    dropped: dict[str, int]

    @property
    def origin(self) -> dict[str, Any]:
        """Return which rows of which files these are, for `run.json`."""
        return {"files": self.files, "rows": len(self), "learned": self.learned, "dropped": self.dropped}

    @property
    def learned(self) -> int:
        """Return how many of the rows a training learns from."""
        return min(len(self), MOST_LEARNED)


@progress_bars(False)
def read_unlabelled(
    given: list[str], args: DataArguments, reviews: Reviews, remedy: str = "leave them out of one of the two"
) -> Unlabelled:
    """Return the reviews of some files that are neither empty, nor repeated, nor in train or validation.

    Texts are the same if they differ in case and white space alone.

    Args:
        given: Files, patterns and folders of parts, as `--train_file` takes them; a label column is not needed.
        args: Names the text columns, and says how csv and tsv are spelled.
        reviews: The labelled reviews.
        remedy: What to do about test rows among them, in words.

    Raises:
        UsageError: A file cannot be read or lacks a text column, test rows stand in it, or no row is left.
    """
    found, parts = read_files(given, args.text_columns, None, args.dialect)
    place = Place(joined_name(given), [(part.file, len(part.rows)) for part in parts])
    rows = without_nulls(found, args.text_columns, place)
    keys = text_keys(rows.select_columns(args.text_columns))
    known = {name: np.isin(keys.normalised, split.keys.normalised) for name, split in reviews.splits.items()}
    if "test" in known and (count := int((known["test"] & ~keys.empty).sum())):
        raise UsageError(
            f"{count:,} of the {len(rows):,} reviews of {place} stand in the test rows, which would then no longer be "
            f"new to the model: {remedy}"
        )
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(keys.normalised, return_index=True)[1]] = False
    reasons = {
        "no_text": keys.empty,
        "repeated": repeated & ~keys.empty,
        "also_in_train_or_validation": (known["train"] | known["validation"]) & ~repeated & ~keys.empty,
    }
    kept: np.ndarray = np.flatnonzero(~np.logical_or.reduce([*reasons.values()]))
    if not len(kept):
        raise UsageError(f"every review of {place} is empty or stands in train or validation: none is new")
    return Unlabelled(
        rows.select(kept),
        args.text_columns,
        np.full(len(kept), NO_LABEL, dtype=np.int64),
        keys[kept],
        [{"file": part.file, "sha256": part.sha256} for part in parts],
        {reason: int(dropped.sum()) for reason, dropped in reasons.items()},
    )


def require_unseen(reviews: Reviews, record: RunRecord, settings: dict[str, Any]) -> None:
    """Check that test rows other than the run's own are not among the unlabelled reviews that it learned from.

    Args:
        reviews: With the other test rows.
        record: The run's, which names the files as they were.
        settings: The run's.

    Raises:
        UsageError: Some of them are, and it says how many; or the files are no longer those of the run.
    """
    if not (record.unlabelled and reviews.other_test):
        return
    args = data_arguments_of(settings)
    given = args.unlabelled_file or []
    if gone := first_missing(given):
        message = f"the run's unlabelled reviews are no longer at {gone}: whether test rows are among them is not known"
        warnings.warn(message, RecipeWarning, stacklevel=2)
        return
    if files_sha256(given) != [part["sha256"] for part in record.unlabelled["files"]]:
        raise UsageError(
            f"{joined_name(given)} has changed since the run, which has learned from it: restore it, or train again"
        )
    read_unlabelled(given, args, reviews, "leave them out of the test file, or train again without them")

"""Check that test rows are new to a model: that neither it nor its teacher has learned from them."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from recipe.arguments.data import data_arguments_of
from recipe.data.mapping import progress_bars
from recipe.data.reviews import Reviews, files_sha256, reviews_of
from recipe.data.unlabelled import require_no_test_row, require_none_in_test
from recipe.errors import RecipeWarning, UsageError
from recipe.files.atomic import file_sha256
from recipe.files.parts import first_missing, joined_name
from recipe.run_folder import RunFolder, RunRecord


def require_unseen(reviews: Reviews, record: RunRecord, settings: dict[str, Any]) -> None:
    """Check that test rows that are not the run's own are not among what it learned from beside its own rows.

    Args:
        reviews: With the test rows.
        record: The run's, which names files and teacher as they were.
        settings: The run's.

    Raises:
        UsageError: Some of them are, and it says how many; or a file, the teacher or its rows are no longer those of
            the run. Where they are gone, a warning says that nothing is known.
    """
    remedy = "leave them out of the test file, or train again without them"
    if reviews.other_test:
        _require_beside_rows(reviews, record, settings, "the run", remedy, _warn)


def require_unseen_by(teacher: RunFolder, reviews: Reviews) -> None:
    """Check that a teacher, a finished run, has not learned from the test rows, if there are any.

    Raises:
        UsageError: It has, and it says from how many; or what it has learned from is gone, or has changed.
    """
    if "test" in reviews.splits:
        _require_by_teacher(teacher, reviews, "leave them out of the test rows, or take another teacher", _refuse)


def _require_beside_rows(
    reviews: Reviews,
    record: RunRecord,
    settings: dict[str, Any],
    whose: str,
    remedy: str,
    unknown: Callable[[str], None],
) -> None:
    """Check a run's unlabelled reviews and its teacher; `unknown` is told of what is gone."""
    if not record.unlabelled:
        return
    args = data_arguments_of(settings)
    given = args.unlabelled_file or []
    if not given:
        # A run that was published, whose settings name no file.
        unknown(f"{whose} does not say where its unlabelled reviews are")
    elif gone := first_missing(given):
        unknown(f"{whose}'s unlabelled reviews are no longer at {gone}")
    elif files_sha256(given) != [part["sha256"] for part in record.unlabelled["files"]]:
        raise UsageError(
            f"{joined_name(given)} has changed since {whose}, which has learned from it: restore it, or train again"
        )
    else:
        require_no_test_row(given, args, reviews, remedy)
    if recorded := record.unlabelled.get("teacher"):
        teacher = RunFolder(args.teacher or recorded["name"])
        # Without a place, whatever has its name here is another run.
        if not args.teacher or not teacher.is_finished:
            unknown(f"{whose}'s teacher is no longer at {teacher}")
        elif file_sha256(teacher.weights) != recorded["sha256"]:
            raise UsageError(f"the teacher {teacher} has changed since {whose}: restore it, or train again")
        else:
            _require_by_teacher(teacher, reviews, remedy, unknown)


@progress_bars(False)
def _require_by_teacher(teacher: RunFolder, reviews: Reviews, remedy: str, unknown: Callable[[str], None]) -> None:
    """Check the rows of a teacher, and what it has learned from beside them."""
    record, settings, whose = teacher.read_record(), teacher.read_config(), f"the teacher {teacher}"
    args = data_arguments_of(settings)
    files = [*(args.train_file or ()), *(args.validation_file or ()), *(args.corrections or ())]
    if "dataset_name" not in settings:
        # A run that was published, whose settings name no reviews.
        unknown(f"{whose} does not say where its reviews are")
    elif gone := first_missing(files):
        unknown(f"{whose}'s reviews are no longer at {gone}")
    else:
        try:
            known = reviews_of(teacher, needs_test=False)
        except UsageError as error:
            raise UsageError(f"{whose}: {error}") from error
        keys = np.concatenate([known.splits[name].keys for name in ("train", "validation")]).view(np.recarray)
        require_none_in_test(keys, whose, reviews, remedy)
    _require_beside_rows(reviews, record, settings, whose, remedy, unknown)


def _warn(message: str) -> None:
    warnings.warn(f"{message}: whether test rows are among them is not known", RecipeWarning, stacklevel=2)


def _refuse(message: str) -> None:
    raise UsageError(
        f"{message}: whether test rows are among them is not known; put them back, take another teacher, or train "
        "without test rows"
    )

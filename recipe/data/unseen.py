"""Check that test rows are new to a model: that it has not learned from them, nor from a teacher that has."""

import warnings
from typing import Any

import numpy as np

from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import Reviews, files_sha256, reviews_of
from recipe.data.unlabelled import read_unlabelled
from recipe.errors import RecipeWarning, UsageError
from recipe.files.atomic import file_sha256
from recipe.files.parts import first_missing, joined_name
from recipe.run_folder import RunFolder, RunRecord

# Of evaluation and of training.
TRAIN_AGAIN = "leave them out of the test file, or train again without them"
OTHER_TEACHER = "leave them out of the test rows, or take another teacher"


def require_unseen(reviews: Reviews, record: RunRecord, settings: dict[str, Any], remedy: str = TRAIN_AGAIN) -> None:
    """Check that the test rows are not among what a run learned from beside its own rows.

    Args:
        reviews: With the test rows.
        record: The run's, which names files and teacher as they were.
        settings: The run's.
        remedy: What to do about test rows that it has learned from, in words.

    Raises:
        UsageError: Some of them are, and it says how many; or a file, the teacher or its rows are no longer those of
            the run. Where they are gone, a warning says that nothing is known.
    """
    if not record.unlabelled:
        return
    args = data_arguments_of(settings)
    given = args.unlabelled_file or []
    if gone := first_missing(given):
        _warn(f"the run's unlabelled reviews are no longer at {gone}: whether test rows are among them is not known")
    else:
        if files_sha256(given) != [part["sha256"] for part in record.unlabelled["files"]]:
            raise UsageError(
                f"{joined_name(given)} has changed since the run, which has learned from it: restore it, or train again"
            )
        read_unlabelled(given, args, reviews, remedy)
    if recorded := record.unlabelled.get("teacher"):
        teacher = RunFolder(args.teacher or "")
        if not teacher.weights.is_file():
            _warn(f"the run's teacher is no longer at {teacher}: whether it has learned from test rows is not known")
        elif file_sha256(teacher.weights) != recorded["sha256"]:
            raise UsageError(f"the teacher {teacher} has changed since the run: restore it, or train again")
        else:
            require_unseen_by(teacher, reviews, remedy)


def require_unseen_by(teacher: RunFolder, reviews: Reviews, remedy: str = OTHER_TEACHER) -> None:
    """Check that a teacher, a finished run, has not learned from the test rows, if there are any.

    Raises:
        UsageError: It has, and it says from how many; or what it has learned from cannot be read, or has changed.
    """
    if "test" not in reviews.splits:
        return
    try:
        known = reviews_of(teacher, needs_test=False)
    except UsageError as error:
        raise UsageError(f"whether the teacher {teacher} has learned from test rows is not known: {error}") from error
    learned = [known.splits[name].keys.normalised for name in ("train", "validation")]
    keys = reviews.test.keys
    if count := int((np.isin(keys.normalised, np.concatenate(learned)) & ~keys.empty).sum()):
        raise UsageError(
            f"{count:,} of the {len(keys):,} test rows are among those that the teacher {teacher} has learned from, "
            f"which would then no longer be new to the model: {remedy}"
        )
    require_unseen(reviews, teacher.read_record(), teacher.read_config(), remedy)


def _warn(message: str) -> None:
    warnings.warn(message, RecipeWarning, stacklevel=3)

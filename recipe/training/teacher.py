"""A finished run, most often of a larger encoder, that answers the reviews without labels."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipe.arguments.data import data_arguments_of
from recipe.arguments.parser import Arguments
from recipe.data.reviews import Reviews, Split
from recipe.data.tokens import texts_of
from recipe.data.unseen import require_unseen_by
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, without_folder


@dataclass(frozen=True)
class Teacher:
    """A run whose answers are learned from.

    Attributes:
        asked: The reviews that it answers.
        device: That it answers on.
        origin: Its `name`, the `weights` that it began with, their number of `parameters`, and the `sha256` of its own,
            for `run.json`.
    """

    run: RunFolder
    asked: Split
    device: torch.device
    origin: dict[str, Any]

    @cached_property
    def answers(self) -> np.ndarray:
        """The probabilities of the labels of each review, float64 (reviews, classes).

        Raises:
            UsageError: Its weights give what is not a number, or are no longer there.
        """
        return _answer(self.run, self.asked, self.device)


def open_teacher(arguments: Arguments) -> RunFolder:
    """Return the teacher of a run, before any review is read.

    Raises:
        UsageError: It is no finished run, or would be overwritten, or a teacher of its own would.
    """
    run = RunFolder(str(arguments.data.teacher))
    run.require_finished("--teacher")
    _require_kept(run, RunFolder(str(arguments.training.output_dir)))
    return run


def find_teacher(run: RunFolder, arguments: Arguments, reviews: Reviews, asked: Split) -> Teacher:
    """Return a teacher after it has answered one review.

    Args:
        run: The teacher, as `open_teacher` returns it.
        arguments, reviews: Of the run that it teaches.
        asked: Without labels, for the teacher to answer.

    Raises:
        UsageError: It is damaged, reads other columns, has other labels or has learned from test rows.
    """
    args, text_columns, record = arguments.training, arguments.data.text_columns, run.read_record()
    columns = data_arguments_of(run.read_config()).text_columns
    # The reviews of other files may have other names, but what has the same name is the same.
    there = {*reviews.splits["train"].rows.features}
    if record.dataset["name"] == reviews.origin["name"]:
        there |= {*columns}
    pairs = itertools.zip_longest(columns, text_columns)
    if any(theirs != own and (theirs in there or not theirs or not own) for theirs, own in pairs):
        raise UsageError(
            f"the teacher {run} reads {', '.join(columns)}, and this run {', '.join(text_columns)}: "
            "give --text_columns as the teacher has them"
        )
    if record.labels != reviews.label_names:
        raise UsageError(
            f"the teacher {run} knows the labels {', '.join(record.labels)}, and the reviews have "
            f"{', '.join(reviews.label_names)}, in this order: choose another"
        )
    require_unseen_by(run, reviews)
    _answer(run, asked.take(np.arange(1)), args.device)
    origin = {
        "name": run.path.resolve().name,
        "weights": without_folder(record.weights)["name"],
        "parameters": record.weights["parameters"],
        "sha256": file_sha256(run.weights),
    }
    return Teacher(run, asked, args.device, origin)


def _require_kept(teacher: RunFolder, output: RunFolder) -> None:
    """Raise a `UsageError` if a run that is to be written would replace its teacher, or a teacher of that one."""
    run, seen = teacher, set[Path]()
    while run.is_finished and run.path.resolve() not in seen:
        seen.add(run.path.resolve())
        if not (above := data_arguments_of(run.read_config()).teacher):
            break
        run = RunFolder(above)
    if any(map(output.holds, seen)):
        raise UsageError(
            f"--teacher {teacher} is in --output_dir, or has learned from what is there: choose another --output_dir"
        )


def _answer(run: RunFolder, reviews: Split, device: torch.device) -> np.ndarray:
    logits = TorchClassifier.from_run(run.path, device).logits(texts_of(reviews), "teacher")
    if not np.isfinite(logits).all():
        raise UsageError(f"the teacher {run} answers with what is not a number: its weights are broken, train it again")
    return softmax(logits)

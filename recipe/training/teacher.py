"""A finished run, most often of a larger encoder, that answers the reviews without labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import Reviews
from recipe.data.unseen import require_unseen_by
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.files.text_rows import Text
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder


@dataclass(frozen=True)
class Teacher:
    """A run whose answers are learned from.

    Attributes:
        origin: Its `name`, the `sha256` of its weights and its `parameters`, for `run.json`.
    """

    run: RunFolder
    origin: dict[str, Any]

    def answers(self, texts: Sequence[Text]) -> np.ndarray:
        """Return the probabilities of the labels of each review, float (reviews, classes)."""
        return softmax(TorchClassifier.from_run(self.run.path).logits(texts, "teacher"))


def find_teacher(given: str, output_dir: str, text_columns: list[str], reviews: Reviews) -> Teacher:
    """Return the teacher in a run's folder.

    Args:
        output_dir: Where the run that it teaches is written.
        text_columns: That this run reads.
        reviews: Of this run.

    Raises:
        UsageError: It is no finished run, or the one to be overwritten, reads other columns or has other labels, or has
            learned from test rows.
    """
    run = RunFolder(given)
    if not all(file.is_file() for file in (run.record, run.config, run.weights)):
        raise UsageError(f"--teacher {run} holds no finished run: train it first")
    if run.path.resolve() == Path(output_dir).expanduser().resolve():
        raise UsageError(f"--teacher {run} would be overwritten before it answers: choose another --output_dir")
    record, columns = run.read_record(), data_arguments_of(run.read_config()).text_columns
    if len(columns) != len(text_columns):
        raise UsageError(
            f"the teacher {run} reads {', '.join(columns)}, and this run {', '.join(text_columns)}: "
            "give --text_columns as many as it has"
        )
    if record.labels != reviews.label_names:
        raise UsageError(
            f"the teacher {run} knows the labels {', '.join(record.labels)}, and the reviews have "
            f"{', '.join(reviews.label_names)}: choose another"
        )
    require_unseen_by(run, reviews)
    parameters = record.weights["parameters"]
    return Teacher(run, {"name": run.path.resolve().name, "sha256": file_sha256(run.weights), "parameters": parameters})

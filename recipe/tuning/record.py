"""What a search has found, and what its file holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipe.metrics.intervals import label_intervals
from recipe.run_folder.document import Document

# Files of a search's folder. The first is Optuna's own, with a JSON object per line.
TRIALS, TUNING, BEST = "trials.jsonl", "tuning.json", "best.yaml"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: From 1; a trial that was cut off, and tried again, counts once.
        settings: What was searched for.
        f1, loss, epoch: Of its best validation, if it came to one.
        confusion: Counts of that, rows true and columns predicted.
        ended_early: Why, in words; empty for a trial that was trained to its end.
    """

    number: int
    settings: dict[str, Any]
    f1: float | None
    loss: float | None
    epoch: float | None
    confusion: list[list[int]] | None
    seconds: float
    ended_early: str


@dataclass(frozen=True)
class Tuning(Document):
    """A search.

    Attributes:
        recipe: Version.
        rows: Of train and validation.
        wanted: How many trials were asked for.
        seen: How many trials the validation rows have seen, those of an earlier search on them among them.
        trials: Those that are done. The first has the settings that train.py would have taken.
        best: Number of the trial with the highest F1, the first of equals; only of those trained to their end.
        interval: The 95 % interval of the best F1, which does not cover that it was chosen.
    """

    recipe: str
    versions: dict[str, str]
    labels: list[str]
    rows: dict[str, int]
    seed: int
    space: dict[str, str]
    wanted: int
    seen: int
    trials: list[TrialRecord]
    best: int
    interval: list[float]

    def trial(self, number: int) -> TrialRecord:
        """Return a trial by its number."""
        return self.trials[number - 1]


def best_of(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial with the highest F1 among those that were trained to their end, the first of equals."""
    whole = [trial for trial in trials if not trial.ended_early and trial.f1 is not None]
    return max(whole, key=lambda trial: (trial.f1 or 0, -trial.number), default=None)


def answers_of(confusion: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted labels, int64 (reviews,), that have such counts: rows true, columns predicted."""
    counts = np.asarray(confusion)
    labels, predicted = (np.repeat(numbers, counts.ravel()) for numbers in np.indices(counts.shape).reshape(2, -1))
    return labels, predicted


def f1_interval(confusion: list[list[int]]) -> list[float]:
    """Return the 95 % interval of F1 from counts, rows true and columns predicted."""
    found: list[float] = label_intervals(*answers_of(confusion), len(confusion))["f1"]
    return found

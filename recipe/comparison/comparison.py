"""Comparison of runs on the same test rows, and what its file holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from recipe.comparison.runs import EvaluatedRun
from recipe.comparison.settings import differing_settings
from recipe.metrics.intervals import Difference, intervals_of
from recipe.metrics.scores import score_labels
from recipe.metrics.significance import SIGNIFICANCE, McNemar, mcnemar
from recipe.run_folder.document import Document


@dataclass(frozen=True)
class ComparedRun:
    """Figures of the answers that a run serves, and what they cost.

    Attributes:
        doubtful: How many of the answers are left to people; they count in the figures as the others do.
        bytes: Size of the served variant's file.
        seconds: Of the training.
    """

    run: str
    served: str
    f1: float
    f1_interval: list[float]
    accuracy: float
    accuracy_interval: list[float]
    doubtful: int
    reviews_per_second: float
    bytes: int | None
    seconds: float


@dataclass(frozen=True)
class CorrectedTest(McNemar):
    """A McNemar test of two runs, and its p-value corrected for all of the comparisons."""

    corrected: float


@dataclass(frozen=True)
class Comparison(Document):
    """The content of `comparison.json`.

    Attributes:
        reviews, test_sha256: Number of test rows, and the digest of their texts and labels.
        runs: Best F1 first.
        differences: Of F1 and accuracy, the best run's minus each other's.
        tests: Of every pair of runs. Those of the best come first, in the order of `differences`.
        settings: Each run's value, in their order, of the settings that differ.
        notes: What else to know, a sentence each.
    """

    reviews: int
    test_sha256: str
    labels: list[str]
    runs: list[ComparedRun]
    differences: list[Difference]
    tests: list[CorrectedTest]
    settings: dict[str, list[str]]
    notes: list[str]


def compare(runs: Sequence[EvaluatedRun], left_out: Sequence[str] = ()) -> Comparison:
    """Return the comparison of two runs or more, as `read_runs` returns them.

    All pairs are tested, although only those with the best are shown. The best is found on the same rows, so that a
    correction for those alone would take chance for a difference too often: simulated for ten equally good runs, in
    13 % of the comparisons in place of 5 %.
    """
    true, names = runs[0].labels, runs[0].evaluation.labels
    figures = {run.name: score_labels(true, run.answers, len(names)) for run in runs}
    runs = sorted(runs, key=lambda run: (-figures[run.name]["f1"], -figures[run.name]["accuracy"]))
    best, *others = [run.name for run in runs]
    predicted = {run.name: run.answers for run in runs}
    found = intervals_of(true, predicted, len(names), [(best, name) for name in others])
    tests = [mcnemar(true, predicted, *pair) for pair in combinations(predicted, 2)]
    corrected = holm([test.p_value for test in tests])
    return Comparison(
        reviews=len(true),
        test_sha256=str(runs[0].evaluation.test_sha256),
        labels=names,
        runs=[
            ComparedRun(
                run=run.name,
                served=run.evaluation.served,
                f1=figures[run.name]["f1"],
                f1_interval=found.variants[run.name].f1,
                accuracy=figures[run.name]["accuracy"],
                accuracy_interval=found.variants[run.name].accuracy,
                doubtful=run.doubtful,
                **vars(run.evaluation.variants[run.evaluation.served]),
                seconds=run.record.seconds,
            )
            for run in runs
        ],
        differences=found.differences,
        tests=[CorrectedTest(**vars(test), corrected=value) for test, value in zip(tests, corrected, strict=True)],
        settings=differing_settings(runs),
        notes=_notes(runs, left_out),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: below 5 % by chance alone in at most one of twenty sets of them.

    The smallest is multiplied by their number, the next by one less, and so on; none is less than the one before (Holm
    1979, *A Simple Sequentially Rejective Multiple Test Procedure*). The tests may depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1))
    return [float(value) for value in corrected.clip(max=1)]


def verdict(test: CorrectedTest) -> str:
    """Return what the test of the best run and another says of the other."""
    if not test.only_first_right + test.only_second_right:
        return "right on the same reviews"
    if test.corrected >= SIGNIFICANCE:
        return "no more than noise"
    if test.only_first_right > test.only_second_right:
        return "worse by more than noise"
    return "right more often, by more than noise"


def _notes(runs: Sequence[EvaluatedRun], left_out: Sequence[str]) -> list[str]:
    """Return what the figures do not say by themselves."""
    notes = ["Intervals and tests are about the test rows: another seed alone moves F1 too, which they do not cover."]
    if len(runs) > 2:
        notes.append("The best was chosen on these rows, so its F1 is a little too good: quote that of other rows.")
    for run in runs:
        if run.evaluation.measured and (seen := run.evaluation.measured.seen):
            notes.append(f"{run.name} has seen {seen:,} of these rows in training, which flatters it.")
    return notes + [f"Left out: {reason}" for reason in left_out]

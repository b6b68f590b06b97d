"""Evaluated runs as a comparison reads them, without torch: a mistake is said before that is loaded."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipe.errors import UsageError
from recipe.files.readers import listed
from recipe.inference.decision import Decision
from recipe.run_folder import RunFolder, RunRecord
from recipe.run_folder.document import Document

# The file by which a folder is known to hold a comparison.
COMPARISON = "comparison.json"
# Reasons that one line has room for.
MOST_REASONS = 3


@dataclass(frozen=True)
class Costs:
    """Speed of a variant, and the size of its file if it has one."""

    reviews_per_second: float
    bytes: int | None


@dataclass(frozen=True)
class Counts:
    """Counts of the served answers, rows true and columns answered, as `answers.csv` has to give them too."""

    confusion: list[list[int]]


@dataclass(frozen=True)
class Measured:
    """How many of the test rows training has seen, where they are not the run's own."""

    seen: int


@dataclass(frozen=True)
class Evaluation(Document):
    """What a comparison reads of `report.json`; the fields are those of `recipe.evaluation.Report`."""

    labels: list[str]
    served: str
    decision: Decision
    answers: Counts
    variants: dict[str, Costs]
    measured: Measured | None
    test_sha256: str | None = None


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with its answers to the test rows.

    Attributes:
        name: Of its folder; the path as it was given, where two folders have the same name.
        settings: The run's `config.yaml`.
        labels, answers: True labels and served answers, int64 (rows,).
        doubtful: How many of the answers are left to people.
    """

    name: str
    record: RunRecord
    settings: dict[str, Any]
    evaluation: Evaluation
    labels: np.ndarray
    answers: np.ndarray
    doubtful: int


def read_runs(paths: Iterable[Path]) -> tuple[list[EvaluatedRun], list[str]]:
    """Return the evaluated runs among some paths, which may be all that a folder holds, and why others are left out.

    A path that is named twice counts once, and a folder with an earlier comparison is passed over.

    Raises:
        UsageError: Fewer than two of them are evaluated runs, or these were not measured on the same rows and labels.
    """
    paths = {path.expanduser().resolve(): path for path in paths}
    names = [path.name for path in paths]
    runs, left_out = [], []
    for path, given in paths.items():
        if (path / COMPARISON).is_file():
            continue
        try:
            runs.append(_read_run(RunFolder(given), path.name if names.count(path.name) == 1 else str(given)))
        except UsageError as error:
            left_out.append(str(error))
    if len(runs) < 2:
        have = f"only {runs[0].name} is one" if runs else "none is there"
        more = [f"and {len(left_out) - MOST_REASONS:,} more"] if len(left_out) > MOST_REASONS else []
        reasons = "; ".join([*left_out[:MOST_REASONS], *more])
        raise UsageError(f"a comparison needs two evaluated runs, and {have}" + (f": {reasons}" if reasons else ""))
    _require_same_rows(runs)
    return runs, left_out


def require_output(folder: Path) -> None:
    """Make a folder; if it cannot be, or holds something else than an earlier comparison, raise a `UsageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be made a folder: {error.strerror}") from error
    if any(folder.iterdir()) and not (folder / COMPARISON).is_file():
        raise UsageError(f"--output {folder} holds other files than a comparison: choose another folder")


def _read_run(run: RunFolder, name: str) -> EvaluatedRun:
    """Return a run; if it is not finished, not evaluated or damaged, raise a `UsageError`."""
    run.require_finished()
    command = f"python scripts/evaluate.py --run {run}"
    if not run.report.is_file():
        raise UsageError(f"{run} was not evaluated: run {command}")
    evaluation = Evaluation.from_json(run.read_report(), run.report)
    if evaluation.test_sha256 is None or not run.answers.is_file():
        raise UsageError(f"{run} was evaluated by an earlier version of this recipe: evaluate it again, {command}")
    try:
        labels, answers, doubtful = _read_answers(run.answers, evaluation.labels)
    except (KeyError, ValueError, csv.Error):
        raise UsageError(f"{run.answers} is damaged: evaluate the run again, {command}") from None
    confusion = np.zeros((len(evaluation.labels),) * 2, dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    if evaluation.served not in evaluation.variants or confusion.tolist() != evaluation.answers.confusion:
        raise UsageError(f"{run.answers} does not go with {run.report}: evaluate the run again, {command}")
    return EvaluatedRun(name, run.read_record(), run.read_config(), evaluation, labels, answers, doubtful)


def _read_answers(path: Path, label_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return true labels, served answers and the number of doubtful ones of `answers.csv`.

    Raises:
        KeyError, ValueError, csv.Error: Its columns, its labels or the order of its rows are not as they were written.
    """
    numbers = {name: number for number, name in enumerate(label_names)}
    labels, answers, doubtful = [], [], 0
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, strict=True), 1):
            if int(row["row"]) != number:
                raise ValueError("the rows are not in order")
            labels.append(numbers[row["label"]])
            answers.append(numbers[row["predicted"]])
            doubtful += {"true": True, "false": False}[row["doubtful"]]
    return np.array(labels, dtype=np.int64), np.array(answers, dtype=np.int64), doubtful


def _require_same_rows(runs: Sequence[EvaluatedRun]) -> None:
    """Raise a `UsageError` where runs have other labels, or another order of them, or other test rows."""
    first = runs[0]
    if other := next((run for run in runs if run.evaluation.labels != first.evaluation.labels), None):
        raise UsageError(
            f"{first.name} has the labels {listed(first.evaluation.labels)}, and {other.name} has "
            f"{listed(other.evaluation.labels)}: only runs with the same labels in the same order can be compared"
        )
    groups: dict[str | None, list[EvaluatedRun]] = {}
    for run in runs:
        groups.setdefault(run.evaluation.test_sha256, []).append(run)
    if len(groups) == 1:
        return
    said = "; ".join(f"{listed([run.name for run in some])} on {len(some[0].labels):,}" for some in groups.values())
    columns = {run.name: " ".join(run.settings.get("text_columns") or []) for run in runs}
    other_columns = [name for name in columns if columns[name] != columns[first.name]]
    why = ""
    if other_columns:
        name = other_columns[0]
        why = (
            f" ({first.name} reads the columns {columns[first.name]}, {name} reads {columns[name]}: rows count as the "
            "same only where the texts that are read are the same)"
        )
    raise UsageError(
        f"the runs were not measured on the same test rows, {said}{why}: name runs of one group, or measure all on "
        "the same file with evaluate.py --test_file"
    )

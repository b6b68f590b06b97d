"""Figures of a model's answers: how often they are right, how well they rank, how good the probabilities are."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    cohen_kappa_score,
    confusion_matrix,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from recipe.errors import UsageError
from recipe.files.readers import listed
from recipe.metrics.calibration import calibration_error, reliability_bins

# A label's name that is a number, or a number of stars.
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: stars?)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """Figures of predicted labels, as `score_labels` defines them."""

    f1: float
    accuracy: float
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Figures(LabelFigures):
    """Figures of predicted labels and probabilities.

    Attributes:
        roc_auc, average_precision: For label 1; with more than two classes the mean over each class against the rest.
            `None` if a class has no rows, because both are then undefined.
        log_loss: Mean negative log-probability of the true labels.
        calibration_error: Over 15 bins of the most probable label's probability.
        brier: With two classes the mean squared error of label 1's probability (0 to 1), with more the sum over classes
            (0 to 2).
        confusion: Counts, rows true and columns predicted: `[[tn, fp], [fn, tp]]`.
    """

    matthews: float
    roc_auc: float | None = None
    average_precision: float | None = None
    log_loss: float
    calibration_error: float
    brier: float
    confusion: list[list[int]]
    reviews: int


@dataclass(frozen=True)
class OfLabel:
    """Figures of one label against the rest, and how many rows have it and are predicted to have it.

    Precision is `None` where nothing is predicted, recall where there are no rows, F1 where there is neither.
    """

    rows: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Ordinal:
    """How far predicted labels are from the true ones, where labels are numbers.

    Attributes:
        mean_absolute_error: In the labels' own numbers, such as stars.
        within_one: Share of the rows whose predicted label is the true one or next to it.
        quadratic_kappa: Agreement beyond chance, with quadratic weights of the steps between labels (Cohen 1968).
            `None` where all rows have one label and are predicted to have it.
    """

    mean_absolute_error: float
    within_one: float
    quadratic_kappa: float | None


def figures_of(labels: np.ndarray, probabilities: np.ndarray) -> Figures:
    """Return every figure of a model from true labels, int64 (reviews,), and probabilities, float64 (reviews, classes).

    Its answers are the most probable labels.
    """
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    # scikit-learn wants label 1's probabilities alone where there are two classes.
    ranking = probabilities[:, 1] if classes == 2 else probabilities
    complete = len(np.unique(labels)) == classes
    return Figures(
        **score_labels(labels, predicted, classes),
        matthews=float(matthews_corrcoef(labels, predicted)),
        roc_auc=float(roc_auc_score(labels, ranking, multi_class="ovr")) if complete else None,
        average_precision=float(average_precision_score(labels, ranking)) if complete else None,
        log_loss=float(log_loss(labels, probabilities, labels=range(classes))),
        calibration_error=calibration_error(reliability_bins(probabilities, labels)),
        brier=float(brier_score_loss(labels, ranking, labels=range(classes))),
        confusion=confusion_matrix(labels, predicted, labels=range(classes)).tolist(),
        reviews=len(labels),
    )


def score_labels(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float]:
    """Return `f1`, `accuracy`, `precision` and `recall`.

    With two classes F1, precision and recall are those of label 1, the positive one. With more they are macro averages
    over the labels that have rows, whatever is predicted, so that every model is averaged over the same labels. A label
    that is never predicted has precision 0.

    Args:
        labels: True labels, int64 (reviews,).
        predicted: int64 (reviews,).
        classes: Number of classes, whether they occur or not.
    """
    averaged = [1] if classes == 2 else np.unique(labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=averaged, average="macro", zero_division=0.0
    )
    values = {"f1": f1, "accuracy": accuracy_score(labels, predicted), "precision": precision, "recall": recall}
    return {name: float(value) for name, value in values.items()}


def figures_by_label(labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[OfLabel]:
    """Return the figures of each label, 0 to `classes` - 1, from true and predicted labels, int64 (reviews,)."""
    precision, recall, f1, rows = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=np.nan
    )
    answers = np.bincount(predicted, minlength=classes).tolist()
    known = ([None if np.isnan(value) else float(value) for value in values] for values in (precision, recall, f1))
    return [OfLabel(*values) for values in zip(rows.tolist(), answers, *known, strict=True)]


def label_notes(by_label: Sequence[OfLabel], names: Sequence[str], rows: str = "test") -> list[str]:
    """Return a sentence for each way in which labels are missing: among the rows, or among the right answers.

    Args:
        by_label: Figures of each label.
        names: The labels' names.
        rows: What the rows are: `test` or `validation`.
    """
    labels, notes = list(zip(names, by_label, strict=True)), []
    if missing := [repr(name) for name, found in labels if not found.rows]:
        averages = ", which counts in no average" if len(labels) > 2 else ""
        notes.append(f"No {rows} row has the label {listed(missing)}{averages}.")
    answered = [name for name, found in labels if found.predicted]
    silent = [f"{name!r} ({found.rows:,} of the rows)" for name, found in labels if found.rows and not found.predicted]
    if len(answered) == 1:
        notes.append(f"The model gives {answered[0]!r} to every review.")
    elif silent:
        notes.append(f"The model never answers {listed(silent)}.")
    if wrong := [f"{name!r} (0 of {found.rows:,})" for name, found in labels if found.predicted and found.recall == 0]:
        notes.append(f"The model is never right on {listed(wrong)}.")
    return notes


def numbers_in_order(names: Sequence[str]) -> list[float] | None:
    """Return the number that each label's name is, such as `2` or `2 stars`; `None` for other names or two labels."""
    matches = [NUMBER.fullmatch(name) for name in names]
    values = [float(match[1]) for match in matches if match]
    return values if 2 < len(names) == len(set(values)) else None


def ordinal_figures(labels: np.ndarray, predicted: np.ndarray, values: Sequence[float]) -> Ordinal:
    """Return how far predicted labels are from the true ones.

    Args:
        labels: True labels, int64 (reviews,).
        predicted: int64 (reviews,).
        values: The number that each label is, as `numbers_in_order` reads them from the names.
    """
    numbers = np.asarray(values)
    distances = np.abs(numbers[labels] - numbers[predicted])
    places = numbers.argsort().argsort()
    steps = np.abs(places[labels] - places[predicted])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        kappa = cohen_kappa_score(places[labels], places[predicted], labels=range(len(values)), weights="quadratic")
    return Ordinal(float(distances.mean()), float((steps <= 1).mean()), None if np.isnan(kappa) else float(kappa))


def require_two_labels(labels: np.ndarray, label_names: Sequence[str]) -> None:
    """Raise a `UsageError` where all test labels, int64 (reviews,), are the same: most figures would mean nothing."""
    present = np.unique(labels)
    if len(present) < 2:
        rows = "the only test row has" if len(labels) == 1 else f"all {len(labels):,} test rows have"
        raise UsageError(
            f"{rows} the label {label_names[present[0]]!r}, and two labels are needed: give other rows with --test_file"
        )


def require_numbers(probabilities: np.ndarray, variant: str) -> None:
    """Raise a `UsageError` where one of a variant's probabilities, float64 (reviews, classes), is NaN."""
    broken = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if broken.size:
        raise UsageError(
            f"{variant} gave NaN for {broken.size:,} of {len(probabilities):,} rows, row {broken[0] + 1} first: "
            "its weights or its precision are broken, so train or export it again"
        )

"""Figures of a model's answers: how often they are right, how well they rank, how good the probabilities are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from recipe.errors import UsageError
from recipe.metrics.calibration import calibration_error, reliability_bins


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

    With two classes F1, precision and recall are those of label 1, the positive one; with more they are macro averages
    over the labels that occur. A class that is never predicted has precision 0.

    Args:
        labels: True labels, int64 (reviews,).
        predicted: int64 (reviews,).
        classes: Number of classes, whether they occur or not.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, average="binary" if classes == 2 else "macro", zero_division=0.0
    )
    values = {"f1": f1, "accuracy": accuracy_score(labels, predicted), "precision": precision, "recall": recall}
    return {name: float(value) for name, value in values.items()}


def require_two_labels(labels: np.ndarray, label_names: Sequence[str]) -> None:
    """Raise a `UsageError` where all test labels, int64 (reviews,), are the same: most figures would mean nothing."""
    present = np.unique(labels)
    if len(present) < 2:
        raise UsageError(
            f"all {len(labels):,} test rows have the label {label_names[present[0]]!r}: two are needed, so give more "
            "rows (--max_test_samples) or others (--test_file)"
        )


def require_numbers(probabilities: np.ndarray, variant: str) -> None:
    """Raise a `UsageError` where one of a variant's probabilities, float64 (reviews, classes), is NaN."""
    broken = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if broken.size:
        raise UsageError(
            f"{variant} gave NaN for {broken.size:,} of {len(probabilities):,} rows, row {broken[0] + 1} first: "
            "its weights or its precision are broken, so train or export it again"
        )

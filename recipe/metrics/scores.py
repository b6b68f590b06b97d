"""Every figure of a model's answers: how often they are right, how well they rank, what their confidence is worth."""

from collections.abc import Sequence
from typing import Any

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
from recipe.metrics.calibration import reliability


def score(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray | None = None) -> dict[str, Any]:
    """Return every figure of one model.

    Args:
        labels: The true ones, int64 (reviews,).
        probabilities: float64 (reviews, classes).
        predicted: int64 (reviews,); `None` stands for the most probable labels.

    Returns:
        `f1`, `accuracy`, `precision` and `recall`, as in `score_labels`; `matthews`, the correlation of predicted and
        true labels; `roc_auc` and `average_precision`, of label 1, or with more than two classes the mean over each
        against the rest, and left out where a class has no row, as neither is then defined; `log_loss`;
        `calibration_error`, over 15 bins of the most probable label's probability; `brier`, with two classes the mean
        squared error of label 1's probability (0 to 1), with more the sum over classes (0 to 2); `confusion`, rows
        true, columns predicted: `[[tn, fp], [fn, tp]]`; and `reviews`.
    """
    classes = probabilities.shape[1]
    answers = probabilities.argmax(axis=1) if predicted is None else predicted
    return {
        **score_labels(labels, answers, classes),
        "matthews": float(matthews_corrcoef(labels, answers)),
        **_score_ranking(labels, probabilities),
        "log_loss": float(log_loss(labels, probabilities, labels=range(classes))),
        "calibration_error": reliability(probabilities, labels).error,
        "brier": float(brier_score_loss(labels, _of_interest(probabilities), labels=range(classes))),
        "confusion": confusion_matrix(labels, answers, labels=range(classes)).tolist(),
        "reviews": len(labels),
    }


def score_labels(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float]:
    """Return `f1`, `accuracy`, `precision` and `recall`.

    With two classes all but accuracy are of the positive one, label 1; with more they are macro averages over the
    labels that occur. A class that is never predicted has precision 0.

    Args:
        labels: The true ones, int64 (reviews,).
        predicted: int64 (reviews,).
        classes: How many there are, whether they occur or not.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, average="binary" if classes == 2 else "macro", zero_division=0.0
    )
    values = {"f1": f1, "accuracy": accuracy_score(labels, predicted), "precision": precision, "recall": recall}
    return {name: float(value) for name, value in values.items()}


def require_two_labels(labels: np.ndarray, label_names: Sequence[str]) -> None:
    """Refuse test rows of which most figures would mean nothing.

    Args:
        labels: int64 (reviews,).
        label_names: Of labels 0, 1, ….

    Raises:
        UsageError: All of them have one label.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise UsageError(
            f"all {len(labels):,} test rows have the label {label_names[present[0]]!r}: two are needed, so give more "
            "rows (--max_test_samples) or others (--test_file)"
        )


def require_numbers(probabilities: np.ndarray, variant: str) -> None:
    """Refuse a broken model.

    Args:
        probabilities: float (reviews, classes).
        variant: The model's name, for the message.

    Raises:
        UsageError: A probability is NaN.
    """
    broken = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if broken.size:
        raise UsageError(
            f"{variant} gave NaN for {broken.size:,} of {len(probabilities):,} rows, row {broken[0] + 1} first: "
            "its weights or its precision are broken, so train or export it again"
        )


def _score_ranking(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return `roc_auc` and `average_precision`; neither where a class has no row."""
    if len(np.unique(labels)) < probabilities.shape[1]:
        return {}
    wanted = _of_interest(probabilities)
    return {
        "roc_auc": float(roc_auc_score(labels, wanted, multi_class="ovr")),
        "average_precision": float(average_precision_score(labels, wanted)),
    }


def _of_interest(probabilities: np.ndarray) -> np.ndarray:
    """Return label 1's probabilities, (reviews,), of two classes, as scikit-learn wants them; of more, all of them."""
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities

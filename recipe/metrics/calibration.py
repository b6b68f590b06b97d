"""Whether a model that says 90 % is right nine times in ten, and the temperature that brings it closer."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from recipe.metrics.softmax import softmax

BINS = 15
# Beyond these a temperature says that the validation rows are too few to tell, and not what the model is like.
LOWEST, HIGHEST = 0.1, 10.0


@dataclass(frozen=True)
class Reliability:
    """How sure a model was and how often it was right, by how sure it was. Bins without a row are left out.

    Attributes:
        confidence: float64 (bins,), mean probability of the most probable label.
        accuracy: float64 (bins,), how often that label was the true one.
        rows: int64 (bins,).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    rows: np.ndarray

    @property
    def error(self) -> float:
        """Return the expected calibration error, the mean distance of the two by rows (Guo et al. 2017, equation 3)."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.rows))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least log loss, between 0.1 and 10 (Guo et al. 2017).

    To be fitted on validation rows: on test rows it would flatter the model. Where no label is wrong the loss falls as
    long as the temperature does, and where all logits are alike it never changes: neither says what the probabilities
    should be, so they are left as they are, with 1.

    Args:
        logits: float32 (reviews, classes).
        labels: int64 (reviews,).
    """
    scores = np.asarray(logits, dtype=np.float64)
    if (scores.argmax(axis=1) == labels).all() or not np.ptp(scores, axis=1).any():
        return 1.0

    def loss(log_temperature: float) -> float:
        """Return the log loss at a temperature."""
        return _log_loss(scores / math.exp(log_temperature), labels)

    # Over its logarithm, in which the loss of a temperature twice too high and twice too low are alike.
    bounds = (math.log(LOWEST), math.log(HIGHEST))
    fitted = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(fitted.x)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Return how far a model's confidence can be relied on, in bins of equal width that include their upper end.

    Args:
        probabilities: float64 (reviews, classes).
        labels: int64 (reviews,).
        bins: How many, between 0 and 1.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    sums = [np.bincount(place, weights=values, minlength=bins)[filled] for values in (confidence, right)]
    return Reliability(sums[0] / rows[filled], sums[1] / rows[filled], rows[filled])


def describe_calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, Any]:
    """Return how well a model knows how sure it may be, without and with a temperature.

    Args:
        logits: float32 (reviews, classes), of rows that the temperature was not fitted on.
        labels: int64 (reviews,).
        temperature: As `fit_temperature` found it.

    Returns:
        `temperature`; `before` and `after`, each with `log_loss`, `calibration_error` and `bins`: `confidence`,
        `accuracy` and `rows` of each bin that has rows, lowest first.
    """
    return {
        "temperature": temperature,
        "before": _describe(logits, labels, 1.0),
        "after": _describe(logits, labels, temperature),
    }


def _describe(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, Any]:
    """Return one side of `describe_calibration`."""
    found = reliability(softmax(logits, temperature), labels)
    columns = (found.confidence.tolist(), found.accuracy.tolist(), found.rows.tolist())
    return {
        "log_loss": _log_loss(np.asarray(logits, dtype=np.float64) / temperature, labels),
        "calibration_error": found.error,
        "bins": [
            dict(zip(("confidence", "accuracy", "rows"), row, strict=False)) for row in zip(*columns, strict=True)
        ],
    }


def _log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-probability of the true labels, from logits, float64 (reviews, classes).

    scikit-learn's `log_loss` takes probabilities, which are 0 where the logits are far apart, and its loss is then
    whatever it clips them at.
    """
    return float(-np.take_along_axis(log_softmax(scores, axis=1), labels[:, None], axis=1).mean())

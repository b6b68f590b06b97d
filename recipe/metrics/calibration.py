"""Measure how well probabilities match outcomes, and fit the temperature that improves the match."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from recipe.metrics.softmax import softmax

BINS = 15
# A temperature outside these bounds means that there are too few validation rows, not that the model needs it.
LOWEST, HIGHEST = 0.1, 10.0


@dataclass(frozen=True)
class Bin:
    """Reviews, at least one, whose most probable label has about the same probability; `confidence` is its mean."""

    confidence: float
    accuracy: float
    rows: int


@dataclass(frozen=True)
class Reliability:
    """How well a model's probabilities match outcomes; only bins that have rows, least confident first."""

    log_loss: float
    calibration_error: float
    bins: list[Bin]


@dataclass(frozen=True)
class Calibration:
    """How well probabilities match outcomes without a temperature (`before`) and with it (`after`)."""

    temperature: float
    before: Reliability
    after: Reliability


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least log loss, between 0.1 and 10 (Guo et al. 2017).

    Fit it on validation rows: on test rows it would flatter the model. It is 1, which changes nothing, if the
    rows cannot decide it: without a wrong label a lower temperature always lowers the loss, and with equal logits none
    changes it.

    Args:
        logits: float32 (reviews, classes).
        labels: int64 (reviews,).
    """
    wide = np.asarray(logits, dtype=np.float64)
    if (wide.argmax(axis=1) == labels).all() or not np.ptp(wide, axis=1).any():
        return 1.0
    # Over its logarithm, where a temperature twice too high is as far off as one twice too low.
    fitted = minimize_scalar(
        lambda log_temperature: _log_loss(wide / math.exp(log_temperature), labels),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(fitted.x)


def temperature_at_bound(temperature: float) -> bool:
    """Return whether a fitted temperature is the lowest or highest one allowed: the rows were too few to fit it."""
    return any(math.isclose(temperature, bound, rel_tol=1e-3) for bound in (LOWEST, HIGHEST))


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return confidence and accuracy in bins of equal width that include their upper end; empty bins are left out.

    Args:
        probabilities: float64 (reviews, classes).
        labels: int64 (reviews,).
        bins: Number of bins between 0 and 1.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    means = [np.bincount(place, values, bins)[filled] / rows[filled] for values in (confidence, right)]
    return [Bin(*values) for values in zip(*(column.tolist() for column in (*means, rows[filled])), strict=True)]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: mean |accuracy − confidence| over rows (Guo et al. 2017, equation 3)."""
    gaps = [abs(some.accuracy - some.confidence) for some in bins]
    return float(np.average(gaps, weights=[some.rows for some in bins]))


def calibration_of(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Calibration:
    """Return how well a model's probabilities match outcomes, without and with a temperature.

    Args:
        logits: float32 (reviews, classes), of rows that the temperature was not fitted on.
        labels: int64 (reviews,).
    """

    def reliability(temperature: float) -> Reliability:
        bins = reliability_bins(softmax(logits, temperature), labels)
        loss = _log_loss(np.asarray(logits, dtype=np.float64) / temperature, labels)
        return Reliability(loss, calibration_error(bins), bins)

    return Calibration(temperature, before=reliability(1.0), after=reliability(temperature))


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-probability of the true labels, from logits, float64 (reviews, classes).

    scikit-learn's `log_loss` takes probabilities. They are 0 where logits are far apart, and it then clips them.
    """
    return float(-np.take_along_axis(log_softmax(logits, axis=1), labels[:, None], axis=1).mean())

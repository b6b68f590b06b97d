"""Temperatures against a search by hand, bins against loops and scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from recipe.metrics.calibration import (
    HIGHEST,
    LOWEST,
    calibration_error,
    calibration_of,
    fit_temperature,
    reliability_bins,
    temperature_at_bound,
)


def calibrated(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are true, and the labels drawn by them."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(scale=2, size=(rows, classes))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_made_the_logits_too_sure_or_not_sure_enough(classes: int, factor: float) -> None:
    logits, labels = calibrated(20_000, classes)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_no_temperature_on_a_fine_grid_has_less_log_loss() -> None:
    logits, labels = calibrated(500, 3, seed=1)
    temperature = fit_temperature(2 * logits, labels)
    losses = {t: log_loss(labels, softmax(2 * logits / t, axis=1)) for t in (*np.geomspace(0.2, 9, 400), temperature)}
    assert min(losses, key=losses.__getitem__) == pytest.approx(temperature, rel=1e-2)
    assert losses[temperature] <= min(losses.values()) + 1e-9


def test_rows_without_a_mistake_leave_the_probabilities_as_they_are() -> None:
    logits = np.array([[1.0, -1.0], [-2.0, 0.5], [0.1, 0.0]])
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0


def test_logits_that_say_nothing_leave_the_probabilities_as_they_are() -> None:
    assert fit_temperature(np.full((10, 3), 0.7), np.arange(10) % 3) == 1.0


def test_a_temperature_has_bounds() -> None:
    logits = np.tile([[-9.0, 9.0]], (1000, 1))
    labels = np.ones(1000, dtype=np.int64)
    labels[0] = 0
    assert LOWEST <= fit_temperature(logits / 1000, labels) == pytest.approx(LOWEST, rel=1e-3)
    assert HIGHEST >= fit_temperature(logits * 100, 1 - labels) == pytest.approx(HIGHEST, rel=1e-3)


@pytest.mark.parametrize("scale, at_bound", [(1 / 1000, True), (100, True), (1, False)])
def test_a_temperature_that_was_stopped_by_its_bound_is_told_from_one_that_was_found(
    scale: float, at_bound: bool
) -> None:
    logits, labels = calibrated(1000, 3)
    assert temperature_at_bound(fit_temperature(scale * logits, labels)) == at_bound
    assert not temperature_at_bound(1.0)


def test_bins_hold_what_a_loop_counts() -> None:
    logits, labels = calibrated(3000, 4)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    found = reliability_bins(probabilities, labels)
    error, at = 0.0, 0
    for number in range(15):
        rows = [row for row in range(3000) if number / 15 < probabilities[row].max() <= (number + 1) / 15]
        if rows:
            confidence = sum(probabilities[row].max() for row in rows) / len(rows)
            accuracy = sum(probabilities[row].argmax() == labels[row] for row in rows) / len(rows)
            assert (found[at].confidence, found[at].accuracy) == pytest.approx((confidence, accuracy))
            assert found[at].rows == len(rows)
            error, at = error + len(rows) / 3000 * abs(confidence - accuracy), at + 1
    assert at == len(found) and calibration_error(found) == pytest.approx(error)


def test_bins_are_those_of_scikit_learn_and_include_their_upper_end() -> None:
    top = np.array([0.5, 0.6, 0.6, 0.8, 0.81, 1.0])
    labels = np.array([0, 0, 1, 0, 1, 0])
    found = reliability_bins(np.stack([top, 1 - top], axis=1), labels, bins=5)
    assert [some.rows for some in found] == [3, 1, 2]
    accuracy, confidence = calibration_curve(labels == 0, top, n_bins=5)
    np.testing.assert_allclose([some.accuracy for some in found], accuracy)
    np.testing.assert_allclose([some.confidence for some in found], confidence)


def test_a_model_that_is_always_sure_and_half_right_is_off_by_a_half() -> None:
    assert calibration_error(reliability_bins(np.array([[1.0, 0.0]] * 4), np.array([0, 1, 0, 1]))) == 0.5


def test_the_report_shows_both_sides_on_rows_that_were_not_fitted() -> None:
    logits, labels = calibrated(4000, 2)
    found = calibration_of(3 * logits[2000:], labels[2000:], fit_temperature(3 * logits[:2000], labels[:2000]))
    assert found.after.calibration_error < found.before.calibration_error / 2
    for side, factor in ((found.before, 3.0), (found.after, 3 / found.temperature)):
        probabilities = softmax(factor * logits[2000:].astype(np.float64), axis=1)
        assert side.log_loss == pytest.approx(log_loss(labels[2000:], probabilities), rel=1e-5)
        assert sum(some.rows for some in side.bins) == 2000
        error = calibration_error(reliability_bins(probabilities, labels[2000:]))
        assert side.calibration_error == pytest.approx(error, rel=1e-4)

"""Every figure against counts by hand, definitions written out, and the metrics that pick the best epoch."""

import numpy as np
import pytest
from oracles import CONFUSION

from recipe.errors import UsageError
from recipe.metrics.scores import figures_of, require_numbers, require_two_labels, score_labels
from recipe.training.compute_metrics import ClassificationMetrics

LABELS, POSITIVE = CONFUSION.labels, CONFUSION.positive
BINARY = np.stack([1 - POSITIVE, POSITIVE], axis=1)


def three_classes(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that have something to do with them."""
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=rows)
    powers = np.exp(draw.normal(size=(rows, 3)) + 1.5 * np.eye(3)[labels])
    return labels, powers / powers.sum(axis=1, keepdims=True)


def test_the_figures_of_a_hand_counted_case() -> None:
    figures = figures_of(LABELS, BINARY)
    assert figures.confusion == CONFUSION.matrix, "[[tn, fp], [fn, tp]]"
    assert {name: getattr(figures, name) for name in CONFUSION.figures} == pytest.approx(CONFUSION.figures)
    assert figures.matthews == pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6))
    # Of 25 pairs of a positive and a negative, the negative at 0.7 stands above three positives.
    assert figures.roc_auc == pytest.approx(22 / 25)
    # Precision at each positive, from the top; the third place is the negative's.
    assert figures.average_precision == pytest.approx((1 + 1 + 3 / 4 + 4 / 5 + 5 / 6) / 5)
    assert figures.log_loss == pytest.approx(-np.log(np.where(LABELS == 1, POSITIVE, 1 - POSITIVE)).mean())
    assert figures.brier == pytest.approx(((POSITIVE - LABELS) ** 2).mean())
    assert figures.reviews == 10


def test_with_more_classes_each_is_ranked_against_the_rest() -> None:
    labels, probabilities = three_classes()
    figures = figures_of(labels, probabilities)
    areas, precisions = [], []
    for label in range(3):
        positive, of_label = probabilities[:, label], labels == label
        areas.append((positive[of_label][:, None] > positive[~of_label]).mean())
        order = np.argsort(-positive)
        hits = of_label[order].cumsum()
        precisions.append((hits / np.arange(1, 301))[of_label[order]].mean())
    assert figures.roc_auc == pytest.approx(np.mean(areas))
    assert figures.average_precision == pytest.approx(np.mean(precisions))
    assert figures.brier == pytest.approx(((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean())
    assert np.sum(figures.confusion) == 300 and np.trace(figures.confusion) / 300 == figures.accuracy


def test_a_class_without_a_row_leaves_out_what_is_not_defined() -> None:
    labels, probabilities = three_classes()
    kept = labels != 2
    figures = figures_of(labels[kept], probabilities[kept])
    assert figures.roc_auc is figures.average_precision is None
    assert len(figures.confusion) == 3 and figures.confusion[2] == [0, 0, 0]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_figures_are_those_that_pick_the_best_epoch(classes: int) -> None:
    labels, probabilities = three_classes()
    labels, predicted = np.minimum(labels, classes - 1), np.minimum(probabilities.argmax(axis=1), classes - 1)
    expected = ClassificationMetrics(classes).compute(predictions=predicted, references=labels)
    assert score_labels(labels, predicted, classes) == expected
    assert list(expected) == ["f1", "accuracy", "precision", "recall"]


def test_one_class_only_in_test_is_refused() -> None:
    with pytest.raises(UsageError, match="all 10 test rows have the label 'positive': two are needed"):
        require_two_labels(np.ones(10, dtype=np.int64), ["negative", "positive"])


def test_nan_is_refused_by_row() -> None:
    broken = BINARY.copy()
    broken[[3, 5], 1] = np.nan
    with pytest.raises(UsageError, match="fp16 gave NaN for 2 of 10 rows, row 4 first"):
        require_numbers(broken, "fp16")
    require_numbers(BINARY, "fp16")
    require_two_labels(LABELS, ["negative", "positive"])

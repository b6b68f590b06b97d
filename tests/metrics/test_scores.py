"""Every figure against counts by hand, definitions written out, and the metrics that pick the best epoch."""

import numpy as np
import pytest
from oracles import CONFUSION

from recipe.errors import UsageError
from recipe.metrics.scores import (
    OfLabel,
    Ordinal,
    figures_by_label,
    figures_of,
    label_notes,
    numbers_in_order,
    ordinal_figures,
    require_numbers,
    require_two_labels,
    score_labels,
)
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


def test_a_macro_average_is_over_the_labels_that_have_rows_whatever_is_predicted() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    says_2 = np.array([0, 0, 0, 2, 1, 1])
    # Label 0: precision 3/3, recall 3/4. Label 1: 2/2, 2/2. Label 2 has no rows.
    expected = {"f1": (6 / 7 + 1) / 2, "accuracy": 5 / 6, "precision": 1, "recall": 7 / 8}
    assert score_labels(labels, says_2, 3) == pytest.approx(expected)
    assert score_labels(labels, labels, 3) == pytest.approx(dict.fromkeys(expected, 1))


def test_each_label_has_the_figures_that_are_defined() -> None:
    labels = np.array([0, 0, 0, 1, 1, 4])
    predicted = np.array([0, 0, 2, 2, 0, 4])
    assert figures_by_label(labels, predicted, 5) == [
        OfLabel(rows=3, predicted=3, precision=2 / 3, recall=2 / 3, f1=pytest.approx(2 / 3)),
        OfLabel(rows=2, predicted=0, precision=None, recall=0, f1=0),
        OfLabel(rows=0, predicted=2, precision=0, recall=None, f1=0),
        OfLabel(rows=0, predicted=0, precision=None, recall=None, f1=None),
        OfLabel(rows=1, predicted=1, precision=1, recall=1, f1=1),
    ]


STARS = ["1", "2", "3", "4", "5"]


def notes_of(labels: list[int], predicted: list[int], names: list[str] = STARS, rows: str = "test") -> list[str]:
    """The notes on these answers."""
    return label_notes(figures_by_label(np.array(labels), np.array(predicted), len(names)), names, rows)


def test_answers_that_miss_no_label_need_no_note() -> None:
    assert notes_of([0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, 0]) == []


def test_a_label_without_rows_is_named_and_is_not_also_one_that_is_never_right() -> None:
    assert notes_of([0, 1, 2, 3], [0, 1, 4, 3], rows="validation") == [
        "No validation row has the label '5', which counts in no average.",
        "The model never answers '3' (1 of the rows).",
    ]
    assert notes_of([0, 1, 3], [0, 1, 3]) == ["No test row has the label '3', '5', which counts in no average."]


def test_a_label_that_is_never_answered_or_never_right_is_named_once() -> None:
    assert notes_of([0, 1, 2, 2, 3, 4, 1], [0, 3, 4, 4, 3, 4, 3]) == [
        "The model never answers '2' (2 of the rows), '3' (2 of the rows)."
    ]
    assert notes_of([0, 1, 2, 2, 3, 4], [0, 1, 1, 3, 2, 4]) == [
        "The model is never right on '3' (0 of 2), '4' (0 of 1)."
    ]


def test_one_label_for_every_review_is_said_without_naming_all_the_others() -> None:
    assert notes_of([0, 1, 2, 3, 4], [4] * 5) == ["The model gives '5' to every review."]
    names = ["negative", "positive"]
    assert notes_of([0, 1], [1, 1], names) == ["The model gives 'positive' to every review."]
    # F1 of two labels is no average.
    assert notes_of([0, 0], [0, 1], names) == ["No test row has the label 'positive'."]


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (STARS, [1, 2, 3, 4, 5]),
        (["1 star", "2 stars", "3 Stars"], [1, 2, 3]),
        (["01", "02", "10"], [1, 2, 10]),
        (["-1", "0", "1"], [-1, 0, 1]),
        (["1 star", "10 stars", "2 stars"], [1, 10, 2]),
        (["0.5", "1", "1.5"], [0.5, 1, 1.5]),
        (["0", "1"], None),
        (["negative", "positive"], None),
        (["1", "2", "unknown"], None),
        (["1", "1.0", "2"], None),
        (["area 1", "area 2", "area 3"], None),
    ],
)
def test_labels_are_numbers_if_every_name_is_another_one(names: list[str], values: list[float] | None) -> None:
    assert numbers_in_order(names) == values


def test_the_distance_of_stars_is_counted_in_stars_and_in_steps_of_the_scale() -> None:
    labels, predicted = np.array([0, 1, 2, 3, 3, 0]), np.array([0, 2, 2, 0, 2, 1])
    # Labels are 1, 10, 2 and 4 stars: |1-1|, |10-2|, |2-2|, |4-1|, |4-2|, |1-10|.
    # In the order 1, 2, 4, 10 the steps between them are 0, 2, 0, 2, 1, 3.
    values = [1.0, 10.0, 2.0, 4.0]
    found = ordinal_figures(labels, predicted, values)
    assert found.mean_absolute_error == pytest.approx(22 / 6) and found.within_one == pytest.approx(3 / 6)
    places = np.array([0, 3, 1, 2])
    true, answers = places[labels], places[predicted]
    chance = np.mean([(one - other) ** 2 for one in true for other in answers])
    assert found.quadratic_kappa == pytest.approx(1 - ((true - answers) ** 2).mean() / chance)


def test_agreement_beyond_chance_is_not_defined_where_all_rows_have_one_label() -> None:
    ones = np.ones(4, dtype=np.int64)
    assert ordinal_figures(ones, ones, [1, 2, 3]) == Ordinal(0, 1, None)


def test_one_class_only_in_test_is_refused() -> None:
    with pytest.raises(UsageError, match="all 10 test rows have the label 'positive', and two .* with --test_file$"):
        require_two_labels(np.ones(10, dtype=np.int64), ["negative", "positive"])
    with pytest.raises(UsageError, match="the only test row has the label 'negative', and two labels are needed"):
        require_two_labels(np.zeros(1, dtype=np.int64), ["negative", "positive"])


def test_nan_is_refused_by_row() -> None:
    broken = BINARY.copy()
    broken[[3, 5], 1] = np.nan
    with pytest.raises(UsageError, match="fp16 gave NaN for 2 of 10 rows, row 4 first"):
        require_numbers(broken, "fp16")
    require_numbers(BINARY, "fp16")
    require_two_labels(LABELS, ["negative", "positive"])

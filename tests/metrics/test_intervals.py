"""The bootstrap against scikit-learn on the resampled rows and SciPy's own, and intervals against exact tails."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom, bootstrap
from simulated_coverage import BALANCES, coverage, two_models
from sklearn.metrics import accuracy_score, f1_score

from recipe.metrics import intervals
from recipe.metrics.intervals import (
    difference_intervals,
    f1_interval,
    interval,
    intervals_of,
    label_intervals,
    resample,
    share_interval,
)


def answers(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the predictions of three models that are right four times in five."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=rows)
    wrong = draw.random((3, rows)) < 0.2
    return labels, np.where(wrong, draw.integers(classes, size=(3, rows)), labels)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_resample_scores_what_scikit_learn_says_of_the_weights_it_drew(classes: int) -> None:
    labels, predicted = answers(60, classes, seed=1)
    kinds, counts = np.unique(np.vstack([labels, predicted]), axis=1, return_counts=True)
    drawn = np.random.default_rng(5).standard_gamma(counts, size=(10, len(counts)))
    average = "binary" if classes == 2 else "macro"
    f1, accuracy = resample(labels, predicted, classes=classes, resamples=10, seed=5)
    for score, found in ((partial(f1_score, average=average), f1), (accuracy_score, accuracy)):
        expected = [[score(kinds[0], model, sample_weight=weights) for model in kinds[1:]] for weights in drawn]
        np.testing.assert_allclose(found, expected)


def test_scipy_resamples_row_by_row_and_finds_the_same_intervals() -> None:
    labels, predicted = answers(1000, 2, seed=6)

    def f1(model: int, rows: np.ndarray, axis: int) -> np.ndarray:
        """F1 of a model on the rows with these numbers."""
        hits = (labels * predicted[model])[rows].sum(axis)
        return 2 * hits / (labels[rows].sum(axis) + predicted[model][rows].sum(axis))

    def gain(rows: np.ndarray, axis: int) -> np.ndarray:
        """F1 that the second model gains over the first, on the same rows."""
        return f1(1, rows, axis) - f1(0, rows, axis)

    ours = resample(labels, predicted, classes=2, resamples=10_000)[0]
    for statistic, values in ((partial(f1, 0), ours[:, 0]), (gain, ours[:, 1] - ours[:, 0])):
        options = {"n_resamples": 10_000, "method": "percentile", "vectorized": True, "batch": 1000}
        found = bootstrap((np.arange(1000),), statistic, rng=np.random.default_rng(0), **options)
        assert interval(values) == pytest.approx(list(found.confidence_interval), abs=0.003)
        assert values.std() == pytest.approx(found.standard_error, rel=0.03)


def test_few_resamples_at_a_time_are_as_many_and_as_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = answers(300, 3, seed=4)
    whole = resample(labels, predicted, classes=3, resamples=1000)
    monkeypatch.setattr(intervals, "DRAWN_AT_A_TIME", 30 * 64)
    for at_once, by_parts in zip(whole, resample(labels, predicted, classes=3, resamples=1000), strict=True):
        assert by_parts.shape == (1000, 3) and len(np.unique(by_parts[:, 0])) > 900
        np.testing.assert_allclose(by_parts.mean(axis=0), at_once.mean(axis=0), atol=0.004)
        np.testing.assert_allclose(by_parts.std(axis=0), at_once.std(axis=0), rtol=0.15)


def test_every_model_is_averaged_over_the_labels_that_have_rows() -> None:
    """No row has label 2 of three; one model says it, and the other, which is always right, does not."""
    labels = np.tile([0, 1], 50)
    says_2 = labels.copy()
    says_2[:10] = 2
    found = intervals_of(labels, {"says 2": says_2, "right": labels}, 3, [("says 2", "right")])
    (difference,) = found.differences
    assert found.variants["right"].f1[0] > 0.94 and found.variants["right"].f1[1] == 1
    # Labels 0 and 1: precision 1, recall 45/50 each.
    assert difference.f1 == pytest.approx(2 * 0.9 / 1.9 - 1)
    assert difference.f1_interval[0] < difference.f1 < difference.f1_interval[1] < 0
    low, high = found.variants["says 2"].f1
    assert low < 2 * 0.9 / 1.9 < high < 1
    mean = resample(labels, np.stack([says_2, labels]), classes=3)[0].mean(axis=0)
    assert mean == pytest.approx([2 * 0.9 / 1.9, 1], abs=0.005)


def test_a_label_that_only_predictions_have_changes_no_comparison() -> None:
    labels, predicted = answers(200, 3, seed=2)
    with_another = np.where(np.arange(200) < 5, 3, predicted[1])
    for model in (predicted[0], with_another):
        expected = label_intervals(labels, model, 4)
        assert expected["f1"][0] < f1_score(labels, model, labels=[0, 1, 2], average="macro") < expected["f1"][1]


def test_the_number_of_classes_decides_whose_f1_it_is() -> None:
    labels, predicted = answers(200, 2, seed=3)
    of_label_1, macro = (
        resample(labels, predicted, classes=classes, resamples=400)[0].mean(axis=0) for classes in (2, 3)
    )
    np.testing.assert_allclose(of_label_1, [f1_score(labels, row) for row in predicted], atol=0.01)
    np.testing.assert_allclose(macro, [f1_score(labels, row, average="macro") for row in predicted], atol=0.01)
    assert not np.allclose(of_label_1, macro, atol=1e-4)


def test_a_difference_is_as_sure_as_its_pairs_make_it() -> None:
    """Two models that differ on 30 reviews of 1,000: the first is right on 25 of them."""
    labels = np.tile([0, 1], 500)
    first, second = labels.copy(), labels.copy()
    first[:200], second[:200] = 1 - labels[:200], 1 - labels[:200]
    second[200:225], first[225:230] = 1 - labels[200:225], 1 - labels[225:230]
    report = intervals_of(labels, {"int8": first, "tfidf": second}, 2, [("int8", "tfidf")])
    (found,) = report.differences
    # Of each paired difference in accuracy the variance is (b + c - (b - c)^2 / n) / n^2 (McNemar's counts b and c).
    spread = 1.96 * np.sqrt(30 - 20**2 / 1000) / 1000
    assert found.accuracy == pytest.approx(0.02)
    assert found.accuracy_interval == pytest.approx([0.02 - spread, 0.02 + spread], abs=2e-3)
    assert found.f1 == pytest.approx(f1_score(labels, first) - f1_score(labels, second))
    of_these_rows = interval(np.subtract(*resample(labels, np.stack([first, second]), classes=2)[0].T))
    assert found.f1_interval[0] < of_these_rows[0] and of_these_rows[1] < found.f1_interval[1]
    assert found.f1_interval == pytest.approx(of_these_rows, abs=2e-3)
    assert (found.first, found.second) == ("int8", "tfidf")
    of_int8 = report.variants["int8"]
    assert of_int8.accuracy[0] < accuracy_score(labels, first) < of_int8.accuracy[1]
    assert of_int8.f1[0] < f1_score(labels, first) < of_int8.f1[1]
    assert of_int8.accuracy[1] - of_int8.accuracy[0] > 2 * spread, "unpaired, it would be lost in the noise"


@pytest.mark.parametrize("classes", [2, 3])
def test_two_models_that_agree_on_every_row_may_still_differ(classes: int) -> None:
    labels, (model, *_) = answers(500, classes, seed=8)
    found = difference_intervals(labels, model, model, classes)
    # Were one model better on a share s of the rows, 500 rows would show none of it in 2.5 % of draws: (1 - s)^500.
    share = 1 - 0.025 ** (1 / 500)
    assert found["accuracy"] == pytest.approx([-share, share], rel=0.1)
    assert -3 * share < found["f1"][0] < -share / 2 and found["f1"][0] == -found["f1"][1]


def test_few_errors_or_none_make_no_interval_a_point() -> None:
    labels = np.tile([0, 1, 2], 100)
    found = label_intervals(labels, labels, 3)
    # 300 rows without an error leave, at 97.5 %, an error in 1 - 0.025^(1/300) of the rows.
    worst = 0.025 ** (1 / 300)
    for name, ends in found.items():
        assert ends == pytest.approx([worst, 1], abs=0.002), name
    one_answer = label_intervals(labels, np.zeros_like(labels), 3)
    assert one_answer["f1"][0] < (2 * (1 / 3) / (4 / 3)) / 3 < one_answer["f1"][1]
    assert all(high - low > 0.005 for low, high in one_answer.values())


def test_a_rare_label_makes_a_macro_average_less_sure() -> None:
    """Five rows of 1,000 have label 2, all right: its recall may be 0.48 (0.025^(1/5)), a third of the average."""
    labels = np.repeat([0, 1, 2], [500, 495, 5])
    found = label_intervals(labels, labels, 3)
    assert found["recall"][0] == pytest.approx(1 - (1 - 0.025 ** (1 / 5)) / 3, abs=0.01)
    assert found["accuracy"][0] > 0.996


def test_few_rows_of_many_labels_do_not_pull_an_interval_below_what_a_model_is_worth() -> None:
    """With 4 to 84 rows of each of twenty labels, F1 is too low on average, and lower still in resamples."""
    source, draw, away = two_models(BALANCES["twenty labels, 1.4 % to 28 %"], 0.7), np.random.default_rng(0), []
    for _ in range(15):
        labels, predicted, _ = source.rows(300, draw)
        worth = source.figures(0, tuple(np.unique(labels).tolist()))["f1"]
        away.append(np.mean(label_intervals(labels, predicted, 20)["f1"]) - worth)
    assert abs(np.mean(away)) < 0.015, away


@pytest.mark.parametrize("rows, share", [(20, 0.9), (60, 0.95), (100, 0.995)])
def test_a_share_of_few_rows_is_held_at_least_as_often_as_promised(rows: int, share: float) -> None:
    hits = np.arange(rows + 1)
    held = [low <= share <= high for low, high in (share_interval(int(some), rows) for some in hits)]
    assert 0.95 <= binom.pmf(hits, rows, share)[held].sum() < 0.995


def test_the_ends_of_a_share_are_where_its_count_would_be_a_rare_one() -> None:
    low, high = share_interval(57, 60)
    assert binom.sf(56, 60, low) == pytest.approx(0.025) and binom.cdf(57, 60, high) == pytest.approx(0.025)
    assert share_interval(0, 0) == [0, 1], "of no rows nothing is known"


def test_f1_of_few_rows_is_held_as_often_as_promised() -> None:
    draw, held = np.random.default_rng(0), 0
    for _ in range(1000):
        labels = draw.integers(2, size=60)
        predicted = np.where(draw.random(60) < np.array([0.8, 0.9])[labels], labels, 1 - labels)
        low, high = f1_interval(labels, predicted)
        held += low <= 2 * 0.9 / (2 * 0.9 + 0.2 + 0.1) <= high
    assert held >= 950


def test_a_slice_without_a_mistake_is_not_beyond_doubt() -> None:
    low, high = f1_interval(np.array([0, 1] * 10), np.array([0, 1] * 10))
    assert 0.7 < low < 0.9 and high == pytest.approx(1)
    assert f1_interval(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64)) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "accuracy", "rows"),
    [
        ("two labels, 90:10", 0.95, 100),
        ("three labels, even", 0.995, 300),
        ("five labels, 5 % to 50 %", 0.7, 100),
        ("five labels, 5 % to 50 %", 1.0, 100),
        ("twenty labels, 1.4 % to 28 %", 0.7, 300),
    ],
)
def test_95_in_100_intervals_hold_what_a_model_is_worth(labels: str, accuracy: float, rows: int) -> None:
    held, _ = coverage(two_models(BALANCES[labels], accuracy), rows, draws=200)
    assert min(held.values()) >= 0.93, held


@pytest.mark.slow
def test_with_many_rows_and_errors_intervals_are_no_wider_than_they_must_be() -> None:
    held, _ = coverage(two_models(BALANCES["five labels, 5 % to 50 %"], 0.7), rows=2000, draws=600)
    assert min(held.values()) >= 0.93 and max(held.values()) <= 0.985, held

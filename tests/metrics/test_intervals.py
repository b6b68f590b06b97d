"""The bootstrap, against scikit-learn on the resampled rows, SciPy's own, and the spread it should have."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom, bootstrap
from sklearn.metrics import accuracy_score, f1_score

from recipe.metrics import intervals
from recipe.metrics.intervals import f1_interval, interval, intervals_of, resample, share_interval


def answers(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the predictions of three models that are right four times in five."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=rows)
    wrong = draw.random((3, rows)) < 0.2
    return labels, np.where(wrong, draw.integers(classes, size=(3, rows)), labels)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_resample_scores_what_scikit_learn_says_of_the_rows_it_drew(classes: int) -> None:
    labels, predicted = answers(60, classes, seed=1)
    kinds, members = np.unique(np.vstack([labels, predicted]), axis=1, return_inverse=True)
    counts = np.bincount(members)
    draw, drawn = np.random.default_rng(5), np.empty((10, len(counts)))
    for label in range(classes):
        same = kinds[0] == label
        drawn[:, same] = draw.multinomial(counts[same].sum(), counts[same] / counts[same].sum(), size=10)
    expected = [
        [
            f1_score(kinds[0], model, sample_weight=weights, average="binary" if classes == 2 else "macro")
            for model in kinds[1:]
        ]
        for weights in drawn
    ]
    np.testing.assert_allclose(resample(labels, predicted, resamples=10, seed=5)[0], expected)
    assert (drawn.sum(axis=1) == 60).all()


def test_scipy_resamples_row_by_row_and_finds_the_same_intervals() -> None:
    labels, predicted = answers(300, 2, seed=6)

    def f1(model: int, negatives: np.ndarray, positives: np.ndarray, axis: int) -> np.ndarray:
        """F1 of a model on the rows with these numbers."""
        hits, false_alarms = (predicted[model][rows].sum(axis) for rows in (positives, negatives))
        return 2 * hits / (hits + false_alarms + positives.shape[axis])

    def gain(*rows: np.ndarray, axis: int) -> np.ndarray:
        """F1 that the second model gains over the first, on the same rows."""
        return f1(1, *rows, axis=axis) - f1(0, *rows, axis=axis)

    by_label = [np.flatnonzero(labels == label) for label in (0, 1)]
    ours = resample(labels, predicted, resamples=10_000)[0]
    for statistic, values in ((partial(f1, 0), ours[:, 0]), (gain, ours[:, 1] - ours[:, 0])):
        options = {"n_resamples": 10_000, "method": "percentile", "vectorized": True}
        found = bootstrap(by_label, statistic, rng=np.random.default_rng(0), **options)
        assert interval(values) == pytest.approx(list(found.confidence_interval), abs=0.004)
        assert values.std() == pytest.approx(found.standard_error, rel=0.03)


def test_few_resamples_at_a_time_are_as_many_and_as_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = answers(300, 3, seed=4)
    whole = resample(labels, predicted, resamples=1000)
    monkeypatch.setattr(intervals, "DRAWN_AT_A_TIME", 30 * 64)
    for at_once, by_parts in zip(whole, resample(labels, predicted, resamples=1000), strict=True):
        assert by_parts.shape == (1000, 3) and len(np.unique(by_parts[:, 0])) > 20
        np.testing.assert_allclose(by_parts.mean(axis=0), at_once.mean(axis=0), atol=0.004)
        np.testing.assert_allclose(by_parts.std(axis=0), at_once.std(axis=0), rtol=0.15)


def test_the_number_of_classes_decides_whose_f1_it_is() -> None:
    labels, predicted = answers(200, 2, seed=3)
    of_label_1, macro = (resample(labels, predicted, 400, classes=classes)[0].mean(axis=0) for classes in (2, 3))
    np.testing.assert_allclose(of_label_1, [f1_score(labels, row) for row in predicted], atol=0.01)
    np.testing.assert_allclose(macro, [f1_score(labels, row, average="macro") for row in predicted], atol=0.01)
    assert not np.allclose(of_label_1, macro, atol=1e-4)


@pytest.mark.slow
def test_the_intervals_of_95_in_100_test_sets_hold_what_the_model_is_worth() -> None:
    """Over 2,000 drawn test sets of 1,000 rows, with as many of each label in each: 95 % and 1 to either side."""
    recalls, labels = np.array([0.85, 0.9]), np.repeat([0, 1], 500)
    true_accuracy, true_f1 = recalls.mean(), 2 * 0.9 / (2 * 0.9 + 0.15 + 0.1)
    draw, held = np.random.default_rng(0), np.zeros(2)
    for number in range(2000):
        predicted = np.where(draw.random(1000) < recalls[labels], labels, 1 - labels)
        f1, accuracy = (interval(values[:, 0]) for values in resample(labels, predicted[None], 1000, seed=number))
        held += (f1[0] <= true_f1 <= f1[1], accuracy[0] <= true_accuracy <= accuracy[1])
    assert (np.abs(held / 2000 - 0.95) <= 0.01).all(), held / 2000


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
    assert found.accuracy_interval == pytest.approx([0.02 - spread, 0.02 + spread], abs=1.5e-3)
    assert found.f1 == pytest.approx(f1_score(labels, first) - f1_score(labels, second))
    gains = np.subtract(*resample(labels, np.stack([first, second]))[0].T)
    assert found.f1_interval == pytest.approx(interval(gains))
    assert (found.first, found.second) == ("int8", "tfidf")
    of_int8 = report.variants["int8"]
    assert of_int8.accuracy[0] < accuracy_score(labels, first) < of_int8.accuracy[1]
    assert of_int8.f1[0] < f1_score(labels, first) < of_int8.f1[1]
    assert of_int8.accuracy[1] - of_int8.accuracy[0] > 2 * spread, "unpaired, it would be lost in the noise"


@pytest.mark.parametrize("rows, share", [(20, 0.9), (60, 0.95)])
def test_a_share_of_few_rows_is_held_nearly_as_often_as_promised(rows: int, share: float) -> None:
    hits = np.arange(rows + 1)
    held = [low <= share <= high for low, high in (share_interval(int(some), rows) for some in hits)]
    assert 0.93 < binom.pmf(hits, rows, share)[held].sum() < 0.99
    assert share_interval(rows, rows)[0] < 0.97 and share_interval(rows, rows)[1] == pytest.approx(1)


def test_f1_of_few_rows_is_held_as_often_as_promised() -> None:
    draw, held = np.random.default_rng(0), 0
    for _ in range(2000):
        labels = draw.integers(2, size=60)
        predicted = np.where(draw.random(60) < np.array([0.8, 0.9])[labels], labels, 1 - labels)
        low, high = f1_interval(labels, predicted) or (0.0, 0.0)
        held += low <= 2 * 0.9 / (2 * 0.9 + 0.2 + 0.1) <= high
    assert abs(held / 2000 - 0.95) <= 0.015


def test_a_slice_without_a_mistake_is_not_beyond_doubt() -> None:
    low, high = f1_interval(np.array([0, 1] * 10), np.array([0, 1] * 10)) or (0.0, 0.0)
    assert 0.7 < low < 0.9 and high == pytest.approx(1)
    assert f1_interval(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64)) is None

"""The bootstrap, against scikit-learn on the very rows that were drawn and against the spread it should have."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from recipe.benchmarks.inputs import summarise
from recipe.intervals import interval, resampled_f1


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
    np.testing.assert_allclose(resampled_f1(labels, predicted, resamples=10, seed=5), expected)
    assert (drawn.sum(axis=1) == 60).all()


def test_the_spread_is_that_of_rows_drawn_one_by_one() -> None:
    labels, predicted = answers(400, 2, seed=2)
    draw, by_hand = np.random.default_rng(0), []
    of_label = [np.flatnonzero(labels == label) for label in (0, 1)]
    for _ in range(600):
        rows = np.concatenate([draw.choice(same, len(same)) for same in of_label])
        by_hand.append([f1_score(labels[rows], model[rows]) for model in predicted])
    resampled = resampled_f1(labels, predicted)
    np.testing.assert_allclose(resampled.std(axis=0), np.std(by_hand, axis=0), rtol=0.12)
    gain, gain_by_hand = resampled[:, 1] - resampled[:, 0], np.subtract(*np.transpose(by_hand)[[1, 0]])
    np.testing.assert_allclose(interval(gain), interval(gain_by_hand), atol=0.008)


def test_the_comparison_is_paired_by_row_and_averaged_over_seeds() -> None:
    labels = np.tile([0, 1], 500)
    predicted = np.tile(labels, (2, 3, 1))
    predicted[0, 0, :100] = 1  # Of the first reading one seed takes 50 negatives for positive, the other 30.
    predicted[1, 0, :60] = 1
    report = summarise(labels, predicted)
    first, _, last = report.values()
    assert list(report) == ["content at 128", "title content at 128", "title content at 256"]
    by_seed = [1000 / 1050, 1000 / 1030]
    assert first["f1_by_seed"] == pytest.approx(by_seed, abs=1e-4) and first["f1"] == pytest.approx(
        np.mean(by_seed), abs=1e-4
    )
    assert last["interval"] == [1.0, 1.0] and first["gain_interval"] == [0.0, 0.0]
    assert last["gain_interval"][0] > 0.02 and last["gain_interval"][1] < 0.06

"""How sure a figure is: stratified bootstrap resamples of the rows it was measured on; closed forms for few rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from recipe.metrics.scores import score_labels

RESAMPLES = 2000
LEVEL = 0.95
# Drawn numbers that are held at a time, 128 MiB of them, however many kinds of rows there are.
DRAWN_AT_A_TIME = 2**24


def describe_intervals(
    labels: np.ndarray, predicted: dict[str, np.ndarray], classes: int, pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the 95 % intervals of models' F1 and accuracy, and of their differences, paired by row.

    Args:
        labels: int64 (rows,), the true ones.
        predicted: Each model's labels, int64 (rows,).
        classes: How many there are.
        pairs: Names of the models to compare, `(first, second)`.

    Returns:
        `level` and `resamples`; `variants`, by name `f1` and `accuracy`, `[low, high]` each; and `differences`, per
        pair `first`, `second`, `f1` and `accuracy` (the first's gain over the second), `f1_interval` and
        `accuracy_interval`.
    """
    names = list(predicted)
    drawn = dict(
        zip(("f1", "accuracy"), resample(labels, np.stack(list(predicted.values())), classes=classes), strict=False)
    )
    measured = {name: score_labels(labels, answers, classes) for name, answers in predicted.items()}
    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "variants": {
            name: {figure: list(interval(values[:, at])) for figure, values in drawn.items()}
            for at, name in enumerate(names)
        },
        "differences": [
            {"first": first, "second": second}
            | {figure: measured[first][figure] - measured[second][figure] for figure in drawn}
            | {
                f"{figure}_interval": list(interval(values[:, names.index(first)] - values[:, names.index(second)]))
                for figure, values in drawn.items()
            }
            for first, second in pairs
        ],
    }


def resample(
    labels: np.ndarray, predicted: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's F1 and accuracy on rows drawn anew with replacement, as many of each label as there are.

    All models are measured on the same rows of a resample, so that differences between columns are paired. Rows with
    the same label and the same predictions are alike: how many of each kind are drawn is a multinomial number, which is
    drawn at once, whatever the number of rows (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993).

    The balance of the labels is taken as given, and so are intervals: of rows with these many of each label. Were the
    balance drawn anew too, F1 would move more (its 95 % interval holds 91.5 % where labels are drawn freely, half of
    each, with recalls of 0.9 and 0.8), as under another balance it is another number.

    Args:
        labels: int64 (rows,), the true ones, from 0.
        predicted: int64 (models, rows).
        resamples: How many times.
        seed: The same resamples for the same seed.
        classes: How many there are; `None` takes two where only labels 0 and 1 occur.

    Returns:
        float64 (resamples, models) twice. F1 is that of label 1 where there are two classes, else the macro average
        over the labels that occur; it is 0 for a label that is neither drawn nor predicted.
    """
    kinds, counts = np.unique(np.vstack([labels, predicted]), axis=1, return_counts=True)
    true, answers = kinds[0], kinds[1:]
    occurring = np.unique(kinds)
    binary = classes == 2 if classes else set(occurring) <= {0, 1}
    at_a_time = max(1, DRAWN_AT_A_TIME // len(counts))
    draw, f1, accuracy = np.random.default_rng(seed), [], []
    for start in range(0, resamples, at_a_time):
        drawn = _draw(draw, true, counts, min(at_a_time, resamples - start))
        f1.append(np.mean([_f1_of(label, drawn, true, answers) for label in ([1] if binary else occurring)], axis=0))
        accuracy.append(drawn @ (answers == true).T / len(labels))
    return np.concatenate(f1), np.concatenate(accuracy)


def resampled_f1(labels: np.ndarray, predicted: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return F1 alone, as in `resample`, float64 (resamples, models)."""
    return resample(labels, predicted, resamples, seed)[0]


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval that holds the middle `level` of resampled values (resamples,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_interval(hits: int, rows: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, after Wilson (1927): honest where rows are few or none is a miss."""
    found = binomtest(hits, rows).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def f1_interval(labels: np.ndarray, predicted: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of label 1's F1, honest where rows are few or none is a miss, where a resample has none.

    F1 = 2 tp / (2 tp + fp + fn) is 2 s / (1 + s) of the share s = tp / (tp + fp + fn). Among rows that are positive or
    taken for it, whatever their number, tp is binomial, so that s has Wilson's interval; F1 rises with s.

    Args:
        labels: The true ones, 0 or 1, int64 (rows,).
        predicted: The same.

    Returns:
        `None` where no row is positive or taken for it.
    """
    hits, rows = int((labels & predicted).sum()), int((labels | predicted).sum())
    if not rows:
        return None
    low, high = share_interval(hits, rows)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _draw(draw: np.random.Generator, true: np.ndarray, counts: np.ndarray, resamples: int) -> np.ndarray:
    """Return how often each kind of row is drawn, float64 (resamples, kinds), from its label and its count."""
    drawn = np.empty((resamples, len(counts)))
    for label in np.unique(true):
        same = counts[true == label]
        drawn[:, true == label] = draw.multinomial(same.sum(), same / same.sum(), size=resamples)
    return drawn


def _f1_of(label: int, drawn: np.ndarray, true: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return F1 of one label, 2 tp / (2 tp + fp + fn), float64 (resamples, models), from how often each kind is drawn.

    scikit-learn's `f1_score` computes the same of one resample, with `sample_weight`.
    """
    hits = drawn @ ((answers == label) & (true == label)).T
    sizes = drawn @ (answers == label).T + (drawn @ (true == label))[:, None]
    return np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)

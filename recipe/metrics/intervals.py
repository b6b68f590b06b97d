"""95 % intervals of F1 and the other figures, for rows drawn freely: exact where that is known, else resampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from recipe.metrics.scores import score_labels

RESAMPLES = 2000
LEVEL = 0.95
# Random numbers held at a time, 128 MiB of them, however many kinds of rows there are.
DRAWN_AT_A_TIME = 2**24


@dataclass(frozen=True)
class VariantIntervals:
    """Intervals of one model's figures, `[low, high]` each."""

    f1: list[float]
    accuracy: list[float]


@dataclass(frozen=True)
class Difference:
    """F1 and accuracy of one model minus those of another; intervals are `[low, high]`, paired by row."""

    first: str
    second: str
    f1: float
    accuracy: float
    f1_interval: list[float]
    accuracy_interval: list[float]


@dataclass(frozen=True)
class Intervals:
    """Intervals of several models on the same rows: exact ones, or the middle `level` of `resamples`."""

    level: float
    resamples: int
    variants: dict[str, VariantIntervals]
    differences: list[Difference]


def intervals_of(
    labels: np.ndarray, predicted: Mapping[str, np.ndarray], classes: int, pairs: Sequence[tuple[str, str]]
) -> Intervals:
    """Return the 95 % intervals of models' F1 and accuracy, and of the differences between the pairs named.

    Args:
        labels: True labels, int64 (rows,).
        predicted: Each model's labels, int64 (rows,), by its name.
        classes: Number of classes.
    """

    def difference(first: str, second: str) -> Difference:
        of_first, of_second = (score_labels(labels, predicted[name], classes) for name in (first, second))
        gains = {name: of_first[name] - of_second[name] for name in ("f1", "accuracy")}
        ends = difference_intervals(labels, predicted[first], predicted[second], classes)
        return Difference(first, second, **gains, f1_interval=ends["f1"], accuracy_interval=ends["accuracy"])

    found = {name: label_intervals(labels, answers, classes) for name, answers in predicted.items()}
    variants = {name: VariantIntervals(ends["f1"], ends["accuracy"]) for name, ends in found.items()}
    return Intervals(LEVEL, RESAMPLES, variants, [difference(*pair) for pair in pairs])


def label_intervals(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, list[float]]:
    """Return the 95 % intervals of `f1`, `accuracy`, `precision` and `recall`, as `score_labels` defines them.

    Shares and the F1 of two labels have exact intervals. A macro average has those of `resample`, with a row more at
    either end: the lower end is that of the rows and one wrong answer more, which costs the most, the upper end that of
    the rows and one right answer more, which gains the most. So few errors, or none, do not make an interval a point.
    For a share this is the exact interval, for a weighted sum of counts that of Fay and Feuer (1997).

    Args:
        labels: True labels, int64 (rows,).
        predicted: int64 (rows,).
        classes: Number of classes.
    """
    accuracy = share_interval(int((labels == predicted).sum()), len(labels))
    if classes == 2:
        hits = int((labels & predicted).sum())
        precision, recall = (share_interval(hits, int(some.sum())) for some in (predicted, labels))
        return {
            "f1": f1_interval(labels, predicted),
            "accuracy": accuracy,
            "precision": precision,
            "recall": recall,
        }
    macro = {name: _macro_interval(name, labels, predicted, classes) for name in ("f1", "precision", "recall")}
    return {"f1": macro.pop("f1"), "accuracy": accuracy, **macro}


def difference_intervals(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int
) -> dict[str, list[float]]:
    """Return the 95 % intervals of `f1` and `accuracy` of one model minus those of another, paired by row.

    Each end is that of `resample`, with a row more that only one of the two gets right, the one that changes F1 the
    most. So two models that agree on every row still have an interval.

    Args:
        labels: True labels, int64 (rows,).
        first, second: Each model's labels, int64 (rows,).
        classes: Number of classes.
    """
    low = _low_differences(labels, first, second, classes)
    high = _low_differences(labels, second, first, classes)
    # With a handful of rows, one row more reaches past what a difference can be.
    return {name: [max(low[name], -1.0), min(-high[name], 1.0)] for name in low}


def resample(
    labels: np.ndarray, predicted: np.ndarray, *, classes: int, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's F1 and accuracy on resamples of the rows, by the Bayesian bootstrap (Rubin 1981).

    Every resample gives each row a weight, drawn from the exponential distribution. Labels are not balanced by it: the
    intervals are for rows drawn freely. All models share the weights, so differences between columns are paired. Rows
    with the same label and the same predictions are interchangeable, and their weights have a gamma distribution; the
    number of rows therefore costs nothing. Other than by the ordinary bootstrap, no label is ever without rows.

    Args:
        labels: True labels, int64 (rows,).
        predicted: int64 (models, rows).
        classes: Number of classes.

    Returns:
        F1 and accuracy, float64 (resamples, models) each, as `score_labels` defines them.
    """
    figures = _resampled(labels, predicted, classes, resamples, seed)
    return figures["f1"][1:], figures["accuracy"][1:]


def interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """Return the percentile interval of resampled values, float64 (resamples,), in which `level` of them lie."""
    ends: list[float] = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return ends


def share_interval(hits: int, rows: int) -> list[float]:
    """Return the exact 95 % interval of a share (Clopper and Pearson 1934): it holds at least 95 %, for any rows.

    Without rows nothing is known, so it is 0 to 1.
    """
    if not rows:
        return [0.0, 1.0]
    found = binomtest(hits, rows).proportion_ci(LEVEL, method="exact")
    return [float(found.low), float(found.high)]


def f1_interval(labels: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Return the exact 95 % interval of label 1's F1.

    F1 = 2 tp / (2 tp + fp + fn) equals 2 s / (1 + s) for the share s = tp / (tp + fp + fn). Given the number of rows
    that are positive or predicted positive, tp is binomial. So s has the interval of a share, and F1 rises with s.

    Labels, int64 (rows,), are 0 or 1.
    """
    ends = share_interval(int((labels & predicted).sum()), int((labels | predicted).sum()))
    return [2 * share / (1 + share) for share in ends]


def _macro_interval(name: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[float]:
    loss, gain = _effects(name, labels, predicted, classes)
    most, next_most = np.argsort(-loss)[:2]
    # A wrong row lowers the recall of its label and the precision of its answer.
    wrong = (next_most, most) if name == "precision" else (most, next_most)
    right = (gain.argmax(),) * 2
    low, high = (
        _resampled(np.append(labels, label), np.append(predicted, answer)[None], classes)[name][:, 0]
        for label, answer in (wrong, right)
    )
    return [max(_low_end(low), 0.0), min(-_low_end(-high), 1.0)]


def _low_differences(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int) -> dict[str, float]:
    """Return the lower ends of the intervals of `f1` and `accuracy` of the first model minus the second."""
    loss, _ = _effects("f1", labels, first, classes)
    _, gain = _effects("f1", labels, second, classes)
    change = (loss + gain)[:, None] + loss
    np.fill_diagonal(change, -1)
    label, answer = np.unravel_index(change.argmax(), change.shape)
    answers = np.stack([np.append(first, answer), np.append(second, label)])
    resampled = _resampled(np.append(labels, label), answers, classes)
    return {name: _low_end(np.subtract(*resampled[name].T)) for name in ("f1", "accuracy")}


def _effects(name: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what one wrong row takes from a figure and one right row adds, for each label, float64 (classes,)."""
    hits, true, said = (
        np.bincount(some, minlength=classes) for some in (labels[labels == predicted], labels, predicted)
    )
    # A wrong row counts half for the F1 of its label, and half for that of its answer.
    sizes, part = {"f1": ((true + said) / 2, 0.5), "precision": (said, 1), "recall": (true, 1)}[name]
    value = hits / np.maximum(sizes, 0.5)
    counts = (sizes > 0) & _averaged(labels, classes)
    return counts * value * part / (sizes + part), counts * (1 - value) / (sizes + 1)


def _averaged(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return which labels a figure is the average of, bool (classes,), as `score_labels` has it."""
    return np.arange(classes) == 1 if classes == 2 else np.bincount(labels, minlength=classes) > 0


def _resampled(
    labels: np.ndarray, predicted: np.ndarray, classes: int, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return `f1`, `accuracy`, `precision` and `recall`, float64 (1 + resamples, models) each, first of all rows."""
    rows = np.vstack([labels, predicted])
    codes, counts = np.unique(np.ravel_multi_index(rows, (classes,) * len(rows)), return_counts=True)
    true, *answers = np.unravel_index(codes, (classes,) * len(rows))
    averaged = np.flatnonzero(_averaged(labels, classes))

    def figures_by(weights: np.ndarray) -> np.ndarray:
        return np.array([_weighted_figures(weights, true, of_model, averaged) for of_model in answers])

    generator, at_a_time, parts = np.random.default_rng(seed), max(1, DRAWN_AT_A_TIME // len(counts)), []
    for start in range(0, resamples, at_a_time):
        size = min(at_a_time, resamples - start), len(counts)
        parts.append(figures_by(generator.standard_gamma(counts, size)))
    figures = np.concatenate([figures_by(counts[None]), *parts], axis=2)
    return {name: figures[:, at].T for at, name in enumerate(("f1", "accuracy", "precision", "recall"))}


def _weighted_figures(
    weights: np.ndarray, true: np.ndarray, answers: np.ndarray, averaged: np.ndarray
) -> list[np.ndarray]:
    """Return F1, accuracy, precision and recall, float64 (resamples,), by weights, float64 (resamples, kinds)."""
    of_label, said = ((some[:, None] == averaged).astype(np.float64) for some in (true, answers))
    hits, true_sizes, said_sizes = (weights @ some for some in (of_label * said, of_label, said))
    sizes = (true_sizes + said_sizes) / 2, said_sizes, true_sizes
    f1, precision, recall = (
        np.divide(hits, some, out=np.zeros_like(hits), where=some > 0).mean(axis=1) for some in sizes
    )
    return [f1, weights @ (true == answers) / weights.sum(axis=1), precision, recall]


def _low_end(values: np.ndarray) -> float:
    """Return the lower end of the interval, from a figure of the rows and of resamples, float64 (1 + resamples,).

    Over few rows of a label its F1 is too low on average, and in resamples lower still by as much. An end without twice
    that bias holds what it should (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 10).
    """
    bias = values[1:].mean() - values[0]
    return float(np.quantile(values[1:], (1 - LEVEL) / 2) - 2 * bias)

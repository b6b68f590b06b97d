"""95 % intervals of F1 and accuracy: a stratified bootstrap over the rows, and closed forms for few rows."""

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
    """Bootstrap intervals of several models on the same rows; each holds the middle `level` of `resamples`."""

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
    resampled = resample(labels, np.stack(list(predicted.values())), classes=classes)
    f1, accuracy = (dict(zip(predicted, values.T, strict=True)) for values in resampled)

    def difference(first: str, second: str) -> Difference:
        of_first, of_second = (score_labels(labels, predicted[name], classes) for name in (first, second))
        gains = {name: of_first[name] - of_second[name] for name in ("f1", "accuracy")}
        ends = [interval(values[first] - values[second]) for values in (f1, accuracy)]
        return Difference(first, second, **gains, f1_interval=ends[0], accuracy_interval=ends[1])

    variants = {name: VariantIntervals(interval(f1[name]), interval(accuracy[name])) for name in predicted}
    return Intervals(LEVEL, RESAMPLES, variants, [difference(*pair) for pair in pairs])


def resample(
    labels: np.ndarray, predicted: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's F1 and accuracy on bootstrap resamples, stratified by label.

    All models share the rows of a resample, so differences between columns are paired. Rows with the same label and the
    same predictions are interchangeable. The bootstrap therefore needs one multinomial sample per label, whatever the
    number of rows (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993).

    Every resample has as many rows of each label as the data. The intervals hold for this balance of labels: where the
    balance varies too, F1 varies more. A 95 % interval then holds 91.5 % (labels sampled freely, half of each, recalls
    of 0.9 and 0.8).

    Args:
        labels: True labels from 0, int64 (rows,).
        predicted: int64 (models, rows).
        classes: Number of classes; `None` takes two where only labels 0 and 1 occur.

    Returns:
        F1 and accuracy, float64 (resamples, models) each. F1 is that of label 1 for two classes, else the macro average
        over the labels that occur. It is 0 for a label that is neither in the resample nor predicted.
    """
    kinds, counts = np.unique(np.vstack([labels, predicted]), axis=1, return_counts=True)
    true, answers = kinds[0], kinds[1:]
    occurring = np.unique(kinds)
    binary = classes == 2 if classes else set(occurring) <= {0, 1}
    at_a_time = max(1, DRAWN_AT_A_TIME // len(counts))
    generator, f1, accuracy = np.random.default_rng(seed), [], []
    for start in range(0, resamples, at_a_time):
        sizes = _sample_kinds(generator, true, counts, min(at_a_time, resamples - start))
        f1.append(np.mean([_f1_of(label, sizes, true, answers) for label in ([1] if binary else occurring)], axis=0))
        accuracy.append(sizes @ (answers == true).T / len(labels))
    return np.concatenate(f1), np.concatenate(accuracy)


def interval(values: np.ndarray) -> list[float]:
    """Return the 95 % percentile interval of resampled values, float64 (resamples,)."""
    ends: list[float] = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return ends


def share_interval(hits: int, rows: int) -> list[float]:
    """Return the 95 % interval of a share (Wilson 1927), which stays valid for few rows or no misses."""
    found = binomtest(hits, rows).proportion_ci(LEVEL, method="wilson")
    return [float(found.low), float(found.high)]


def f1_interval(labels: np.ndarray, predicted: np.ndarray) -> list[float] | None:
    """Return the 95 % interval of label 1's F1; unlike a bootstrap's it stays valid for few rows or no errors.

    F1 = 2 tp / (2 tp + fp + fn) equals 2 s / (1 + s) for the share s = tp / (tp + fp + fn). Given the number of rows
    that are positive or predicted positive, tp is binomial. So s has Wilson's interval, and F1 rises with s.

    Labels, int64 (rows,), are 0 or 1. `None` where no row is positive or predicted positive.
    """
    hits, rows = int((labels & predicted).sum()), int((labels | predicted).sum())
    return [2 * share / (1 + share) for share in share_interval(hits, rows)] if rows else None


def _sample_kinds(generator: np.random.Generator, true: np.ndarray, counts: np.ndarray, resamples: int) -> np.ndarray:
    """Return how often each resample holds each kind of row, float64 (resamples, kinds), stratified by label."""
    sizes = np.empty((resamples, len(counts)))
    for label in np.unique(true):
        same = counts[true == label]
        sizes[:, true == label] = generator.multinomial(same.sum(), same / same.sum(), size=resamples)
    return sizes


def _f1_of(label: int, sizes: np.ndarray, true: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return F1 of one label, 2 tp / (2 tp + fp + fn), float64 (resamples, models)."""
    hits = sizes @ ((answers == label) & (true == label)).T
    positives = sizes @ (answers == label).T + (sizes @ (true == label))[:, None]
    return np.divide(2 * hits, positives, out=np.zeros_like(hits), where=positives > 0)

"""How sure a figure is: stratified bootstrap resamples of the rows it was measured on."""

import numpy as np

RESAMPLES = 2000


def resampled_f1(labels: np.ndarray, predicted: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return each model's F1 on rows drawn anew with replacement, as many of each label as there are, many times.

    All models are measured on the same rows of a resample, so that differences between columns are paired. Rows with
    the same label and the same predictions are alike: how many of each kind are drawn is a multinomial number, which is
    drawn at once, whatever the number of rows (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993).

    Args:
        labels: int64 (rows,), the true ones, from 0.
        predicted: int64 (models, rows).
        resamples: How many times.
        seed: The same resamples for the same seed.

    Returns:
        float64 (resamples, models): F1 of label 1 where labels are 0 and 1, else the macro average over all of them; 0
        for a label that is neither there nor predicted.
    """
    kinds, counts = np.unique(np.vstack([labels, predicted]), axis=1, return_counts=True)
    true, answers = kinds[0], kinds[1:]
    drawn = np.empty((resamples, len(counts)))
    draw = np.random.default_rng(seed)
    for label in np.unique(true):
        same = counts[true == label]
        drawn[:, true == label] = draw.multinomial(same.sum(), same / same.sum(), size=resamples)
    classes = np.unique(kinds)
    scored = [1] if set(classes) <= {0, 1} else classes
    return np.mean([_f1_of(label, drawn, true, answers) for label in scored], axis=0)


def _f1_of(label: int, drawn: np.ndarray, true: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return F1 of one label, 2 tp / (2 tp + fp + fn), float64 (resamples, models), from how often each kind is drawn.

    scikit-learn's `f1_score` computes the same of one resample, with `sample_weight`.
    """
    hits = drawn @ ((answers == label) & (true == label)).T
    sizes = drawn @ (answers == label).T + (drawn @ (true == label))[:, None]
    return np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval that holds the middle `level` of resampled values (resamples,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

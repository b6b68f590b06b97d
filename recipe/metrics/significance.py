"""Test whether two models differ by more than chance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

# The chance that noise is taken for a difference, in all tests of one answer together.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class McNemar:
    """An exact two-sided McNemar test of two models: how many reviews only one of them labelled correctly."""

    first: str
    second: str
    only_first_right: int
    only_second_right: int
    p_value: float


def mcnemar(labels: np.ndarray, predicted: Mapping[str, np.ndarray], first: str, second: str) -> McNemar:
    """Return an exact McNemar test of two models.

    Only reviews that exactly one of them labelled correctly tell the models apart. If the models were equally good,
    each of these reviews would fall to either side like a fair coin (McNemar 1947; exact binomial form). True labels,
    and each model's `predicted` ones by its name, are int64 (reviews,).
    """
    first_right, second_right = predicted[first] == labels, predicted[second] == labels
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    different = only_first + only_second
    p_value = float(binomtest(only_first, different).pvalue) if different else 1.0
    return McNemar(first, second, only_first, only_second, p_value)

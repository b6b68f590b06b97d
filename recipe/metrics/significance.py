"""Tests of whether two models differ by more than noise."""

from typing import Any

import numpy as np
from scipy.stats import binomtest


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> dict[str, Any]:
    """Return an exact McNemar test of two models on the same reviews.

    Only reviews that one of them got right and the other wrong tell them apart; were the models equally good, each of
    these would fall to either side like a fair coin (McNemar 1947; exact binomial form).

    Args:
        first_right, second_right: bool (reviews,), whether each model's label was right.

    Returns:
        `only_first_right` and `only_second_right`, counts, and the two-sided `p_value`.
    """
    first = int((first_right & ~second_right).sum())
    second = int((second_right & ~first_right).sum())
    p_value = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return {"only_first_right": first, "only_second_right": second, "p_value": p_value}

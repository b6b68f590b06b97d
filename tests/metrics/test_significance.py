"""McNemar's test against the binomial distribution."""

import numpy as np
import pytest
from scipy.stats import binom

from recipe.metrics.significance import McNemar, mcnemar


def test_mcnemar_counts_only_where_the_two_differ() -> None:
    labels = np.ones(66, dtype=np.int64)
    first = np.array([1] * 9 + [0] * 2 + [1] * 50 + [0] * 5)
    second = np.array([0] * 9 + [1] * 2 + [1] * 50 + [0] * 5)
    result = mcnemar(labels, {"a": first, "b": second}, "a", "b")
    assert (result.first, result.second, result.only_first_right, result.only_second_right) == ("a", "b", 9, 2)
    assert result.p_value == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert mcnemar(labels, {"a": first, "b": first}, "a", "b") == McNemar("a", "b", 0, 0, 1.0)

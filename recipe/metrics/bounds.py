"""Bounds on a score that hold on other rows too: chosen on some rows, with a confidence that counts the search."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, nbinom

# Wrong rows that the first bound tried may have. With none or one, a single wrong row at the top would end the search.
WRONG_AT_FIRST = 2
# Chance of being shown that a number of rows must give before it is said to do, and the fewest rows it is judged by.
POWER, JUDGED_BY = 0.8, 20


@dataclass(frozen=True)
class Bound:
    """A score, the number of rows from it on, and how many of them are right."""

    score: float
    rows: int
    right: int


def share_bound(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> Bound | None:
    """Return the lowest bound from which on the share of right rows is shown to reach a target, or `None`.

    Learn-then-test with fixed-sequence testing (Angelopoulos et al., *Learn then Test*, 2021). Bounds are tried from
    the strictest on, each by an exact binomial test at the level 1 − confidence, and the first that fails ends the
    search. As their order does not depend on `right`, the chance that the bound returned misses the target is at most
    1 − confidence, however many were tried. Each bound tried is the one at which the test allows one wrong row more.

    Args:
        scores: float64 (rows,), from 0 to 1.
        right: bool (rows,).
        target: Share between 0 and 1.
        confidence: From 0.5 to below 1.
    """
    rows = _tried(len(scores), target, confidence)[WRONG_AT_FIRST:]
    order = np.argsort(-scores, kind="stable")
    falling, wrong = scores[order], np.cumsum(~right[order])
    # Rows of the same score are not told apart.
    tried = np.unique(np.searchsorted(-falling, -falling[rows - 1], side="right"))
    allowed = WRONG_AT_FIRST - 1 + np.searchsorted(rows, tried, side="right")
    failed = wrong[tried - 1] > allowed
    passed = int(failed.argmax()) if failed.any() else len(tried)
    if not passed:
        return None
    last = int(tried[passed - 1])
    return Bound(below(scores, float(falling[last - 1])), last, last - int(wrong[last - 1]))


def best_share(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> float | None:
    """Return the highest share in whole per cents, below a target that is not shown, that `share_bound` would show."""
    lower = np.arange(math.ceil(100 * target) - 1, 0, -1) / 100
    return next((float(share) for share in lower if share_bound(scores, right, float(share), confidence)), None)


def rows_for_share(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> int | None:
    """Return about how many rows would show a target that these rows do not show; `None` if no number is seen to.

    More rows let the first bound stand higher, where a larger share is right. So many rows do as put the first bound
    where, judged by these rows, it passes in four draws of five.
    """
    first = int(_rows_allowing(np.array([WRONG_AT_FIRST]), target, confidence)[0])
    wrong = np.cumsum(~right[np.argsort(-scores, kind="stable")])
    rows = np.arange(min(first, len(scores)), min(JUDGED_BY, len(scores)) - 1, -1)
    # Half a wrong row more (Jeffreys), as a share of none is never none of all.
    share = (wrong[rows - 1] + 0.5) / (rows + 1)
    enough = rows[binom.cdf(WRONG_AT_FIRST, first, share) >= POWER]
    return math.ceil(first * len(scores) / enough[0]) if len(enough) else None


def recall_bound(scores: np.ndarray, target: float, confidence: float) -> Bound | None:
    """Return the highest bound that a target share of such rows is shown to reach, or `None`.

    It is the highest one where the one-sided interval of Clopper and Pearson (1934) for that share lies above the
    target. The share falls as the bound rises, so that the search costs nothing: the bound is a one-sided tolerance
    limit (Wilks, *Determination of Sample Sizes for Setting Tolerance Limits*, 1941).

    Args:
        scores: Of the rows with the label, float64 (rows,), from 0 to 1.
        target, confidence: As in `share_bound`.
    """
    missed = len(_tried(len(scores), target, confidence)) - 1
    if missed < 0:
        return None
    lowest = float(np.partition(scores, missed)[missed])
    reached = int((scores >= lowest).sum())
    return Bound(below(scores, lowest), reached, reached)


def rows_for_recall(target: float, confidence: float) -> int:
    """Return the fewest rows with the label that let `recall_bound` show a target."""
    return int(_rows_allowing(np.array([0]), target, confidence)[0])


def below(scores: np.ndarray, score: float) -> float:
    """Return the middle between a score and the next lower one, 0 if there is none; always above 0 and below 1.

    So no answer changes where another machine's logits differ in their last bits.
    """
    lower = float(scores[scores < score].max(initial=0.0))
    middle = (lower + score) / 2
    # Neighbouring floats have no number between them.
    return min(middle if middle > lower else score, math.nextafter(1, 0))


def _rows_allowing(wrong: np.ndarray, target: float, confidence: float) -> np.ndarray:
    """Return the fewest rows that show a target share although so many of them are wrong, int64, as `wrong`.

    That is, the fewest in which a share right of just the target would give more wrong ones with that confidence. Right
    rows before the next wrong one are negative binomial.
    """
    return wrong + 1 + nbinom.ppf(confidence, wrong + 1, 1 - target).astype(np.int64)


def _tried(rows: int, target: float, confidence: float) -> np.ndarray:
    """Return what `_rows_allowing` gives for 0, 1, … wrong rows, as far as there are rows, int64."""
    # More wrong ones than the target itself lets one expect are never allowed: the confidence is at least 0.5.
    found = _rows_allowing(np.arange(math.ceil(rows * (1 - target)) + 1), target, confidence)
    return found[found <= rows]

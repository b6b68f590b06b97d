"""Bounds on a score that hold on other rows too: chosen on some rows, with a confidence that counts the search."""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, nbinom

# Wrong rows that the first bound of each search may have, and the search's part of the level. A search that starts at
# few needs fewer rows; one that starts at many is not ended by three wrong rows at the top. Of the choices tried, this
# one loses little on the quickstart's logits, and gains much where the surest rows are as often wrong as the others.
SEARCHES = {2: 8, 8: 1, 32: 1}
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
    the strictest on, each by an exact binomial test, and the first that fails ends the search. As their order does not
    depend on `right`, the chance that the search ends too low is at most its level, however many were tried. Each bound
    tried is the one at which the test allows one wrong row more; all rows are the last. Searches from several starts
    share the level 1 − confidence (Bonferroni), and the one that comes furthest counts.

    Args:
        scores: float64 (rows,), from 0 to 1.
        right: bool (rows,).
        target: Share between 0 and 1.
        confidence: From 0.5 to below 1.
    """
    order = np.argsort(-scores, kind="stable")
    falling, wrong = scores[order], np.cumsum(~right[order])
    last = 0
    for first, rows in _searches(len(scores), target, confidence):
        # Rows of the same score are not told apart.
        ends = np.append(falling[rows[first:] - 1], falling[-1])
        tried = np.unique(np.searchsorted(-falling, -ends, side="right"))
        failed = wrong[tried - 1] >= np.searchsorted(rows, tried, side="right")
        passed = int(failed.argmax()) if failed.any() else len(tried)
        last = max(last, int(tried[passed - 1]) if passed else 0)
    return Bound(below(scores, float(falling[last - 1])), last, last - int(wrong[last - 1])) if last else None


def best_share(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> float | None:
    """Return the highest share in whole per cents, below a target that is not shown, that `share_bound` would show."""
    lower = [percent / 100 for percent in range(1, math.ceil(100 * target))]
    # A lower share has its first bounds at fewer rows, so that it is shown where a higher one is.
    shown = bisect_left(lower, True, key=lambda share: share_bound(scores, right, share, confidence) is None)
    return lower[shown - 1] if shown else None


def rows_for_share(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> int | None:
    """Return about how many rows would show a target that these rows do not show; `None` if they do not tell.

    More rows let the first bounds stand higher, where a larger share is right. So many rows do as put one of them
    where, judged by these rows, it passes in four draws of five.
    """
    wrong, enough = np.cumsum(~right[np.argsort(-scores, kind="stable")]), list[int]()
    for allowed, level in _levels(confidence, len(SEARCHES)).items():
        first = int(_rows_allowing(np.array([allowed]), target, level)[0])
        rows = np.arange(min(first, len(scores)), min(JUDGED_BY, len(scores)) - 1, -1)
        # Half a wrong row more (Jeffreys), as a share of none is never none of all.
        share = (wrong[rows - 1] + 0.5) / (rows + 1)
        passing = rows[binom.cdf(allowed, first, share) >= POWER]
        enough += [math.ceil(first * len(scores) / some) for some in passing[:1]]
    return min(enough, default=None)


def is_out_of_reach(scores: np.ndarray, right: np.ndarray, target: float, confidence: float) -> bool:
    """Tell whether the rows show that the share is below a target at every bound that keeps 20 rows or more."""
    rows = np.arange(JUDGED_BY, len(scores) + 1)
    reached = np.cumsum(right[np.argsort(-scores, kind="stable")])[rows - 1]
    # All of the tests have to reject, so none of them needs a part of the level (Berger, 1982).
    return len(rows) > 0 and bool((binom.cdf(reached, rows, target) <= 1 - confidence).all())


def recall_bound(scores: np.ndarray, target: float, confidence: float) -> Bound | None:
    """Return the highest bound that a target share of such rows is shown to reach, or `None`.

    It is the highest one where the one-sided interval of Clopper and Pearson (1934) for that share lies above the
    target. The share falls as the bound rises, so that the search costs nothing: the bound is a one-sided tolerance
    limit (Wilks, *Determination of Sample Sizes for Setting Tolerance Limits*, 1941).

    Args:
        scores: Of the rows with the label, float64 (rows,), from 0 to 1.
        target, confidence: As in `share_bound`.
    """
    missed = len(_tried(len(scores), target, 1 - confidence)) - 1
    if missed < 0:
        return None
    lowest = float(np.partition(scores, missed)[missed])
    reached = int((scores >= lowest).sum())
    return Bound(below(scores, lowest), reached, reached)


def rows_for_recall(target: float, confidence: float) -> int:
    """Return the fewest rows with the label that let `recall_bound` show a target."""
    return int(_rows_allowing(np.array([0]), target, 1 - confidence)[0])


def rounded_up(rows: float) -> int:
    """Return a number of rows that would do, rounded up to two digits, as it is no more certain."""
    step = 10 ** max(len(str(math.ceil(rows))) - 2, 0)
    return math.ceil(math.ceil(rows) / step) * step


def below(scores: np.ndarray, score: float) -> float:
    """Return the middle between a score and the next lower one, 0 if there is none; always above 0 and below 1.

    So no answer changes where another machine's logits differ in their last bits.
    """
    lower = float(scores[scores < score].max(initial=0.0))
    middle = (lower + score) / 2
    # Neighbouring floats have no number between them.
    return min(middle if middle > lower else score, math.nextafter(1, 0))


def _levels(confidence: float, searches: int) -> dict[int, float]:
    """Return the level of each of the first searches, by the wrong rows that its first bound may have."""
    parts = dict(list(SEARCHES.items())[:searches])
    return {wrong: (1 - confidence) * part / sum(parts.values()) for wrong, part in parts.items()}


def _searches(rows: int, target: float, confidence: float) -> list[tuple[int, np.ndarray]]:
    """Return the searches whose first bound has no more than these rows, but at least one, each with its `_tried`."""
    for searches in range(len(SEARCHES), 0, -1):
        levels = _levels(confidence, searches)
        found = [(wrong, _tried(rows, target, level)) for wrong, level in levels.items()]
        if all(len(tried) > wrong for wrong, tried in found):
            break
    return found


def _rows_allowing(wrong: np.ndarray, target: float, level: float) -> np.ndarray:
    """Return the fewest rows that show a target share although so many of them are wrong, int64, as `wrong`.

    That is, the fewest in which a share right of just the target gives so few wrong ones with a chance of the level at
    most. Right rows before the next wrong one are negative binomial.
    """
    return wrong + 1 + nbinom.isf(level, wrong + 1, 1 - target).astype(np.int64)


def _tried(rows: int, target: float, level: float) -> np.ndarray:
    """Return what `_rows_allowing` gives for 0, 1, … wrong rows, as far as there are rows, int64."""
    # More wrong ones than the target itself lets one expect are never allowed: the level is at most 0.5.
    found = _rows_allowing(np.arange(math.ceil(rows * (1 - target)) + 1), target, level)
    return found[found <= rows]

"""Bounds against scipy's exact tests, and what they promise against draws from the quickstart's own logits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, binomtest

from recipe.metrics.bounds import below, best_share, recall_bound, rows_for_recall, rows_for_share, share_bound

# The int8 model's logits of the quickstart's 1,000 validation and 2,500 test rows, made on this repository by
# `accelerate launch scripts/train.py && python scripts/export_onnx.py` and `OnnxClassifier.from_run(…, raw=True)`.
TABLE = np.loadtxt(
    Path(__file__).with_name("quickstart_logits.csv"), delimiter=",", skiprows=1, usecols=(1, 2, 3), dtype=np.float64
)
POSITIVE, IS_POSITIVE = expit(TABLE[:, 2] - TABLE[:, 1]), TABLE[:, 0] == 1
MOST, IS_RIGHT = np.maximum(POSITIVE, 1 - POSITIVE), (POSITIVE > 0.5) == IS_POSITIVE
DRAWS = 400


def with_wrong(rows: int, wrong: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return falling scores, and whether each row is right, by the places of wrong ones."""
    return np.linspace(0.9, 0.1, rows), ~np.isin(np.arange(rows), wrong)


@pytest.mark.parametrize(
    "rows, wrong, shown", [(51, [], False), (52, [], True), (52, [0, 1], True), (52, [0, 1, 2], False)]
)
def test_the_first_bound_has_as_many_rows_as_show_a_share_despite_two_wrong_ones(
    rows: int, wrong: list[int], shown: bool
) -> None:
    # By hand with scipy: two wrong of 51 do not reject a share of 0.9 at 10 %, two wrong of 52 do.
    assert binomtest(49, 51, 0.9, alternative="greater").pvalue > 0.1
    assert binomtest(50, 52, 0.9, alternative="greater").pvalue < 0.1
    assert (share_bound(*with_wrong(rows, wrong), 0.9, 0.9) is not None) == shown


def test_the_search_ends_at_the_first_bound_that_fails() -> None:
    # Rows 52 to 59 are wrong, all later ones right: at 1,000 rows the share is far above 0.9 again.
    scores, right = with_wrong(1000, list(range(52, 60)))
    found = share_bound(scores, right, 0.9, 0.9)
    assert found and (found.rows, found.right) == (52, 52)
    assert found.score == pytest.approx(scores[51:53].mean())
    whole = share_bound(*with_wrong(1000, []), 0.9, 0.9)
    assert whole and whole.rows > 990, "one wrong row more is allowed every eight rows or so"


@pytest.mark.parametrize("target, confidence", [(0.85, 0.9), (0.9, 0.9), (0.9, 0.6), (0.95, 0.99)])
def test_the_rows_from_the_bound_on_reject_a_lower_share(target: float, confidence: float) -> None:
    found = share_bound(POSITIVE, IS_POSITIVE, target, confidence)
    assert found
    there = IS_POSITIVE[found.score <= POSITIVE]
    assert (len(there), there.sum()) == (found.rows, found.right)
    assert binomtest(found.right, found.rows, target, alternative="greater").pvalue <= 1 - confidence


def test_rows_of_the_same_score_are_not_told_apart() -> None:
    scores, right = np.repeat([0.9, 0.5, 0.2], [30, 40, 30]), np.repeat([True, True, False], [30, 40, 30])
    found = share_bound(scores, right, 0.9, 0.9)
    assert found and found.rows == 70 and found.score == pytest.approx(0.35)
    assert share_bound(np.full(100, 0.7), right, 0.9, 0.9) is None


@pytest.mark.parametrize("rows", [22, 300])
@pytest.mark.parametrize("confidence", [0.6, 0.9])
def test_the_recall_bound_is_the_highest_that_clopper_and_pearson_allow(rows: int, confidence: float) -> None:
    scores = np.sort(np.random.default_rng(0).random(rows))
    found = recall_bound(scores, 0.9, confidence)
    assert found

    def lower_end(reached: int) -> float:
        return binomtest(reached, rows, alternative="greater").proportion_ci(confidence, method="exact").low

    assert found.rows == (scores >= found.score).sum()
    assert lower_end(found.rows) >= 0.9 > lower_end(found.rows - 1)


def test_without_enough_rows_no_recall_is_shown_and_the_fewest_that_do_are_named() -> None:
    # 0.9 to the power 21 is 0.109, to the power 22 is 0.098.
    assert rows_for_recall(0.9, 0.9) == 22
    scores = np.linspace(0.2, 0.8, 22)
    assert recall_bound(scores[:21], 0.9, 0.9) is None and recall_bound(scores[:0], 0.9, 0.9) is None
    found = recall_bound(scores, 0.9, 0.9)
    assert found and found.score == pytest.approx(0.1)


@pytest.mark.parametrize("rows", [300, 1000])
@pytest.mark.parametrize(
    "scores, right, target",
    [(POSITIVE, IS_POSITIVE, 0.85), (POSITIVE, IS_POSITIVE, 0.9), (MOST, IS_RIGHT, 0.9)],
    ids=["precision 0.85", "precision 0.9", "accuracy 0.9"],
)
def test_a_share_that_was_shown_is_missed_on_all_rows_in_one_draw_of_ten_at_most(
    scores: np.ndarray, right: np.ndarray, target: float, rows: int
) -> None:
    draw, missed, shown = np.random.default_rng(0), 0, 0
    for _ in range(DRAWS):
        some = draw.integers(len(scores), size=rows)
        if found := share_bound(scores[some], right[some], target, 0.9):
            shown, missed = shown + 1, missed + (right[scores >= found.score].mean() < target)
    # As many as chance allows where exactly one of ten misses; and shown often enough to be of use.
    assert missed <= binom.ppf(0.999, DRAWS, 0.1)
    assert shown >= (0.8 if rows == 300 else 0.99) * DRAWS


@pytest.mark.parametrize("rows", [300, 1000])
def test_a_recall_that_was_shown_is_missed_on_all_rows_in_one_draw_of_ten(rows: int) -> None:
    draw, missed = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        some = draw.integers(len(POSITIVE), size=rows)
        found = recall_bound(POSITIVE[some][IS_POSITIVE[some]], 0.9, 0.9)
        assert found
        missed += (found.score <= POSITIVE[IS_POSITIVE]).mean() < 0.9
    # Exact but for whole rows, so not much rarer than one in ten either.
    assert binom.ppf(0.001, DRAWS, 0.04) <= missed <= binom.ppf(0.999, DRAWS, 0.1)


def test_as_many_rows_as_are_said_to_do_show_the_share_in_most_draws() -> None:
    draw, shown, told = np.random.default_rng(0), 0, 0
    for _ in range(DRAWS // 2):
        some = draw.integers(len(POSITIVE), size=300)
        assert rows_for_share(POSITIVE[some], IS_POSITIVE[some], 0.999, 0.9) is None, "some of the surest are wrong"
        if enough := rows_for_share(POSITIVE[some], IS_POSITIVE[some], 0.95, 0.9):
            more = draw.integers(len(POSITIVE), size=enough)
            told, shown = told + 1, shown + (share_bound(POSITIVE[more], IS_POSITIVE[more], 0.95, 0.9) is not None)
    assert told > DRAWS / 4 and shown / told > 0.5


def test_the_best_share_is_shown_and_one_per_cent_more_is_not() -> None:
    some = slice(300)
    best = best_share(POSITIVE[some], IS_POSITIVE[some], 0.99, 0.9)
    assert best and share_bound(POSITIVE[some], IS_POSITIVE[some], best, 0.9)
    assert share_bound(POSITIVE[some], IS_POSITIVE[some], best + 0.01, 0.9) is None
    assert best_share(np.array([0.5]), np.array([False]), 0.9, 0.9) is None


def test_a_bound_lies_between_scores_above_0_and_below_1() -> None:
    assert below(np.array([0.2, 0.6, 0.9]), 0.6) == pytest.approx(0.4)
    assert below(np.array([0.2]), 0.2) == pytest.approx(0.1)
    neighbour = float(np.nextafter(0.7, 1))
    assert 0.7 < below(np.array([0.7, neighbour]), neighbour)
    assert 0 < below(np.array([np.nextafter(1, 0), 1.0]), 1.0) < 1

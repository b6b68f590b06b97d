"""Bounds against scipy's exact tests, and what they promise against draws from the quickstart's own logits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, binomtest

from recipe.metrics.bounds import (
    below,
    best_share,
    is_out_of_reach,
    recall_bound,
    rows_for_recall,
    rows_for_share,
    share_bound,
)

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


def shows(wrong: int, rows: int, target: float, level: float) -> bool:
    """Whether scipy's exact test rejects a lower share."""
    return bool(binomtest(rows - wrong, rows, target, alternative="greater").pvalue <= level)


def fewest(wrong: int, target: float, level: float) -> int:
    """Return the fewest rows that show a share although so many are wrong, by trying."""
    return next(rows for rows in range(wrong + 1, 5000) if shows(wrong, rows, target, level))


@pytest.mark.parametrize(
    "rows, wrong, shown",
    [(21, [], False), (22, [], True), (51, [0, 1], False), (52, [0, 1], True), (52, [0, 1, 2], False)],
)
def test_few_rows_are_tested_as_a_whole(rows: int, wrong: list[int], shown: bool) -> None:
    assert shows(len(wrong), rows, 0.9, 0.1) == shown
    found = share_bound(*with_wrong(rows, wrong), 0.9, 0.9)
    assert (found is not None) == shown and (not found or found.rows == rows)


# Of the level of 0.1, the searches from 2, 8 and 32 wrong rows on have 0.08, 0.01 and 0.01.
@pytest.mark.parametrize("allowed, level", [(2, 0.08), (8, 0.01), (32, 0.01)])
def test_each_search_has_its_part_of_the_level_and_ends_at_its_first_bound_that_fails(
    allowed: int, level: float
) -> None:
    first = fewest(allowed, 0.9, level)
    others = [fewest(more, 0.9, 0.01) for more in (8, 32) if more > allowed]
    # As many rows at the top are wrong as this search allows, and too many for every later bound.
    wrong = [*range(allowed), *range(first, first + 150)]
    assert all(sum(place < rows for place in wrong) > 32 for rows in others)
    found = share_bound(*with_wrong(5000, wrong), 0.9, 0.9)
    assert found and found.right == found.rows - allowed
    assert first <= found.rows < fewest(allowed + 1, 0.9, level)
    assert share_bound(*with_wrong(5000, [*range(allowed + 1), *wrong[allowed:]]), 0.9, 0.9) is None


def test_three_wrong_rows_at_the_top_do_not_end_the_search() -> None:
    # Of 300 rows 267 are right, those of rank 1, 14 and 16 are not.
    scores, right = with_wrong(300, [0, 13, 15, *range(20, 300, 9)[:30]])
    assert right.sum() == 267 and not shows(3, 16, 0.8, 0.1)
    found = share_bound(scores, right, 0.8, 0.9)
    assert found and (found.rows, found.right) == (300, 267)


def test_all_rows_are_the_last_bound() -> None:
    found = share_bound(*with_wrong(120, list(range(0, 120, 8))), 0.2, 0.9)
    assert found and (found.rows, found.right) == (120, 105)


@pytest.mark.parametrize("rows, target", [(150, 0.8), (400, 0.8), (1000, 0.9)])
def test_a_share_just_below_the_target_everywhere_is_shown_in_one_draw_of_ten_at_most(rows: int, target: float) -> None:
    draw, draws = np.random.default_rng(0), 1000
    scores = np.linspace(0.9, 0.1, rows)
    shown = sum(share_bound(scores, draw.random(rows) < target, target, 0.9) is not None for _ in range(draws))
    assert 0.03 * draws < shown <= binom.ppf(0.999, draws, 0.1)


@pytest.mark.parametrize(
    "share, target, rows, out", [(0.7, 0.95, 400, True), (0.9, 0.95, 400, False), (0.5, 0.9, 19, False)]
)
def test_a_target_is_out_of_reach_only_where_the_surest_rows_show_that(
    share: float, target: float, rows: int, out: bool
) -> None:
    right = np.arange(rows) % 10 < 10 * share
    scores = np.linspace(0.9, 0.1, rows)
    assert is_out_of_reach(scores, right, target, 0.9) == out
    # Surest rows that are all right are a reason to hope.
    assert not is_out_of_reach(scores, right | (np.arange(rows) < 30), target, 0.9)


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

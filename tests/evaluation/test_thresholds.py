"""Thresholds against trying every one there is, and abstaining against counts."""

import re

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import f1_score, precision_score, recall_score

from recipe.errors import UsageError
from recipe.evaluation.thresholds import abstain_bound, choose_decision, choose_threshold, thresholds_of
from recipe.inference import Decision

# Every threshold there is between probabilities of two places.
BETWEEN = np.arange(0.005, 1, 0.01)


def reviews(rows: int, seed: int = 0, places: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of label 1 that are often equal, as they are rounded."""
    draw = np.random.default_rng(seed)
    labels = np.append([0, 1], draw.integers(2, size=rows - 2))
    return labels, np.round(np.clip(0.35 * labels + draw.random(rows) * 0.64, 0.01, 0.99), places)


def of_probabilities(positive: np.ndarray) -> np.ndarray:
    """Logits, float32 (reviews, 2), that have these probabilities of label 1."""
    return np.stack([np.zeros(len(positive)), logit(positive)], axis=1).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
def test_no_threshold_has_a_better_f1(seed: int) -> None:
    labels, positive = reviews(80, seed)
    tried = [f1_score(labels, positive >= threshold) for threshold in BETWEEN]
    assert f1_score(labels, positive >= choose_threshold(labels, positive)) == pytest.approx(max(tried))


@pytest.mark.parametrize("wished", [0.7, 0.8, 0.9])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_wished_precision_is_reached_with_the_highest_recall(seed: int, wished: float) -> None:
    labels, positive = reviews(80, seed)
    found = positive >= choose_threshold(labels, positive, wished)
    tried = [positive >= threshold for threshold in BETWEEN if (positive >= threshold).any()]
    precise = [some for some in tried if precision_score(labels, some) >= wished]
    assert precision_score(labels, found) >= wished
    assert recall_score(labels, found) == max(recall_score(labels, some) for some in precise)


def test_a_precision_is_reached_when_it_is_met_exactly() -> None:
    labels, positive = np.array([1] * 9 + [0, 0]), np.array([0.9] * 9 + [0.9, 0.1])
    assert precision_score(labels, positive >= choose_threshold(labels, positive, 0.9)) == 0.9


def test_a_precision_out_of_reach_names_the_best_one_which_is_in_reach() -> None:
    labels, positive = np.array([0, 1, 1, 1, 0]), np.array([0.9, 0.9, 0.9, 0.2, 0.1])
    with pytest.raises(UsageError, match="no threshold reaches --target_precision 0.95") as refused:
        choose_threshold(labels, positive, 0.95)
    best, threshold = re.search(r"best is (\S+), at a threshold of (\S+)", str(refused.value)).groups()  # type: ignore
    assert float(best) == precision_score(labels, positive >= choose_threshold(labels, positive, float(best))) == 0.75
    assert float(threshold) == pytest.approx(0.15)


def test_the_named_best_precision_is_never_rounded_up_out_of_reach() -> None:
    labels, positive = np.array([0, 1, 1]), np.array([0.9, 0.9, 0.9])
    with pytest.raises(UsageError, match="the best is 0.6666,"):
        choose_threshold(labels, positive, 0.9)


@pytest.mark.parametrize("wished", [0, -0.5, 1.01, float("nan")])
def test_a_wish_that_is_no_precision_is_refused(wished: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        choose_threshold(*reviews(10), wished)


def test_a_threshold_lies_between_reviews() -> None:
    labels, positive = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9])
    assert choose_threshold(labels, positive) == 0.5
    assert choose_threshold(np.array([1, 1, 1, 0]), positive[::-1]) == 0.25


def test_neighbouring_floats_and_certainty_still_have_a_threshold() -> None:
    labels, positive = np.array([0, 1]), np.array([0.7, np.nextafter(0.7, 1)])
    assert ((positive >= choose_threshold(labels, positive)) == labels).all()
    assert 0 < choose_threshold(np.array([0, 1]), np.array([np.nextafter(1, 0), 1.0])) < 1


@pytest.mark.parametrize("share, below", [(0.0, 0), (0.05, 5), (0.29, 29), (0.999, 99)])
def test_that_share_of_the_reviews_falls_below_the_bound(share: float, below: int) -> None:
    confidences = np.random.default_rng(0).permutation(np.linspace(0.5, 1, 100))
    assert (confidences < abstain_bound(confidences, share)).sum() == below


def test_reviews_that_are_equally_sure_are_not_told_apart() -> None:
    confidences = np.array([0.5, 0.6, 0.6, 0.6, 0.9])
    assert abstain_bound(confidences, 0.5) == 0.6 and (confidences < 0.6).sum() == 1


@pytest.mark.parametrize("share", [-0.1, 1.0, 5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        abstain_bound(np.ones(3), share)


def test_the_accuracy_is_that_of_the_reviews_the_model_keeps() -> None:
    # Labels 1, 0, 1, 0, 1; the third and the fourth are doubtful below 0.8.
    logits, labels = of_probabilities(np.array([0.9, 0.1, 0.6, 0.4, 0.9])), np.array([1, 0, 0, 0, 0])
    found = thresholds_of(Decision(abstain_below=0.8), logits, labels).abstain
    assert found and (found.below, found.reviews, found.share) == (0.8, 2, 0.4)
    assert (found.accuracy, found.accuracy_of_doubtful) == pytest.approx((2 / 3, 0.5))
    all_doubtful = thresholds_of(Decision(abstain_below=0.95), logits, labels).abstain
    assert all_doubtful and all_doubtful.accuracy is None and all_doubtful.share == 1.0
    none_doubtful = thresholds_of(Decision(abstain_below=0.0), logits, labels).abstain
    assert none_doubtful and none_doubtful.accuracy == 0.6 and none_doubtful.accuracy_of_doubtful is None


def test_a_decision_sends_the_wished_share_of_validation_reviews_to_a_person() -> None:
    labels, positive = reviews(1000, places=9)
    logits = 2 * of_probabilities(positive)
    decision = choose_decision(logits, labels, target_precision=0.9, abstain=0.05)
    answers = decision(logits)
    assert (~answers.certain).sum() == 50
    assert precision_score(labels, answers.labels) >= 0.9
    calibrated = decision.probabilities(logits)[:, 1]
    assert decision.threshold is not None and np.abs(calibrated[~answers.certain] - decision.threshold).max() < 0.2
    found = thresholds_of(decision, logits, labels)
    assert found.abstain and found.chosen
    assert found.abstain.accuracy > found.chosen.accuracy > found.abstain.accuracy_of_doubtful
    assert found.chosen.precision >= 0.9 and found.default.f1 == f1_score(labels, positive > 0.5)


def test_with_more_classes_the_model_abstains_without_a_threshold() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=200)
    logits = (draw.normal(size=(200, 3)) + np.eye(3)[labels]).astype(np.float32)
    decision = choose_decision(logits, labels, abstain=0.1)
    assert decision.threshold is None and (~decision(logits).certain).sum() == 20
    found = thresholds_of(decision, logits, labels)
    assert found.chosen is None and found.abstain and found.abstain.reviews == 20
    with pytest.raises(UsageError, match="for two labels, and this model has 3"):
        choose_decision(logits, labels, target_precision=0.9)


def test_without_wishes_the_threshold_is_that_of_best_f1_and_nobody_is_asked() -> None:
    labels, positive = reviews(300)
    decision = choose_decision(of_probabilities(positive), labels)
    assert decision.abstain_below is None and isinstance(decision, Decision)
    answers = decision(of_probabilities(positive))
    expected = f1_score(labels, positive >= choose_threshold(labels, positive))
    assert f1_score(labels, answers.labels) == pytest.approx(expected)

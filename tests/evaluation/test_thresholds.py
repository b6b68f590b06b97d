"""Decisions against trying every threshold there is, counts by hand, and draws from the quickstart's own logits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from recipe.errors import UsageError
from recipe.evaluation.thresholds import (
    Wishes,
    abstain_bound,
    best_f1_threshold,
    choose_decision,
    served_figures,
)
from recipe.inference import Decision

# Every threshold there is between probabilities of two places.
BETWEEN = np.arange(0.005, 1, 0.01)
# How the table was made stands in tests/metrics/test_bounds.py.
TABLE = np.loadtxt(
    Path(__file__).parents[1] / "metrics" / "quickstart_logits.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3)
)
LABELS, LOGITS = TABLE[:, 0].astype(np.int64), TABLE[:, 1:].astype(np.float32)
# The quickstart's validation rows, and its test rows.
VALIDATION, TEST = slice(1000), slice(1000, None)


def reviews(rows: int, seed: int = 0, places: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of label 1 that are often equal, as they are rounded."""
    draw = np.random.default_rng(seed)
    labels = np.append([0, 1], draw.integers(2, size=rows - 2))
    return labels, np.round(np.clip(0.35 * labels + draw.random(rows) * 0.64, 0.01, 0.99), places)


def of_probabilities(positive: np.ndarray) -> np.ndarray:
    """Logits, float32 (reviews, 2), that have these probabilities of label 1."""
    return np.stack([np.zeros(len(positive)), logit(positive)], axis=1).astype(np.float32)


def validated(rows: int = 1000, **wishes: float) -> tuple[Decision, list[str], list[bool]]:
    """Return the decision by the first validation rows of the quickstart, what is said, and which wish is adopted."""
    decision, asked = choose_decision(LOGITS[:rows], LABELS[:rows], Wishes(**wishes))  # type: ignore[arg-type]
    return decision, [found.sentence for found in asked], [found.adopted for found in asked]


@pytest.mark.parametrize(
    "wishes, message",
    [
        (Wishes(target_precision=1.0), "--target_precision 1: a target is above 0 and below 1"),
        (Wishes(target_recall=0.0), "--target_recall 0: a target is"),
        (Wishes(target_accuracy=float("nan")), "--target_accuracy nan: a target is"),
        (Wishes(abstain=1.0), "--abstain 1: the share of reviews for people is from 0 to below 1"),
        (Wishes(abstain=-0.1), "--abstain -0.1: the share"),
        (Wishes(target_precision=0.9, best_f1=True), "--target_precision and --best_f1 exclude each other"),
        (Wishes(target_precision=0.9, target_recall=0.9), "--target_precision and --target_recall exclude each other"),
        (Wishes(target_recall=0.9, target_accuracy=0.9), "--target_recall and --target_accuracy exclude each other"),
        (Wishes(abstain=0.0, target_accuracy=0.9), "--target_accuracy and --abstain exclude each other"),
        (Wishes(target_recall=0.9, confidence=1.0), "--confidence 1: a confidence is from 0.5 to below 1"),
        (Wishes(target_recall=0.9, confidence=0.4), "--confidence 0.4: a confidence is from 0.5"),
        (Wishes(abstain=0.1, confidence=0.95), "--confidence is that of reaching a target: give one of --target_prec"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(wishes: Wishes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wishes.require_sense()
    with pytest.raises(UsageError, match=message):
        choose_decision(LOGITS[:20], LABELS[:20], wishes)


@pytest.mark.parametrize("wish", [{"target_precision": 0.9}, {"target_recall": 0.9}, {"best_f1": True}])
def test_a_wish_for_label_1_needs_two_labels(wish: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wish))} is for two labels, and this model has 3"):
        choose_decision(np.zeros((4, 3)), np.array([0, 1, 2, 0]), Wishes(**wish))  # type: ignore[arg-type]
    Wishes(target_accuracy=0.9).require_labels(3)


def test_without_wishes_the_answer_is_the_most_probable_label_and_nobody_is_asked() -> None:
    decision, asked = choose_decision(LOGITS[VALIDATION], LABELS[VALIDATION], Wishes())
    assert decision == Decision(decision.temperature) and decision.temperature > 1 and not asked


@pytest.mark.parametrize("wish", ["target_precision", "target_recall", "target_accuracy"])
@pytest.mark.parametrize("rows", [300, 1000])
def test_a_wish_is_adopted_and_missed_on_all_rows_in_one_draw_of_ten_at_most(wish: str, rows: int) -> None:
    draw, draws, missed, adopted = np.random.default_rng(0), 150, 0, 0
    for _ in range(draws):
        some = draw.integers(len(LABELS), size=rows)
        decision, (asked,) = choose_decision(LOGITS[some], LABELS[some], Wishes(**{wish: 0.9}))
        answers = decision(LOGITS)
        of = {"target_precision": answers.labels == 1, "target_recall": LABELS == 1, "target_accuracy": answers.certain}
        reached = (answers.labels == LABELS)[of[wish]].mean()
        adopted, missed = adopted + asked.adopted, missed + (asked.adopted and reached < 0.9)
    assert missed <= binom.ppf(0.999, draws, 0.1) and adopted > 0.75 * draws


def test_a_precision_that_is_shown_has_its_threshold_and_holds_on_test_rows() -> None:
    decision, (said,), adopted = validated(target_precision=0.9)
    positive = decision.probabilities(LOGITS[VALIDATION])[:, 1]
    there = positive >= decision.threshold
    assert adopted == [True] and decision.certain_from is None
    assert f"{there.sum()} of 1,000 validation reviews lie there, {LABELS[VALIDATION][there].sum()} of them" in said
    assert precision_score(LABELS[TEST], decision(LOGITS[TEST]).labels) >= 0.9


def test_a_wish_that_the_rows_do_not_show_leaves_the_most_probable_label_and_says_how_many_would() -> None:
    for name in ("target_precision", "target_accuracy"):
        decision, (said,), adopted = validated(100, **{name: 0.9})
        assert adopted == [False] and decision == Decision(decision.temperature)
        assert "it is not shown by 100 validation reviews with a confidence of 90 %" in said
        assert "; 0.8" in said and " is, and some " in said and said.endswith(" like these would do")
    decision, (said,), adopted = validated(40, target_recall=0.9)
    positives = int(LABELS[:40].sum())
    assert adopted == [False] and decision.threshold is None
    # 22 rows with label 1 are enough, as 0.9 to the power 22 is below 0.1.
    assert f"40 validation reviews, {positives} of them '1'," in said
    assert f"some {int(np.ceil(22 * 40 / positives))} like these would do" in said
    assert f"; {int(100 * 0.1 ** (1 / positives)) / 100} is, and" in said


def test_more_rows_are_said_not_to_do_only_where_the_surest_answers_are_too_often_wrong() -> None:
    positive = np.linspace(0.501, 0.999, 400)
    for share, said in (
        (7, "more like these would not do, as of the surest too few are"),
        (10, "do not tell how many"),
    ):
        labels = (np.arange(400) % 10 < share).astype(np.int64)
        # A row at the top that is wrong, where all others are right.
        labels[-1] = 0
        for wish in ("target_accuracy", "target_precision"):
            _, (asked,) = choose_decision(of_probabilities(positive), labels, Wishes(**{wish: 0.995}))
            assert not asked.adopted and said in asked.sentence


def test_where_all_answers_reach_an_accuracy_nobody_is_left_to_people() -> None:
    decision, (said,), adopted = validated(120, target_accuracy=0.2)
    right = int((LOGITS[:120].argmax(axis=1) == LABELS[:120]).sum())
    assert adopted == [True] and decision == Decision(decision.temperature)
    assert said.startswith(f"nobody is left to people; the answers to {right} of 120 validation reviews are right, and")


@pytest.mark.parametrize("wish", [{}, {"target_precision": 0.9}, {"target_recall": 0.9}])
def test_no_share_for_people_leaves_nobody(wish: dict[str, float]) -> None:
    decision, said, adopted = validated(**wish, abstain=0.0)
    assert adopted[-1] and said[-1] == "nobody is left to people" and decision == validated(**wish)[0]
    # Less than one of a thousand, alone and around a threshold.
    if "target_precision" not in wish:
        decision, said, _ = validated(**wish, abstain=0.0005)
        assert decision == validated(**wish)[0]
        assert said[-1] == "nobody is left to people, as no bound leaves them so few of 1,000 validation reviews"


def test_bounds_close_to_each_other_or_to_1_are_told_with_enough_digits() -> None:
    positive = np.linspace(0.3, 0.7, 100_000)
    labels = (np.random.default_rng(0).random(100_000) < positive).astype(np.int64)
    decision, asked = choose_decision(of_probabilities(positive), labels, Wishes(target_recall=0.9, abstain=0.00001))
    assert decision.certain_from
    low, high = 1 - decision.certain_from[0], decision.certain_from[1]
    assert f"{low:.4f}" == f"{high:.4f}" and asked[1].sentence.endswith(
        "; 1 of 100,000 validation reviews lies between"
    )
    words = asked[1].sentence.split()
    told = [float(word.rstrip(",")) for word in words if word.startswith("0.")]
    assert told == pytest.approx([low, high], rel=1e-3) and told[0] < told[1]
    # Even at the highest temperature, 10, both halves are surer than 1 - 1e-8.
    logits = np.stack([np.zeros(200), np.repeat([200, 300], 100)], axis=1).astype(np.float32)
    labels = np.append(np.arange(100) % 2, np.ones(100, dtype=np.int64))
    decision, (asked_one,) = choose_decision(logits, labels, Wishes(target_precision=0.9))
    told_one = next(float(word) for word in asked_one.sentence.split() if word.startswith("0."))
    assert decision.threshold and 1 - told_one == pytest.approx(1 - decision.threshold, rel=0.5)


def test_wishes_are_told_as_they_were_given_and_labels_by_their_names() -> None:
    wishes = Wishes(target_precision=0.9999999, confidence=0.9999999999999999)
    _, (asked,) = choose_decision(LOGITS[:100], LABELS[:100], wishes, ["bad", "good"])
    assert asked.wish == "--target_precision 0.9999999" and "confidence of 99.99999999999999 %" in asked.sentence
    _, both = choose_decision(LOGITS, LABELS, Wishes(target_precision=0.8, abstain=0.2), ["bad", "good"])
    assert both[0].sentence.startswith("'good' from a probability of 0.5")
    assert both[1].sentence.startswith("'bad' is certain up to a probability of 0.")
    assert "label 1" not in both[0].sentence + both[1].sentence


def test_a_higher_confidence_asks_more_of_the_rows() -> None:
    thresholds = [validated(target_precision=0.9, confidence=some)[0].threshold or 0 for some in (0.6, 0.9, 0.99)]
    assert thresholds == sorted(thresholds) and len(set(thresholds)) == 3
    assert "with a confidence of 99 %" in validated(target_precision=0.9, confidence=0.99)[1][0]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
def test_no_threshold_has_a_better_f1(seed: int) -> None:
    labels, positive = reviews(80, seed)
    tried = [f1_score(labels, positive >= threshold) for threshold in BETWEEN]
    assert f1_score(labels, positive >= best_f1_threshold(labels, positive)) == pytest.approx(max(tried))


def test_a_threshold_lies_between_reviews() -> None:
    labels, positive = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9])
    assert best_f1_threshold(labels, positive) == 0.5
    assert best_f1_threshold(np.array([1, 1, 1, 0]), positive[::-1]) == 0.25


def test_the_threshold_of_best_f1_is_adopted_where_it_gains_more_than_noise() -> None:
    decision, (said,), adopted = validated(best_f1=True)
    assert adopted == [False] and decision.threshold is None and "no more than noise" in said
    # The same logits, moved: the most probable label is now seldom label 1.
    moved = LOGITS[VALIDATION] - np.array([0, 2], dtype=np.float32)
    decision, (asked,) = choose_decision(moved, LABELS[VALIDATION], Wishes(best_f1=True))
    assert asked.adopted and decision.threshold is not None
    assert decision.threshold == best_f1_threshold(LABELS[VALIDATION], decision.probabilities(moved)[:, 1])


def test_a_threshold_of_best_f1_is_seldom_adopted_where_there_is_nothing_to_gain() -> None:
    # Labels drawn by the probabilities themselves, of a model that leans to neither side: 0.5 is close to the best.
    draw, adopted = np.random.default_rng(0), 0
    for _ in range(20):
        positive = expit(draw.normal(scale=3, size=300))
        labels = (draw.random(300) < positive).astype(np.int64)
        adopted += choose_decision(of_probabilities(positive), labels, Wishes(best_f1=True))[1][0].adopted
    assert adopted <= 2


def test_too_few_reviews_of_a_label_have_no_threshold_of_best_f1() -> None:
    labels = np.array([0, 0, 0, 1])
    decision, (asked,) = choose_decision(LOGITS[:4], labels, Wishes(best_f1=True))
    assert not asked.adopted and "fewer than two validation reviews of a label" in asked.sentence


def test_two_labels_have_two_bounds_and_people_between_them() -> None:
    decision, said, adopted = validated(target_precision=0.8, abstain=0.2)
    assert adopted == [True, True] and decision.threshold is None and decision.certain_from
    answers, positive = decision(LOGITS[VALIDATION]), decision.probabilities(LOGITS[VALIDATION])[:, 1]
    low, high = 1 - decision.certain_from[0], decision.certain_from[1]
    assert low < 0.5 < high and (answers.labels == (positive > 0.5)).all()
    assert (answers.certain == ((positive <= low) | (positive >= high))).all()
    assert (~answers.certain).sum() == 200 and "200 of 1,000 validation reviews lie between" in said[1]
    assert (answers.probabilities[answers.certain] >= 0.5).all()


def test_where_label_1s_bound_alone_leaves_more_to_people_that_is_said() -> None:
    decision, said, _ = validated(target_precision=0.9, abstain=0.05)
    assert decision.certain_from and decision.certain_from[0] == 0.5
    doubtful = int((~decision(LOGITS[VALIDATION]).certain).sum())
    assert (
        doubtful > 50 and f"the bound of '1' alone leaves {doubtful} of them to people, more than was asked" in said[1]
    )


def test_no_certain_answer_is_held_under_one_half() -> None:
    decision, _, adopted = validated(target_precision=0.6, abstain=0.1)
    assert adopted[0] and decision.certain_from and min(decision.certain_from) >= 0.5
    assert (~decision(LOGITS[VALIDATION]).certain).sum() == 100


def test_a_wish_that_is_not_adopted_leaves_the_other_as_it_is_alone() -> None:
    decision, _, adopted = validated(100, target_precision=0.9, abstain=0.1)
    assert adopted == [False, True] and decision == validated(100, abstain=0.1)[0]


def test_with_a_threshold_the_doubtful_lie_equally_far_around_it() -> None:
    decision, said, _ = validated(target_recall=0.9, abstain=0.05)
    assert decision.threshold and decision.certain_from
    low, high = 1 - decision.certain_from[0], decision.certain_from[1]
    assert logit(high) - logit(decision.threshold) == pytest.approx(logit(decision.threshold) - logit(low))
    answers, positive = decision(LOGITS[VALIDATION]), decision.probabilities(LOGITS[VALIDATION])[:, 1]
    assert (~answers.certain).sum() == 50 and "50 of 1,000 validation reviews lie between" in said[1]
    assert ((positive[~answers.certain] > low) & (positive[~answers.certain] < high)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_a_share_for_people_is_that_of_the_least_probable_answers(classes: int) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(classes, size=200)
    logits = (draw.normal(size=(200, classes)) + np.eye(classes)[labels]).astype(np.float32)
    decision, (asked,) = choose_decision(logits, labels, Wishes(abstain=0.1))
    answers = decision(logits)
    assert asked.adopted and decision.threshold is None and len(set(decision.certain_from or [])) == 1
    assert (~answers.certain).sum() == 20
    assert answers.probabilities[~answers.certain].max() < answers.probabilities[answers.certain].min()


def test_an_accuracy_is_reached_by_any_number_of_labels() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=1000)
    logits = (2 * draw.normal(size=(1000, 3)) + 4 * np.eye(3)[labels]).astype(np.float32)
    decision, (asked,) = choose_decision(logits, labels, Wishes(target_accuracy=0.95))
    answers = decision(logits)
    right = answers.labels == labels
    assert asked.adopted and right.mean() < 0.9 and right[answers.certain].mean() > 0.95
    assert 0.5 < answers.certain.mean() < 1


@pytest.mark.parametrize("share, under", [(0.0, 0), (0.05, 5), (0.29, 29), (0.999, 99)])
def test_that_share_of_the_reviews_falls_below_the_bound(share: float, under: int) -> None:
    confidences = np.random.default_rng(0).permutation(np.linspace(0.5, 1, 100))
    assert (confidences < abstain_bound(confidences, share)).sum() == under


def test_reviews_that_are_equally_sure_are_not_told_apart() -> None:
    confidences = np.array([0.5, 0.6, 0.6, 0.6, 0.9])
    assert abstain_bound(confidences, 0.5) == pytest.approx(0.55) and (confidences < 0.55).sum() == 1


def test_the_figures_are_of_the_answers_and_of_what_the_model_keeps() -> None:
    # Answers 1, 0, 1, 0, 1; the third and the fourth are doubtful below 0.8.
    logits, labels = of_probabilities(np.array([0.9, 0.1, 0.6, 0.4, 0.9])), np.array([1, 0, 0, 0, 0])
    known = np.zeros(5, dtype=bool)
    found = served_figures(Decision(certain_from=[0.8, 0.8]), logits, labels, known)
    assert (found.reviews, found.confusion) == (5, [[2, 2], [0, 1]])
    figures = (found.accuracy.value, found.precision.value, found.recall.value, found.f1.value)
    assert figures == pytest.approx((0.6, 1 / 3, 1, 0.5))
    doubtful = found.doubtful
    assert doubtful and doubtful.reviews == 2 and doubtful.share.value == 0.4
    assert doubtful.accuracy and doubtful.accuracy.value == pytest.approx(2 / 3)
    assert doubtful.precision and doubtful.precision.value == 0.5
    assert doubtful.accuracy_of_doubtful and doubtful.accuracy_of_doubtful.value == 0.5
    all_doubtful = served_figures(Decision(certain_from=[0.95, 0.95]), logits, labels, known).doubtful
    assert all_doubtful and all_doubtful.accuracy is all_doubtful.precision is None and all_doubtful.share.value == 1
    none_doubtful = served_figures(Decision(certain_from=[0.0, 0.0]), logits, labels, known).doubtful
    assert none_doubtful and none_doubtful.accuracy_of_doubtful is None
    assert none_doubtful.accuracy and none_doubtful.accuracy.value == 0.6


def test_a_wordless_review_counts_as_doubtful_where_some_are() -> None:
    # Answers 1, 0, 1, right but for the last; the second is doubtful below 0.8, and the third is wordless.
    logits, labels = of_probabilities(np.array([0.9, 0.4, 0.9])), np.array([1, 0, 0])
    wordless = np.array([False, False, True])
    doubtful = served_figures(Decision(certain_from=[0.8, 0.8]), logits, labels, wordless).doubtful
    assert doubtful and doubtful.reviews == 2 and doubtful.accuracy and doubtful.accuracy.value == 1
    assert doubtful.accuracy_of_doubtful and doubtful.accuracy_of_doubtful.value == 0.5
    assert served_figures(Decision(), logits, labels, wordless).doubtful is None


@pytest.mark.parametrize("classes", [2, 3])
def test_the_figures_are_scikit_learns_with_the_decision(classes: int) -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(classes, size=300)
    logits = (draw.normal(size=(300, classes)) + np.eye(classes)[labels]).astype(np.float32)
    decision = Decision(2.0, 0.7 if classes == 2 else None)
    known = np.zeros(300, dtype=bool)
    found, said = served_figures(decision, logits, labels, known), decision(logits).labels
    average = "binary" if classes == 2 else "macro"
    assert found.doubtful is None and found.confusion == confusion_matrix(labels, said).tolist()
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, said))
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        share = getattr(found, name)
        assert share.value == pytest.approx(score(labels, said, average=average))
        assert share.interval[0] < share.value < share.interval[1]


@pytest.mark.slow
def test_every_interval_of_what_is_served_covers() -> None:
    decision = validated(target_precision=0.85, abstain=0.2)[0]
    draw, draws, missed = np.random.default_rng(0), 300, np.zeros(8)
    known = np.zeros(len(LABELS), dtype=bool)
    truth = served_figures(decision, LOGITS, LABELS, known)
    for _ in range(draws):
        some = draw.integers(len(LABELS), size=200)
        found = served_figures(decision, LOGITS[some], LABELS[some], known[some])
        missed += [
            not share.interval[0] <= true.value <= share.interval[1]
            for share, true in zip(shares(found), shares(truth), strict=True)
        ]
    # As many misses as chance allows where exactly one of twenty misses.
    assert missed.max() <= binom.ppf(0.999, draws, 0.05)


def shares(found) -> list:  # type: ignore[no-untyped-def]
    """Return the eight figures that have an interval."""
    kept = found.doubtful
    people = [kept.share, kept.accuracy, kept.accuracy_of_doubtful, kept.precision]
    return [found.f1, found.accuracy, found.precision, found.recall, *people]

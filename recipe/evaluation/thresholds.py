"""Where to draw the line between two labels, and between a model's answer and a person's; chosen on validation rows."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve

from recipe.errors import UsageError
from recipe.inference.decision import Answers, Decision
from recipe.metrics.calibration import fit_temperature
from recipe.metrics.scores import score_labels


class Threshold(NamedTuple):
    """A probability of label 1 from which on the label is 1, and what that makes of the rows it was chosen on.

    The figures flatter it a little, as it was chosen for them; those of test rows do not.
    """

    value: float
    f1: float
    precision: float
    recall: float


def choose_decision(
    logits: np.ndarray, labels: np.ndarray, target_precision: float | None = None, abstain: float | None = None
) -> Decision:
    """Return the temperature, the threshold and the abstain bound that validation rows speak for.

    Args:
        logits: float32 (reviews, classes), of validation rows.
        labels: int64 (reviews,).
        target_precision: Wished for label 1, above 0 and up to 1; `None` takes the threshold of best F1, and none where
            there are more than two classes.
        abstain: Share of reviews to leave to a person, from 0 to below 1; `None` leaves none.

    Raises:
        UsageError: No threshold reaches that precision, it is wished for one of more than two classes, or a share is
            none.
    """
    decision = Decision(fit_temperature(logits, labels))
    threshold = _choose_threshold(decision.probabilities(logits), labels, target_precision)
    decision = Decision(decision.temperature, threshold)
    bound = None if abstain is None else abstain_bound(decision.confidence(logits), abstain)
    return Decision(decision.temperature, threshold, bound)


def threshold_of_best_f1(labels: np.ndarray, positive: np.ndarray) -> Threshold:
    """Return the threshold with the best F1 of label 1; of several, the lowest.

    Args:
        labels: 0 or 1, int64 (reviews,), both of them there.
        positive: Probability of label 1, float64 (reviews,).
    """
    precision, recall, _ = precision_recall_curve(labels, positive)
    # The last point, at which nothing is taken for label 1, has no threshold. F1 is 0 where no hit is.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return _threshold_at(int(f1[:-1].argmax()), labels, positive)


def threshold_of_precision(labels: np.ndarray, positive: np.ndarray, wished: float) -> Threshold:
    """Return the threshold with the highest recall of label 1 among those that reach a precision.

    Args:
        labels: 0 or 1, int64 (reviews,), both of them there.
        positive: Probability of label 1, float64 (reviews,).
        wished: The precision, above 0 and up to 1.

    Raises:
        UsageError: No threshold reaches it: names the best precision and its threshold. Or it is no precision.
    """
    if not 0 < wished <= 1:
        raise UsageError(f"--target_precision {wished:g}: a precision is above 0 and at most 1")
    precision = precision_recall_curve(labels, positive)[0][:-1]
    # Recall falls as the threshold rises, so the lowest that reaches it is the best.
    reached = np.flatnonzero(precision >= wished)
    if not reached.size:
        best = _threshold_at(int(precision.argmax()), labels, positive)
        raise UsageError(
            f"no threshold reaches --target_precision {wished:g} on the validation rows: the best is "
            f"{_floor(best.precision)}, at a threshold of {best.value:.4f} with a recall of {best.recall:.4f}"
        )
    return _threshold_at(int(reached[0]), labels, positive)


def abstain_bound(confidences: np.ndarray, share: float) -> float:
    """Return the confidence below which that share of the reviews lies, rounded down to whole reviews.

    Fewer where several are equally sure: none of those is left to a person then.

    Args:
        confidences: As `Decision.confidence` has them, of validation rows, float64 (reviews,).
        share: From 0 to below 1.

    Raises:
        UsageError: It is not.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--abstain {share:g}: the share of reviews for a person is from 0 to below 1, as 0.05")
    # The small number, because 0.29 * 100 is 28.999999999999996.
    rank = int(share * len(confidences) + 1e-9)
    return float(np.partition(confidences, rank)[rank])


def describe_decision(decision: Decision, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return what a decision makes of rows it was not chosen on, beside none.

    Args:
        decision: As `choose_decision` returned it.
        logits: float32 (reviews, classes), of test rows.
        labels: int64 (reviews,).

    Returns:
        `default`, `f1`, `accuracy`, `precision` and `recall` of the most probable labels (with two classes, a threshold
        of 0.5); and, where the decision has one, `chosen`, `threshold` and the same figures with it, and `abstain`, as
        in `describe_abstaining`, with its `below`.
    """
    classes, answers = logits.shape[1], decision(logits)
    report: dict[str, Any] = {"default": score_labels(labels, Decision()(logits).labels, classes)}
    if decision.threshold is not None:
        report["chosen"] = {"threshold": decision.threshold} | score_labels(labels, answers.labels, classes)
    if decision.abstain_below is not None:
        report["abstain"] = {"below": decision.abstain_below} | describe_abstaining(answers, labels)
    return report


def describe_abstaining(answers: Answers, labels: np.ndarray) -> dict[str, Any]:
    """Return what is gained by leaving doubtful reviews to a person.

    Returns:
        `reviews` and `share` that a person gets; `accuracy`, of the model's answers to the rest, and
        `accuracy_of_doubtful`, of those it would have given to them. An accuracy of no review is `None`.
    """
    right, doubtful = answers.labels == labels, ~answers.certain
    return {
        "reviews": int(doubtful.sum()),
        "share": float(doubtful.mean()),
        "accuracy": float(right[~doubtful].mean()) if not doubtful.all() else None,
        "accuracy_of_doubtful": float(right[doubtful].mean()) if doubtful.any() else None,
    }


def _choose_threshold(probabilities: np.ndarray, labels: np.ndarray, target_precision: float | None) -> float | None:
    """Return the threshold that was asked for, as in `choose_decision`."""
    classes = probabilities.shape[1]
    if target_precision is not None:
        if classes != 2:
            raise UsageError(f"--target_precision is for two labels, and this model has {classes}: leave it out")
        return threshold_of_precision(labels, probabilities[:, 1], target_precision).value
    return threshold_of_best_f1(labels, probabilities[:, 1]).value if classes == 2 else None


def _threshold_at(place: int, labels: np.ndarray, positive: np.ndarray) -> Threshold:
    """Return the threshold that takes the reviews with the `place`-th lowest probability, and all above, for label 1.

    It lies halfway to the next lower probability (0 below the lowest), so that no review turns over when another
    machine's logits differ in their last bits.
    """
    values = np.unique(positive)
    lower = values[place - 1] if place else 0.0
    middle = (lower + values[place]) / 2
    # Not halfway between neighbours, which has no number; a threshold of 1 would be none.
    value = float(min(middle if middle > lower else values[place], np.nextafter(1, 0)))
    figures = score_labels(labels, (positive >= value).astype(np.int64), classes=2)
    return Threshold(value, figures["f1"], figures["precision"], figures["recall"])


def _floor(precision: float) -> float:
    """Return a precision to four places, never more than it is, so that wishing for what a message names succeeds."""
    return int(precision * 10_000) / 10_000

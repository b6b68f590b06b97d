"""Choose the threshold between two labels and the bound below which a model abstains, on validation rows."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import precision_recall_curve

from recipe.errors import UsageError
from recipe.inference.decision import Decision
from recipe.metrics.calibration import fit_temperature
from recipe.metrics.scores import LabelFigures, score_labels


@dataclass(frozen=True, kw_only=True)
class Threshold(LabelFigures):
    """The probability from which on the label is 1, and the figures of these labels."""

    threshold: float


@dataclass(frozen=True)
class Abstention:
    """How many reviews are left to a person, those with a confidence `below` a bound.

    Attributes:
        accuracy: On the other reviews; `None` if there are none.
        accuracy_of_doubtful: Of the labels the model would have given to the reviews left to a person.
    """

    below: float
    reviews: int
    share: float
    accuracy: float | None
    accuracy_of_doubtful: float | None


@dataclass(frozen=True)
class Thresholds:
    """A decision's figures on rows that it was not chosen on, beside those of the most probable labels (`default`)."""

    default: LabelFigures
    chosen: Threshold | None = None
    abstain: Abstention | None = None


def choose_decision(
    logits: np.ndarray, labels: np.ndarray, target_precision: float | None = None, abstain: float | None = None
) -> Decision:
    """Return the temperature, threshold and abstain bound that fit validation rows best.

    Args:
        logits: float32 (reviews, classes), of validation rows.
        labels: int64 (reviews,).
        target_precision: Precision wanted for label 1, above 0 and up to 1. `None` takes the threshold of best F1, or
            none where there are more than two classes.
        abstain: Share of reviews to leave to a person, from 0 to below 1; `None` leaves none.

    Raises:
        UsageError: No threshold reaches the precision, there are more than two classes, or a number is out of range.
    """
    decision, classes = Decision(fit_temperature(logits, labels)), logits.shape[1]
    if classes == 2:
        threshold = choose_threshold(labels, decision.probabilities(logits)[:, 1], target_precision)
        decision = replace(decision, threshold=threshold)
    elif target_precision is not None:
        raise UsageError(f"--target_precision is for two labels, and this model has {classes}: leave it out")
    if abstain is not None:
        decision = replace(decision, abstain_below=abstain_bound(decision.confidence(logits), abstain))
    return decision


def choose_threshold(labels: np.ndarray, positive: np.ndarray, target_precision: float | None = None) -> float:
    """Return the threshold with the best F1 of label 1, or with the best recall for a target precision.

    Args:
        labels: 0 or 1, int64 (reviews,); both occur.
        positive: Probability of label 1, float64 (reviews,).
        target_precision: Above 0 and up to 1; `None` takes the best F1, and the lowest threshold that has it.

    Raises:
        UsageError: No threshold reaches the precision (names the best one), or it is out of range.
    """
    if target_precision is not None and not 0 < target_precision <= 1:
        raise UsageError(f"--target_precision {target_precision:g}: a precision is above 0 and at most 1")
    precision, recall, values = precision_recall_curve(labels, positive)
    # The curve's last point, where nothing is labelled 1, has no threshold.
    precision, recall = precision[:-1], recall[:-1]
    # Halfway to the next lower probability, so that no label changes where another machine's logits differ in their
    # last bits.
    lower = np.append(0.0, values[:-1])
    middle = (lower + values) / 2
    # Neighbouring floats have no number between them, and a threshold of 1 is none.
    thresholds = np.minimum(np.where(middle > lower, middle, values), np.nextafter(1, 0))
    if target_precision is None:
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
        return float(thresholds[f1.argmax()])
    # Recall falls as the threshold rises, so the lowest threshold that reaches the precision is the best.
    reached = thresholds[precision >= target_precision]
    if not reached.size:
        best = thresholds[precision.argmax()]
        figures = score_labels(labels, (positive >= best).astype(np.int64), classes=2)
        # Rounded down, so that asking for the precision that the message names succeeds.
        raise UsageError(
            f"no threshold reaches --target_precision {target_precision:g} on the validation rows: the best is "
            f"{int(figures['precision'] * 10_000) / 10_000}, at a threshold of {best:.4f} with a recall of "
            f"{figures['recall']:.4f}"
        )
    return float(reached[0])


def abstain_bound(confidences: np.ndarray, share: float) -> float:
    """Return the confidence below which a share of the reviews lies, rounded down to whole reviews.

    Where several reviews have the same confidence at the bound, none of them is left to a person.

    Args:
        confidences: Of validation rows, float64 (reviews,), as `Decision.confidence` returns them.
        share: From 0 to below 1.

    Raises:
        UsageError: The share is out of range.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--abstain {share:g}: the share of reviews for a person is from 0 to below 1, as 0.05")
    # The small number, because 0.29 * 100 is 28.999999999999996.
    rank = int(share * len(confidences) + 1e-9)
    return float(np.partition(confidences, rank)[rank])


def thresholds_of(decision: Decision, logits: np.ndarray, labels: np.ndarray) -> Thresholds:
    """Return a decision's figures on test rows: logits, float32 (reviews, classes), and labels, int64 (reviews,)."""
    classes, answers = logits.shape[1], decision(logits)
    chosen = abstain = None
    if decision.threshold is not None:
        chosen = Threshold(threshold=decision.threshold, **score_labels(labels, answers.labels, classes))
    if decision.abstain_below is not None:
        right, kept = answers.labels == labels, answers.certain
        abstain = Abstention(
            below=decision.abstain_below,
            reviews=int((~kept).sum()),
            share=float((~kept).mean()),
            accuracy=float(right[kept].mean()) if kept.any() else None,
            accuracy_of_doubtful=float(right[~kept].mean()) if not kept.all() else None,
        )
    return Thresholds(LabelFigures(**score_labels(labels, Decision()(logits).labels, classes)), chosen, abstain)

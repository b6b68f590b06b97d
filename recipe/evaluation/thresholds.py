"""Choose a decision that fulfils wishes, on validation rows, and measure it on test rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import confusion_matrix, precision_recall_curve
from sklearn.model_selection import StratifiedKFold

from recipe.errors import UsageError
from recipe.inference.decision import Decision
from recipe.metrics.bounds import (
    below,
    best_share,
    is_out_of_reach,
    recall_bound,
    rounded_up,
    rows_for_recall,
    rows_for_share,
    share_bound,
)
from recipe.metrics.calibration import fit_temperature
from recipe.metrics.intervals import difference_intervals, label_intervals, share_interval
from recipe.metrics.scores import score_labels

FOLDS = 10
TARGETS = ("target_precision", "target_recall", "target_accuracy")
# Wishes of which a decision can fulfil one only.
EXCLUSIVE = (("target_precision", "target_recall", "best_f1", "target_accuracy"), ("target_accuracy", "abstain"))


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a decision is to reach; without arguments, the most probable label is the answer.

    Attributes:
        target_precision, target_recall: Of label 1, above 0 and below 1; two labels only.
        best_f1: Whether to take the threshold of best F1 of label 1; two labels only.
        target_accuracy: Of the reviews that are not left to people, as few as will do; above 0 and below 1.
        abstain: Share of reviews to leave to people, from 0 to below 1.
        confidence: With which a target is reached on other rows, from 0.5 to below 1.
    """

    target_precision: float | None = None
    target_recall: float | None = None
    best_f1: bool = False
    target_accuracy: float | None = None
    abstain: float | None = None
    confidence: float = 0.9

    def require_sense(self) -> None:
        """Raise a `UsageError` that names a wish which is out of its range, or wishes that exclude each other."""
        for name in TARGETS:
            if self._has(name) and not 0 < getattr(self, name) < 1:
                raise UsageError(f"{self.said(name)}: a target is above 0 and below 1, as 0.9")
        if self.abstain is not None and not 0 <= self.abstain < 1:
            raise UsageError(f"{self.said('abstain')}: the share of reviews for people is from 0 to below 1, as 0.05")
        for names in EXCLUSIVE:
            first, *more = [f"--{name}" for name in names if self._has(name)] or [""]
            if more:
                raise UsageError(f"{first} and {more[0]} exclude each other: give one of them")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"{self.said('confidence')}: a confidence is from 0.5 to below 1, as 0.9")
        if self.confidence != Wishes.confidence and not any(map(self._has, TARGETS)):
            flags = ", ".join(f"--{name}" for name in TARGETS)
            raise UsageError(f"--confidence is that of reaching a target: give one of {flags}, or leave it out")

    def require_labels(self, classes: int) -> None:
        """Raise a `UsageError` for a wish that needs two labels where there are not two."""
        for name in ("target_precision", "target_recall", "best_f1"):
            if classes != 2 and self._has(name):
                raise UsageError(f"--{name} is for two labels, and this model has {classes}: leave it out")

    def said(self, name: str) -> str:
        """Return a wish as the command line has it."""
        value = getattr(self, name)
        # As it was given: rounded, 0.9999999 were a 1, which is refused.
        return f"--{name}" if value is True else f"--{name} {float(value)!r}".removesuffix(".0")

    def _has(self, name: str) -> bool:
        # Not by truth, as 0 is a number that was given.
        return getattr(self, name) is not None and getattr(self, name) is not False


@dataclass(frozen=True)
class Asked:
    """A wish as the command line has it, whether the decision follows it, and in words what came of it."""

    wish: str
    adopted: bool
    sentence: str


@dataclass(frozen=True)
class Share:
    """A figure from 0 to 1, and its 95 % interval `[low, high]`."""

    value: float
    interval: list[float]


@dataclass(frozen=True)
class Doubtful:
    """The reviews left to people.

    Attributes:
        share: Of all reviews.
        accuracy: On the other reviews; `None` if there are none.
        accuracy_of_doubtful: Of the answers to the reviews left to people; `None` if there are none.
        precision: Of label 1 among the certain answers; `None` if there are none, or with more than two labels.
    """

    reviews: int
    share: Share
    accuracy: Share | None
    accuracy_of_doubtful: Share | None
    precision: Share | None = None


@dataclass(frozen=True, kw_only=True)
class ServedFigures:
    """Figures of the answers that a decision gives, doubtful ones included, as `score_labels` defines them.

    Attributes:
        confusion: Counts, rows true and columns answered.
        doubtful: `None` where the decision leaves nobody to people.
    """

    f1: Share
    accuracy: Share
    precision: Share
    recall: Share
    confusion: list[list[int]]
    reviews: int
    doubtful: Doubtful | None


def served_figures(decision: Decision, logits: np.ndarray, labels: np.ndarray, wordless: np.ndarray) -> ServedFigures:
    """Return a decision's figures on test rows.

    Args:
        logits: float32 (reviews, classes).
        labels: True labels, int64 (reviews,).
        wordless: bool (reviews,), as `Scores` has it.
    """
    classes, answers = logits.shape[1], decision(logits, wordless)
    intervals = label_intervals(labels, answers.labels, classes)
    values = score_labels(labels, answers.labels, classes)
    right, kept = answers.labels == labels, answers.certain
    doubtful = None
    if decision.certain_from is not None:
        certain_ones = right[kept & (answers.labels == 1) & (classes == 2)]
        shares = (_share(some) if len(some) else None for some in (right[kept], right[~kept], certain_ones))
        doubtful = Doubtful(int((~kept).sum()), _share(~kept), *shares)
    return ServedFigures(
        **{name: Share(value, intervals[name]) for name, value in values.items()},
        confusion=confusion_matrix(labels, answers.labels, labels=range(classes)).tolist(),
        reviews=len(labels),
        doubtful=doubtful,
    )


def choose_decision(
    logits: np.ndarray, labels: np.ndarray, wishes: Wishes, names: Sequence[str] = ("0", "1")
) -> tuple[Decision, list[Asked]]:
    """Return the temperature that fits validation rows best, with what fulfils the wishes, and what came of each.

    A wish is adopted only where the rows show that it holds on others too; else the answers stay as they are.

    Args:
        logits: float32 (reviews, classes), of validation rows.
        labels: int64 (reviews,).
        wishes: What the decision is to reach.
        names: The labels' names, which are said of two labels.

    Raises:
        UsageError: The wishes make no sense, or need two labels.
    """
    wishes.require_sense()
    wishes.require_labels(logits.shape[1])
    decision, (zero, one) = Decision(fit_temperature(logits, labels)), map(repr, names[:2])
    probabilities, classes = decision.probabilities(logits), logits.shape[1]
    positive, most, asked = probabilities[:, 1], probabilities.max(axis=1), list[Asked]()
    certain_from = threshold = None
    if wishes.target_accuracy is not None:
        bound, found = _share_wish(wishes, "target_accuracy", most, probabilities.argmax(axis=1) == labels, one)
        certain_from = None if bound is None else [bound] * classes
        asked.append(found)
    elif (chosen := _threshold(positive, labels, wishes, one)) is not None:
        threshold, found = chosen
        asked.append(found)
    if wishes.abstain is not None:
        if not wishes.abstain:
            sentence = "nobody is left to people"
        elif threshold is None:
            certain_from, sentence = _one_bound(most, wishes.abstain, classes)
        elif wishes.target_precision is not None:
            certain_from, sentence = _two_bounds(positive, max(threshold, 0.5), wishes.abstain, zero, one)
            threshold = None
        else:
            certain_from, sentence = _bounds_around(threshold, positive, wishes.abstain, one)
        asked.append(Asked(wishes.said("abstain"), True, sentence))
    return replace(decision, threshold=threshold, certain_from=certain_from), asked


def best_f1_threshold(labels: np.ndarray, positive: np.ndarray) -> float:
    """Return the lowest threshold that has the best F1 of label 1.

    Args:
        labels: 0 or 1, int64 (reviews,); both occur.
        positive: Probability of label 1, float64 (reviews,).
    """
    precision, recall, values = precision_recall_curve(labels, positive)
    # The curve's last point, where nothing is labelled 1, has no threshold.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return below(positive, float(values[f1[:-1].argmax()]))


def _threshold(
    positive: np.ndarray, labels: np.ndarray, wishes: Wishes, name: str
) -> tuple[float | None, Asked] | None:
    """Return the threshold that a wish leads to, `None` where it is not adopted; nothing without such a wish."""
    if wishes.target_precision is not None:
        return _share_wish(wishes, "target_precision", positive, labels == 1, name)
    if wishes.target_recall is not None:
        return _recall_wish(wishes, positive, labels == 1, name)
    return _f1_wish(wishes, positive, labels, name) if wishes.best_f1 else None


def _share_wish(
    wishes: Wishes, wish: str, scores: np.ndarray, right: np.ndarray, name: str
) -> tuple[float | None, Asked]:
    """Return the lowest bound from which on a target share of the rows is right; `None` for nobody left to people."""
    target, confidence, rows = getattr(wishes, wish), wishes.confidence, len(scores)
    sure = f"with a confidence of {_percent(confidence)} (binomial tests in fixed sequences)"
    what, kind = ("an answer is certain", "answered right") if wish == "target_accuracy" else (name, name)
    if (found := share_bound(scores, right, target, confidence)) is None:
        best, enough = best_share(scores, right, target, confidence), rows_for_share(scores, right, target, confidence)
        hopeless = f"of the surest too few are {kind}" if is_out_of_reach(scores, right, target, confidence) else None
        return None, _not_shown(wishes, wish, _reviews(rows), sure, best, enough, hopeless)
    if wish == "target_accuracy" and found.rows == rows:
        sentence = (
            f"nobody is left to people; the answers to {found.right:,} of {_reviews(rows)} are right, and of all such "
            f"answers at least {_percent(target)}, {sure}"
        )
        return None, Asked(wishes.said(wish), True, sentence)
    sentence = (
        f"{what} from a probability of {_told(found.score)} on; {_counted(found.rows, rows)} there, "
        f"{found.right:,} of them {kind}, and of all such reviews at least {_percent(target)}, {sure}"
    )
    return found.score, Asked(wishes.said(wish), True, sentence)


def _recall_wish(wishes: Wishes, positive: np.ndarray, right: np.ndarray, name: str) -> tuple[float | None, Asked]:
    """Return the highest threshold that a target share of the rows with label 1 reaches."""
    target, confidence, rows = wishes.target_recall or 0.0, wishes.confidence, int(right.sum())
    sure = f"with a confidence of {_percent(confidence)} (Clopper and Pearson)"
    if found := recall_bound(positive[right], target, confidence):
        sentence = (
            f"{name} from a probability of {_told(found.score)} on, which is reached by {found.rows:,} of "
            f"{_reviews(rows)} with that label, and by at least {_percent(target)} of all such reviews, {sure}"
        )
        return found.score, Asked(wishes.said("target_recall"), True, sentence)
    best = int(100 * (1 - confidence) ** (1 / rows)) / 100 if rows else None
    enough = math.ceil(rows_for_recall(target, confidence) * len(positive) / rows) if rows else None
    who = f"{_reviews(len(positive))}, {rows:,} of them {name},"
    return None, _not_shown(wishes, "target_recall", who, sure, best, enough, None)


def _not_shown(
    wishes: Wishes, wish: str, rows: str, sure: str, best: float | None, enough: int | None, hopeless: str | None
) -> Asked:
    """Return what to say of a target that the rows do not show: a lower one that they do, and how many would do."""
    instead = "nobody is left to people" if wish == "target_accuracy" else "the answer is the most probable label"
    shown = f"{best:g} is" if best else "nor is any lower one"
    more = f"some {rounded_up(enough):,} like these would do" if enough else "they do not tell how many would do"
    if hopeless:
        more = f"more like these would not do, as {hopeless}"
    sentence = f"not adopted, {instead}: it is not shown by {rows} {sure}; {shown}, and {more}"
    return Asked(wishes.said(wish), False, sentence)


def _f1_wish(wishes: Wishes, positive: np.ndarray, labels: np.ndarray, name: str) -> tuple[float | None, Asked]:
    """Return the threshold of best F1, where choosing one gains F1 on rows that it was not chosen on."""
    folds = min(FOLDS, int(np.bincount(labels, minlength=2).min()))
    if folds < 2:
        sentence = "not adopted, the answer is the most probable label: fewer than two validation reviews of a label"
        return None, Asked(wishes.said("best_f1"), False, sentence)
    crossed, plain = np.zeros_like(labels), (positive > 0.5).astype(labels.dtype)
    for others, fold in StratifiedKFold(folds, shuffle=True, random_state=0).split(positive, labels):
        crossed[fold] = positive[fold] >= best_f1_threshold(labels[others], positive[others])
    gain = score_labels(labels, crossed, 2)["f1"] - score_labels(labels, plain, 2)["f1"]
    low, high = difference_intervals(labels, crossed, plain, 2)["f1"]
    threshold = best_f1_threshold(labels, positive)
    measured = f"changes F1 by {gain:+.4f} in cross-fitting ({folds} folds), 95 % interval {low:+.4f} to {high:+.4f}"
    if low > 0:
        sentence = f"{name} from a probability of {_told(threshold)} on; choosing a threshold {measured}"
        return threshold, Asked(wishes.said("best_f1"), True, sentence)
    # The interval narrows with the root of the rows. No one has a thousand times as many.
    times = ((gain - low) / gain) ** 2 if gain > 0 else math.inf
    more = f"; some {rounded_up(times * len(labels)):,} reviews would tell" if times < 1000 else ""
    sentence = (
        f"not adopted, the answer is the most probable label: the threshold of best F1, {_told(threshold)}, {measured}"
        f", {'no more than noise' if gain > 0 else 'which is no gain'}{more}"
    )
    return None, Asked(wishes.said("best_f1"), False, sentence)


def _one_bound(confidences: np.ndarray, share: float, classes: int) -> tuple[list[float] | None, str]:
    """Return one bound for all labels, below which a share of the rows lies; `None` where none does."""
    bound = abstain_bound(confidences, share)
    if not (under := int((confidences < bound).sum())):
        return None, _nobody(len(confidences))
    rows = f"{_counted(under, len(confidences))} below"
    return [bound] * classes, f"an answer is certain from a probability of {_told(bound)} on; {rows}"


def _two_bounds(positive: np.ndarray, high: float, share: float, zero: str, one: str) -> tuple[list[float], str]:
    """Return a bound for label 0, so that at least a share of the rows lies between it and label 1's, and the latter.

    No certain answer is held less probable than the other.
    """
    rows, wished = len(positive), math.ceil(share * len(positive) - 1e-9)
    falling = np.sort(positive[positive < high])[::-1]
    last = falling[min(wished, len(falling)) - 1] if wished and len(falling) else 1.0
    low = min(below(positive, float(last)), 0.5)
    between, alone = (int(((some < positive) & (positive < high)).sum()) for some in (low, 0.5))
    sentence = (
        f"{zero} is certain up to a probability of {_told(low, high)} of {one}, {one} from {_told(high, low)} on; "
        f"{_counted(between, rows)} between"
    )
    if alone > wished:
        sentence += f"; the bound of {one} alone leaves {alone:,} of them to people, more than was asked for"
    return [1 - low, high], sentence


def _bounds_around(threshold: float, positive: np.ndarray, share: float, name: str) -> tuple[list[float] | None, str]:
    """Return bounds as far from the threshold on either side in log-odds, with a share of the rows between them.

    `None` where there is none between them.
    """
    distances = np.abs(logit(positive) - logit(threshold))
    distance = max(float(logit(abstain_bound(expit(distances), share))), 0.0)
    if not (between := int((distances < distance).sum())):
        return None, _nobody(len(positive))
    low, high = (float(expit(logit(threshold) + some)) for some in (-distance, distance))
    sentence = (
        f"answers are certain up to a probability of {_told(low, high)} of {name}, and from {_told(high, low)} on; "
        f"{_counted(between, len(positive))} between"
    )
    return [1 - low, high], sentence


def abstain_bound(confidences: np.ndarray, share: float) -> float:
    """Return the confidence below which a share of the reviews lies, rounded down to whole reviews.

    Where several reviews have the same confidence at the bound, none of them is left to a person.

    Args:
        confidences: Of validation rows, float64 (reviews,), from 0 to 1.
        share: From 0 to below 1.
    """
    # The small number, because 0.29 * 100 is 28.999999999999996.
    rank = int(share * len(confidences) + 1e-9)
    return below(confidences, float(np.partition(confidences, rank)[rank]))


def _told(probability: float, *others: float) -> str:
    """Return four digits after the point, or as many as tell a probability from 0, 1 and others."""
    some = {0.0, 1.0, probability, *others}
    places = next((places for places in range(4, 18) if len({f"{one:.{places}f}" for one in some}) == len(some)), 4)
    return f"{probability:.{places}f}"


def _percent(share: float) -> str:
    """Return a share in per cent, with all of its digits."""
    return f"{(100 * Decimal(repr(share))).normalize():f} %"


def _reviews(rows: int) -> str:
    return f"{rows:,} validation review{'s' * (rows != 1)}"


def _counted(some: int, rows: int) -> str:
    return f"{some:,} of {_reviews(rows)} lie{'s' * (some == 1)}"


def _nobody(rows: int) -> str:
    return f"nobody is left to people, as no bound leaves them so few of {_reviews(rows)}"


def _share(hits: np.ndarray) -> Share:
    """Return the share of true values, bool (reviews,)."""
    return Share(float(hits.mean()), share_interval(int(hits.sum()), len(hits)))

"""Measure how far each exported variant lies from PyTorch on real reviews, and hold it to its budget."""

import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from recipe.files.atomic import file_sha256
from recipe.files.text_rows import Text
from recipe.inference.onnx import OnnxClassifier
from recipe.inference.optimum import OptimumClassifier
from recipe.metrics.bounds import rounded_up
from recipe.metrics.intervals import RESAMPLES, interval, resample
from recipe.metrics.scores import score_labels
from recipe.metrics.softmax import softmax
from recipe.run_folder import VARIANT_FILES, Certificate, VariantCertificate, versions
from recipe.run_folder.certificate import AloneCheck, Budget, Difference, EngineCheck
from recipe.text_table import columns

MAX_LOGIT_DIFFERENCE = 1e-4
# With the same session options and batches, Optimum and `OnnxClassifier` agree to rounding.
SAME_LOGITS = 1e-5
QUANTIZED_OPERATORS = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
READS_PADDING = (
    "This architecture reads padding, in PyTorch as well: a logit moves by up to {:.1e} with the other reviews "
    "of its batch."
)
# The certificate's speeds only rank the variants.
TIMED_REVIEWS, TIMED_PASSES = 64, 5
# On as many reviews as bring the interval's end just to the budget, chance decides every other time. On this many times
# as many it does one time in five: the quantiles of 97.5 % and 80 %, as in the usual choice of a sample's size.
MARGIN = ((1.96 + 0.84) / 1.96) ** 2
MOST_REVIEWS = 1_000_000


@dataclass(frozen=True)
class CheckedReviews:
    """Validation reviews with their true labels, int64 (reviews,), and PyTorch's logits, float32 (reviews, classes)."""

    texts: Sequence[Text]
    labels: np.ndarray
    label_names: list[str]
    logits: np.ndarray

    def f1(self, logits: np.ndarray) -> float:
        """Return F1 of the most probable labels of logits, float32 (reviews, classes), as validation computes it."""
        return score_labels(self.labels, logits.argmax(axis=1), len(self.label_names))["f1"]


def measure(
    checked: CheckedReviews, folder: Path, served: OnnxClassifier, reviews_per_second: float
) -> VariantCertificate:
    """Compare an exported variant, in `ORTModelForSequenceClassification`, with PyTorch, and with `OnnxClassifier`.

    Args:
        served: The variant in the engine that serves it.
        reviews_per_second: Speed, from `speeds`.
    """
    file = folder / VARIANT_FILES[served.variant]
    optimum = OptimumClassifier(folder, served.variant, served.provider, served.batch_tokens)
    logits = optimum.logits(checked.texts, f"{file.name} in Optimum")
    batched = served.logits(checked.texts, f"{file.name} in batches")
    alone = np.concatenate([scores.logits for scores in served.score([text] for text in checked.texts)])
    expected, predicted, graph = checked.logits.argmax(axis=1), logits.argmax(axis=1), onnx.load(file)
    return VariantCertificate(
        file=file.name,
        provider=served.provider,
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        opset=next(one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")),
        nodes=len(graph.graph.node),
        quantized_nodes=sum(node.op_type in QUANTIZED_OPERATORS for node in graph.graph.node),
        finite=bool(np.isfinite(logits).all() and np.isfinite(checked.logits).all()),
        logit_difference=_difference(logits, checked.logits),
        probability_difference=_difference(softmax(logits), softmax(checked.logits)),
        labels_flipped=int((predicted != expected).sum()),
        flipped=_flipped(checked, logits) if np.isfinite(logits).all() else [],
        f1=checked.f1(logits),
        f1_drop=checked.f1(checked.logits) - checked.f1(logits),
        f1_drop_interval=f1_drop_interval(checked.labels, expected, predicted, len(checked.label_names)),
        alone=AloneCheck(
            _difference(alone, batched).largest, int((alone.argmax(axis=1) != batched.argmax(axis=1)).sum())
        ),
        onnx_classifier=EngineCheck(_difference(batched, logits).largest),
        reviews_per_second=reviews_per_second,
    )


def judge(name: str, found: VariantCertificate, reviews: int, max_f1_drop: float) -> VariantCertificate:
    """Return a variant's certificate with the verdict on what was measured on `reviews` reviews.

    fp32 must give PyTorch's logits to 1e-4 and every label. The others may cost `max_f1_drop` of F1. They are certified
    if the whole 95 % interval is within it, so that few reviews cannot hide a loss, worse if none of it is, and else
    undecided.
    """
    if fault := _fault(name, found):
        return replace(found, verdict="worse", objection=fault)
    low, high = found.f1_drop_interval
    ends = f"of F1 (95 % interval {low:.4f} to {high:.4f}, allowed {max_f1_drop:g})"
    if name == "fp32" or high <= max_f1_drop:
        return found
    if low > max_f1_drop:
        objection = f"is worse: on {reviews:,} validation reviews it costs {found.f1_drop:.4f} {ends}"
        return replace(found, verdict="worse", objection=objection)
    needed = reviews_that_decide(found, reviews, max_f1_drop)
    more = f"some {needed:,}" if needed else "more than a million"
    objection = f"is undecided: on {reviews:,} validation reviews it may cost {high:.4f} {ends}; {more} would decide"
    return replace(found, verdict="undecided", objection=objection, reviews_needed=needed)


def reviews_that_decide(found: VariantCertificate, reviews: int, max_f1_drop: float) -> int | None:
    """Return how many reviews would probably decide on a variant that `reviews` reviews left undecided.

    An interval's square shrinks with the number of reviews, but the part of the two reviews that `f1_drop_interval`
    adds with its square. So of its `labels_flipped + 2` reviews that differ, those seen count as the first, and half a
    one more for what too few reviews did not show (Jeffreys' prior); the rest of the two as the second. The drop is
    taken for the true one; then the number decides four times in five. Rounded up to two digits.

    Returns:
        `None` above a million: the drop is too near the budget.
    """
    low, high = found.f1_drop_interval
    gap, reach = abs(max_f1_drop - found.f1_drop), max(high - found.f1_drop, found.f1_drop - low)
    lasting = (found.labels_flipped + 0.5) / (found.labels_flipped + 2)
    # The share of the reviews needed that these are solves `lasting * share + (1 - lasting) * share**2 = shrunk`.
    shrunk = (gap / reach) ** 2 / MARGIN
    share = 2 * shrunk / (lasting + math.sqrt(lasting**2 + 4 * (1 - lasting) * shrunk))
    if reviews >= MOST_REVIEWS * share:
        return None
    return rounded_up(reviews / share)


def f1_drop_interval(labels: np.ndarray, expected: np.ndarray, predicted: np.ndarray, classes: int) -> list[float]:
    """Return the 95 % interval of the F1 that a variant loses against PyTorch, from paired resamples.

    Where hardly a label differs, resamples of these reviews alone give too narrow an interval, and none at all where
    every label agrees. So two reviews are added, one that only PyTorch gets right and one that only the variant does
    (Bonett and Price, *Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data*, 2012, who add one to either count). A macro average is moved most by a label with few reviews, which hold
    hardly ever one that differs: there each label has the two in its share of the resamples.

    Args:
        labels: True labels, int64 (reviews,).
        expected, predicted: PyTorch's answers and the variant's, int64 (reviews,).
    """
    counted, drops = [1] if classes == 2 else np.unique(labels).tolist(), []
    for label in counted:
        other = (label + 1) % classes
        answers = np.vstack([np.append(expected, [label, other]), np.append(predicted, [other, label])])
        true, resamples = np.append(labels, [label, label]), -(-RESAMPLES // len(counted))
        f1, _ = resample(true, answers, resamples=resamples, seed=label, classes=classes)
        drops.append(f1[:, 0] - f1[:, 1])
    return interval(np.concatenate(drops))


def speeds(served: dict[str, OnnxClassifier], texts: Sequence[Text]) -> dict[str, float]:
    """Return each variant's reviews per second: the median of passes that the variants take in turns."""
    some = texts[:TIMED_REVIEWS]
    seconds: dict[str, list[float]] = {name: [] for name in served}
    for _ in range(TIMED_PASSES + 1):
        for name, classifier in served.items():
            start = time.perf_counter()
            classifier.logits(some)
            seconds[name].append(time.perf_counter() - start)
    # The first pass warms up.
    return {name: round(len(some) / median(taken[1:]), 1) for name, taken in seconds.items()}


def certificate(
    checked: CheckedReviews, folder: Path, shares: dict[str, float], target: str, max_f1_drop: float
) -> Certificate:
    """Measure variants in an exported folder, and sort them by whether they are certified.

    Args:
        shares: By variant, the share of the multiplications by weights that are 8-bit.
        target: The kind of CPU that int8 was made for.
        max_f1_drop: The budget of int8 and fp16.
    """
    served = {name: OnnxClassifier(folder, name, "cuda" if name == "fp16" else "cpu") for name in shares}
    fast, judged = speeds(served, checked.texts), {}
    for name, classifier in served.items():
        found = measure(checked, folder, classifier, fast[name])
        judged[name] = judge(name, replace(found, quantized_share=shares[name]), len(checked.texts), max_f1_drop)
    # fp16 rounds differently in every batch.
    drift = max((found.alone.largest_drift for name, found in judged.items() if name != "fp16"), default=0.0)
    notes = [READS_PADDING.format(drift)] if drift > MAX_LOGIT_DIFFERENCE else []
    return Certificate(
        command=shlex.join(sys.orig_argv),
        versions=versions(),
        target=target,
        reviews=len(checked.texts),
        f1_of_pytorch=checked.f1(checked.logits),
        budget=Budget(MAX_LOGIT_DIFFERENCE, max_f1_drop),
        variants={name: found for name, found in judged.items() if not found.objection},
        refused={name: found for name, found in judged.items() if found.objection},
        notes=notes,
    )


def describe_rejected(content: Certificate) -> str:
    """Return which variants are not certified, and why, in one line."""
    return "; ".join(f"{name} {found.objection}" for name, found in content.refused.items())


def as_table(content: Certificate) -> str:
    """Return a certificate for the screen."""
    head = ["", "MB", "reviews/s", "logits differ: most", "mean", "flipped", "F1", "drop", "95 % interval", "alone"]
    rows = [[*head, "8-bit", "verdict"]]
    for name, found in (content.variants | content.refused).items():
        size, speed = f"{found.bytes / 1e6:.1f}", f"{found.reviews_per_second:.1f}"
        differ = f"{found.logit_difference.largest:.1e}", f"{found.logit_difference.mean:.1e}"
        scores = str(found.labels_flipped), f"{found.f1:.4f}", f"{found.f1_drop:+.4f}"
        ends = " to ".join(f"{end:+.4f}" for end in found.f1_drop_interval)
        more = f"{found.alone.largest_drift:.1e}", f"{found.quantized_share:.0%}", found.verdict
        rows.append([name, size, speed, *differ, *scores, ends, *more])
    footer = (
        f"{content.reviews:,} validation reviews against PyTorch (F1 {content.f1_of_pytorch:.4f}); alone: the largest "
        "change of a logit when each review is scored by itself; 8-bit: share of the multiplications by weights"
    )
    return "\n".join([*columns(rows), footer, *content.notes])


def _fault(name: str, found: VariantCertificate) -> str | None:
    """Return what is wrong with a variant whatever its F1, as the rest of a sentence about it."""
    difference, flips = found.logit_difference.largest, found.labels_flipped
    if not found.finite:
        return "gives NaN or infinite logits"
    if found.onnx_classifier.largest_difference > SAME_LOGITS:
        return f"differs by {found.onnx_classifier.largest_difference:.1e} between OnnxClassifier and Optimum"
    if name == "fp32" and (flips or difference > MAX_LOGIT_DIFFERENCE):
        return (
            f"is not the trained model: largest logit difference {difference:.1e} and {flips} label(s) changed "
            f"(allowed: {MAX_LOGIT_DIFFERENCE:g} and none)"
        )
    return None


def _difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    """Return the largest and the mean absolute difference; NaN and infinity count as 0, as JSON has neither."""
    difference = np.nan_to_num(np.abs(found - expected), posinf=0.0)
    return Difference(float(difference.max()), float(difference.mean()))


def _flipped(checked: CheckedReviews, logits: np.ndarray) -> list[dict[str, Any]]:
    expected, found, names = softmax(checked.logits), softmax(logits), checked.label_names
    return [
        {"review": checked.texts[row], "label": names[checked.labels[row]]}
        | {
            model: {"label": names[scores.argmax()], "probability": round(float(scores.max()), 4)}
            for model, scores in (("pytorch", expected[row]), ("variant", found[row]))
        }
        for row in np.flatnonzero(expected.argmax(axis=1) != found.argmax(axis=1)).tolist()
    ]

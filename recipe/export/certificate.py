"""What certifies an exported model: how far each variant lies from PyTorch on real reviews, and what it may cost."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from recipe.files.atomic import file_sha256
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier
from recipe.inference.onnx import OnnxClassifier
from recipe.metrics.intervals import interval, resampled_f1
from recipe.metrics.scores import score_labels
from recipe.metrics.softmax import softmax
from recipe.run_folder import versions
from recipe.text_table import columns

MAX_LOGIT_DIFFERENCE = 1e-4
# Through the same session options and batches, Optimum and `OnnxClassifier` compute the same to rounding.
SAME_LOGITS = 1e-5
QUANTIZED_OPERATORS = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
# For the speeds in the certificate, which only rank the variants.
TIMED_REVIEWS, TIMED_PASSES = 64, 5


@dataclass(frozen=True)
class Checked:
    """The reviews that a certificate rests on, and what PyTorch makes of them.

    Attributes:
        texts: The run's own validation reviews.
        labels: int64 (reviews,), the true ones.
        label_names: Of labels 0, 1, ….
        logits: float32 (reviews, classes), PyTorch's.
    """

    texts: Sequence[Text]
    labels: np.ndarray
    label_names: list[str]
    logits: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Return PyTorch's labels, int64 (reviews,)."""
        return self.logits.argmax(axis=1)


def measure(checked: Checked, served: OnnxClassifier, file: Path, optimum: Classifier, provider: str) -> dict[str, Any]:
    """Return a variant's part of the certificate, but for its speed.

    Args:
        checked: The reviews with PyTorch's logits.
        served: The variant as it will be served.
        file: The variant's.
        optimum: The very file in `ORTModelForSequenceClassification`, whose logits are the ones that are judged.
        provider: `cpu` or `cuda`.

    Returns:
        `file`, `provider`, `sha256`, `bytes`, `opset`, `nodes`, `quantized_nodes`; `logit_difference` and
        `probability_difference` to PyTorch, each `largest` and `mean`; `labels_flipped`, a count, and `flipped`, those
        reviews; `f1`, `f1_drop` and its `f1_drop_interval`; `alone`, what changes when each review is computed by
        itself: `largest_drift` of a logit and `labels_flipped`; `onnx_classifier`, the largest difference of a logit
        between the two ways to run the file.
    """
    logits = optimum.logits(checked.texts, f"{file.name} in Optimum")
    batched = served.logits(checked.texts, f"{file.name} in batches")
    alone = np.concatenate([scores.logits for scores in served.score([text] for text in checked.texts)])
    predicted = logits.argmax(axis=1)
    return {
        "file": file.name,
        "provider": provider,
        "sha256": file_sha256(file),
        "bytes": file.stat().st_size,
        **_graph(file),
        "finite": bool(np.isfinite(logits).all() and np.isfinite(checked.logits).all()),
        "logit_difference": _difference(logits, checked.logits),
        "probability_difference": _difference(*(softmax(some) for some in (logits, checked.logits))),
        "labels_flipped": int((predicted != checked.predicted).sum()),
        "flipped": _flipped(checked, logits) if np.isfinite(logits).all() else [],
        **_f1(checked, predicted),
        "alone": {
            "largest_drift": _difference(alone, batched)["largest"],
            "labels_flipped": int((alone.argmax(axis=1) != batched.argmax(axis=1)).sum()),
        },
        "onnx_classifier": {"largest_difference": _difference(batched, logits)["largest"]},
    }


def objection(name: str, measured: dict[str, Any], max_f1_drop: float) -> str | None:
    """Return why a variant is over budget; `None` if it is not.

    fp32 must be PyTorch's model, to 1e-4 and every label. The others may cost `max_f1_drop` of F1, held against the end
    of the 95 % interval, so that few reviews cannot buy a pass.
    """
    difference, flips = measured["logit_difference"]["largest"], measured["labels_flipped"]
    if not measured["finite"]:
        return "NaN or infinite logits"
    if measured["onnx_classifier"]["largest_difference"] > SAME_LOGITS:
        return f"OnnxClassifier and Optimum differ by {measured['onnx_classifier']['largest_difference']:.1e}"
    if name == "fp32" and (flips or difference > MAX_LOGIT_DIFFERENCE):
        return (
            f"largest logit difference {difference:.1e} and {flips} label(s) changed "
            f"(allowed: {MAX_LOGIT_DIFFERENCE:g} and none)"
        )
    if name != "fp32" and (end := measured["f1_drop_interval"][1]) > max_f1_drop:
        low = measured["f1_drop_interval"][0]
        return f"it may cost {end:.4f} of F1 (95 % interval {low:.4f} to {end:.4f}, at most {max_f1_drop:g})"
    return None


def speeds(served: dict[str, OnnxClassifier], texts: Sequence[Text]) -> dict[str, float]:
    """Return each variant's reviews per second, to rank them: the median of passes that take turns."""
    some = texts[:TIMED_REVIEWS]
    seconds: dict[str, list[float]] = {name: [] for name in served}
    for _ in range(TIMED_PASSES + 1):
        for name, classifier in served.items():
            begun = time.perf_counter()
            classifier.logits(some)
            seconds[name].append(time.perf_counter() - begun)
    # The first pass warms up.
    return {name: round(len(some) / median(taken[1:]), 1) for name, taken in seconds.items()}


def certificate(
    checked: Checked, measured: dict[str, dict[str, Any]], target: str, max_f1_drop: float
) -> dict[str, Any]:
    """Return the content of `certificate.json`.

    Args:
        checked: The reviews.
        measured: What `measure` gave for each variant, and its `reviews_per_second`, by name.
        target: The kind of CPU that int8 was made for.
        max_f1_drop: The budget of int8 and fp16.

    Returns:
        `command`, `versions`, `target`, `reviews`, `f1_of_pytorch`, `budget`; `variants`, those within their budget,
        and `refused`, the others, each with its `objection`.
    """
    reasons = {name: objection(name, found, max_f1_drop) for name, found in measured.items()}
    return {
        "command": shlex.join(sys.orig_argv),
        "versions": versions(),
        "target": target,
        "reviews": len(checked.texts),
        "f1_of_pytorch": _f1_score(checked, checked.predicted),
        "budget": {"fp32_logit_difference": MAX_LOGIT_DIFFERENCE, "f1_drop": max_f1_drop},
        "variants": {name: found for name, found in measured.items() if not reasons[name]},
        "refused": {name: found | {"objection": reasons[name]} for name, found in measured.items() if reasons[name]},
    }


def refusals(content: dict[str, Any]) -> str:
    """Return in words which variants are over budget, and why."""
    return "; ".join(f"{name} is over its budget: {found['objection']}" for name, found in content["refused"].items())


def as_table(content: dict[str, Any]) -> str:
    """Return a certificate for the screen."""
    head = ("", "MB", "reviews/s", "logits differ: most", "mean", "flipped", "F1", "drop", "95 % interval", "alone")
    rows = [head] + [_row(name, found) for name, found in (content["variants"] | content["refused"]).items()]
    return "\n".join(
        [
            *columns(rows),
            f"{content['reviews']:,} validation reviews against PyTorch (F1 {content['f1_of_pytorch']:.4f}); "
            "alone: what a logit moves by when a review is not in a batch",
        ]
    )


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    """Return a variant's row of the table."""
    low, high = found["f1_drop_interval"]
    return (
        name,
        f"{found['bytes'] / 1e6:.1f}",
        f"{found['reviews_per_second']:.1f}",
        f"{found['logit_difference']['largest']:.1e}",
        f"{found['logit_difference']['mean']:.1e}",
        str(found["labels_flipped"]),
        f"{found['f1']:.4f}",
        f"{found['f1_drop']:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
        f"{found['alone']['largest_drift']:.1e}",
    )


def _graph(file: Path) -> dict[str, int]:
    """Return an ONNX file's `opset`, `nodes` and `quantized_nodes`."""
    model = onnx.load(file)
    return {
        "opset": next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
        "nodes": len(model.graph.node),
        "quantized_nodes": sum(node.op_type in QUANTIZED_OPERATORS for node in model.graph.node),
    }


def _difference(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return the `largest` and the `mean` difference; of what is not a number 0, as JSON has none."""
    difference = np.nan_to_num(np.abs(found - expected), posinf=0.0)
    return {"largest": float(difference.max()), "mean": float(difference.mean())}


def _flipped(checked: Checked, logits: np.ndarray) -> list[dict[str, Any]]:
    """Return the reviews whose label is another one: with the true label, and both models' labels and probabilities."""
    expected, found = (softmax(some) for some in (checked.logits, logits))
    names = checked.label_names
    return [
        {"review": checked.texts[row], "label": names[checked.labels[row]]}
        | {
            model: {"label": names[scores.argmax()], "probability": round(float(scores.max()), 4)}
            for model, scores in (("pytorch", expected[row]), ("variant", found[row]))
        }
        for row in np.flatnonzero(expected.argmax(axis=1) != found.argmax(axis=1)).tolist()
    ]


def _f1(checked: Checked, predicted: np.ndarray) -> dict[str, Any]:
    """Return a variant's `f1`, how far it is below PyTorch's, and the 95 % interval of that, from paired resamples.

    Where hardly a label differs, resamples of these reviews alone would make too sure of it, and of no difference at
    all a certainty. So two more reviews are counted, one that only PyTorch gets right and one that only the variant
    does (Bonett and Price, *Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data*, 2012, who add one to either count).
    """
    f1, of_pytorch = _f1_score(checked, predicted), _f1_score(checked, checked.predicted)
    labels = np.append(checked.labels, [1, 1])
    answers = np.vstack([np.append(checked.predicted, [1, 0]), np.append(predicted, [0, 1])])
    resampled = resampled_f1(labels, answers)
    low, high = interval(resampled[:, 0] - resampled[:, 1])
    return {"f1": f1, "f1_drop": of_pytorch - f1, "f1_drop_interval": [low, high]}


def _f1_score(checked: Checked, predicted: np.ndarray) -> float:
    """Return F1 as validation computes it."""
    return score_labels(checked.labels, predicted, len(checked.label_names))["f1"]

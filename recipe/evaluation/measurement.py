"""Answers of a run's models and of the baseline to the test rows, and what the answers cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from recipe.data.reviews import Reviews
from recipe.data.tokens import flat, texts_of
from recipe.evaluation.types import Costs, Latency
from recipe.files.text_rows import Text
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.scores import require_numbers
from recipe.metrics.softmax import softmax
from recipe.model.baseline import fit_baseline, predict_probabilities
from recipe.run_folder import RunFolder


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of a run's models and of the baseline to the test rows.

    Attributes:
        labels: True labels, int64 (reviews,).
        probabilities: Of `pytorch`, the exported variants and TF-IDF, float64 (reviews, classes), without a decision.
        costs: Of the same.
        served: The variant that answers from then on.
        logits: Its, float32 (reviews, classes).
        wordless: Whether it reads no word that it knows, bool (reviews,).
    """

    labels: np.ndarray
    probabilities: Mapping[str, np.ndarray]
    costs: Mapping[str, Costs]
    served: str
    logits: np.ndarray
    wordless: np.ndarray


Predict = Callable[[Sequence[Text]], np.ndarray]
# Reviews that are timed one by one, for the median and the 95th percentile.
TIMED_ALONE = 100


def measure_models(
    run: RunFolder, trained: TorchClassifier, texts: Sequence[Text]
) -> tuple[dict[str, np.ndarray], dict[str, Costs]]:
    """Return the logits, float32 (reviews, classes), of `pytorch` and the runnable variants, and what they cost.

    Raises:
        UsageError: A model cannot be loaded, or gives NaN.
    """
    sizes = {"pytorch": run.weights.stat().st_size}
    sizes |= {name: found.bytes for name, found in run.read_certificate().runnable(installed_providers()).items()}
    logits, costs = {}, {}
    for name, size in sizes.items():
        classifier = trained if name == "pytorch" else OnnxClassifier.from_run(run.path, name, raw=True)
        logits[name], costs[name] = _timed(partial(classifier.logits, progress=name), classifier.logits, texts, size)
        require_numbers(softmax(logits[name]), name)
    return logits, costs


def measure_baseline(
    reviews: Reviews, texts: Sequence[Text], class_weights: Literal["none", "balanced"]
) -> tuple[np.ndarray, Costs]:
    """Return the probabilities, float64 (reviews, classes), of TF-IDF fitted to the train rows, and what they cost."""
    train = reviews.splits["train"]
    baseline = fit_baseline(flat(texts_of(train)), train.labels, class_weights)

    def predict(some: Sequence[Text]) -> np.ndarray:
        return predict_probabilities(baseline, flat(some), len(reviews.label_names))

    return _timed(predict, predict, texts)


def _timed(
    predict_all: Predict, predict: Predict, texts: Sequence[Text], size: int | None = None
) -> tuple[np.ndarray, Costs]:
    """Return a model's answers to all texts, timed once, so that the figure is rough, and to some of them alone."""
    predict_all(texts[:16])
    begun = time.perf_counter()
    answers = predict_all(texts)
    speed = len(texts) / (time.perf_counter() - begun)
    alone = []
    for text in texts[:TIMED_ALONE]:
        begun = time.perf_counter()
        predict([text])
        alone.append(1000 * (time.perf_counter() - begun))
    latency = Latency(*(round(value, 2) for value in np.percentile(alone, [50, 95]).tolist()))
    return answers, Costs(reviews_per_second=round(speed, 1), latency_ms=latency, bytes=size)

"""Answers of a run's models and of the baseline to the test rows, and what the answers cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipe.data.reviews import Reviews
from recipe.data.tokens import texts_of
from recipe.evaluation.baseline import fit_baseline, flat
from recipe.evaluation.types import Costs, Latency
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier
from recipe.inference.onnx import OnnxClassifier
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.scores import require_numbers
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, VariantCertificate

Predict = Callable[[Sequence[Text]], np.ndarray]
# Reviews that are timed one by one, for the median and the 95th percentile.
TIMED_ALONE = 100
# Rows whose TF-IDF vectors are held at a time.
BASELINE_ROWS = 20_000


@dataclass(frozen=True)
class Measured:
    """A model's answers on the test rows, and what they cost.

    Attributes:
        probabilities: float64 (reviews, classes), without a temperature.
        costs: Speed and size.
    """

    probabilities: np.ndarray
    costs: Costs

    @property
    def predicted(self) -> np.ndarray:
        """Return the most probable labels, int64 (reviews,)."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class MeasuredModel(Measured):
    """The same for a fine-tuned model, whose logits, float32 (reviews, classes), a decision applies to."""

    logits: np.ndarray


def measure_models(
    run: RunFolder, variants: Mapping[str, VariantCertificate], texts: Sequence[Text]
) -> dict[str, MeasuredModel]:
    """Return the answers of `pytorch` and the exported variants to the test rows, and what they cost.

    Raises:
        UsageError: A model cannot be loaded, or gives NaN.
    """

    def measure(name: str, classifier: Classifier, size: int) -> MeasuredModel:
        """Return one model's answers and costs."""
        logits, costs = timed(lambda some: classifier.logits(some, name), classifier.logits, texts, size)
        probabilities = softmax(logits)
        require_numbers(probabilities, name)
        return MeasuredModel(probabilities, costs, logits)

    size = (run.path / "model.safetensors").stat().st_size
    measured = {"pytorch": measure("pytorch", TorchClassifier.from_run(run.path), size)}
    for name, certificate in variants.items():
        measured[name] = measure(name, OnnxClassifier.from_run(run.path, name, raw=True), certificate.bytes)
    return measured


def measure_baseline(reviews: Reviews, texts: Sequence[Text]) -> Measured:
    """Return the answers of TF-IDF, fitted to the train rows, to the test rows' texts, and what they cost."""
    baseline = fit_baseline(texts_of(reviews.splits["train"]), reviews.splits["train"].labels)

    def predict(some: Sequence[Text]) -> np.ndarray:
        """Return probabilities, float64 (reviews, classes); 0 for a label that no train row has."""
        probabilities = np.zeros((len(some), len(reviews.label_names)))
        for start in range(0, len(some), BASELINE_ROWS):
            block = flat(some[start : start + BASELINE_ROWS])
            probabilities[start : start + len(block), baseline.classes_] = baseline.predict_proba(block)
        return probabilities

    return Measured(*timed(predict, predict, texts))


def timed(
    predict_all: Predict, predict: Predict, texts: Sequence[Text], size: int | None = None
) -> tuple[np.ndarray, Costs]:
    """Return a model's answers to all texts, and what they cost.

    Args:
        predict_all: The model, as it is timed for all texts; once, so that the figure is rough.
        predict: The model, as it is timed for one text alone.
        texts: The test rows.
        size: Bytes of the model's file.
    """
    predict_all(texts[:16])
    begun = time.perf_counter()
    answers = predict_all(texts)
    speed, alone = len(texts) / (time.perf_counter() - begun), []
    for text in texts[:TIMED_ALONE]:
        begun = time.perf_counter()
        predict([text])
        alone.append(1000 * (time.perf_counter() - begun))
    latency = Latency(*(round(float(value), 2) for value in np.percentile(alone, [50, 95])))
    return answers, Costs(reviews_per_second=round(speed, 1), latency_ms=latency, bytes=size)

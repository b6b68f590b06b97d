"""The metrics of a validation, as Trainer's `compute_metrics`."""

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from transformers import EvalPrediction

from recipe.metrics.scores import score_labels


class ClassificationMetrics(evaluate.Metric):
    """F1, accuracy, precision and recall, computed by `recipe.metrics.scores.score_labels`.

    A subclass, because `evaluate.load("f1")` fetches code from the Hub each time, and fails without it.
    """

    def __init__(self, num_labels: int) -> None:
        """Prepare for labels 0 to `num_labels` - 1."""
        # In memory: Trainer gathers every process's predictions before it asks for metrics, and processes that shared
        # evaluate's default cache file would wait for each other's locks.
        super().__init__(keep_in_memory=True)
        self.num_labels = num_labels

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        features = datasets.Features({"predictions": label, "references": label})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return score_labels(np.asarray(references), np.asarray(predictions), self.num_labels)


def metrics_hook(num_labels: int) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return Trainer's `compute_metrics`: from logits, float32 (reviews, classes), to the metrics by name."""
    metric = ClassificationMetrics(num_labels)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predicted = np.asarray(prediction.predictions).argmax(axis=-1)
        return dict(metric.compute(predictions=predicted, references=prediction.label_ids))

    return compute_metrics

"""Metrics against confusions counted by hand."""

import numpy as np
import pytest
from oracles import CONFUSION
from transformers import EvalPrediction

from recipe.training.compute_metrics import ClassificationMetrics, metrics_hook


def test_the_figures_of_a_hand_counted_confusion() -> None:
    metrics = ClassificationMetrics(num_labels=2)
    figures = metrics.compute(predictions=CONFUSION.predicted, references=CONFUSION.labels)
    assert figures == pytest.approx(CONFUSION.figures)


def test_the_positive_class_is_label_1() -> None:
    figures = ClassificationMetrics(num_labels=2).compute(predictions=[0, 0, 0, 0], references=[0, 0, 0, 1])
    assert figures == {"f1": 0.0, "accuracy": 0.75, "precision": 0.0, "recall": 0.0}


def test_with_more_classes_each_counts_the_same() -> None:
    # Class 0: precision 2/2, recall 2/3. Class 1: 1/2, 1/1. Class 2: 1/1, 1/1.
    figures = ClassificationMetrics(num_labels=3).compute(predictions=[0, 0, 1, 1, 2], references=[0, 0, 0, 1, 2])
    assert figures["recall"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert figures["f1"] == pytest.approx((0.8 + 2 / 3 + 1) / 3)


def test_the_hook_takes_the_most_probable_label() -> None:
    logits = np.array([[0.1, 0.2], [3.0, -1.0], [-2.0, -3.0], [0.0, 5.0]], dtype=np.float32)
    figures = metrics_hook(2)(EvalPrediction(predictions=logits, label_ids=np.array([1, 0, 1, 1])))
    assert figures == pytest.approx({"f1": 0.8, "accuracy": 0.75, "precision": 1.0, "recall": 2 / 3})

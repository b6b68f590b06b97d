"""What a trained model is worth on reviews it has never seen, and what it buys over a model without BERT."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from recipe.arguments import METRICS, data_arguments_of
from recipe.baseline import fit_baseline, flat
from recipe.data import Reviews, load_reviews, texts_of
from recipe.errors import UsageError
from recipe.inference import Classifier, OnnxClassifier, Text
from recipe.metrics import ClassificationMetrics
from recipe.reference import TorchClassifier
from recipe.run_folder import RunFolder, versions, write_json


@dataclass(frozen=True)
class Scored:
    """A model's answers on the test rows.

    Attributes:
        predicted: int64 (reviews,), the most probable label of each.
        reviews_per_second: From text to label, once through all rows, after a first batch that is not counted.
    """

    predicted: np.ndarray
    reviews_per_second: float


def evaluate_run(run: RunFolder) -> dict[str, Any]:
    """Write `<run>/report.json` and return it: PyTorch, each ONNX variant and TF-IDF on the same held-out test rows.

    Raises:
        UsageError: There is no finished, exported run, or its rows are not those it was trained with any more.
    """
    certified = run.read_certificate()["variants"]
    record = run.read_record()
    args = data_arguments_of(run.read_config())
    reviews = load_reviews(args, record["seed"])
    test = reviews.test
    require_same_rows(reviews, record["rows_sha256"])
    texts, labels = texts_of(test), test.labels
    baseline = fit_baseline(texts_of(reviews.train), reviews.train.labels)
    scored = {"pytorch": time_predictions(_predict_with(TorchClassifier.from_run(run.path), "PyTorch"), texts)}
    for name in certified:
        scored[name] = time_predictions(_predict_with(OnnxClassifier.from_run(run.path, name), name), texts)
    scored["tfidf"] = time_predictions(lambda some: baseline.predict(flat(some)), texts)
    report = make_report(scored, labels, record["labels"])
    write_json(run.report, {"run": record["config"], "versions": versions()} | report)
    return report


def require_same_rows(reviews: Reviews, expected: dict[str, str]) -> None:
    """Refuse rows that are not those of the run.

    Args:
        reviews: As they are read now.
        expected: Each split's `rows_sha256` from `run.json`.

    Raises:
        UsageError: Names the split that changed.
    """
    for name, split in reviews.splits.items():
        if split.sha256 != expected.get(name):
            raise UsageError(f"the {name} rows of {reviews.origin['name']} have changed since the run: train it again")


def time_predictions(predict: Callable[[Sequence[Text]], np.ndarray], texts: Sequence[Text]) -> Scored:
    """Return a model's answers and its speed; a rough figure, as it is taken once."""
    predict(texts[:16])
    started = time.perf_counter()
    predicted = predict(texts)
    return Scored(predicted, len(texts) / (time.perf_counter() - started))


def make_report(scored: dict[str, Scored], labels: np.ndarray, label_names: list[str]) -> dict[str, Any]:
    """Return the report of several models' answers on the same rows.

    Args:
        scored: Each model's answers: `pytorch` first, the ONNX variants, and `tfidf` last.
        labels: The true ones, int64 (reviews,).
        label_names: Of labels 0, 1, ….

    Returns:
        `labels`; `variants`, each model's `f1`, `accuracy`, `precision`, `recall`, `confusion` (rows true, columns
        predicted: `[[tn, fp], [fn, tp]]`), `reviews`, `reviews_per_second` and `labels_changed`, those that differ from
        PyTorch's; and `pytorch_against_tfidf`, an exact McNemar test.
    """
    pytorch = scored["pytorch"].predicted
    return {
        "labels": label_names,
        "variants": {
            name: score(model, labels, len(label_names)) | {"labels_changed": int((model.predicted != pytorch).sum())}
            for name, model in scored.items()
        },
        "pytorch_against_tfidf": mcnemar(pytorch == labels, scored["tfidf"].predicted == labels),
    }


def score(model: Scored, labels: np.ndarray, num_labels: int) -> dict[str, Any]:
    """Return one model's figures, as in `make_report`."""
    figures = ClassificationMetrics(num_labels).compute(predictions=model.predicted, references=labels)
    return {
        **figures,
        "confusion": confusion_matrix(labels, model.predicted, labels=range(num_labels)).tolist(),
        "reviews": len(labels),
        "reviews_per_second": round(model.reviews_per_second, 1),
    }


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> dict[str, Any]:
    """Return an exact McNemar test of two models on the same reviews.

    Only reviews that one of them got right and the other wrong tell them apart; were the models equally good, each of
    these would fall to either side like a fair coin (McNemar 1947; exact binomial form).

    Args:
        first_right, second_right: bool (reviews,), whether each model's label was right.

    Returns:
        `only_first_right` and `only_second_right`, counts, and the two-sided `p_value`.
    """
    first = int((first_right & ~second_right).sum())
    second = int((second_right & ~first_right).sum())
    p_value = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return {"only_first_right": first, "only_second_right": second, "p_value": p_value}


def as_table(report: dict[str, Any]) -> str:
    """Return the report for the screen."""
    names = (*METRICS, "reviews/s", "changed")
    lines = [f"{'':8}" + "".join(f"{name:>11}" for name in names) + f"  confusion ({_order(report)})"]
    for name, figures in report["variants"].items():
        numbers = "".join(f"{figures[key]:11.4f}" for key in METRICS)
        numbers += f"{figures['reviews_per_second']:11.1f}{figures['labels_changed']:11d}"
        lines.append(f"{name:8}{numbers}  {figures['confusion']}")
    test, reviews = report["pytorch_against_tfidf"], report["variants"]["pytorch"]["reviews"]
    return "\n".join(
        [
            *lines,
            f"{reviews:,} held-out test reviews; changed: labels that differ from PyTorch's.",
            f"Only PyTorch is right on {test['only_first_right']} of them, only TF-IDF on {test['only_second_right']}: "
            f"exact McNemar p = {test['p_value']:.2g}.",
        ]
    )


def _order(report: dict[str, Any]) -> str:
    """Return what the confusion counts stand for."""
    return "[[tn, fp], [fn, tp]]" if len(report["labels"]) == 2 else "rows true, columns predicted"


def _predict_with(classifier: Classifier, name: str) -> Callable[[Sequence[Text]], np.ndarray]:
    """Return a function from texts to labels, int64 (reviews,), with a progress bar of that name."""
    return lambda texts: classifier.logits(texts, name).argmax(axis=1)

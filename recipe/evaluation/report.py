"""What a trained model is worth on reviews it has never seen: every variant of it, how sure that is, where it fails."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from transformers import AutoTokenizer

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.reviews import Reviews, Split, column_of_test, reviews_of
from recipe.data.tokens import texts_of, tokenize
from recipe.errors import UsageError
from recipe.evaluation.baseline import fit_baseline, flat
from recipe.evaluation.model_card import describe_differences, write_card
from recipe.evaluation.pictures import draw_report
from recipe.evaluation.slices import (
    column_values,
    describe_slices,
    length_buckets,
    most_confident_mistakes,
    negation_presence,
    title_presence,
    truncation,
    write_mistakes,
)
from recipe.evaluation.thresholds import choose_decision, describe_decision
from recipe.files.atomic import write_json
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.calibration import describe_calibration
from recipe.metrics.intervals import describe_intervals
from recipe.metrics.scores import require_numbers, require_two_labels, score
from recipe.metrics.significance import mcnemar
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, RunRecord, VariantCertificate, versions

# Of one review alone, for the median and the 95th percentile.
TIMED_ALONE = 100
# Rows whose TF-IDF is held at a time.
BASELINE_ROWS = 20_000


@dataclass(frozen=True)
class Measured:
    """A model's answers on the test rows, and what they cost.

    Attributes:
        probabilities: float64 (reviews, classes), as the model gives them.
        logits: float32 (reviews, classes); of the baseline there are none.
        costs: `reviews_per_second`, `latency_ms` of one review alone (`p50`, `p95`), and `bytes` on disk.
    """

    probabilities: np.ndarray
    logits: np.ndarray | None
    costs: dict[str, Any]

    @property
    def predicted(self) -> np.ndarray:
        """Return the most probable labels, int64 (reviews,)."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Wishes:
    """What the user asked of an evaluation beside the figures.

    Attributes:
        target_precision: Wished for label 1; `None` takes the threshold of best F1.
        abstain: Share of reviews to leave to a person; `None` leaves none.
        slice_by: A column of the test rows to look at the model by; `None` looks at none.
    """

    target_precision: float | None = None
    abstain: float | None = None
    slice_by: str | None = None


def evaluate_run(run: RunFolder, wishes: Wishes | None = None) -> dict[str, Any]:
    """Measure a run on its held-out test rows, and return its report.

    Writes `<run>/report.json`, `<run>/README.md`, `<run>/report/` with the pictures and `mistakes.csv`, and
    `<run>/onnx/decision.json`, by which the exported model answers from then on.

    Raises:
        UsageError: There is no finished, exported run, its rows are not those it was trained with any more, all test
            rows have one label, a model gives NaN, or a wish cannot be granted.
    """
    wishes = wishes or Wishes()
    certified, record = run.read_certificate().variants, run.read_record()
    served = run.choose_variant(None, installed_providers()).name
    args = data_arguments_of(run.read_config())
    reviews = reviews_of(run)
    labels = reviews.test.labels
    require_two_labels(labels, record.labels)
    slices = slice_values(run, args, reviews, wishes.slice_by)
    decision = fit_decision(run, served, reviews.validation, wishes)
    # A variant for a GPU cannot be measured without one.
    variants = {name: found for name, found in certified.items() if found.provider in installed_providers()}
    measured = measure_all(run, variants, reviews)
    for name, model in measured.items():
        require_numbers(model.probabilities, name)
    report = make_report(measured, labels, record.labels, served, decision, slices)
    report = {"run": record.config, "versions": versions()} | report
    _write(run, report, record, measured, reviews.test, decision)
    return report


def slice_values(run: RunFolder, args: DataArguments, reviews: Reviews, column: str | None) -> dict[str, list[str]]:
    """Return what each test row is sliced by, by the slice's name.

    Raises:
        UsageError: The test rows have no such column.
    """
    test = reviews.test
    tokenizer = AutoTokenizer.from_pretrained(run.path, local_files_only=True)
    pieces = np.asarray(tokenize(test, tokenizer)["word_pieces"][:])
    texts = texts_of(test)
    slices = {"length": length_buckets(pieces), "truncated": truncation(pieces, tokenizer.model_max_length)}
    if len(args.text_columns) == 2:
        slices["title"] = title_presence([text[0] for text in texts])
    slices["negation"] = negation_presence(flat(texts))
    if column in (*slices, *args.text_columns):
        raise UsageError(f"--slice_by {column}: a text, or what the rows are sliced by already; choose another column")
    if column is not None:
        slices[column] = column_values({column: column_of_test(args, reviews, column)}, column)
    return slices


def fit_decision(run: RunFolder, served: str, validation: Split, wishes: Wishes) -> Decision:
    """Return the temperature, threshold and abstain bound that the run's validation rows speak for.

    Raises:
        UsageError: A wish cannot be granted.
    """
    logits = OnnxClassifier.from_run(run.path, served, raw=True).logits(texts_of(validation), "validation rows")
    require_numbers(softmax(logits), served)
    return choose_decision(logits, validation.labels, wishes.target_precision, wishes.abstain)


def measure_all(run: RunFolder, variants: dict[str, VariantCertificate], reviews: Reviews) -> dict[str, Measured]:
    """Return every model's answers on the test rows: `pytorch`, the exported variants, and `tfidf`.

    Args:
        run: Their folder.
        variants: What the certificate says of each that is to be measured, by name.
        reviews: Whose test rows are answered, and whose train rows `tfidf` learns from.
    """
    texts = texts_of(reviews.test)
    measured = {"pytorch": measure_classifier(TorchClassifier.from_run(run.path), texts, "PyTorch")}
    measured["pytorch"].costs["bytes"] = (run.path / "model.safetensors").stat().st_size
    for name, found in variants.items():
        measured[name] = measure_classifier(OnnxClassifier.from_run(run.path, name, raw=True), texts, name)
        measured[name].costs["bytes"] = found.bytes
    baseline = fit_baseline(texts_of(reviews.train), reviews.train.labels)
    return measured | {"tfidf": measure_baseline(baseline, texts, len(reviews.label_names))}


def measure_classifier(classifier: Classifier, texts: Sequence[Text], name: str) -> Measured:
    """Return a model's answers and what they cost, with a progress bar of that name."""
    logits, reviews_per_second = _timed(lambda some: classifier.logits(some, name), texts)
    costs = {"reviews_per_second": reviews_per_second, "latency_ms": _latency(classifier.logits, texts)}
    return Measured(softmax(logits), logits, costs)


def measure_baseline(baseline: Pipeline, texts: Sequence[Text], classes: int) -> Measured:
    """Return the answers of TF-IDF with logistic regression, and what they cost."""

    def predict(some: Sequence[Text]) -> np.ndarray:
        """Return probabilities, float64 (reviews, classes); 0 for a label that no train row has."""
        probabilities = np.zeros((len(some), classes))
        for start in range(0, len(some), BASELINE_ROWS):
            block = flat(some[start : start + BASELINE_ROWS])
            probabilities[start : start + len(block), baseline.classes_] = baseline.predict_proba(block)
        return probabilities

    probabilities, reviews_per_second = _timed(predict, texts)
    return Measured(
        probabilities, None, {"reviews_per_second": reviews_per_second, "latency_ms": _latency(predict, texts)}
    )


def make_report(
    measured: dict[str, Measured],
    labels: np.ndarray,
    label_names: list[str],
    served: str,
    decision: Decision,
    slices: dict[str, list[str]],
) -> dict[str, Any]:
    """Return the report of several models' answers on the same rows.

    Args:
        measured: Each model's answers: `pytorch`, the exported variants, and `tfidf`.
        labels: The true ones, int64 (reviews,).
        label_names: Of labels 0, 1, ….
        served: The variant that is looked at more closely.
        decision: Chosen on validation rows.
        slices: As `slice_values` returns them.

    Returns:
        All of `report.json` but `run`, the config's name, and `versions`: `labels`; `served`; `decision`; `variants`,
        each model's figures of `recipe.metrics.scores.score`, from its most probable labels and its own probabilities, its
        costs, and `labels_changed`, those unlike PyTorch's; `intervals` of `recipe.metrics.intervals.describe_intervals`;
        `mcnemar`, an exact test of PyTorch with each of the others; and of the served variant `calibration`,
        `thresholds` and `slices`, of the functions that describe them.
    """
    pytorch, classes = measured["pytorch"].predicted, len(label_names)
    predicted = {name: model.predicted for name, model in measured.items()}
    # Each variant against what it was made from, and that against what does without BERT.
    pairs = [("pytorch", name) if name == "tfidf" else (name, "pytorch") for name in measured if name != "pytorch"]
    logits = measured[served].logits
    assert logits is not None, "only the baseline has none"
    return {
        "labels": label_names,
        "served": served,
        "decision": decision.to_dict(),
        "variants": {
            name: score(labels, model.probabilities)
            | model.costs
            | {"labels_changed": int((model.predicted != pytorch).sum())}
            for name, model in measured.items()
        },
        "intervals": describe_intervals(labels, predicted, classes, pairs),
        "mcnemar": [
            {"first": first, "second": second} | mcnemar(predicted[first] == labels, predicted[second] == labels)
            for first, second in pairs
        ],
        "calibration": describe_calibration(logits, labels, decision.temperature),
        "thresholds": describe_decision(decision, logits, labels),
        "slices": describe_slices(slices, labels, measured[served].predicted, classes),
    }


def as_table(report: dict[str, Any]) -> str:
    """Return the report for the screen."""
    columns = {"f1": "F1", "accuracy": "accuracy", "roc_auc": "ROC AUC", "calibration_error": "ECE"}
    head = f"{'':8}{'F1':>8}{'95 % interval':>18}" + "".join(f"{name:>10}" for name in list(columns.values())[1:])
    lines = [head + f"{'reviews/s':>11}{'p50 ms':>9}{'changed':>9}"]
    for name, figures in report["variants"].items():
        low, high = report["intervals"]["variants"][name]["f1"]
        numbers = "".join(f"{figures[key]:10.4f}" if key in figures else f"{'–':>10}" for key in list(columns)[1:])
        costs = f"{figures['reviews_per_second']:11,.1f}{figures['latency_ms']['p50']:9.1f}"
        interval = f"{low:.4f} to {high:.4f}"
        lines.append(f"{name:8}{figures['f1']:8.4f}{interval:>18}{numbers}{costs}{figures['labels_changed']:9d}")
    reviews = report["variants"]["pytorch"]["reviews"]
    lines.append(f"{reviews:,} held-out test reviews; changed: labels that differ from PyTorch's.")
    return "\n".join([*lines, *(sentence.replace("**", "") for sentence in describe_differences(report))])


def _write(
    run: RunFolder,
    report: dict[str, Any],
    record: RunRecord,
    measured: dict[str, Measured],
    test: Split,
    decision: Decision,
) -> None:
    """Write the report, its pictures, the surest mistakes, the model card, and what the exported model answers by."""
    served, labels = measured[report["served"]], test.labels
    assert served.logits is not None, "only the baseline has none"
    calibrated = decision.probabilities(served.logits)
    positive = {name: model.probabilities[:, 1] for name, model in measured.items()}
    positive[report["served"]] = calibrated[:, 1]
    pictures = draw_report(report, record, labels, positive if len(report["labels"]) == 2 else None, run.report_folder)
    texts = {column: test.texts[column][:] for column in test.texts.column_names}
    surest = most_confident_mistakes(labels, calibrated.argmax(axis=1), calibrated.max(axis=1), report["labels"], texts)
    write_mistakes(run.report_folder / "mistakes.csv", surest, list(texts))
    write_card(run.card, report, record, {shows: f"report/{file}" for shows, file in pictures.items()})
    write_json(run.decision, decision.to_dict())
    write_json(run.report, report)


def _timed(predict: Callable[[Sequence[Text]], np.ndarray], texts: Sequence[Text]) -> tuple[np.ndarray, float]:
    """Return a model's answers and its reviews per second; a rough figure, as it is taken once."""
    predict(texts[:16])
    begun = time.perf_counter()
    answers = predict(texts)
    return answers, round(len(texts) / (time.perf_counter() - begun), 1)


def _latency(predict: Callable[[Sequence[Text]], np.ndarray], texts: Sequence[Text]) -> dict[str, float]:
    """Return `p50` and `p95` of the milliseconds that one review alone takes."""
    taken = []
    for text in texts[:TIMED_ALONE]:
        begun = time.perf_counter()
        predict([text])
        taken.append(1000 * (time.perf_counter() - begun))
    p50, p95 = np.percentile(taken, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}

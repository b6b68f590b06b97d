"""Evaluation of a run on its test rows: figures of every variant, their uncertainty, and figures by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from recipe.arguments.data import data_arguments_of, describe_truncation
from recipe.data.reviews import Reviews, Split, reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.evaluation.measurement import measure_baseline, measure_models
from recipe.evaluation.model_card import BASELINE, describe_differences, make_card
from recipe.evaluation.pictures import draw_report
from recipe.evaluation.slices import figures_by_slice, most_confident_mistakes, most_frequent, slice_values
from recipe.evaluation.thresholds import choose_decision, thresholds_of
from recipe.evaluation.types import Costs, Measured, Report, VariantFigures
from recipe.files.atomic import write_json, write_whole
from recipe.files.parts import joined_name
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier, windows
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.calibration import calibration_of
from recipe.metrics.intervals import intervals_of
from recipe.metrics.scores import figures_of, require_numbers, require_two_labels
from recipe.metrics.significance import mcnemar
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, RunRecord, versions
from recipe.text_table import columns


def evaluate_run(
    run: RunFolder,
    target_precision: float | None = None,
    abstain: float | None = None,
    slice_by: str | None = None,
    files: Mapping[str, list[str]] | None = None,
) -> Report:
    """Measure a run on its test rows, and return the report.

    Writes `<run>/report.json`, `<run>/README.md`, `<run>/report/` with the pictures and `mistakes.csv`, and
    `<run>/onnx/decision.json`, which the exported model applies from then on.

    Args:
        target_precision: Precision wanted for label 1; `None` takes the threshold of best F1.
        abstain: Share of reviews to leave to a person; `None` leaves none.
        slice_by: A column of the test rows to report figures by.
        files: Where the run's files are now, by split, as `reviews_of` takes them.

    Raises:
        UsageError: The run is not finished and exported, its rows have changed, all test rows have one label, a model
            gives NaN, or an option cannot be met.
        CheckFailed: The trained model has not the F1 on validation rows that it had in training.
    """
    record = run.read_record()
    served = run.choose_variant(None, installed_providers())[0]
    reviews = reviews_of(run, files)
    test, validation = reviews.test, reviews.splits["validation"]
    require_two_labels(test.labels, record.labels)
    trained = TorchClassifier.from_run(run.path)
    trained.require_recorded_f1(validation, record)
    classifier, texts = OnnxClassifier.from_run(run.path, served, raw=True), texts_of(test)
    slices = slice_values(texts, count_tokens(classifier, texts), classifier.max_length)
    if slice_by in (*slices, *test.text_columns):
        raise UsageError(
            f"--slice_by {slice_by}: a text, or what the rows are sliced by already; choose another column"
        )
    if slice_by is not None:
        slices[slice_by] = most_frequent(test.column(slice_by))
    validated = classifier.logits(texts_of(validation), "validation rows")
    require_numbers(softmax(validated), served)
    decision = choose_decision(validated, validation.labels, target_precision, abstain)
    logits, costs = measure_models(run, trained, texts)
    probabilities = {name: softmax(values) for name, values in logits.items()}
    probabilities[BASELINE], costs[BASELINE] = measure_baseline(reviews, texts)
    report = make_report(record, probabilities, costs, test.labels, served, logits[served], decision, slices)
    if reviews.other_test:
        report = replace(report, measured=_measured(reviews))
    _write(run, record, report, test, probabilities | {served: decision.probabilities(logits[served])})
    return report


def _measured(reviews: Reviews) -> Measured:
    seen = [reviews.splits[name].keys.normalised for name in ("train", "validation")]
    return Measured(reviews.other_test, int(np.isin(reviews.test.keys.normalised, np.concatenate(seen)).sum()))


def count_tokens(classifier: Classifier, texts: Sequence[Text]) -> np.ndarray:
    """Return each text's number of tokens before truncation, int64 (reviews,)."""
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str())
    tokenizer.no_truncation()
    encoded = (tokenizer.encode_batch_fast(window) for window in windows(texts))
    return np.array([len(encoding) for encodings in encoded for encoding in encodings])


def make_report(
    record: RunRecord,
    probabilities: Mapping[str, np.ndarray],
    costs: Mapping[str, Costs],
    labels: np.ndarray,
    served: str,
    logits: np.ndarray,
    decision: Decision,
    slices: Mapping[str, Sequence[str]],
) -> Report:
    """Return the report of several models' answers on the same rows.

    Args:
        record: The run's `run.json`.
        probabilities: Of `pytorch`, the exported variants and TF-IDF, float64 (reviews, classes), without a decision.
        costs: Of the same.
        labels: True labels, int64 (reviews,).
        served, decision: As the report has them.
        logits: The served variant's, float32 (reviews, classes).
        slices: Each row's value, by the slice's name.
    """
    predicted = {name: values.argmax(axis=1) for name, values in probabilities.items()}
    pairs = [(name, "pytorch") for name in predicted if name not in ("pytorch", BASELINE)] + [("pytorch", BASELINE)]
    return Report(
        run=record.config,
        versions=versions(),
        labels=record.labels,
        served=served,
        decision=decision,
        variants={
            name: VariantFigures(
                **vars(figures_of(labels, values)),
                **vars(costs[name]),
                labels_changed=int((predicted[name] != predicted["pytorch"]).sum()),
            )
            for name, values in probabilities.items()
        },
        intervals=intervals_of(labels, predicted, len(record.labels), pairs),
        mcnemar=[mcnemar(labels, predicted, *pair) for pair in pairs],
        calibration=calibration_of(logits, labels, decision.temperature),
        thresholds=thresholds_of(decision, logits, labels),
        slices=figures_by_slice(slices, labels, predicted[served], len(record.labels)),
    )


def summary(report: Report) -> str:
    """Return a table of the variants for the screen, and a sentence per comparison."""
    rows = [["", "F1", "95 % interval", "accuracy", "ROC AUC", "ECE", "reviews/s", "p50 ms", "changed"]]
    for name, found in report.variants.items():
        low, high = report.intervals.variants[name].f1
        roc_auc = "–" if found.roc_auc is None else f"{found.roc_auc:.4f}"
        figures = [f"{found.f1:.4f}", f"{low:.4f} to {high:.4f}", f"{found.accuracy:.4f}", roc_auc]
        costs = [f"{found.reviews_per_second:,.1f}", f"{found.latency_ms.p50:.1f}", str(found.labels_changed)]
        rows.append([name, *figures, f"{found.calibration_error:.4f}", *costs])
    reviews = report.variants["pytorch"].reviews
    where = "held-out test reviews"
    if report.measured:
        where = f"reviews of {joined_name([part['file'] for part in report.measured.files])}"
    note = f"{reviews:,} {where}; changed: labels that differ from PyTorch's."
    sentences = [sentence.replace("**", "") for sentence in describe_differences(report)]
    return "\n".join([*columns(rows), note, *sentences])


def _write(
    run: RunFolder, record: RunRecord, report: Report, test: Split, probabilities: Mapping[str, np.ndarray]
) -> None:
    """Write pictures, mistakes, model card, decision and report; the served probabilities are the decision's."""
    positive = {name: values[:, 1] for name, values in probabilities.items()}
    pictures = draw_report(report, record, test.labels, positive, run.report_folder)
    texts = {column: test.texts[column][:] for column in test.text_columns}
    mistakes = most_confident_mistakes(test.labels, probabilities[report.served], report.labels, texts)
    write_whole(run.report_folder / "mistakes.csv", mistakes)
    data = data_arguments_of(run.read_config())
    truncation = describe_truncation(data.max_length, data.truncation_side)
    paths = {title: f"report/{file}" for title, file in pictures.items()}
    card = make_card(run.path, report, record, paths, truncation)
    write_whole(run.card, str(card))
    write_json(run.decision, report.decision.to_json())
    write_json(run.report, report.to_json())

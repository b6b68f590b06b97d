"""Evaluation of a run on its test rows: figures of every variant, their uncertainty, and figures by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.reviews import Split, reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.evaluation.baseline import flat
from recipe.evaluation.measurement import Measured, MeasuredModel, measure_baseline, measure_models
from recipe.evaluation.model_card import BASELINE, describe_differences, make_card
from recipe.evaluation.pictures import draw_report
from recipe.evaluation.slices import (
    figures_by_slice,
    length_buckets,
    most_confident_mistakes,
    most_frequent,
    negation_presence,
    title_presence,
    truncation,
)
from recipe.evaluation.thresholds import choose_decision, thresholds_of
from recipe.evaluation.types import Report, VariantFigures
from recipe.files.atomic import write_json, write_whole
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier, windows
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.metrics.calibration import calibration_of
from recipe.metrics.intervals import intervals_of
from recipe.metrics.scores import figures_of, require_numbers, require_two_labels
from recipe.metrics.significance import mcnemar
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, RunRecord, versions
from recipe.text_table import columns


@dataclass(frozen=True)
class EvaluationOptions:
    """Optional settings of an evaluation.

    Attributes:
        target_precision: Precision wanted for label 1; `None` takes the threshold of best F1.
        abstain: Share of reviews to leave to a person; `None` leaves none.
        slice_by: A column of the test rows to report figures by.
    """

    target_precision: float | None = None
    abstain: float | None = None
    slice_by: str | None = None


def evaluate_run(run: RunFolder, options: EvaluationOptions | None = None) -> Report:
    """Measure a run on its test rows, and return the report.

    Writes `<run>/report.json`, `<run>/README.md`, `<run>/report/` with the pictures and `mistakes.csv`, and
    `<run>/onnx/decision.json`, which the exported model applies from then on.

    Raises:
        UsageError: The run is not finished and exported, its rows have changed, all test rows have one label, a model
            gives NaN, or an option cannot be met.
    """
    options = options or EvaluationOptions()
    certified, record = run.read_certificate().variants, run.read_record()
    served = run.choose_variant(None, installed_providers())[0]
    args = data_arguments_of(run.read_config())
    reviews = reviews_of(run)
    labels = reviews.test.labels
    require_two_labels(labels, record.labels)
    classifier, texts = OnnxClassifier.from_run(run.path, served, raw=True), texts_of(reviews.test)
    slices = slice_values(classifier, args, reviews.test, texts, options.slice_by)
    decision = fit_decision(classifier, served, reviews.splits["validation"], options)
    # A variant for a GPU cannot be measured without one.
    variants = {name: found for name, found in certified.items() if found.provider in installed_providers()}
    models = measure_models(run, variants, texts)
    baseline = measure_baseline(reviews, texts)
    report = make_report(record, models, baseline, labels, served, decision, slices)
    positive = {name: model.probabilities[:, 1] for name, model in (models | {BASELINE: baseline}).items()}
    _write(run, report, record, models[served].logits, positive, reviews.test)
    return report


def slice_values(
    classifier: Classifier, args: DataArguments, test: Split, texts: Sequence[Text], column: str | None
) -> dict[str, list[str]]:
    """Return each test row's value in every slice, by the slice's name; `texts` are those of `test`.

    Raises:
        UsageError: The test rows have no such column.
    """
    tokens = count_tokens(classifier, texts)
    slices = {"length": length_buckets(tokens), "truncated": truncation(tokens, classifier.max_length)}
    if len(args.text_columns) == 2:
        slices["title"] = title_presence([text[0] for text in texts])
    slices["negation"] = negation_presence(flat(texts))
    if column in (*slices, *args.text_columns):
        raise UsageError(f"--slice_by {column}: a text, or what the rows are sliced by already; choose another column")
    if column is not None:
        slices[column] = most_frequent(test.column(column))
    return slices


def count_tokens(classifier: Classifier, texts: Sequence[Text]) -> np.ndarray:
    """Return each text's number of tokens before truncation, int64 (reviews,)."""
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str())
    tokenizer.no_truncation()
    encoded = (tokenizer.encode_batch_fast(window) for window in windows(texts))
    return np.array([len(encoding) for encodings in encoded for encoding in encodings])


def fit_decision(classifier: Classifier, served: str, validation: Split, options: EvaluationOptions) -> Decision:
    """Return the temperature, threshold and abstain bound that fit the validation rows best.

    Raises:
        UsageError: An option cannot be met.
    """
    logits = classifier.logits(texts_of(validation), "validation rows")
    require_numbers(softmax(logits), served)
    return choose_decision(logits, validation.labels, options.target_precision, options.abstain)


def make_report(
    record: RunRecord,
    models: Mapping[str, MeasuredModel],
    baseline: Measured,
    labels: np.ndarray,
    served: str,
    decision: Decision,
    slices: Mapping[str, Sequence[str]],
) -> Report:
    """Return the report of several models' answers on the same rows.

    Args:
        record: The run's `run.json`.
        models: `pytorch` and the exported variants.
        baseline: TF-IDF.
        labels: True labels, int64 (reviews,).
        served, decision: As the report has them.
        slices: As `slice_values` returns them.
    """
    measured: dict[str, Measured] = {**models, BASELINE: baseline}
    predicted = {name: model.predicted for name, model in measured.items()}
    classes, logits = len(record.labels), models[served].logits
    pairs = [(name, "pytorch") for name in models if name != "pytorch"] + [("pytorch", BASELINE)]
    return Report(
        run=record.config,
        versions=versions(),
        labels=record.labels,
        served=served,
        decision=decision,
        variants={
            name: VariantFigures(
                **vars(figures_of(labels, model.probabilities)),
                **vars(model.costs),
                labels_changed=int((predicted[name] != predicted["pytorch"]).sum()),
            )
            for name, model in measured.items()
        },
        intervals=intervals_of(labels, predicted, classes, pairs),
        mcnemar=[mcnemar(labels, predicted, *pair) for pair in pairs],
        calibration=calibration_of(logits, labels, decision.temperature),
        thresholds=thresholds_of(decision, logits, labels),
        slices=figures_by_slice(slices, labels, predicted[served], classes),
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
    note = f"{reviews:,} held-out test reviews; changed: labels that differ from PyTorch's."
    sentences = [sentence.replace("**", "") for sentence in describe_differences(report)]
    return "\n".join([*columns(rows), note, *sentences])


def _write(
    run: RunFolder,
    report: Report,
    record: RunRecord,
    logits: np.ndarray,
    positive: dict[str, np.ndarray],
    test: Split,
) -> None:
    """Write pictures, mistakes, model card, decision and report; `logits` are the served variant's."""
    calibrated = report.decision.probabilities(logits)
    pictures = draw_report(report, record, test.labels, positive | {report.served: calibrated[:, 1]}, run.report_folder)
    texts = {column: test.texts[column][:] for column in test.texts.column_names}
    mistakes = most_confident_mistakes(test.labels, calibrated, report.labels, texts)
    write_whole(run.report_folder / "mistakes.csv", mistakes)
    card = make_card(run.path, report, record, {title: f"report/{file}" for title, file in pictures.items()})
    write_whole(run.card, str(card))
    write_json(run.decision, report.decision.to_json())
    write_json(run.report, report.to_json())

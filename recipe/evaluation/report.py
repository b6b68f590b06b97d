"""Evaluation of a run on its test rows: figures of every variant, their uncertainty, and figures by slice."""

import io
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.csv
from tokenizers import Tokenizer

from recipe.data.reviews import Reviews, Split, reviews_of
from recipe.data.tokens import texts_of
from recipe.data.unseen import require_unseen
from recipe.errors import UsageError
from recipe.evaluation.measurement import ModelAnswers, measure_baseline, measure_models
from recipe.evaluation.model_card import make_card
from recipe.evaluation.pictures import draw_report
from recipe.evaluation.sentences import BASELINE
from recipe.evaluation.slices import figures_by_slice, most_confident_mistakes, most_frequent, slice_values
from recipe.evaluation.thresholds import Asked, Wishes, choose_decision, served_figures
from recipe.evaluation.types import Measured, Report, VariantFigures
from recipe.files.atomic import read_json, write_json, write_whole
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier, windows
from recipe.inference.decision import Answers, Decision
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.calibration import calibration_of, temperature_at_bound
from recipe.metrics.intervals import intervals_of
from recipe.metrics.scores import (
    figures_by_label,
    figures_of,
    label_notes,
    numbers_in_order,
    ordinal_figures,
    require_numbers,
    require_two_labels,
)
from recipe.metrics.significance import mcnemar
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, RunRecord, versions

NO_WISHES = Wishes()


def evaluate_run(
    run: RunFolder,
    wishes: Wishes = NO_WISHES,
    slice_by: str | None = None,
    files: Mapping[str, list[str]] | None = None,
) -> Report:
    """Measure a run on its test rows, and return the report.

    Writes `<run>/report.json`, `<run>/README.md`, `<run>/report/` with the pictures, `answers.csv` and `mistakes.csv`,
    and `<run>/onnx/decision.json`, which the exported model applies from then on; all of them or, after an error or a
    signal, none. Nothing of an earlier evaluation stays.

    Args:
        wishes: What the decision is to reach on validation rows.
        slice_by: A column of the test rows to report figures by.
        files: Where the run's files are now, by split, as `reviews_of` takes them.

    Raises:
        UsageError: The run is not finished and exported, its rows have changed, it has learned from other test
            rows, all test rows have one label, a model gives NaN, or an option makes no sense.
        CheckFailed: The trained model no longer has the F1 that was measured in training.
    """
    wishes.require_sense()
    record, settings = run.read_record(), run.read_config()
    wishes.require_labels(len(record.labels))
    served = run.choose_variant(None, installed_providers())[0]
    reviews = reviews_of(run, files)
    require_unseen(reviews, record, settings)
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
    if record.refit:
        # The model has learned from these rows since, so it is surer of them than of new ones.
        validated = np.array(record.refit.logits)
    decision, asked = choose_decision(validated, validation.labels, wishes, record.labels)
    logits, costs = measure_models(run, trained, texts)
    probabilities = {name: softmax(values) for name, values in logits.items()}
    probabilities[BASELINE], costs[BASELINE] = measure_baseline(reviews, texts, settings.get("class_weights", "none"))
    # Reading all texts for it is only worth while where some are left to people.
    wordless = np.zeros(len(texts), dtype=bool) if decision.certain_from is None else classifier.wordless(texts)
    tested = ModelAnswers(test.labels, probabilities, costs, served, logits[served], wordless)
    report = make_report(record, tested, decision, asked, slices)
    measured = _measured(reviews) if reviews.other_test else None
    notes = report.notes + _seen_notes(measured) + _tuned_notes(settings)
    report = replace(report, measured=measured, test_sha256=test.sha256, notes=notes)
    return _write(run, record, settings, report, test, tested)


def _measured(reviews: Reviews) -> Measured:
    seen = [reviews.splits[name].keys.normalised for name in ("train", "validation")]
    return Measured(reviews.other_test, int(np.isin(reviews.test.keys.normalised, np.concatenate(seen)).sum()))


def _seen_notes(measured: Measured | None) -> list[str]:
    if not measured or not measured.seen:
        return []
    stand = "stands" if measured.seen == 1 else "stand"
    seen = f"{measured.seen:,} of these reviews also {stand} in the train or validation rows"
    return [f"{seen}, which flatters the model."]


def _tuned_notes(settings: dict[str, Any]) -> list[str]:
    trials = settings.get("tuned_trials", 0)
    flattered = f"The settings were chosen among {trials:,} trials on the validation rows, whose F1 is flattered by it."
    return [flattered] if trials else []


def count_tokens(classifier: Classifier, texts: Sequence[Text]) -> np.ndarray:
    """Return each text's number of tokens before truncation, int64 (reviews,)."""
    tokenizer = Tokenizer.from_str(classifier.tokenizer.to_str())
    tokenizer.no_truncation()
    encoded = (tokenizer.encode_batch_fast(window) for window in windows(texts))
    return np.array([len(encoding) for encodings in encoded for encoding in encodings])


def make_report(
    record: RunRecord,
    tested: ModelAnswers,
    decision: Decision,
    asked: list[Asked],
    slices: Mapping[str, Sequence[str]],
) -> Report:
    """Return the report of several models' answers on the same rows.

    Args:
        record: The run's `run.json`.
        decision, asked: As the report has them.
        slices: Each row's value, by the slice's name.
    """
    names, labels, logits = record.labels, tested.labels, tested.logits
    answers = decision(logits).labels
    predicted = {name: values.argmax(axis=1) for name, values in tested.probabilities.items()}
    pairs = [(name, "pytorch") for name in predicted if name not in ("pytorch", BASELINE)] + [("pytorch", BASELINE)]
    by_label, numbers = figures_by_label(labels, answers, len(names)), numbers_in_order(names)
    sliced, left_out = figures_by_slice(slices, labels, answers, len(names))
    unread = int(tested.wordless.sum()) if decision.certain_from is not None else 0
    for_people = [f"Left to people is each review without a word that the model knows: {unread:,} of these."]
    return Report(
        run=record.config,
        versions=versions(),
        labels=names,
        served=tested.served,
        decision=decision,
        asked=asked,
        answers=served_figures(decision, logits, labels, tested.wordless),
        by_label=by_label,
        ordinal=ordinal_figures(labels, answers, numbers) if numbers else None,
        variants={
            name: VariantFigures(
                **vars(figures_of(labels, values)),
                **vars(tested.costs[name]),
                labels_changed=int((predicted[name] != predicted["pytorch"]).sum()),
                labels_not_served=int((predicted[name] != answers).sum()),
            )
            for name, values in tested.probabilities.items()
        },
        intervals=intervals_of(labels, predicted, len(names), pairs),
        mcnemar=[mcnemar(labels, predicted, *pair) for pair in pairs],
        calibration=calibration_of(logits, labels, decision.temperature),
        slices=sliced,
        notes=[
            *label_notes(by_label, names),
            *_temperature_notes(decision.temperature),
            *(for_people if unread else []),
            *left_out,
            *(f"In training: {note}" for note in (record.validation.notes if record.validation else [])),
        ],
        seeds=record.seed_note(),
    )


def _temperature_notes(temperature: float) -> list[str]:
    if not temperature_at_bound(temperature):
        return []
    return [f"The temperature, {temperature:.3g}, is at the end of its range, so do not rely on the probabilities."]


def _write(
    run: RunFolder,
    record: RunRecord,
    settings: Mapping[str, Any],
    report: Report,
    test: Split,
    tested: ModelAnswers,
) -> Report:
    """Write the evaluation's files, whole or not at all; return the report with the pictures' notes."""
    answers = report.decision(tested.logits, tested.wordless)
    positive = {name: values[:, 1] for name, values in tested.probabilities.items()}
    positive[report.served] = report.decision.probabilities(tested.logits)[:, 1]
    texts = {column: test.texts[column][:] for column in test.text_columns}
    mistakes = most_confident_mistakes(test.labels, answers.labels, answers.probabilities, report.labels, texts)
    for left_by_killed in run.path.glob(".report-*"):
        shutil.rmtree(left_by_killed)
    with TemporaryDirectory(prefix=".report-", dir=run.path) as temporary:
        aside = RunFolder(temporary)
        pictures, notes = draw_report(report, record, test.labels, positive, aside.report_folder)
        report = replace(report, notes=report.notes + notes)
        paths = {title: f"report/{file}" for title, file in pictures.items()}
        model_type = read_json(run.path / "config.json")["model_type"]
        card = make_card(run.path.resolve().name, report, record, settings, paths, model_type)
        write_whole(aside.report_folder / "mistakes.csv", mistakes)
        write_whole(aside.answers, answers_csv(test.labels, answers, report.labels))
        write_whole(aside.card, str(card))
        write_json(aside.report, report.to_json())
        write_json(aside.decision, report.decision.to_json())
        # Python handles signals in the main thread alone, which waits for this one before it unwinds.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_swap, aside, run).result()
    return report


def _swap(aside: RunFolder, run: RunFolder) -> None:
    """Put a new evaluation in an earlier one's place; the decision, which is served from then on, is the last."""
    if run.report_folder.exists():
        run.report_folder.replace(aside.path / "earlier")
    aside.report_folder.replace(run.report_folder)
    aside.card.replace(run.card)
    aside.report.replace(run.report)
    aside.decision.replace(run.decision)


def answers_csv(labels: np.ndarray, answers: Answers, label_names: Sequence[str]) -> bytes:
    """Return the answers to all test rows as csv in UTF-8, from true labels, int64 (reviews,).

    Its columns are `row`, from 1, `label`, the true one, `predicted`, its `probability`, and `doubtful`.
    """
    names, content = np.array(label_names, dtype=object), io.BytesIO()
    columns = {
        "row": np.arange(1, len(labels) + 1),
        "label": names[labels],
        "predicted": names[answers.labels],
        "probability": answers.probabilities.round(6),
        "doubtful": ~answers.certain,
    }
    pyarrow.csv.write_csv(pyarrow.table(columns), content)
    return content.getvalue()

"""The report's figures against counts by hand, what an evaluation writes, and rows that have changed since the run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copy_of, files_under, separable_reviews, write_dataset
from oracles import CONFUSION, run_record

from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import load_reviews
from recipe.errors import UsageError
from recipe.evaluation import Report, evaluate_run
from recipe.evaluation.measurement import fit_baseline
from recipe.evaluation.report import count_tokens, make_report, summary
from recipe.evaluation.slices import flat
from recipe.evaluation.types import Costs, Latency
from recipe.inference import Decision, OnnxClassifier
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder

LABELS, PREDICTED = CONFUSION.labels, CONFUSION.predicted
DECISION = Decision(1.5, 0.4, 0.7)
REPORT_FILES = {
    *("learning_curve.png", "confusion.png", "precision_recall.png", "reliability.png", "slices.png", "trade_off.png"),
    "mistakes.csv",
}


def report_of(decision: Decision = DECISION, source: Sequence[str] = "aaaaabbbbb", **predicted: np.ndarray) -> Report:
    """The report of models' answers, TF-IDF's last, each with a probability of 0.9."""
    logits = {
        name: np.log(np.where(np.arange(2) == labels[:, None], 0.9, 0.1)).astype(np.float32)
        for name, labels in predicted.items()
    }
    probabilities = {name: softmax(values) for name, values in logits.items()}
    costs = dict.fromkeys(predicted, Costs(reviews_per_second=20.0, latency_ms=Latency(1.0, 2.0)))
    slices = {"source": list(source)}
    return make_report(run_record(), probabilities, costs, LABELS, "fp32", logits["fp32"], decision, slices)


@pytest.fixture(scope="module")
def evaluated(exported_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = copy_of(exported_run, tmp_path_factory.mktemp("with_options"))
    evaluate_run(run, abstain=0.1, slice_by="title")
    return run


def read(run: RunFolder) -> Report:
    """The report that a run's folder holds."""
    return Report.from_json(json.loads(run.report.read_text(encoding="utf-8")), run.report)


def test_confusion_counts_stand_where_the_report_says() -> None:
    report = report_of(pytorch=PREDICTED, fp32=PREDICTED, tfidf=1 - LABELS)
    fp32 = report.variants["fp32"]
    assert fp32.confusion == CONFUSION.matrix, "[[tn, fp], [fn, tp]]"
    assert (fp32.reviews, fp32.reviews_per_second, fp32.accuracy) == (10, 20.0, CONFUSION.figures["accuracy"])
    assert fp32.labels_changed == 0
    assert report.variants["tfidf"].confusion == [[0, 5], [5, 0]]


def test_labels_changed_counts_a_variant_against_pytorch() -> None:
    changed = PREDICTED.copy()
    changed[[0, 9]] = 1 - changed[[0, 9]]
    report = report_of(pytorch=PREDICTED, fp32=changed, tfidf=PREDICTED)
    assert [found.labels_changed for found in report.variants.values()] == [0, 2, 0]


def test_each_variant_is_held_against_pytorch_and_pytorch_against_tfidf() -> None:
    report = report_of(pytorch=PREDICTED, fp32=PREDICTED, int8=LABELS, tfidf=1 - LABELS)
    pairs = [("fp32", "pytorch"), ("int8", "pytorch"), ("pytorch", "tfidf")]
    assert [(test.first, test.second) for test in report.mcnemar] == pairs
    assert [(found.first, found.second) for found in report.intervals.differences] == pairs
    right = [(test.only_first_right, test.only_second_right) for test in report.mcnemar]
    assert right == [(0, 0), (3, 0), (7, 0)]


def test_calibration_thresholds_and_slices_are_those_of_the_served_variant() -> None:
    report = report_of(pytorch=LABELS, fp32=PREDICTED, tfidf=LABELS)
    assert report.served == "fp32" and report.decision.threshold == 0.4
    assert report.thresholds.default.accuracy == 0.7
    assert [row.accuracy for row in report.slices] == [0.6, 0.8]
    assert report.calibration.before.calibration_error == pytest.approx(0.2), "0.9 sure, 0.7 right"


@pytest.mark.parametrize("decision", [DECISION, Decision()])
def test_a_report_is_read_as_it_was_written(decision: Decision) -> None:
    source = ["one label"] * 3 + ["both"] * 7
    report = report_of(decision, source, pytorch=LABELS, fp32=PREDICTED, tfidf=LABELS)
    content = json.loads(json.dumps(report.to_json()))
    assert Report.from_json(content, "report.json") == report
    assert ("chosen" in content["thresholds"]) == ("abstain" in content["thresholds"]) == (decision != Decision())
    assert "bytes" not in content["variants"]["tfidf"] and "f1" not in content["slices"][1]
    assert content["decision"] == decision.to_json(), "null, where other parts leave a key out"
    with pytest.raises(UsageError, match="report.json is damaged: .*variants"):
        Report.from_json({name: part for name, part in content.items() if name != "variants"}, "report.json")


def test_the_baseline_learns_words_and_takes_pairs() -> None:
    rows = separable_reviews(200, seed=3)
    model = fit_baseline(rows["content"][:], rows["label"][:])
    assert model.predict(flat([("a lovely", "film"), ("an awful", "film")])).tolist() == [1, 0]


def test_tokens_are_counted_before_truncation(exported_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(exported_run.path, "fp32")
    # [CLS] and [SEP] count; a pair has one more [SEP].
    texts = ["a film", "film " * 100, ("good", "a lovely film")]
    assert count_tokens(classifier, texts).tolist() == [4, 102, 7]
    (scores,) = classifier.score([["film " * 100]])
    assert scores.truncated.all(), "the classifier itself still truncates"


def test_an_evaluation_leaves_its_files_and_the_promised_keys(evaluated: RunFolder) -> None:
    report = json.loads(evaluated.report.read_text(encoding="utf-8"))
    assert set(report) == set(
        "run versions labels served decision variants intervals mcnemar calibration thresholds slices".split()
    )
    assert list(report["variants"]) == ["pytorch", "fp32", "int8", "tfidf"]
    for name, figures in report["variants"].items():
        wanted = "f1 accuracy precision recall matthews roc_auc average_precision log_loss calibration_error brier"
        wanted += " confusion reviews reviews_per_second latency_ms labels_changed" + " bytes" * (name != "tfidf")
        assert set(figures) == set(wanted.split())
        assert figures["reviews"] == 60 and np.sum(figures["confusion"]) == 60
    assert report["variants"]["fp32"]["f1"] == report["variants"]["pytorch"]["f1"] == 1.0
    assert {row["slice"] for row in report["slices"]} == {"length", "truncated", "negation", "title"}
    assert files_under(evaluated.report_folder) == REPORT_FILES
    assert "report/slices.png" in evaluated.card.read_text() and "model-index" in evaluated.card.read_text()
    lines = summary(read(evaluated)).splitlines()
    assert lines[0].split()[:2] == ["F1", "95"] and len({len(line) for line in lines[:5]}) == 1
    assert [line.split()[:2] for line in lines[1:4]] == [[name, "1.0000"] for name in ("pytorch", "fp32", "int8")]
    assert "fp32 and pytorch are right on the same reviews." in lines


def test_the_decision_is_fitted_to_the_validation_rows(evaluated: RunFolder) -> None:
    decision = Decision.from_json(json.loads(evaluated.decision.read_text()), evaluated.decision)
    args = data_arguments_of(evaluated.read_config())
    validation = load_reviews(args, evaluated.read_record().seed).splits["validation"]
    classifier = OnnxClassifier.from_run(evaluated.path)
    assert classifier.decision == decision == read(evaluated).decision
    found = classifier.decision(classifier.logits(validation.texts["content"][:]))
    assert (found.labels == validation.labels).all(), "the rows are separable, so the best threshold makes no mistake"
    assert (~found.certain).sum() == len(validation) // 10, "--abstain 0.1"


def test_the_exported_model_applies_the_decision_unless_told_not_to(evaluated: RunFolder, tmp_path: Path) -> None:
    run = copy_of(evaluated, tmp_path)
    run.decision.write_text(json.dumps({"temperature": 4.0, "threshold": 0.999, "abstain_below": None}))
    (label, probability), raw = (
        OnnxClassifier.from_run(run.path, "fp32", raw=raw)(["a lovely film"])[0] for raw in (False, True)
    )
    assert label == "negative" and raw.label == "positive" and 1 - probability < raw.probability
    run.decision.write_text("{}")
    with pytest.raises(UsageError, match="a decision has temperature, threshold, abstain_below, not nothing"):
        OnnxClassifier.from_run(run.path, "fp32")


@pytest.mark.parametrize(
    "decision",
    ["{}", pytest.param('{"temperature": 4.0, "threshold": 0.999, "abstain_below": null}', marks=pytest.mark.slow)],
)
def test_a_new_evaluation_does_not_read_the_decision_of_the_last(
    decision: str, evaluated: RunFolder, tmp_path: Path
) -> None:
    run = copy_of(evaluated, tmp_path)
    run.decision.write_text(decision)
    again, before = evaluate_run(run, abstain=0.1), read(evaluated)
    assert again.decision.temperature == pytest.approx(before.decision.temperature)
    assert again.variants["fp32"].log_loss == pytest.approx(before.variants["fp32"].log_loss)


def test_a_run_without_an_export_is_refused(tiny_run: RunFolder) -> None:
    with pytest.raises(UsageError, match="export_onnx.py"):
        evaluate_run(tiny_run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_by": "colour"}, "--slice_by colour: .* no such column; they have .*content"),
        ({"slice_by": "content"}, "--slice_by content: a text, or what the rows are sliced by already"),
        ({"target_precision": 1.5}, "--target_precision 1.5: a precision is above 0 and at most 1"),
        ({"abstain": 1.0}, "--abstain 1: the share of reviews for a person"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused_before_anything_is_written(
    options: dict[str, Any], message: str, exported_run: RunFolder
) -> None:
    before = files_under(exported_run.path)
    with pytest.raises(UsageError, match=message):
        evaluate_run(exported_run, **options)
    assert files_under(exported_run.path) == before and not exported_run.report.exists()


@pytest.mark.parametrize("sampling", ["first", "random"])
def test_a_column_of_the_users_own_stands_beside_its_own_rows(sampling: str, tmp_path: Path) -> None:
    rows = separable_reviews(100, seed=5)
    rows = rows.add_column("number", list(range(100)))
    train = separable_reviews(200, seed=6).add_column("number", [0] * 200)
    folder = write_dataset(tmp_path / "data", train=train, test=rows)
    args = data_arguments_of(
        {"dataset_name": str(folder), "max_train_samples": -1, "max_test_samples": 40, "sampling": sampling}
    )
    reviews = load_reviews(args, 1)
    numbers = reviews.test.column("number")
    assert reviews.test.texts["content"][:] == [rows["content"][number] for number in numbers]
    assert (numbers == list(range(40))) == (sampling == "first")


def test_a_column_of_the_users_own_file_is_found(tmp_path: Path) -> None:
    for name, rows in (("train", separable_reviews(50, seed=7)), ("test", separable_reviews(20, seed=8))):
        frame = rows.to_pandas()
        if name == "test":
            frame["source"] = ["web" if row % 2 else "app" for row in range(20)]
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    args = data_arguments_of({"train_file": str(tmp_path / "train.csv"), "test_file": str(tmp_path / "test.csv")})
    assert load_reviews(args, 1).test.column("source")[:3] == ["app", "web", "app"]
    with pytest.raises(UsageError, match="--slice_by shop: the rows have no such column; they have .*source"):
        load_reviews(args, 1).test.column("shop")


@pytest.mark.slow
def test_a_finished_run_is_measured_on_other_rows(exported_run: RunFolder, tmp_path: Path) -> None:
    run, rows = copy_of(exported_run, tmp_path), separable_reviews(40, seed=77)
    # Their labels by name, and the first ones in train too.
    texts = [*separable_reviews(300, seed=1)["content"][:4], *rows["content"][4:]]
    lines = [f"{('negative', 'positive')[label]},{text}" for label, text in zip(rows["label"], texts, strict=True)]
    (tmp_path / "other.csv").write_text("\n".join(["label,content", *lines]))
    report = evaluate_run(run, files={"test": [str(tmp_path / "other.csv")]})
    assert report == read(run) and report.variants["fp32"].reviews == 40 and report.variants["fp32"].f1 == 1.0
    assert report.measured is not None and report.measured.files[0]["file"] == str(tmp_path / "other.csv")
    assert 4 <= report.measured.seen < 12 and "other.csv; changed" in summary(report)
    assert "other.csv` (sha256 `" in run.card.read_text()

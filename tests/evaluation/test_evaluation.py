"""The report's figures against counts by hand, what an evaluation writes, and rows that have changed since the run."""

import csv
import json
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copy_of, files_under, run_script, separable_reviews, write_dataset
from oracles import CONFUSION, run_record

from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import load_reviews, reviews_of
from recipe.errors import UsageError
from recipe.evaluation import Report, evaluate_run
from recipe.evaluation.measurement import ModelAnswers, measure_baseline
from recipe.evaluation.report import count_tokens, make_report
from recipe.evaluation.screen import summary
from recipe.evaluation.thresholds import Asked, Wishes
from recipe.evaluation.types import Costs, Latency
from recipe.inference import Decision, OnnxClassifier
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder, RunRecord, Validation

LABELS, PREDICTED = CONFUSION.labels, CONFUSION.predicted
DECISION = Decision(1.5, 0.4, [0.7, 0.7])
REPORT_FILES = {
    *("learning_curve.png", "confusion.png", "precision_recall.png", "reliability.png", "slices.png", "trade_off.png"),
    *("answers.csv", "mistakes.csv"),
}


def report_of(
    decision: Decision = DECISION,
    source: Sequence[str] = "aaaaabbbbb",
    wordless: int = 0,
    record: RunRecord | None = None,
    **predicted: np.ndarray,
) -> Report:
    """The report of models' answers, TF-IDF's last, each with a probability of 0.9."""
    logits = {
        name: np.log(np.where(np.arange(2) == labels[:, None], 0.9, 0.1)).astype(np.float32)
        for name, labels in predicted.items()
    }
    probabilities = {name: softmax(values) for name, values in logits.items()}
    costs = dict.fromkeys(predicted, Costs(reviews_per_second=20.0, latency_ms=Latency(1.0, 2.0)))
    slices = {"source": list(source)}
    asked = [Asked("--best_f1", True, "It gains.")]
    unread = np.arange(len(LABELS)) < wordless
    tested = ModelAnswers(LABELS, probabilities, costs, "fp32", logits["fp32"], unread)
    return make_report(record or run_record(), tested, decision, asked, slices)


@pytest.fixture(scope="module")
def evaluated(exported_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = copy_of(exported_run, tmp_path_factory.mktemp("with_options"))
    evaluate_run(run, Wishes(abstain=0.1), slice_by="title")
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


def test_answers_labels_slices_and_calibration_are_those_that_are_served() -> None:
    # Under a threshold of 0.95 nothing is a 1, and the most probable label is another.
    report = report_of(Decision(1.0, 0.95), pytorch=LABELS, fp32=PREDICTED, tfidf=LABELS)
    assert report.served == "fp32" and report.decision.threshold == 0.95
    assert report.answers.confusion == [[5, 0], [5, 0]] and report.variants["fp32"].confusion == CONFUSION.matrix
    assert [(found.rows, found.predicted) for found in report.by_label] == [(5, 10), (5, 0)]
    assert [row.accuracy for row in report.slices] == [0.2, 0.8], "1 of 5 and 4 of 5 are 0"
    assert report.notes == ["The model gives 'negative' to every review."]
    assert report.calibration.before.calibration_error == pytest.approx(0.2), "0.9 sure, 0.7 right"


def test_wordless_reviews_are_noted_where_some_are_left_to_people() -> None:
    notes = report_of(wordless=3, pytorch=LABELS, fp32=LABELS, tfidf=LABELS).notes
    assert notes == ["Left to people is each review without a word that the model knows: 3 of these."]
    assert report_of(pytorch=LABELS, fp32=LABELS, tfidf=LABELS).notes == []
    assert report_of(Decision(), wordless=3, pytorch=LABELS, fp32=LABELS, tfidf=LABELS).notes == []


def test_what_training_has_warned_of_is_noted() -> None:
    record = run_record(validation=Validation("positive", 0.5, None, ["It is no better than chance."]))
    report = report_of(record=record, pytorch=LABELS, fp32=LABELS, tfidf=LABELS)
    assert report.notes == ["In training: It is no better than chance."]


def test_labels_not_served_counts_a_variant_against_the_answers() -> None:
    report = report_of(Decision(1.0, 0.95), pytorch=LABELS, fp32=PREDICTED, tfidf=0 * LABELS)
    assert [found.labels_not_served for found in report.variants.values()] == [5, 4, 0], "the number of 1s"


@pytest.mark.parametrize("decision", [DECISION, Decision()])
def test_a_report_is_read_as_it_was_written(decision: Decision) -> None:
    source = ["one label"] * 3 + ["both"] * 7
    report = report_of(decision, source, pytorch=LABELS, fp32=PREDICTED, tfidf=LABELS)
    content = json.loads(json.dumps(report.to_json()))
    assert Report.from_json(content, "report.json") == report
    assert content["variants"]["tfidf"]["bytes"] is content["slices"][1]["f1"] is content["measured"] is None
    assert content["decision"] == decision.to_json() and content["asked"][0]["wish"] == "--best_f1"
    with pytest.raises(UsageError, match="report.json is damaged: .*variants"):
        Report.from_json({name: part for name, part in content.items() if name != "variants"}, "report.json")


def test_the_baseline_reads_pairs_and_has_the_class_weights_asked_for(exported_run: RunFolder) -> None:
    reviews = reviews_of(exported_run)
    pairs = [("a lovely", "film"), ("an awful", "film")]
    plain, balanced = (measure_baseline(reviews, pairs, weights)[0] for weights in ("none", "balanced"))
    assert plain.argmax(axis=1).tolist() == [1, 0] and plain.shape == (2, 2)
    # 120 of each label train it, so that the weights are all 1.
    np.testing.assert_allclose(plain, balanced, atol=1e-6)
    few = replace(reviews.splits["train"], labels=(np.arange(len(reviews.splits["train"])) < 10).astype(np.int64))
    reviews.splits["train"] = few
    rare = [measure_baseline(reviews, ["film"], weights)[0][0, 1] for weights in ("none", "balanced")]
    assert rare[0] < 0.2 < rare[1], "balanced weights make of a rare label an even one"


def test_tokens_are_counted_before_truncation(exported_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(exported_run.path, "fp32")
    # [CLS] and [SEP] count; a pair has one more [SEP].
    texts = ["a film", "film " * 100, ("good", "a lovely film")]
    assert count_tokens(classifier, texts).tolist() == [4, 102, 7]
    (scores,) = classifier.score([["film " * 100]])
    assert scores.truncated.all(), "the classifier itself still truncates"


def test_an_evaluation_leaves_its_files_and_the_promised_keys(evaluated: RunFolder) -> None:
    report = json.loads(evaluated.report.read_text(encoding="utf-8"))
    wanted = "run versions labels served decision asked answers by_label ordinal variants intervals mcnemar calibration"
    assert set(report) == {*wanted.split(), "slices", "notes", "measured", "test_sha256", "seeds"}
    assert list(report["variants"]) == ["pytorch", "fp32", "int8", "tfidf"]
    for figures in report["variants"].values():
        wanted = "f1 accuracy precision recall matthews roc_auc average_precision log_loss calibration_error brier"
        wanted += " confusion reviews reviews_per_second latency_ms labels_changed labels_not_served bytes"
        assert set(figures) == set(wanted.split())
        assert figures["reviews"] == 60 and np.sum(figures["confusion"]) == 60
    assert report["variants"]["fp32"]["f1"] == report["variants"]["pytorch"]["f1"] == 1.0
    assert {row["slice"] for row in report["slices"]} == {"title"}, "the others have one value"
    assert "tokens (up to 32), truncated (whole), negation (none)" in report["notes"][0]
    assert files_under(evaluated.report_folder) == REPORT_FILES
    assert "report/slices.png" in evaluated.card.read_text() and "model-index" in evaluated.card.read_text()
    assert "fp32 and pytorch are right on the same reviews." in summary(read(evaluated)).splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("wishes", [Wishes(abstain=0.3), Wishes(target_recall=0.8)])
def test_the_card_holds_what_predict_answers(wishes: Wishes, exported_run: RunFolder, tmp_path: Path) -> None:
    run, rows = copy_of(exported_run, tmp_path), separable_reviews(90, seed=78)
    # Every third label is wrong, so that no count is 0.
    labels = [("negative", "positive")[label ^ (row % 3 == 0)] for row, label in enumerate(rows["label"])]
    lines = [f"{label},{text}" for label, text in zip(labels, rows["content"], strict=True)]
    (tmp_path / "other.csv").write_text("\n".join(["label,content", *lines]))
    report = evaluate_run(run, wishes, files={"test": [str(tmp_path / "other.csv")]})
    flags = ("--run", run.path, "--input", "other.csv", "--output", "scored.jsonl", "--text_columns", "content")
    assert run_script("predict", *flags, cwd=tmp_path).returncode == 0
    said = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    counts = Counter((row["label"], row["predicted_label"]) for row in said)
    first, second = ([counts[true, answer] for answer in report.labels] for true in report.labels)
    assert min(*first, *second) > 0 and sum(first + second) == 90
    table = ["| true label, answered as → | negative | positive |", "| --- | --: | --: |"]
    table += [f"| negative | {first[0]} | {first[1]} |", f"| positive | {second[0]} | {second[1]} |"]
    assert "\n".join(table) in run.card.read_text()
    wrong = {(row["content"], row["predicted_label"]) for row in said if row["label"] != row["predicted_label"]}
    with open(run.report_folder / "mistakes.csv", newline="", encoding="utf-8") as file:
        assert {(row["content"], row["predicted"]) for row in csv.DictReader(file)} == wrong
    if wishes.abstain:
        doubtful = sum(row["predicted_doubtful"] for row in said)
        assert f"; {doubtful} of 90 reviews are left to people" in run.card.read_text() and doubtful > 0
    else:
        assert report.asked[0].adopted and report.variants[report.served].labels_not_served > 0


def test_the_decision_is_fitted_to_the_validation_rows(evaluated: RunFolder) -> None:
    decision = Decision.from_json(json.loads(evaluated.decision.read_text()), evaluated.decision)
    args = data_arguments_of(evaluated.read_config())
    validation = load_reviews(args, evaluated.read_record().seed).splits["validation"]
    classifier = OnnxClassifier.from_run(evaluated.path)
    assert classifier.decision == decision == read(evaluated).decision
    found = classifier.decision(classifier.logits(validation.texts["content"][:]))
    assert (found.labels == validation.labels).all(), "the rows are separable"
    assert (~found.certain).sum() == len(validation) // 10, "--abstain 0.1"


def test_the_exported_model_applies_the_decision_unless_told_not_to(evaluated: RunFolder, tmp_path: Path) -> None:
    run = copy_of(evaluated, tmp_path)
    run.decision.write_text(json.dumps({"temperature": 4.0, "threshold": 0.999, "certain_from": None}))
    decided, raw = (OnnxClassifier.from_run(run.path, "fp32", raw=raw)(["a lovely film"])[0] for raw in (False, True))
    assert decided.label == "negative" and raw.label == "positive" and 1 - decided.probability < raw.probability
    run.decision.write_text("{}")
    with pytest.raises(UsageError, match="a decision has temperature, threshold, certain_from, not nothing"):
        OnnxClassifier.from_run(run.path, "fp32")


@pytest.mark.parametrize(
    "decision",
    ["{}", pytest.param('{"temperature": 4.0, "threshold": 0.999, "certain_from": null}', marks=pytest.mark.slow)],
)
def test_a_new_evaluation_does_not_read_the_decision_of_the_last(
    decision: str, evaluated: RunFolder, tmp_path: Path
) -> None:
    run = copy_of(evaluated, tmp_path)
    run.decision.write_text(decision)
    again, before = evaluate_run(run, Wishes(abstain=0.1)), read(evaluated)
    assert again.decision.temperature == pytest.approx(before.decision.temperature)
    assert again.variants["fp32"].log_loss == pytest.approx(before.variants["fp32"].log_loss)


def test_what_the_pictures_leave_out_is_in_report_and_card(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, note = copy_of(exported_run, tmp_path), "The picture 'F1 by slice' could not be drawn: no ink."
    monkeypatch.setattr("recipe.evaluation.report.draw_report", lambda *_: ({}, [note]))
    report = evaluate_run(run)
    assert report == read(run) and report.notes[-1] == note and f"\n- {note}\n" in run.card.read_text()
    assert "## Pictures" not in run.card.read_text() and f"Note: {note}" in summary(report)


def test_an_interrupted_evaluation_leaves_every_byte_of_the_last(
    evaluated: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        """Press Ctrl-C once everything but the decision is written."""
        raise KeyboardInterrupt

    run = copy_of(evaluated, tmp_path)
    before = {name: (run.path / name).read_bytes() for name in files_under(run.path)}
    monkeypatch.setattr(Decision, "to_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run)
    assert before == {name: (run.path / name).read_bytes() for name in files_under(run.path)}
    assert not list(run.path.glob(".*"))


def test_an_evaluation_takes_the_last_ones_place_as_a_whole_and_its_decision_last(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, replace_file = copy_of(exported_run, tmp_path), Path.replace
    killed, old = run.path / ".report-of_a_killed_process", run.report_folder / "old.png"
    for left in (killed / "report" / "old.png", old, run.card, run.report, run.decision):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"old")
    order: list[str] = []

    def replace_and_interrupt(path: Path, target: Path) -> Path:
        """Note what takes its place, and press Ctrl-C at each."""
        if target.parent in (run.path, run.onnx):
            order.append(target.name)
            signal.raise_signal(signal.SIGINT)
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", replace_and_interrupt)
    # Where pytest was started in the background, Ctrl-C is ignored.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(run)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert order == ["report", "README.md", "report.json", "decision.json"]
    assert read(run).decision.to_json() == json.loads(run.decision.read_text())
    assert files_under(run.report_folder) >= {"mistakes.csv", "trade_off.png"} and not old.exists()
    assert run.card.read_bytes() != b"old" and not list(run.path.glob(".*"))


def test_a_killed_evaluations_files_are_a_runs_own(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / ".report-killed" / "report").mkdir(parents=True)
    run.clear()
    assert not list(tmp_path.iterdir())


def test_a_run_without_an_export_is_refused(tiny_run: RunFolder) -> None:
    with pytest.raises(UsageError, match="export_onnx.py"):
        evaluate_run(tiny_run)


def test_a_wish_that_makes_no_sense_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="--abstain 1"):
        evaluate_run(RunFolder("no/such/run"), Wishes(abstain=1.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_by": "colour"}, "--slice_by colour: .* no such column; they have .*content"),
        ({"slice_by": "content"}, "--slice_by content: a text, or what the rows are sliced by already"),
        ({"wishes": Wishes(target_precision=1.5)}, "--target_precision 1.5"),
        ({"wishes": Wishes(abstain=1.0)}, "--abstain 1"),
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
    run.write_config(run.read_config() | {"tuned_trials": 12})
    report = evaluate_run(run, files={"test": [str(tmp_path / "other.csv")]})
    assert report == read(run) and report.variants["fp32"].reviews == 40 and report.variants["fp32"].f1 == 1.0
    assert report.measured is not None and report.measured.files[0]["file"] == str(tmp_path / "other.csv")
    assert 4 <= report.measured.seen < 12 and "40 reviews of " in summary(report)
    note = (
        f"{report.measured.seen} of these reviews also stand in the train or validation rows, which flatters the model."
    )
    tuned = "The settings were chosen among 12 trials on the validation rows, whose F1 is flattered by it."
    for said in (note, tuned):
        assert f"Note: {said}" in summary(report) and f"\n- {said}\n" in run.card.read_text()
    assert "test reviews of `other.csv`:" in run.card.read_text() and str(tmp_path) not in run.card.read_text()

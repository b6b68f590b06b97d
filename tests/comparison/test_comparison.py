"""Runs side by side: figures counted by hand, what cannot be compared, and what the screen and the page say."""

import csv
import json
import re
import shutil
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import copy_of, files_under, run_script
from oracles import run_record

from recipe.comparison.comparison import Comparison, compare, holm, verdict
from recipe.comparison.page import draw_runs, page, summary, write_comparison
from recipe.comparison.runs import read_runs, require_output
from recipe.errors import UsageError
from recipe.evaluation.report import answers_csv
from recipe.inference import OnnxClassifier
from recipe.inference.decision import Answers
from recipe.metrics.significance import mcnemar
from recipe.run_folder import RunFolder

NAMES = ["bad", "good"]
# Twenty rows, half of each label, and answers that are all right.
LABELS = [0, 1] * 10


def wrong(*rows: int, labels: list[int] = LABELS) -> list[int]:
    """Answers that are right but for some rows."""
    return [label ^ (row in rows) for row, label in enumerate(labels)]


def write_run(path: Path, answers: list[int], labels: list[int] = LABELS, **changes: Any) -> Path:
    """Write what a comparison reads of an evaluated run.

    `settings`, `report` and `record` change what the three files say.
    """
    path.mkdir(parents=True)
    record = run_record(rows_sha256={"train": "0" * 64}, **changes.get("record", {}))
    run = RunFolder(path)
    run.write_record(record)
    settings = {"max_length": 128, "text_columns": ["text"], "output_dir": str(path)}
    run.write_config(settings | changes.get("settings", {}))
    (path / "model.safetensors").touch()
    names = changes.get("report", {}).get("labels", NAMES)
    pairs = list(zip(labels, answers, strict=True))
    report: dict[str, Any] = {
        "labels": names,
        "served": "int8",
        "decision": {"temperature": 1.0, "threshold": None, "certain_from": None},
        "answers": {"confusion": [[pairs.count((true, said)) for said in (0, 1)] for true in (0, 1)]},
        "variants": {"int8": {"reviews_per_second": 1234.5, "bytes": 28_700_000}, "fp32": {"reviews_per_second": 1.0}},
        "measured": None,
        "test_sha256": "a" * 64,
    }
    run.report.write_text(json.dumps(report | changes.get("report", {})), encoding="utf-8")
    run.report_folder.mkdir()
    lines = [f"{row},{names[true]},{names[said]},0.9,false" for row, (true, said) in enumerate(pairs, 1)]
    run.answers.write_text("\n".join(["row,label,predicted,probability,doubtful", *lines, ""]), encoding="utf-8")
    return path


def compared(*paths: Path) -> Comparison:
    """The comparison of some runs."""
    return compare(*read_runs(paths))


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """A run that errs on one row, one that is right on the same rows, and one that errs on nine others."""
    settings = {"max_length": 256, "train_file": "elsewhere/mine.csv"}
    return [
        write_run(tmp_path / "far", wrong(*range(1, 10)), settings=settings),
        write_run(tmp_path / "near", wrong(0), settings={"train_file": "somewhere/other.csv"}),
        write_run(tmp_path / "same", wrong(0), settings={"train_file": "somewhere/other.csv"}),
    ]


def test_two_runs_are_tested_once_and_by_hand(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", wrong(0))
    # The rows 1 to 8, of which four are positive, are right in the first run alone, and row 0 in the second.
    found = compared(write_run(tmp_path / "second", wrong(*range(1, 9))), first)
    assert [run.run for run in found.runs] == ["first", "second"], "the best comes first, however they are named"
    # Ten of ten found and one more; six of ten found and four more.
    assert [run.f1 for run in found.runs] == pytest.approx([20 / 21, 12 / 20])
    assert [run.accuracy for run in found.runs] == [19 / 20, 12 / 20]
    (test,) = found.tests
    assert (test.first, test.second, test.only_first_right, test.only_second_right) == ("first", "second", 8, 1)
    # A fair coin that falls eight or nine times of nine to one side, or the other.
    assert test.p_value == test.corrected == pytest.approx(2 * (9 + 1) / 2**9)
    assert verdict(test) == "worse by more than noise"
    (difference,) = found.differences
    assert difference.f1 == pytest.approx(20 / 21 - 12 / 20)
    assert difference.f1_interval[0] < difference.f1 < difference.f1_interval[1]
    assert "1 comparison, an exact McNemar test." in summary(found)


def test_holm_corrects_as_in_a_table_made_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


def test_each_pair_counts_because_any_run_could_have_been_the_best(three: list[Path]) -> None:
    found = compared(*three)
    assert [(test.first, test.second) for test in found.tests] == [("near", "same"), ("near", "far"), ("same", "far")]
    # Nine rows against one: p = 0.0215, which would pass for one comparison and for two, but not for three.
    p_value = 2 * (10 + 1) / 2**10
    assert [test.p_value for test in found.tests] == pytest.approx([1.0, p_value, p_value])
    assert [test.corrected for test in found.tests] == pytest.approx([1.0, 3 * p_value, 3 * p_value])
    assert 2 * p_value < 0.05 < 3 * p_value
    assert [verdict(test) for test in found.tests[:2]] == ["right on the same reviews", "no more than noise"]
    assert "\n3 comparisons, exact McNemar tests of each pair of the 3 runs" in summary(found)


def test_the_best_by_f1_may_be_right_less_often(tmp_path: Path) -> None:
    labels = [1] * 100 + [0] * 900
    # Hits all positive ones, with 80 false alarms; hits half of them, without any.
    eager = write_run(tmp_path / "eager", wrong(*range(100, 180), labels=labels), labels)
    shy = write_run(tmp_path / "shy", wrong(*range(50), labels=labels), labels)
    found = compared(shy, eager)
    assert [(run.run, run.accuracy) for run in found.runs] == [("eager", 0.92), ("shy", 0.95)]
    assert verdict(found.tests[0]) == "right more often, by more than noise"


def test_runs_on_other_rows_are_refused_in_groups(tmp_path: Path) -> None:
    other = {"report": {"test_sha256": "b" * 64}}
    runs = [write_run(tmp_path / "a", LABELS), write_run(tmp_path / "b", wrong(0))]
    runs.append(write_run(tmp_path / "c", [0, 1], [0, 1], **other))
    with pytest.raises(UsageError, match=r"not measured on the same test rows, a, b on 20; c on 2: name runs of one"):
        read_runs(runs)
    runs[2] = write_run(tmp_path / "d", LABELS, **other, settings={"text_columns": ["title", "text"]})
    with pytest.raises(
        UsageError, match=r"\(a reads the columns text, d reads title text: rows count as the same only"
    ):
        read_runs(runs)


def test_runs_with_other_labels_or_another_order_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", LABELS), write_run(tmp_path / "b", LABELS, report={"labels": ["good", "bad"]})]
    with pytest.raises(UsageError, match="a has the labels bad, good, and b has good, bad: only runs with the same"):
        read_runs(runs)


def test_what_is_no_evaluated_run_is_left_out_with_a_note(three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "scored.csv").touch()
    (RunFolder(write_run(tmp_path / "unevaluated", LABELS)).report).unlink()
    (RunFolder(write_run(tmp_path / "earlier", LABELS)).answers).unlink()
    write_run(tmp_path / "older", LABELS, report={"test_sha256": None})
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "comparison.json").touch()
    found = compared(*sorted(tmp_path.iterdir()), tmp_path / "near")
    assert {run.run for run in found.runs} == {path.name for path in three}
    reasons = [note.removeprefix("Left out: ") for note in found.notes if note.startswith("Left out: ")]
    assert len(reasons) == 5 and not any("comparison holds" in note for note in reasons)
    command = f"python scripts/evaluate.py --run {tmp_path}/unevaluated"
    assert f"{tmp_path}/unevaluated was not evaluated: run {command}" in reasons
    assert sum("by an earlier version of this recipe: evaluate it again" in note for note in reasons) == 2
    assert all(f"Note: {note}" in summary(found) for note in found.notes)


def test_one_run_is_no_comparison_and_the_reasons_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", LABELS)
    with pytest.raises(UsageError, match="needs two evaluated runs, and only a is one$"):
        read_runs([run, tmp_path / "a" / ".." / "a"])
    gone = [tmp_path / f"gone{number}" for number in range(5)]
    with pytest.raises(
        UsageError, match=r"only a is one: no run at .*gone0.*; no run at .*; no run at .*; and 2 more$"
    ):
        read_runs([run, *gone])
    with pytest.raises(UsageError, match="and none is there: no run at"):
        read_runs(gone[:2])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,bad,bad", "1,bad,worse", "is damaged"),
        ("1,bad,bad,0.9,false\n2,good,good,0.9,false\n", "2,good,good,0.9,false\n1,bad,bad,0.9,false\n", "is damaged"),
        ("predicted", "answer", "is damaged"),
        (",false", ",perhaps", "is damaged"),
        ("1,bad,bad", "1,bad,good", "does not go with"),
        ("20,good,good,0.9,false\n", "", "does not go with"),
    ],
)
def test_answers_that_were_changed_are_noticed(old: str, new: str, message: str, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", LABELS), write_run(tmp_path / "b", LABELS)]
    answers = RunFolder(runs[1]).answers
    text = answers.read_text()
    assert old in text
    answers.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=f"b/report/answers.csv {message}"):
        read_runs(runs)


def test_settings_are_shown_where_they_differ_and_paths_by_their_names(three: list[Path], tmp_path: Path) -> None:
    found = compared(*three)
    assert found.settings == {
        "max_length": ["128", "128", "256"],
        "train_file": ["other.csv", "other.csv", "mine.csv"],
    }
    twin = write_run(
        tmp_path / "twin", LABELS, settings={"train_file": "elsewhere/other.csv", "text_columns": ["a", "b"]}
    )
    found = compared(three[1], twin)
    assert found.settings == {
        "text_columns": ["a b", "text"],
        "train_file": ["elsewhere/other.csv", "somewhere/other.csv"],
    }, "by their names alone the two files would look like one"
    decided = {"decision": {"temperature": 1.0, "threshold": 0.25, "certain_from": None}}
    rows = {"rows": {"train": 500, "validation": 100, "test": 20}}
    found = compared(three[1], write_run(tmp_path / "decided", LABELS, report=decided, record=rows))
    assert found.settings["decision"] == ["'good' from 0.2500 on", "the most probable label"]
    assert found.settings["train rows"] == ["500 (00000000)", "4,000 (00000000)"]


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / folder / "mine", LABELS) for folder in ("a", "b")]
    assert [run.name for run in read_runs(paths)[0]] == list(map(str, paths))


def test_rows_that_training_has_seen_are_said(three: list[Path], tmp_path: Path) -> None:
    seen = {"measured": {"files": [], "seen": 7}}
    found = compared(*three, write_run(tmp_path / "knows", LABELS, report=seen))
    assert "knows has seen 7 of these rows in training, which flatters it." in found.notes


def test_screen_page_and_file_say_the_same(three: list[Path], tmp_path: Path) -> None:
    found, folder = compared(*three), tmp_path / "comparison"
    write_comparison(found, folder)
    assert files_under(folder) == {"README.md", "comparison.json", "f1.png"}
    assert Comparison.from_json(json.loads((folder / "comparison.json").read_text()), folder) == found
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == page(found) and "![F1 of each run with its 95 % interval](f1.png)" in text
    for line in summary(found).splitlines():
        words = re.sub(r"^Note: |:$", "", line).split()
        assert re.search(r"[ |]+".join(map(re.escape, words)), text), line
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert [len({row.count("|") for row in table.splitlines()}) for table in tables] == [1, 1, 1]
    assert "| near | int8 | 0.9524 | " in text and " | 0.9500 | 1,234.5 | 28.7 | 3 |" in text


def test_a_difference_is_the_runs_minus_the_bests(three: list[Path]) -> None:
    (line,) = [line for line in summary(compared(*three)).splitlines() if line.endswith("no more than noise")]
    name, gain, low, _, high, *_ = line.split()
    # Five of ten found, and four false alarms.
    assert (name, float(gain)) == ("far", round(10 / 19 - 20 / 21, 4))
    assert float(low) < float(gain) < float(high)


def test_the_picture_shows_each_run_with_its_interval(three: list[Path]) -> None:
    found = compared(*three)
    axes, *_ = draw_runs(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [run.run for run in found.runs]
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(points.get_xdata()) == [run.f1 for run in found.runs]
    spans = axes.collections[0].get_segments()
    assert [[start[0], end[0]] for start, end in spans] == [run.f1_interval for run in found.runs]
    places = list(points.get_ydata())
    assert places == [start[1] for start, _ in spans] == list(axes.get_yticks()) == sorted(places, reverse=True)


def test_only_an_earlier_comparison_is_replaced(three: list[Path], tmp_path: Path) -> None:
    require_output(tmp_path / "new")
    write_comparison(compared(*three), tmp_path / "new")
    require_output(tmp_path / "new")
    with pytest.raises(UsageError, match="holds other files than a comparison"):
        require_output(three[0])
    report = RunFolder(three[0]).report
    for file in (report, report / "new"):
        with pytest.raises(UsageError, match=f"^--output {file} cannot be made a folder: "):
            require_output(file)


def test_answers_are_written_row_by_row_with_doubt(tmp_path: Path) -> None:
    names, labels = ['a "b"', "c,\nd"], np.array([0, 1, 1])
    answers = Answers(np.array([0, 1, 0]), np.array([0.9, 0.75, 0.5]), np.array([True, True, False]))
    (tmp_path / "answers.csv").write_bytes(answers_csv(labels, answers, names))
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["row", "label", "predicted", "probability", "doubtful"]
    assert rows == [
        ["1", names[0], names[0], "0.9", "false"],
        ["2", names[1], names[1], "0.75", "false"],
        ["3", names[1], names[0], "0.5", "true"],
    ]


def test_what_cannot_be_compared_is_one_line_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", LABELS)
    (tmp_path / "runs" / "b").mkdir()
    before = files_under(tmp_path)
    words = ["runs/a", "runs/b", "--output", "compared"]
    result = run_script("compare", *words, cwd=tmp_path, launcher=(sys.executable, "-X", "importtime"))
    lines = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert (result.returncode, result.stdout) == (2, "")
    assert lines == [
        "compare.py: error: a comparison needs two evaluated runs, and only a is one: runs/b holds no finished run: "
        "run.json is missing from it. Train it first"
    ]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "recipe" in imported and not imported & {"torch", "transformers", "sklearn", "scipy", "datasets"}
    assert files_under(tmp_path) == before and not (tmp_path / "compared").exists()


@pytest.mark.slow
def test_the_best_of_ten_equal_runs_is_called_better_in_less_than_one_of_twenty_draws() -> None:
    generator, runs, rows, draws = np.random.default_rng(0), 10, 1000, 200
    found = {"each pair": 0, "those with the best": 0}
    for _ in range(draws):
        # Hard rows are hard for all runs.
        right = generator.random((runs, rows)) < generator.beta(4, 0.6, rows)
        answers = dict(zip("abcdefghij", right.astype(np.int64), strict=True))
        order = sorted(answers, key=lambda name: -answers[name].sum())
        tests = [mcnemar(np.ones(rows), answers, *pair).p_value for pair in combinations(order, 2)]
        found["each pair"] += min(holm(tests)[: runs - 1]) < 0.05
        found["those with the best"] += min(holm(tests[: runs - 1])) < 0.05
    assert found["each pair"] / draws <= 0.05 < 0.1 <= found["those with the best"] / draws, found


@pytest.mark.slow
def test_real_runs_are_compared_by_what_they_serve(evaluated_run: RunFolder, tmp_path: Path) -> None:
    texts = ["a lovely film", "an awful plot"]
    with evaluated_run.answers.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and all(row["label"] == row["predicted"] for row in rows), "the tiny run is right on all"
    assert [answer.label for answer in OnnxClassifier.from_run(evaluated_run.path)(texts)] == ["positive", "negative"]
    good = tmp_path / "runs" / "good"
    shutil.copytree(evaluated_run.path, good)
    bad = copy_of(evaluated_run, tmp_path / "runs").path.rename(tmp_path / "runs" / "bad")
    settings = yaml.safe_load((bad / "config.yaml").read_text())
    (bad / "config.yaml").write_text(yaml.safe_dump(settings | {"learning_rate": 1.0}))
    # Ten positive rows are called negative.
    chosen = [row["row"] for row in rows if row["label"] == "positive"][:10]
    for row in rows:
        row["predicted"] = "negative" if row["row"] in chosen else row["predicted"]
    with RunFolder(bad).answers.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    report = json.loads((bad / "report.json").read_text())
    report["answers"]["confusion"] = [[30, 0], [10, 20]]
    (bad / "report.json").write_text(json.dumps(report))
    result = run_script("compare", "runs/bad", "runs/good", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "2 runs on the same 60 test rows, by the answers that they serve:"
    assert lines[2].split()[:3] == ["good", report["served"], "1.0000"] and lines[3].split()[2] == "0.8000"
    verdict_line = lines[6].split()
    assert verdict_line[0] == "bad" and verdict_line[5:] == ["10", "0", "0.002", *"worse by more than noise".split()]
    assert "learning_rate  0.003  1.0" in [line.strip() for line in lines]
    assert files_under(tmp_path / "runs" / "comparison") == {"README.md", "comparison.json", "f1.png"}
    again = run_script("compare", *sorted((tmp_path / "runs").iterdir()), cwd=tmp_path)
    assert again.stdout == result.stdout, "as with runs/*, in which the first comparison stands by now"

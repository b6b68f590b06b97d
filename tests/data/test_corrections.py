"""Corrections change the labels that they name, nothing else, and are refused where they make no sense."""

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copy_of, separable_reviews
from datasets import ClassLabel, Dataset

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.arguments.parser import Arguments
from recipe.data.reviews import Reviews, load_reviews, reviews_of
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.files.spreadsheet import sheet
from recipe.run_folder import RunFolder
from recipe.training.run import inspect_only, train

# A third of the reviews repeats an earlier one in other case and spacing.
TEXTS = [f"film number {row}" for row in range(40)] + [f"Film  NUMBER {row}" for row in range(20)]
# One that a spreadsheet would take for a formula.
TEXTS[6], TEXTS[46] = "- film number 6", "-  FILM number 6"
LABELS = [row % 2 for row in range(60)]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and test reviews, in the working folder."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{label},{text}\n" for label, text in zip(LABELS, TEXTS, strict=True)]
    Path("train.csv").write_text("".join(["label,content\n", *lines]))
    Path("test.csv").write_text("label,content\n0,test film one\n1,test film two\n")


def load(*corrections: str) -> Reviews:
    """The reviews, with corrections or without."""
    args = DataArguments(train_file=["train.csv"], test_file=["test.csv"], max_train_samples=-1)
    args.corrections = list(corrections) or None
    return load_reviews(args, seed=3)


def labels_of(reviews: Reviews) -> dict[str, int]:
    """Each text's label, in train and validation."""
    splits = [reviews.splits[name] for name in ("train", "validation")]
    return {text: label for some in splits for text, label in zip(some.texts["content"], some.labels, strict=True)}


def test_a_correction_changes_every_repetition_of_its_text_and_no_other_row() -> None:
    Path("found.csv").write_text(
        "content,correct_label\nfilm number 4,positive\nfilm number 7,\nfilm number 30,NEGATIVE\n"
    )
    before, after = labels_of(load()), labels_of(reviews := load("found.csv"))
    changed = {text: label for text, label in after.items() if label != before[text]}
    assert changed == {"film number 4": 1, "Film  NUMBER 4": 1}, "30 was negative before"
    assert reviews.origin["corrections"] == {
        "files": [{"file": "found.csv", "sha256": file_sha256(Path("found.csv"))}],
        "rows": {
            name: sum(text in split.texts["content"][:] for text in changed)
            for name, split in reviews.splits.items()
            if name != "test"
        },
    }


@pytest.mark.parametrize("kind", [int, float, bool, lambda label: Decimal(label).quantize(Decimal("0.01"))])
def test_a_typed_column_corrects_to_label_0_and_leaves_what_is_missing(kind: Callable[[int], Any]) -> None:
    rows = {"content": [f"film number {row}" for row in (5, 6, 7)], "correct_label": [kind(0), None, kind(0)]}
    if kind is float:
        rows["correct_label"][1] = math.nan
    if kind is bool:
        lines = [f"{bool(label)},{text}\n" for label, text in zip(LABELS, TEXTS, strict=True)]
        Path("train.csv").write_text("".join(["label,content\n", *lines]))
        Path("test.csv").write_text("label,content\nFalse,test film one\nTrue,test film two\n")
    Dataset.from_dict(rows).to_parquet("found.parquet")
    before, after = labels_of(load()), labels_of(load("found.parquet"))
    changed = {text.casefold().replace("  ", " "): label for text, label in after.items() if label != before[text]}
    assert changed == {"film number 5": 0, "film number 7": 0}


@pytest.mark.parametrize(
    ("spelled", "correct", "name"),
    [
        (("0", "1"), "1", "positive"),
        (("0", "1"), "1.0", "positive"),
        (("1", "2"), "2", "positive"),
        (("1", "2"), "2.0", "positive"),
        (("negative", "positive"), "Positive", "positive"),
        (("-1", "1"), "-1", "-1"),
        (("-1", "1"), "'-1", "-1"),
        (("-1", "1"), "'-1.0", "-1"),
        (("true", "false"), "TRUE", "true"),
    ],
)
def test_a_correct_label_is_a_name_or_spelled_as_the_train_file_spells_it(
    spelled: tuple[str, str], correct: str, name: str
) -> None:
    lines = [f"{spelled[label]},{text}\n" for label, text in zip(LABELS, TEXTS, strict=True)]
    Path("train.csv").write_text("".join(["label,content\n", *lines]))
    Path("test.csv").write_text(f"label,content\n{spelled[0]},test film one\n{spelled[1]},test film two\n")
    Path("found.csv").write_text(f"content,correct_label\nfilm number 4,{correct}\nfilm number 5,{correct}\n")
    names, found = load().label_names, labels_of(load("found.csv"))
    assert [names[found[f"film number {row}"]] for row in (4, 5)] == [name] * 2
    Path("found.csv").write_text("content,correct_label\nfilm number 4,3\n")
    with pytest.raises(UsageError, match="row 1 of found.csv has the correct_label '3', which no train row has: "):
        load("found.csv")


@pytest.mark.parametrize(
    ("train", "correct"),
    [
        (LABELS, "1"),
        ([label + 0.5 for label in LABELS], Decimal("1.50")),
        ([Decimal(label) + Decimal("0.50") for label in LABELS], "1.5"),
    ],
    ids=["ClassLabel", "floats", "decimals"],
)
def test_a_typed_label_is_corrected_by_its_number(train: list[Any], correct: Any) -> None:
    rows = Dataset.from_dict({"content": TEXTS, "label": train})
    if train is LABELS:
        rows = rows.cast_column("label", ClassLabel(names=["bad", "good"]))
    rows.to_parquet("train.parquet")
    Dataset.from_dict({"content": ["film number 4"], "correct_label": [correct]}).to_parquet("found.parquet")
    reviews = load_reviews(DataArguments(train_file=["train.parquet"], corrections=["found.parquet"]), seed=3)
    assert labels_of(reviews)["film number 4"] == 1


def test_validation_has_the_same_rows_with_corrections_as_without() -> None:
    # A quarter of the labels, all to one side, which moves any split by label.
    texts = TEXTS[0:20:2]
    Path("found.csv").write_text(sheet({"content": texts, "correct_label": ["positive"] * 10}))
    before, after = load().splits, load("found.csv").splits
    for name in ("train", "validation", "test"):
        assert np.array_equal(before[name].keys.exact, after[name].keys.exact)
    assert np.array_equal(before["test"].labels, after["test"].labels)
    assert sum((before[name].labels != after[name].labels).sum() for name in before) == 20


def test_the_second_round_of_corrections_goes_beside_the_first() -> None:
    Path("first.csv").write_text("content,correct_label\nfilm number 4,positive\n")
    Path("second.csv").write_text(sheet({"content": ["- film number 6"], "correct_label": ["positive"]}))
    found = labels_of(load("first.csv", "second.csv"))
    assert (found["film number 4"], found["- film number 6"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("content,correct_label\nfilm number 4,\n", "found.csv corrects nothing: fill in its column correct_label"),
        ("content,label\nfilm number 4,positive\n", "found.csv has no column 'correct_label'; it has content, label"),
        ("text,correct_label\nfilm number 4,positive\n", "found.csv has no column 'content'; it has text"),
        ("content,correct_label\nfilm number 4,good\n", "has the correct_label 'good', which no train row has: "),
        (
            "content,correct_label\nfilm number 4,positive\na,positive\nb,negative\n",
            "2 of the 3 corrected texts are in no train or validation row; the first is row 2 of found.csv",
        ),
        (
            "content,correct_label\nfilm number 4,positive\nFILM number 4,negative\n",
            "found.csv has two different labels in correct_label for 1 of its texts",
        ),
        (
            "content,correct_label\nfilm number 4,positive\nTest film  two,negative\n",
            "row 2 of found.csv corrects a text that stands in test: test labels are never corrected",
        ),
        (sheet({"content": TEXTS[:40:2], "correct_label": ["positive"] * 20}), "leaves no train row with the label"),
    ],
)  # fmt: skip
def test_corrections_that_make_no_sense_are_refused(content: str, message: str) -> None:
    Path("found.csv").write_text(content)
    with pytest.raises(UsageError, match=message) as refused:
        load("found.csv")
    assert "\n" not in str(refused.value) and "--" not in str(refused.value), "no flag of the train file"


def test_a_run_keeps_the_place_of_its_corrections_and_says_how_many_there_are(
    tiny_arguments: Callable[..., Arguments], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = separable_reviews(300, seed=1)
    other = ["positive", "negative"][rows["label"][0]]
    Path("found.csv").write_text(sheet({"content": rows["content"][:1], "correct_label": [other]}))
    arguments = tiny_arguments("--corrections", "found.csv")
    assert arguments.resolved["corrections"] == str(tmp_path / "found.csv")
    inspect_only(arguments)
    assert re.search("^corrected  labels of (1 train, 0|0 train, 1) validation rows$", capsys.readouterr().out, re.M)
    arguments.training.overwrite_output_dir = True
    kept = train(arguments).read_record().dataset["corrections"]
    assert sum(kept["rows"].values()) == 1
    assert [file["sha256"] for file in kept["files"]] == [file_sha256(Path("found.csv"))]


def test_a_finished_run_gets_its_corrections_again_or_says_why_not(tiny_run: RunFolder, tmp_path: Path) -> None:
    run, train = copy_of(tiny_run, tmp_path), separable_reviews(300, seed=1)
    Path("found.csv").write_text(sheet({"content": train["content"][:1], "correct_label": ["positive"]}))
    run.write_config(run.read_config() | {"corrections": str(tmp_path / "found.csv")})
    record = run.read_record()
    corrected = load_reviews(data_arguments_of(run.read_config()), record.seed)
    hashes = {name: split.sha256 for name, split in corrected.splits.items()}
    assert hashes != record.rows_sha256
    run.write_record(replace(record, rows_sha256=hashes, dataset=corrected.origin))
    assert {name: split.sha256 for name, split in reviews_of(run).splits.items()} == hashes
    shutil.move("found.csv", "moved.csv")
    with pytest.raises(UsageError, match="the run's corrections are no longer at .*found.csv: give --corrections with"):
        reviews_of(run)
    moved = {"corrections": ["moved.csv"]}
    assert {name: split.sha256 for name, split in reviews_of(run, moved).splits.items()} == hashes
    with Path("moved.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match="moved.csv has changed since the run: restore it, or train again"):
        reviews_of(run, moved)
    with pytest.raises(UsageError, match="--corrections moved.csv: the run was trained without corrections"):
        reviews_of(tiny_run, moved)

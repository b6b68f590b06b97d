"""Reviews to label next: the least certain ones, unlike each other, in a file that a person fills in."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import NEGATIVE, NEUTRAL, POSITIVE, copy_of
from datasets import ClassLabel, Dataset

from recipe.advice.answer import in_words
from recipe.advice.to_label import k_center, least_certain, spelled_labels, to_label
from recipe.arguments.data import DataArguments
from recipe.data import reviews_of
from recipe.data.duplicates import text_keys
from recipe.data.labels import NO_LABEL
from recipe.data.own_files import read_files
from recipe.data.reviews import Split
from recipe.data.sources import read_split
from recipe.files.spreadsheet import cell
from recipe.inference.pytorch import TorchClassifier
from recipe.run_folder import RunFolder


def split_of(texts: list[str], labels: list[int] | None = None, **columns: list) -> Split:
    """Rows of one text column."""
    rows = Dataset.from_dict({"content": texts} | columns)
    numbers = np.array(labels or [NO_LABEL] * len(texts), dtype=np.int64)
    return Split(rows, ["content"], numbers, text_keys(rows.select_columns("content")))


def test_the_two_most_probable_labels_of_the_least_certain_are_closest() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.34, 0.33, 0.33], [0.5, 0.5, 0.0], [0.5, 0.2, 0.3]])
    assert least_certain(probabilities, 3).tolist() == [2, 1, 3]


def test_equal_vectors_are_chosen_once_and_the_far_ones_before_the_near() -> None:
    angles = np.radians([0, 0, 1, 90, 90, 40, 0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    vectors[-1] *= 5
    assert k_center(vectors, 2).tolist() == [0, 3]
    assert k_center(vectors, 3).tolist() == [0, 3, 5]
    assert k_center(vectors, 7).tolist() == [0, 2, 3, 5]


def test_labels_are_spelled_as_the_train_file_spells_them() -> None:
    train = split_of(["a", "b", "c"], [1, 0, 1], label=["2", "1 ", "2"])
    assert spelled_labels(train, "label") == ["1", "2"]
    named = train.rows.cast_column("label", ClassLabel(names=["2", "1 "]))
    assert spelled_labels(Split(named, ["content"], train.labels, train.keys), "label") == ["1", "2"]


class Asked(NamedTuple):
    """Rows of to_label.csv, what the screen says, and the model's probability of its answer to each review."""

    file: Path
    rows: list[dict[str, str]]
    lines: list[str]
    sure: dict[str, float]


@pytest.fixture(scope="module")
def asked(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Of 300 clear reviews, 90 mixed ones and a formula."""
    folder, draw = tmp_path_factory.mktemp("advice"), np.random.default_rng(0)
    clear = [" ".join([*draw.choice(NEUTRAL, 6), word]) for word in (*POSITIVE, *NEGATIVE) for _ in range(50)]
    mixed = [" ".join([*draw.choice(NEUTRAL, 6), "good", "bad"]) for _ in range(90)]
    texts = [*clear, *mixed, "=the story good bad"]
    reviews = reviews_of(tiny_run)
    del reviews.splits["test"]
    answer = to_label(tiny_run, reviews, split_of(texts), folder)
    assert answer.file == folder / "to_label.csv"
    with answer.file.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    found = TorchClassifier.from_run(tiny_run.path)(texts)
    return Asked(
        answer.file, rows, answer.lines, {text: said.probability for text, said in zip(texts, found, strict=True)}
    )


def test_the_reviews_that_the_model_is_least_sure_of_come_first(asked: Asked) -> None:
    listed = [float(row["probability"]) for row in asked.rows]
    assert len(listed) == 100 and listed == sorted(listed)
    assert listed[0] == pytest.approx(min(asked.sure.values()), abs=1e-4)
    # They are among the 200 that it is least sure of.
    assert listed[-1] <= sorted(asked.sure.values())[199] + 1e-4
    assert len({row["content"] for row in asked.rows}) == 100


def test_the_file_has_an_empty_label_and_no_formula(asked: Asked) -> None:
    assert list(asked.rows[0]) == ["content", "label", "predicted", "probability"]
    assert {row["label"] for row in asked.rows} == {""}
    assert {row["predicted"] for row in asked.rows} == {"negative", "positive"}
    assert not any(row["content"].startswith("=") for row in asked.rows)


def test_the_file_is_read_beside_the_train_file(asked: Asked, tmp_path: Path) -> None:
    first = tmp_path / "mine.csv"
    first.write_text("label,content\nnegative,so bad\n", encoding="utf-8")
    rows = read_files([str(first), str(asked.file)], ["content"], "label").rows
    assert len(rows) == 101 and rows["content"][1:] == [row["content"] for row in asked.rows]


def test_a_labelled_formula_is_in_train_what_it_was(tiny_run: RunFolder, tmp_path: Path) -> None:
    texts = ["=1+1 lovely", "-- poor", "'=2 film", "'tis good"]
    reviews = reviews_of(tiny_run)
    del reviews.splits["test"]
    file = to_label(tiny_run, reviews, split_of(texts), tmp_path).file
    assert file
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["content"] for row in rows} == {"'=1+1 lovely", "'-- poor", "''=2 film", "'tis good"}
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows([row | {"label": cell("-1")} for row in rows])
    # The texts of another file stay as they are.
    (tmp_path / "mine.csv").write_text("content,label\n'=3 is mine,1\n", encoding="utf-8")
    args = DataArguments(train_file=[str(tmp_path / "mine.csv"), str(file)], text_columns=["content"])
    found, _, _ = read_split(args.train_file, args, -1)
    assert set(found["content"]) == {"'=3 is mine", *texts}
    assert found["label"][:] == ["1", "-1", "-1", "-1", "-1"]


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ({"train_file": "mine.csv"}, "then train with --train_file and both files."),
        ({"train_file": "MINE.CSV.gz"}, "then train with --train_file and both files."),
        ({"train_file": "mine.csv", "quoting": "none"}, "then add them to your train rows."),
        ({"train_file": "mine.jsonl"}, "then add them to your train rows."),
        ({}, "then add them to your train rows."),
    ],
)
def test_both_files_are_named_only_where_they_go_together(
    settings: dict[str, str], how: str, tiny_run: RunFolder, tmp_path: Path
) -> None:
    run, reviews = copy_of(tiny_run, tmp_path), reviews_of(tiny_run)
    run.write_config(run.read_config() | settings)
    answer = to_label(run, reviews, split_of(["good film", "bad film"]), tmp_path)
    assert answer.lines[2].endswith(how) and answer.lines[2].startswith("Some 20 seconds: fill in 'label'")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a second"), (1.4, "a second"), (1.5, "2 seconds"), (119, "119 seconds"), (1000, "17 minutes")],
)
def test_a_time_is_said_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_screen_says_how_many_how_sure_what_they_cost_and_that_it_is_noise(asked: Asked) -> None:
    assert len(asked.lines) == 3 and "100 of 391" in asked.lines[0] and "17 minutes" in asked.lines[2]
    # The tiny model is sure of everything.
    assert min(asked.sure.values()) > 0.95 and asked.lines[1].startswith("Noise: it is sure of every one")

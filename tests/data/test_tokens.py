"""Tokens are those of the tokenizer itself, which stays as it was."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import separable_reviews
from datasets import Dataset
from encoders import write_encoder
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from recipe.arguments.model import ModelArguments
from recipe.data.duplicates import text_keys
from recipe.data.reviews import Split
from recipe.data.tokens import texts_of, tokenize
from recipe.inference import Classifier
from recipe.model.pretrained import find_pretrained, load_tokenizer

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


@pytest.mark.parametrize(("columns", "added"), [(["content"], 2), (["title", "content"], 3)])
def test_unknown_tokens_are_counted_before_anything_is_cut(columns: list[str], added: int, tiny_bert: Path) -> None:
    contents = ["good film", "good zebra", "zebra " * 30, "", "a literal [UNK]"]
    rows = Dataset.from_dict({"title": ["zebra"] * 5, "content": contents})
    tokens = tokenize(split_of(rows, columns), load(tiny_bert, 12))
    titles = len(columns) - 1
    assert tokens["unknown"][:] == [titles + unknown for unknown in (0, 1, 30, 0, 2)]
    assert tokens["text_tokens"][:] == [titles + words for words in (2, 2, 30, 0, 3)]
    assert tokens["tokens"][:] == [count + added for count in tokens["text_tokens"]]


def test_a_tokenizer_that_spells_every_text_has_no_unknown_token(tmp_path: Path) -> None:
    tokenizer = load(write_encoder("GPT-2", tmp_path / "weights"), 64)
    tokens = tokenize(split_of(Dataset.from_dict({"content": ["good 日本語"]}), ["content"]), tokenizer)
    assert tokens["unknown"][:] == [0] and tokens["text_tokens"][:] == tokens["tokens"][:]


class TokensAlone(Classifier):
    """What serving gives a model that is not there."""

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_training_and_serving_cut_the_same_end(
    columns: list[str], side: str, rows: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    found = find_pretrained(ModelArguments(str(tiny_bert)), 12)
    tokenizer = load_tokenizer(found, 12, side)
    folder = tmp_path / "served"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"id2label": {"0": "bad", "1": "good"}, "pad_token_id": 0}')
    assert json.loads((folder / "tokenizer_config.json").read_text())["truncation_side"] == side
    split, serving = split_of(rows, columns), TokensAlone(folder, threads=1)
    trained = tokenize(split, tokenizer)["input_ids"][:]
    served = [next(serving.batches([text]))["input_ids"][0].tolist() for text in texts_of(split)]
    assert served == trained
    if columns == ["content"]:
        # By hand: each word of these reviews is a token, and ten of them fit between [CLS] and [SEP].
        kept = [text.split()[:10] if side == "right" else text.split()[-10:] for text in rows["content"]]
        assert [tokenizer.convert_ids_to_tokens(ids[1:-1]) for ids in trained] == kept
        assert any(len(text.split()) > 10 for text in rows["content"])

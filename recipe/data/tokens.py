"""Tokenize reviews."""

import os
from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from recipe.data.mapping import map_rows
from recipe.data.reviews import Split
from recipe.files.text_rows import Text
from recipe.model.vocabulary import unknown_id

# Attributes of a `tokenizers.Encoding` by the names that a model's inputs have.
_ATTRIBUTES = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}


def tokenize(split: Split, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return a split's tokens, each review truncated at the tokenizer's `model_max_length`.

    Returns:
        The model's inputs (`input_ids`, `attention_mask`, …: a list of int per review), `length` (int, tokens after
        truncation), `labels` (int), and before truncation `tokens` (int), `text_tokens` (int, without those that the
        tokenizer adds) and `unknown` (int, those that its vocabulary lacks).
    """
    names, max_length, side = tokenizer.model_input_names, tokenizer.model_max_length, tokenizer.truncation_side
    # A copy, as the tokenizer itself is saved with the model and must not change.
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.no_padding()
    unknown, added = unknown_id(fast), fast.num_special_tokens_to_add(len(split.text_columns) == 2)

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        reviews = _singles_or_pairs(list(batch.values()))
        fast.no_truncation()
        encoded = fast.encode_batch_fast(reviews)
        tokens = [len(encoding) for encoding in encoded]
        counts = {
            "tokens": tokens,
            "text_tokens": [count - added for count in tokens],
            "unknown": [encoding.ids.count(unknown) for encoding in encoded],
        }
        if long := [row for row, count in enumerate(tokens) if count > max_length]:
            fast.enable_truncation(max_length, direction=side)
            for row, encoding in zip(long, fast.encode_batch_fast([reviews[row] for row in long]), strict=True):
                encoded[row] = encoding
        inputs = {name: [getattr(encoding, _ATTRIBUTES[name]) for encoding in encoded] for name in names}
        return inputs | counts | {"length": [len(encoding) for encoding in encoded]}

    ids = {name: List(Value("int32" if name == "input_ids" else "int8")) for name in names}
    features = Features(ids | dict.fromkeys(("tokens", "text_tokens", "unknown", "length"), Value("int32")))
    before = os.environ.get("TOKENIZERS_PARALLELISM", "false")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        return map_rows(split.texts, encode, features, "tokenizing").add_column("labels", split.labels)
    finally:
        # Data-loader workers are forked later.
        os.environ["TOKENIZERS_PARALLELISM"] = before


def texts_of(split: Split) -> list[str] | list[tuple[str, str]]:
    """Return the reviews' texts: strings, or pairs if there are two text columns."""
    return _singles_or_pairs([split.texts[column][:] for column in split.texts.column_names])


def flat(texts: Sequence[Text]) -> list[str]:
    """Return each text as one string; a title and its content are joined."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]


def _singles_or_pairs(columns: Sequence[list[str]]) -> Any:
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

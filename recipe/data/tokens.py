"""Turn reviews into word pieces."""

from typing import Any

from datasets import Dataset, Features, Sequence, Value
from transformers import PreTrainedTokenizerBase

from recipe.data.parallel_map import map_rows
from recipe.data.reviews import Split


def tokenize(split: Split, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return a split as the model reads it, each review cut at the tokenizer's `model_max_length`.

    Returns:
        Columns of the tokenizer (`input_ids`, `attention_mask`, …: a list of int each), `length` (int, how many those
        are), `word_pieces` (int, how many they were before the cut) and `labels` (int).
    """
    columns = split.texts.column_names

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        """Return the columns of a batch of rows, but for the labels."""
        encoded = dict(tokenizer(*(batch[column] for column in columns), truncation=False, verbose=False))
        word_pieces = [len(ids) for ids in encoded["input_ids"]]
        # Encoding the long ones a second time is less work than to look at the lengths in a pass of its own.
        long = [row for row, pieces in enumerate(word_pieces) if pieces > tokenizer.model_max_length]
        cut = tokenizer(*([batch[column][row] for row in long] for column in columns), truncation=True) if long else {}
        for name, values in cut.items():
            for row, value in zip(long, values, strict=True):
                encoded[name][row] = value
        return encoded | {"word_pieces": word_pieces, "length": [len(ids) for ids in encoded["input_ids"]]}

    tokens = map_rows(split.texts, encode, _token_features(tokenizer), "word pieces")
    return tokens.add_column("labels", split.labels)


def texts_of(split: Split) -> list[str] | list[tuple[str, str]]:
    """Return the reviews' texts: strings, or pairs of them where there are two text columns."""
    columns = [split.texts[column][:] for column in split.texts.column_names]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _token_features(tokenizer: PreTrainedTokenizerBase) -> Features:
    """Return the types of what `tokenize` writes, small as they are many."""
    masks = {name: Sequence(Value("int8")) for name in tokenizer.model_input_names if name != "input_ids"}
    lengths = {"word_pieces": Value("int32"), "length": Value("int32")}
    return Features({"input_ids": Sequence(Value("int32")), **masks, **lengths})

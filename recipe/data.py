"""Labelled reviews: cleaned, split and turned into word pieces."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as compute
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from recipe.arguments import DataArguments
from recipe.duplicates import text_keys, without
from recipe.errors import UsageError
from recipe.labels import encode_labels
from recipe.sources import read_source
from recipe.splitting import set_aside

# Below this number of rows, word pieces take seconds and a progress bar would only be noise.
PROGRESS_FROM_ROWS = 50_000


@dataclass
class Reviews:
    """A dataset's splits, each with the text columns and `label`, a `ClassLabel`.

    Attributes:
        splits: `train`, `validation`, and `test` where the dataset has one; no row is in two of them.
        origin: Where they come from, for `run.json`: the name, and the revision or sha256.
        dropped: Rows left out, by reason: `no_text_or_label` of train and validation, and `train_rows_also_in_test` and
            `train_rows_also_in_validation`, which would make an evaluation flatter the model.
    """

    splits: dict[str, Dataset]
    origin: dict[str, Any]
    dropped: dict[str, int]

    @property
    def train(self) -> Dataset:
        """Return the rows to learn from."""
        return self.splits["train"]

    @property
    def validation(self) -> Dataset:
        """Return the rows that pick the best epoch."""
        return self.splits["validation"]

    @property
    def test(self) -> Dataset:
        """Return the held-out rows.

        Raises:
            UsageError: The dataset has none; validation rows never stand in for them.
        """
        if "test" not in self.splits:
            raise UsageError(
                f"{self.origin['name']} has no test split: train with --test_file, or a dataset that has one"
            )
        return self.splits["test"]

    @property
    def label_names(self) -> list[str]:
        """Return the names of labels 0, 1, …."""
        return list(self.train.features["label"].names)


def load_reviews(args: DataArguments, seed: int) -> Reviews:
    """Return the reviews that the arguments ask for, the same ones for the same arguments and seed.

    Args:
        args: Dataset or files, columns and number of rows.
        seed: Decides which train rows are set aside for validation, where the dataset has no validation split.

    Raises:
        UsageError: The dataset, a file, a column or a split is missing or empty, or its labels make no sense.
    """
    datasets.disable_progress_bars()
    source = read_source(args)
    wanted = {name: _without_nulls(_select_columns(rows, args), args) for name, rows in source.splits.items()}
    encoded = encode_labels(wanted, args.label_column)
    splits = {name: rows if name == "test" else _complete(rows, args) for name, rows in encoded.items()}
    _require_usable(splits, args)
    dropped = {"no_text_or_label": sum(len(encoded[name]) - len(rows) for name, rows in splits.items())}
    dropped |= _drop_shared(splits, "test", args)
    if "validation" not in splits:
        splits["train"], splits["validation"] = set_aside(
            splits["train"], args.validation_fraction, seed, "--validation_fraction"
        )
    dropped |= _drop_shared(splits, "validation", args)
    order: tuple[str, ...] = ("train", "validation", "test")
    return Reviews({name: splits[name] for name in order if name in splits}, source.origin, dropped)


def tokenize(reviews: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments) -> Dataset:
    """Return a split as the model reads it.

    Returns:
        Columns of the tokenizer (`input_ids`, `attention_mask`, …: a list of at most `max_length` int each), `labels`
        (int) and `length` (int, word pieces).
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        """Return the columns of a batch of rows."""
        encoded = dict(tokenizer(*(batch[column] for column in args.text_columns), truncation=True))
        return encoded | {"labels": batch["label"], "length": [len(ids) for ids in encoded["input_ids"]]}

    if len(reviews) >= PROGRESS_FROM_ROWS:
        datasets.enable_progress_bars()
    return reviews.map(encode, batched=True, remove_columns=reviews.column_names, desc="word pieces")


def texts_of(reviews: Dataset, args: DataArguments) -> list[str] | list[tuple[str, str]]:
    """Return the reviews' texts: strings, or pairs of them where there are two text columns."""
    columns = [reviews[column][:] for column in args.text_columns]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _select_columns(rows: Dataset, args: DataArguments) -> Dataset:
    """Return only the text columns and the label.

    Raises:
        UsageError: A column is missing; lists those there are.
    """
    for column in (*args.text_columns, args.label_column):
        if column not in rows.column_names:
            raise UsageError(
                f"{args.dataset_name!r} has no column {column!r}; it has {', '.join(rows.column_names)} "
                "(--text_columns and --label_column choose)"
            )
        if column in args.text_columns and rows.features[column].dtype not in ("string", "large_string"):
            raise UsageError(
                f"column {column!r} of {args.dataset_name!r} holds {rows.features[column].dtype}, not text"
            )
    return rows.select_columns([*args.text_columns, args.label_column])


def _without_nulls(rows: Dataset, args: DataArguments) -> Dataset:
    """Return the rows with an empty text for each one that is null."""

    def fill(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
        """Return the text columns of a batch."""
        return {column: [text or "" for text in batch[column]] for column in args.text_columns}

    nulls = sum(rows.data.column(column).null_count for column in args.text_columns)
    return rows.map(fill, batched=True) if nulls else rows


def _complete(rows: Dataset, args: DataArguments) -> Dataset:
    """Return the rows that have a label and, in one of their text columns at least, a text."""
    complete = []
    for batch in rows.with_format("arrow").iter(batch_size=10_000):
        texts = [
            compute.greater(compute.utf8_length(compute.utf8_trim_whitespace(batch[c])), 0) for c in args.text_columns
        ]
        complete.append(compute.and_(batch["label"].is_valid(), reduce(compute.or_, texts)).to_numpy())
    kept = np.flatnonzero(np.concatenate(complete))
    return rows if len(kept) == len(rows) else rows.select(kept).flatten_indices()


def _drop_shared(splits: dict[str, Dataset], other: str, args: DataArguments) -> dict[str, int]:
    """Remove from train, in place, the texts that also stand in another split, but for case and white space.

    Returns:
        How many rows that were.

    Raises:
        UsageError: It was all of them.
    """
    if other not in splits:
        return {}
    before, (_, keys) = splits["train"], text_keys(splits[other], args)
    splits["train"] = without(before, text_keys(before, args)[1], keys)
    if not len(splits["train"]):
        raise UsageError(f"every train row also stands in {other}: nothing is left to learn from")
    return {f"train_rows_also_in_{other}": len(before) - len(splits["train"])}


def _require_usable(splits: dict[str, Dataset], args: DataArguments) -> None:
    """Refuse splits that would fail later, or mislead.

    Raises:
        UsageError: No row is left, train has one class only, or a test row has no label.
    """
    for name, rows in splits.items():
        if not len(rows):
            raise UsageError(f"no row of the {name} split has both a text and a label")
    if len(set(splits["train"]["label"][:])) < 2:
        raise UsageError(f"every train row has the same label in {args.label_column!r}: two are needed")
    if "test" in splits and None in (labels := splits["test"]["label"][:]):
        raise UsageError(f"row {labels.index(None) + 1} of test has no label; test rows are never left out")

"""Labelled reviews: cleaned, split and turned into word pieces."""

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.duplicates import TextKeys, text_keys
from recipe.data.labels import NO_LABEL, encode_labels
from recipe.data.parallel_map import map_rows
from recipe.data.sources import FIXED_SEED, Source, read_source
from recipe.data.splitting import set_aside
from recipe.errors import UsageError
from recipe.run_folder import RunFolder


@dataclass(frozen=True)
class Split:
    """Rows of one split: an entry per row in each of the three.

    Attributes:
        texts: The text columns, on disk and never null.
        labels: int64 (rows,), from 0; `NO_LABEL` where there is none.
        keys: What tells the texts apart.
    """

    texts: Dataset
    labels: np.ndarray
    keys: TextKeys

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def take(self, numbers: np.ndarray) -> "Split":
        """Return the rows with these numbers, int64 (rows taken,)."""
        return Split(self.texts.select(numbers), self.labels[numbers], self.keys.take(numbers))

    def spread(self, rows: int) -> "Split":
        """Return up to so many rows, from all over the split."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, rows).astype(int)))

    def where(self, wanted: np.ndarray) -> "Split":
        """Return the rows where `wanted`, bool (rows,), holds."""
        return self if wanted.all() else self.take(np.flatnonzero(wanted))

    @property
    def sha256(self) -> str:
        """Return a digest that changes with every text, label and their order."""
        return rows_sha256(self.keys.exact, self.labels)


@dataclass
class Reviews:
    """A dataset's splits, cleaned.

    Attributes:
        splits: `train`, `validation`, and `test` where the dataset has one.
        label_names: Of labels 0, 1, ….
        origin: Where they come from, for `run.json`: the name, and the revision or sha256.
        dropped: Rows left out, by reason: `no_text_or_label` of all train and validation rows that were read, and
            `train_rows_also_in_test` and `train_rows_also_in_validation` of those that were taken, which would make an
            evaluation flatter the model.
        test_rows: Which rows of the test split were drawn, int64 (rows,); `None` where it was all that were read.
    """

    splits: dict[str, Split]
    label_names: list[str]
    origin: dict[str, Any]
    dropped: dict[str, int]
    test_rows: np.ndarray | None = None

    @property
    def train(self) -> Split:
        """Return the rows to learn from."""
        return self.splits["train"]

    @property
    def validation(self) -> Split:
        """Return the rows that pick the best epoch."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """Return the held-out rows.

        Raises:
            UsageError: The dataset has none; validation rows never stand in for them.
        """
        if "test" not in self.splits:
            raise UsageError(
                f"{self.origin['name']} has no test split: train with --test_file, or a dataset that has one"
            )
        return self.splits["test"]


def rows_sha256(keys: np.ndarray, labels: np.ndarray) -> str:
    """Return a sha256 of rows in their order: another one wherever a text or a label is another.

    Args:
        keys: uint64 (rows,), a hash of each row's texts.
        labels: int64 (rows,).
    """
    return hashlib.sha256(keys.astype("<u8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()


def load_reviews(args: DataArguments, seed: int) -> Reviews:
    """Return the reviews that the arguments ask for, the same ones for the same arguments and seed.

    Args:
        args: Dataset or files, columns and number of rows.
        seed: Decides which train rows are drawn, under `--sampling random`, and which of them are set aside for
            validation, where the dataset has no validation split.

    Raises:
        UsageError: The dataset, a file, a column or a split is missing or empty, or its labels make no sense.
    """
    datasets.disable_progress_bars()
    source = read_source(args)
    found = {name: _text_columns(rows, args, source.where(name)) for name, rows in source.splits.items()}
    names, labels = encode_labels(source.splits, args.label_column, source.where)
    whole = {name: Split(texts, labels[name], text_keys(texts)) for name, texts in found.items()}
    splits = {name: split if name == "test" else _usable(split) for name, split in whole.items()}
    _require_usable(splits, source)
    dropped = {"no_text_or_label": sum(len(whole[name]) - len(split) for name, split in splits.items())}
    known = set(splits["train"].labels)
    drawn = {name: _draw(name, split, names, args, seed) for name, split in splits.items()}
    splits = {name: split if (rows := drawn[name]) is None else split.take(rows) for name, split in splits.items()}
    dropped |= _drop_shared(splits, "test")
    if "validation" not in splits:
        splits["train"], splits["validation"] = _carve(splits["train"], names, args, seed)
    dropped |= _drop_shared(splits, "validation")
    if gone := known - set(splits["train"].labels):
        raise UsageError(
            f"no train row with the label {names[min(gone)]!r} is left: all of them also stand in test or validation, "
            "or --max_train_samples is too few to draw one"
        )
    in_order = {name: splits[name] for name in sorted(splits, key=("train", "validation", "test").index)}
    return Reviews(in_order, names, source.origin, dropped, drawn.get("test"))


def reviews_of(run: RunFolder) -> Reviews:
    """Return the reviews of a finished run, after checking that their rows are still those it was trained with.

    Raises:
        UsageError: The run's files are damaged, or its reviews cannot be read or have changed; names the split.
    """
    record = run.read_record()
    reviews = load_reviews(data_arguments_of(run.read_config()), record.seed)
    for name, split in reviews.splits.items():
        if split.sha256 != record.rows_sha256.get(name):
            raise UsageError(f"the {name} rows of {reviews.origin['name']} have changed since the run: train it again")
    return reviews


def column_of_test(args: DataArguments, reviews: Reviews, column: str) -> list[Any]:
    """Return a further column of the test rows, in their order.

    Args:
        args: As the reviews were loaded with.
        reviews: They.
        column: Its name.

    Raises:
        UsageError: The test rows have no such column.
    """
    wanted = copy.copy(args)
    # Whatever stands there, one value for each row, is read as a label would be.
    wanted.label_column = column
    if args.files:
        wanted.train_file, wanted.validation_file = args.test_file, None
    rows = read_source(wanted).splits["test"]
    if column not in (there := rows.column_names):
        raise UsageError(f"--slice_by {column}: the test rows have no such column; they have {', '.join(there)}")
    values = rows[column][:] if reviews.test_rows is None else rows.select(reviews.test_rows)[column][:]
    kind = rows.features[column]
    return [kind.int2str(value) for value in values] if isinstance(kind, ClassLabel) else list(values)


def _text_columns(rows: Dataset, args: DataArguments, where: str) -> Dataset:
    """Return the text columns alone, with an empty text for each one that is null.

    Raises:
        UsageError: One of them, or the label's, is missing (lists those there are) or holds something else.
    """
    for column in (*args.text_columns, args.label_column):
        if column not in rows.column_names:
            raise UsageError(
                f"{where} has no column {column!r}; it has {', '.join(rows.column_names)} "
                "(--text_columns and --label_column choose)"
            )
        # A `ClassLabel` or a `Value` has a dtype; lists and structs have none.
        kind = getattr(rows.features[column], "dtype", type(rows.features[column]).__name__)
        if column in args.text_columns and kind not in ("string", "large_string"):
            raise UsageError(f"column {column!r} of {where} holds {kind}, not text")
        if not isinstance(rows.features[column], ClassLabel | Value):
            raise UsageError(f"column {column!r} of {where} holds {kind}, not a label for each row")
    texts = rows.select_columns(args.text_columns)
    return map_rows(texts, _filled, texts.features, "empty texts") if _has_nulls(texts) else texts


def _has_nulls(texts: Dataset) -> bool:
    """Return whether a text is null anywhere."""
    return any(texts.data.column(column).null_count for column in texts.column_names)


def _filled(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Return a batch of texts with an empty one for each null."""
    return {column: [text or "" for text in texts] for column, texts in batch.items()}


def _usable(split: Split) -> Split:
    """Return the rows that have a label and, in one of their text columns at least, a text."""
    return split.where((split.labels != NO_LABEL) & ~split.keys.empty)


def _draw(name: str, split: Split, names: list[str], args: DataArguments, seed: int) -> np.ndarray | None:
    """Return as many rows as were asked for, drawn from the whole split, stratified by label; `None` where it is all.

    The test rows do not depend on the seed, so that runs with different seeds are measured on the same ones.
    """
    rows = args.max_rows[name]
    if args.sampling == "first" or rows == -1 or rows >= len(split):
        return None
    _, sample = set_aside(split.labels, rows, FIXED_SEED if name == "test" else seed, names, f"--max_{name}_samples")
    return sample


def _carve(train: Split, names: list[str], args: DataArguments, seed: int) -> tuple[Split, Split]:
    """Return train and validation rows, a text that repeats with all of its rows on one side."""
    _, first = np.unique(train.keys.normalised, return_index=True)
    texts = np.sort(first)
    _, sample = set_aside(train.labels[texts], args.validation_fraction, seed, names, "--validation_fraction")
    chosen = np.isin(train.keys.normalised, train.keys.normalised[texts[sample]])
    return train.where(~chosen), train.where(chosen)


def _drop_shared(splits: dict[str, Split], other: str) -> dict[str, int]:
    """Remove from train, in place, the texts that also stand in another split, but for case and white space.

    Returns:
        How many rows that were.

    Raises:
        UsageError: It was all of them.
    """
    if other not in splits:
        return {}
    before = splits["train"]
    splits["train"] = before.where(~np.isin(before.keys.normalised, splits[other].keys.normalised))
    if not len(splits["train"]):
        raise UsageError(f"every train row also stands in {other}: nothing is left to learn from")
    return {f"train_rows_also_in_{other}": len(before) - len(splits["train"])}


def _require_usable(splits: dict[str, Split], source: Source) -> None:
    """Refuse splits that would fail later, or mislead.

    Raises:
        UsageError: No row is left, train or validation has one class only, or a test row has no label.
    """
    for name, split in splits.items():
        if not len(split):
            raise UsageError(f"no row of {source.where(name)} has both a text and a label")
        if name != "test" and len(np.unique(split.labels)) < 2:
            raise UsageError(f"every row of {source.where(name)} has the same label: two are needed")
    if "test" in splits and (missing := np.flatnonzero(splits["test"].labels == NO_LABEL)).size:
        raise UsageError(f"row {missing[0] + 1} of {source.where('test')} has no label; test rows are never left out")

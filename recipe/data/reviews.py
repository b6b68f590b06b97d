"""Load labelled reviews, cleaned and split."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset, Value

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.duplicates import text_keys
from recipe.data.labels import NO_LABEL, encode_labels, label_values
from recipe.data.mapping import map_rows, progress_bars
from recipe.data.sources import FIXED_SEED, hold_out, read_source
from recipe.errors import UsageError
from recipe.files.parts import Place
from recipe.run_folder import RunFolder


@dataclass(frozen=True)
class Split:
    """Rows of one split.

    Attributes:
        rows: All columns that were read, on disk; a text column has no nulls.
        text_columns: One column, or two that are read as a pair.
        labels: int64 (rows,), from 0; `NO_LABEL` if a row has none.
        keys: Hashes of the texts, (rows,), as `text_keys` returns them.
    """

    rows: Dataset
    text_columns: list[str]
    labels: np.ndarray
    keys: np.recarray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    @property
    def texts(self) -> Dataset:
        """Return the text columns alone."""
        return self.rows.select_columns(self.text_columns)

    def column(self, name: str) -> list[Any]:
        """Return the values of any column, those of a `ClassLabel` as names.

        Raises:
            UsageError: There is no such column; lists those that are there.
        """
        if name not in self.rows.column_names:
            there = ", ".join(self.rows.column_names)
            raise UsageError(f"--slice_by {name}: the rows have no such column; they have {there}")
        return label_values(self.rows[name][:], self.rows.features[name])

    def take(self, numbers: np.ndarray) -> "Split":
        """Return the rows with these numbers, int64 (rows taken,)."""
        return Split(self.rows.select(numbers), self.text_columns, self.labels[numbers], self.keys[numbers])

    def spread(self, rows: int) -> "Split":
        """Return up to `rows` rows, evenly spread over the split."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, rows).astype(int)))

    def where(self, wanted: np.ndarray) -> "Split":
        """Return the rows where `wanted`, bool (rows,), holds."""
        return self if wanted.all() else self.take(np.flatnonzero(wanted))

    @property
    def sha256(self) -> str:
        """Return a digest that changes with every text, every label and their order."""
        return hashlib.sha256(self.keys.exact.astype("<u8").tobytes() + self.labels.astype("<i8").tobytes()).hexdigest()


@dataclass
class Reviews:
    """A dataset's splits, cleaned.

    Attributes:
        splits: `train`, `validation`, which picks the best epoch, and `test` if the dataset has one.
        label_names: Names of labels 0, 1, ….
        origin: The dataset's name, and the revision or sha256 that pins it, for `run.json`.
        dropped: Rows left out, by reason: `no_text_or_label` of all train and validation rows that were read;
            `train_rows_also_in_test` and `train_rows_also_in_validation` of the sampled rows, because an evaluation
            on texts that training has seen flatters the model.
    """

    splits: dict[str, Split]
    label_names: list[str]
    origin: dict[str, Any]
    dropped: dict[str, int]

    @property
    def test(self) -> Split:
        """Return the held-out rows.

        Raises:
            UsageError: The dataset has none; validation rows never replace them.
        """
        if "test" not in self.splits:
            name = self.origin["name"]
            raise UsageError(f"{name} has no test split: train with --test_file, or a dataset that has one")
        return self.splits["test"]


@progress_bars(False)
def load_reviews(args: DataArguments, seed: int) -> Reviews:
    """Return the reviews that the arguments ask for; the same arguments and seed give the same rows.

    Args:
        seed: Decides which train rows `--sampling random` takes, and which are held out for validation if the dataset
            has no validation split.

    Raises:
        UsageError: The dataset, a file, a column or a split is missing or empty, or its labels make no sense.
    """
    found, origin, places = read_source(args)
    rows = {name: _without_nulls(some, args, places[name]) for name, some in found.items()}
    names, labels = encode_labels(rows, args.label_column, places)
    splits = {name: _clean(name, some, labels[name], args, places[name]) for name, some in rows.items()}
    dropped = {"no_text_or_label": sum(len(rows[name]) - len(split) for name, split in splits.items())}
    known = set(splits["train"].labels)
    if args.sampling == "random":
        splits = {name: _sample(name, split, names, args.max_rows[name], seed) for name, split in splits.items()}
    dropped |= _drop_shared(splits, "test")
    if "validation" not in splits:
        splits["train"], splits["validation"] = _hold_out_validation(splits["train"], names, args, seed)
    dropped |= _drop_shared(splits, "validation")
    if gone := known - set(splits["train"].labels):
        raise UsageError(
            f"no train row with the label {names[min(gone)]!r} is left: all of them also stand in test or validation, "
            "or --max_train_samples is too few to draw one"
        )
    in_order = {name: splits[name] for name in sorted(splits, key=("train", "validation", "test").index)}
    return Reviews(in_order, names, origin, dropped)


def reviews_of(run: RunFolder) -> Reviews:
    """Return the reviews of a finished run, after checking that their rows are still those it was trained with.

    Raises:
        UsageError: The run's files are damaged, or its reviews cannot be read or have changed; names the split.
    """
    record = run.read_record()
    args = data_arguments_of(run.read_config())
    # The commit that the run has read, whatever its branch is at now.
    args.dataset_revision = record.dataset.get("revision")
    reviews = load_reviews(args, record.seed)
    for name, split in reviews.splits.items():
        if split.sha256 != record.rows_sha256.get(name):
            raise UsageError(f"the {name} rows of {reviews.origin['name']} have changed since the run: train it again")
    return reviews


def _without_nulls(rows: Dataset, args: DataArguments, where: Place) -> Dataset:
    """Return the rows with an empty text for each null, after checking that text and label columns hold such."""
    for column in (*args.text_columns, args.label_column):
        # A `ClassLabel` or a `Value` has a dtype; lists and structs have none.
        kind = getattr(rows.features[column], "dtype", type(rows.features[column]).__name__)
        if column in args.text_columns and kind not in ("string", "large_string"):
            raise UsageError(f"column {column!r} of {where} holds {kind}, not text")
        if not isinstance(rows.features[column], ClassLabel | Value):
            raise UsageError(f"column {column!r} of {where} holds {kind}, not a label for each row")
    if not any(rows.data.column(column).null_count for column in args.text_columns):
        return rows

    def fill(table: pyarrow.Table) -> pyarrow.Table:
        for column in args.text_columns:
            table = table.set_column(table.column_names.index(column), column, compute.fill_null(table[column], ""))
        return table

    return map_rows(rows.with_format("arrow"), fill, rows.features, "empty texts").with_format(None)


def _clean(name: str, rows: Dataset, labels: np.ndarray, args: DataArguments, where: Place) -> Split:
    """Return a split; of train and validation, the rows that have a text and a label."""
    split = Split(rows, args.text_columns, labels, text_keys(rows.select_columns(args.text_columns)))
    if name == "test":
        if (missing := np.flatnonzero(labels == NO_LABEL)).size:
            raise UsageError(f"{where.row(missing[0])} has no label; test rows are never left out")
        return split
    split = split.where((labels != NO_LABEL) & ~split.keys.empty)
    if not len(split):
        raise UsageError(f"no row of {where} has both a text and a label")
    if len(np.unique(split.labels)) < 2:
        raise UsageError(f"every row of {where} has the same label: two are needed")
    return split


def _sample(name: str, split: Split, names: list[str], rows: int, seed: int) -> Split:
    """Return as many rows as were asked for, of a random sample stratified by label."""
    if not 0 <= rows < len(split):
        return split
    # Runs with different seeds are measured on the same test rows.
    _, sample = hold_out(split.labels, rows, FIXED_SEED if name == "test" else seed, names, f"--max_{name}_samples")
    return split.take(sample)


def _hold_out_validation(train: Split, names: list[str], args: DataArguments, seed: int) -> tuple[Split, Split]:
    """Return train and validation rows; all rows of a repeated text are on one side."""
    texts = np.sort(np.unique(train.keys.normalised, return_index=True)[1])
    _, sample = hold_out(train.labels[texts], args.validation_fraction, seed, names, "--validation_fraction")
    chosen = np.isin(train.keys.normalised, train.keys.normalised[texts[sample]])
    return train.where(~chosen), train.where(chosen)


def _drop_shared(splits: dict[str, Split], other: str) -> dict[str, int]:
    """Remove from train, in place, the texts that another split has too, and return the number of rows by reason."""
    if other not in splits:
        return {}
    before = splits["train"]
    splits["train"] = before.where(~np.isin(before.keys.normalised, splits[other].keys.normalised))
    if not len(splits["train"]):
        raise UsageError(f"every train row also stands in {other}: nothing is left to learn from")
    return {f"train_rows_also_in_{other}": len(before) - len(splits["train"])}

"""Load labelled reviews, cleaned and split."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset, Value

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.command_line import SPLITS
from recipe.data.corrections import correct_labels
from recipe.data.duplicates import text_keys
from recipe.data.labels import NO_LABEL, encode_labels, label_values
from recipe.data.mapping import map_rows, progress_bars
from recipe.data.sources import FIXED_SEED, Source, hold_out, read_source, read_split
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.files.parts import Place, find_parts, first_missing, joined_name
from recipe.files.readers import require_file
from recipe.run_folder import RunFolder

# A split of test rows that the user measures in place of the run's own. It becomes `test` once the run's own splits are
# made, because train leaves out what stands in the run's own test rows.
OTHER = "other"


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
        other_test: The files of `test`, as `run.json` has files, where these are not the dataset's own.
    """

    splits: dict[str, Split]
    label_names: list[str]
    origin: dict[str, Any]
    dropped: dict[str, int]
    other_test: list[dict[str, str]] = field(default_factory=list)

    @property
    def test(self) -> Split:
        """Return the held-out rows.

        Raises:
            UsageError: The dataset has none; validation rows never replace them.
        """
        if "test" not in self.splits:
            name = self.origin["name"]
            raise UsageError(f"{name} has no test split: train with --test_file, or give evaluate.py one")
        return self.splits["test"]


@progress_bars(False)
def load_reviews(args: DataArguments, seed: int, other_test: list[str] | None = None) -> Reviews:
    """Return the reviews that the arguments ask for; the same arguments and seed give the same rows.

    Args:
        seed: Decides which train rows `--sampling random` takes, and which are held out for validation if the dataset
            has no validation split.
        other_test: Files whose rows are then `test`. The other splits are what they are without them.

    Raises:
        UsageError: The dataset, a file, a column or a split is missing or empty, or its labels make no sense.
    """
    source = read_source(args)
    files: list[dict[str, str]] = []
    if other_test:
        source.splits[OTHER], files, source.places[OTHER] = read_split(other_test, args, -1)
    names, splits = _encode(source, args)
    dropped = {"no_text_or_label": sum(len(source.splits[name]) - len(split) for name, split in splits.items())}
    other = splits.pop(OTHER, None)
    known = set(splits["train"].labels)
    if args.sampling == "random":
        splits = {name: _sample(name, split, names, args.max_rows[name], seed) for name, split in splits.items()}
    dropped |= _drop_shared(splits, "test")
    if held_out := "validation" not in splits:
        splits["train"], splits["validation"] = _hold_out_validation(splits["train"], names, args, seed)
    dropped |= _drop_shared(splits, "validation")
    if args.corrections:
        # After the hold-out, which goes by label: validation keeps its rows, and the runs can be compared.
        source.origin["corrections"] = correct_labels(args.corrections, splits, names, args.label_column)
    if gone := known - set(splits["train"].labels):
        raise UsageError(
            f"no train row with the label {names[min(gone)]!r} is left: all of them also stand in test or validation, "
            "or --max_train_samples is too few to draw one"
        )
    found, counts = np.unique(splits["train"].labels, return_counts=True)
    # Of two rows one is held out.
    if counts.min() < 2 and not held_out:
        rare = names[found[counts.argmin()]]
        raise UsageError(f"the label {rare!r} has a single train row, and two are needed: correct or remove it")
    if other:
        splits["test"] = other
    in_order = {name: splits[name] for name in sorted(splits, key=SPLITS.index)}
    return Reviews(in_order, names, source.origin, dropped, files)


def _encode(source: Source, args: DataArguments) -> tuple[list[str], dict[str, Split]]:
    """Return the label names, and the splits without the rows that are of no use."""
    for name, some in source.splits.items():
        if not isinstance(feature := some.features[args.label_column], ClassLabel | Value):
            kind = type(feature).__name__
            raise UsageError(
                f"column {args.label_column!r} of {source.places[name]} holds {kind}, not a label for each row"
            )
    rows = {name: without_nulls(some, args.text_columns, source.places[name]) for name, some in source.splits.items()}
    names, labels = encode_labels(rows, args.label_column, source.places)
    return names, {name: _clean(name, some, labels[name], args, source.places[name]) for name, some in rows.items()}


def reviews_of(run: RunFolder, files: Mapping[str, list[str]] | None = None, needs_test: bool = True) -> Reviews:
    """Return the reviews of a finished run, after checking that their rows are still those it was trained with.

    Args:
        files: Where the run's files are now, by split, and as `corrections` that file; as `test` also any others, whose
            rows then are the test split.
        needs_test: Otherwise the run's own test file may be gone; then there is no test split.

    Raises:
        UsageError: The run's files are damaged, or its reviews cannot be read or have changed; names the split.
    """
    record = run.read_record()
    args = data_arguments_of(run.read_config())
    # The commit that the run has read, whatever its branch is at now.
    args.dataset_revision = record.dataset.get("revision")
    files = dict(files or {})
    _find_corrections(args, files.pop("corrections", None), record.dataset.get("corrections", {}))
    other = _replace_files(args, files, record.dataset.get("files", {}))
    missing = _drop_missing(args, bool(other) or not needs_test)
    reviews = load_reviews(args, record.seed, other)
    changed = [name for name, split in reviews.splits.items() if split.sha256 != record.rows_sha256.get(name)]
    if other and "test" not in changed:
        # They are the run's own rows, in other files.
        reviews = replace(reviews, other_test=[])
    for name in changed:
        if not (name == "test" and other):
            why = f", or also stood in its test file, which is no longer at {missing}" if missing else ""
            raise UsageError(
                f"the {name} rows of {reviews.origin['name']} have changed since the run{why}: train it again"
            )
    return reviews


def _replace_files(args: DataArguments, files: Mapping[str, list[str]], recorded: dict[str, Any]) -> list[str]:
    """Put the files where they are now into a run's arguments, and return test files that are not the run's own."""
    other: list[str] = []
    for split, given in files.items():
        own = recorded.get(split, []) if split in args.files else []
        parts = own if isinstance(own, list) else [own]
        if split == "test" and files_sha256(given) != [part["sha256"] for part in parts]:
            other = given
        elif split in args.files:
            setattr(args, f"{split}_file", given)
        else:
            raise UsageError(f"--{split}_file {joined_name(given)}: the run was trained without a file of this kind")
    return other


def _find_corrections(args: DataArguments, moved: list[str] | None, recorded: dict[str, Any]) -> None:
    """Put the place where the run's corrections are now into its arguments, and check that they are the same."""
    if moved and not args.corrections:
        raise UsageError(f"--corrections {joined_name(moved)}: the run was trained without corrections")
    args.corrections = moved or args.corrections
    if not args.corrections:
        return
    if gone := first_missing(args.corrections):
        raise UsageError(f"the run's corrections are no longer at {gone}: give --corrections with where they are now")
    if files_sha256(args.corrections) != [part["sha256"] for part in recorded.get("files", [])]:
        raise UsageError(f"{joined_name(args.corrections)} has changed since the run: restore it, or train again")


def files_sha256(given: list[str]) -> list[str]:
    """Return the sha256 of each file that paths, patterns and folders name; if one is not there, raise `UsageError`."""
    files = find_parts(given)
    for file in files:
        require_file(file)
    return [file_sha256(Path(file).expanduser()) for file in files]


def _drop_missing(args: DataArguments, has_other: bool) -> str:
    """Check that a run's files are there; if only its own test file is missing, and not needed, leave it out.

    Returns:
        The missing test file, or nothing.
    """
    for split, given in args.files.items():
        if gone := first_missing(given):
            if split != "test" or not has_other:
                raise UsageError(
                    f"the run's {split} file is no longer at {gone}: give export_onnx.py, evaluate.py and "
                    f"advise.py --{split}_file with where it is now"
                )
            args.test_file = None
            return gone
    return ""


def without_nulls(rows: Dataset, text_columns: list[str], where: Place) -> Dataset:
    """Return the rows with an empty text for each null; if a text column holds no text, raise a `UsageError`."""
    for column in text_columns:
        # A `ClassLabel` or a `Value` has a dtype; lists and structs have none.
        kind = getattr(rows.features[column], "dtype", type(rows.features[column]).__name__)
        if kind not in ("string", "large_string"):
            raise UsageError(f"column {column!r} of {where} holds {kind}, not text")
    if not any(rows.data.column(column).null_count for column in text_columns):
        return rows

    def fill(table: pyarrow.Table) -> pyarrow.Table:
        for column in text_columns:
            table = table.set_column(table.column_names.index(column), column, compute.fill_null(table[column], ""))
        return table

    return map_rows(rows.with_format("arrow"), fill, rows.features, "empty texts").with_format(None)


def _clean(name: str, rows: Dataset, labels: np.ndarray, args: DataArguments, where: Place) -> Split:
    """Return a split; of train and validation, the rows that have a text and a label."""
    split = Split(rows, args.text_columns, labels, text_keys(rows.select_columns(args.text_columns)))
    if name in ("test", OTHER):
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

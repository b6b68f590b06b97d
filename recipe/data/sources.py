"""Find a run's reviews: in your own files, the quickstart's package, a local folder, or on the Hub."""

import math
import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset, concatenate_datasets
from sklearn.model_selection import train_test_split

from recipe import hub, quickstart
from recipe.arguments.data import DataArguments
from recipe.data.hub_rows import Repository, read_rows, require_columns, split_names
from recipe.data.labels import BINARY_NAMES
from recipe.data.mapping import map_rows
from recipe.data.own_files import read_files
from recipe.errors import UsageError
from recipe.files.parts import Place, joined_name
from recipe.files.spreadsheet import PREDICTED, PROBABILITY, text_of

# The commit each dataset is read at unless --dataset_revision says otherwise.
PINNED_REVISIONS = {"fancyzhx/amazon_polarity": "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"}
# For sampled test rows and the quickstart's order, which belong to the dataset: --seed changes neither.
FIXED_SEED = 42


class Source(NamedTuple):
    """The rows that a run's arguments name.

    Attributes:
        splits: `train`, and `validation` and `test` if they exist, with at least the text columns and the label.
        origin: The dataset's name, and the revision or sha256 that pins it, for `run.json`.
        places: What messages call each split's rows.
    """

    splits: dict[str, Dataset]
    origin: dict[str, Any]
    places: dict[str, Place]


def read_source(args: DataArguments) -> Source:
    """Return the rows that the arguments name; the user's own files replace the config's dataset.

    Raises:
        UsageError: They cannot be found or read, have no rows, or lack a column.
    """
    if args.files:
        return _read_files(args)
    splits, origin = (_read_package if quickstart.is_package(args.dataset_name) else _read_dataset)(args)
    names = {name: f"the {name} split of {args.dataset_name}" for name in splits}
    return Source(splits, origin, {name: Place(said, [(said, len(splits[name]))]) for name, said in names.items()})


def read_split(given: list[str], args: DataArguments, rows: int) -> tuple[Dataset, list[dict[str, str]], Place]:
    """Return the first `rows` rows, -1 for all, of the user's files, the name and sha256 of each, and their place.

    The apostrophes that `to_label.csv` puts before cells that look like formulas are taken off texts and labels.
    """
    found = read_files(given, args.text_columns, args.label_column, args.dialect)
    read = found.rows
    if any(_is_sheet(part.rows) for part in found.parts):
        columns = [*args.text_columns, args.label_column]
        read = concatenate_datasets([_without_apostrophes(part.rows, columns) for part in found.parts])
    return _first(read, rows), found.origin, found.place


def _is_sheet(rows: Dataset) -> bool:
    """Return whether rows are those of a `to_label.csv`, in which an apostrophe stands before formulas."""
    return {PREDICTED, PROBABILITY} <= set(rows.column_names)


def _without_apostrophes(rows: Dataset, columns: list[str]) -> Dataset:
    """Return the rows of a `to_label.csv` without the apostrophes of some columns, and any other rows as they are."""
    if not _is_sheet(rows):
        return rows
    columns = [column for column in columns if getattr(rows.features[column], "dtype", "") == "string"]

    def restore(batch: dict[str, list[str | None]]) -> dict[str, list[str | None]]:
        return batch | {column: [value and text_of(value) for value in batch[column]] for column in columns}

    return map_rows(rows, restore, rows.features, "apostrophes")


def _read_files(args: DataArguments) -> Source:
    if "train" not in args.files:
        raise UsageError(f"--{next(iter(args.files))}_file needs a --train_file beside it")
    read = {name: read_split(given, args, args.first_rows[name]) for name, given in args.files.items()}
    splits = {name: rows for name, (rows, _, _) in read.items()}
    files = {name: said if len(said) > 1 else said[0] for name, (_, said, _) in read.items()}
    places = {name: place for name, (_, _, place) in read.items()}
    return Source(splits, {"name": joined_name(args.files["train"]), "files": files}, places)


def _read_package(args: DataArguments) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Return the quickstart's rows; it has no test split, so test rows are held out first."""
    package = quickstart.REVIEWS
    file = quickstart.find_package(args.dataset_name, package) / package.pin["file"]
    table = pyarrow.csv.read_csv(file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    table = table.filter(pyarrow.compute.field("source") == "rotten_tomatoes")
    rows = Dataset(table.select(["text", "label"]).rename_columns(["content", "label"]))
    # The file has all positive reviews first, so its first rows would be no sample of it.
    rows = rows.cast_column("label", ClassLabel(names=BINARY_NAMES)).shuffle(seed=FIXED_SEED)
    require_columns(rows, [*args.text_columns, args.label_column], f"the train split of {args.dataset_name}")
    test_rows = args.max_test_samples
    if test_rows == -1 or test_rows >= len(rows):
        raise UsageError(
            f"{args.dataset_name} has {len(rows)} rows and no test split of its own: "
            f"--max_test_samples {test_rows} leaves none to train on"
        )
    train, test = hold_out(np.asarray(rows["label"][:]), test_rows, FIXED_SEED, BINARY_NAMES, "--max_test_samples")
    splits = {"train": _first(rows.select(train), args.first_rows["train"]), "test": rows.select(test)}
    return splits, {"name": args.dataset_name} | package.pin


def _read_dataset(args: DataArguments) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Return the rows of a dataset on the Hub, or of a local folder in its layout, with the splits that it has."""
    name, config = args.dataset_name, args.dataset_config_name
    origin: dict[str, Any] = {"name": name, "config": config}
    if folder := hub.local_folder(name):
        repository = Repository.in_folder(folder, config)
    else:
        revision = args.dataset_revision or PINNED_REVISIONS.get(name, "main")
        # At a commit nothing changes, so that a finished run's rows need no Hub.
        if not (re.fullmatch("[0-9a-f]{40}", revision) and Repository(name, config, revision).is_known):
            revision = hub.resolve_commit("dataset", name, revision)
        repository = Repository(name, config, revision)
        origin["revision"] = revision
    found = split_names(repository)
    if "train" not in found:
        raise UsageError(f"the dataset {name!r} has no train split; it has {', '.join(found)}")
    columns = [*args.text_columns, args.label_column]
    wanted = {split: rows for split, rows in args.first_rows.items() if split in found}
    return {split: read_rows(repository, split, columns, rows) for split, rows in wanted.items()}, origin


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))


def hold_out(
    labels: np.ndarray, size: float | int, seed: int, names: list[str], flag: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into those that stay and a seeded sample that is held out, stratified by label.

    Args:
        labels: int64 (rows,).
        size: Rows (int) or share of the rows (float) of the sample.
        names, flag: For the message: the labels' names, and the flag that sets `size`.

    Returns:
        Two int64 arrays of row numbers in ascending order, which a large file is read fastest in.

    Raises:
        UsageError: There are too few rows to have each label on both sides.
    """
    rows, (found, counts) = len(labels), np.unique(labels, return_counts=True)
    sampled = size if isinstance(size, int) else math.ceil(size * rows)
    if counts.min() < 2:
        rare = names[found[counts.argmin()]]
        raise UsageError(f"the label {rare!r} has a single row, and {flag} needs two to split: correct or remove it")
    if not len(found) <= sampled <= rows - len(found):
        raise UsageError(
            f"{flag} {size} does not split {rows} rows by label: each of the {len(found)} labels needs a row on "
            "either side"
        )
    kept, sample = train_test_split(np.arange(rows), test_size=size, stratify=labels, random_state=seed)
    return np.sort(kept), np.sort(sample)

"""Find a run's reviews: in your own files, the quickstart's package, a local folder, or on the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset

from recipe import hub, quickstart
from recipe.arguments.data import DataArguments
from recipe.data.hub_rows import Repository, read_rows, require_columns, split_names
from recipe.data.labels import BINARY_NAMES
from recipe.data.own_files import read_file
from recipe.data.splitting import hold_out
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256

# The commit each dataset is read at unless --dataset_revision says otherwise.
PINNED_REVISIONS = {"fancyzhx/amazon_polarity": "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"}
# For sampled test rows and the quickstart's order, which belong to the dataset: --seed changes neither.
FIXED_SEED = 42


@dataclass
class Source:
    """Rows as they were read.

    Attributes:
        splits: `train`, and `validation` and `test` if they exist, with at least the text columns and the label.
        origin: The dataset's name, and the revision or sha256 that pins it, for `run.json`.
    """

    splits: dict[str, Dataset]
    origin: dict[str, Any]

    def where(self, split: str) -> str:
        """Return what a message calls a split: the user's file, or the split of the dataset."""
        files = self.origin.get("files", {})
        return str(files[split]["file"]) if split in files else f"the {split} split of {self.origin['name']}"


def read_source(args: DataArguments) -> Source:
    """Return the rows that the arguments name; the user's own files replace the config's dataset.

    Raises:
        UsageError: They cannot be found or read, have no rows, or lack a column.
    """
    if args.files:
        source = _read_files(args)
    elif quickstart.is_package(args.dataset_name):
        source = _read_package(args)
    else:
        source = _read_dataset(args)
    for name, rows in source.splits.items():
        if not len(rows):
            raise UsageError(f"{source.where(name)} is empty")
    return source


def _read_files(args: DataArguments) -> Source:
    """Return the rows of the user's own files."""
    if "train" not in args.files:
        raise UsageError(f"--{next(iter(args.files))}_file needs a --train_file beside it")
    splits = {
        name: _first(read_file(path, args.text_columns, args.label_column), args.first_rows[name])
        for name, path in args.files.items()
    }
    origin = {name: {"file": path, "sha256": file_sha256(Path(path).expanduser())} for name, path in args.files.items()}
    return Source(splits, {"name": args.files["train"], "files": origin})


def _read_package(args: DataArguments) -> Source:
    """Return the quickstart's rows; it has no test split, so test rows are held out first."""
    package = quickstart.REVIEWS
    table = pyarrow.csv.read_csv(
        quickstart.find_package(args.dataset_name, package) / package.pin["file"],
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )
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
    return Source(splits, {"name": args.dataset_name} | package.pin)


def _read_dataset(args: DataArguments) -> Source:
    """Return the rows of a dataset on the Hub, or of a local folder in its layout, with the splits that it has."""
    name, config = args.dataset_name, args.dataset_config_name
    origin: dict[str, Any] = {"name": name, "config": config}
    if folder := hub.local_folder(name):
        repository = Repository.in_folder(folder, config)
    else:
        commit = hub.resolve_commit("dataset", name, args.dataset_revision or PINNED_REVISIONS.get(name, "main"))
        repository = Repository(name, config, commit)
        origin["revision"] = commit
    found = split_names(repository)
    if "train" not in found:
        raise UsageError(f"the dataset {name!r} has no train split; it has {', '.join(found)}")
    columns = [*args.text_columns, args.label_column]
    wanted = {split: rows for split, rows in args.first_rows.items() if split in found}
    return Source({split: read_rows(repository, split, columns, rows) for split, rows in wanted.items()}, origin)


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))

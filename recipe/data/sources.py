"""Where a run's reviews come from: files of your own, the quickstart's package, a local folder, or the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset

from recipe import hub, quickstart
from recipe.arguments.data import DataArguments
from recipe.data import hub_rows as slices
from recipe.data.hub_rows import Repository
from recipe.data.labels import BINARY_NAMES
from recipe.data.own_files import read_file
from recipe.data.splitting import set_aside
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256

# The commit each dataset is read at unless --dataset_revision says otherwise.
PINNED_REVISIONS = {"fancyzhx/amazon_polarity": "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"}
# Test rows that are drawn, and the quickstart's order, belong to the dataset and not to a run: --seed changes neither.
FIXED_SEED = 42


@dataclass
class Source:
    """Rows as they were found.

    Attributes:
        splits: `train`, and `validation` and `test` where they exist, with at least the text columns and the label.
        origin: For `run.json`: the name, and the revision or sha256 that pins it.
    """

    splits: dict[str, Dataset]
    origin: dict[str, Any]

    def where(self, split: str) -> str:
        """Return how a message names a split: the user's file, or the split of the dataset."""
        files = self.origin.get("files", {})
        return str(files[split]["file"]) if split in files else f"the {split} split of {self.origin['name']}"


def read_source(args: DataArguments) -> Source:
    """Return the rows that the arguments name; files given as flags take the place of the config's dataset.

    Raises:
        UsageError: They cannot be found or read, or have no rows.
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
    """Return the quickstart's rows; its test rows are set aside first, as it has no test split."""
    package = quickstart.REVIEWS
    table = pyarrow.csv.read_csv(
        quickstart.find_package(args.dataset_name, package) / package.pin["file"],
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )
    table = table.filter(pyarrow.compute.field("source") == "rotten_tomatoes")
    rows = Dataset(table.select(["text", "label"]).rename_columns(["content", "label"]))
    # The file has all positive reviews first, so that its first rows would be no sample of it.
    rows = rows.cast_column("label", ClassLabel(names=BINARY_NAMES)).shuffle(seed=FIXED_SEED)
    test_rows = args.max_test_samples
    if test_rows == -1 or test_rows >= len(rows):
        raise UsageError(
            f"{args.dataset_name} has {len(rows)} rows and no test split of its own: "
            f"--max_test_samples {test_rows} leaves none to train on"
        )
    train, test = set_aside(np.asarray(rows["label"][:]), test_rows, FIXED_SEED, BINARY_NAMES, "--max_test_samples")
    splits = {"train": _first(rows.select(train), args.first_rows["train"]), "test": rows.select(test)}
    return Source(splits, {"name": args.dataset_name} | package.pin)


def _read_dataset(args: DataArguments) -> Source:
    """Return the rows of a dataset on the Hub, or of a local folder laid out like one, whichever splits it has."""
    name, config = args.dataset_name, args.dataset_config_name
    origin: dict[str, Any] = {"name": name, "config": config}
    if folder := hub.local_folder(name):
        repository = Repository.in_folder(folder, config)
    else:
        commit = hub.resolve_commit("dataset", name, args.dataset_revision or PINNED_REVISIONS.get(name, "main"))
        repository = Repository.on_the_hub(name, config, commit)
        origin["revision"] = commit
    found = slices.split_names(repository)
    if "train" not in found:
        raise UsageError(f"the dataset {name!r} has no train split; it has {', '.join(found)}")
    columns = [*args.text_columns, args.label_column]
    wanted = {split: rows for split, rows in args.first_rows.items() if split in found}
    splits = {split: slices.read_rows(repository, split, columns, rows) for split, rows in wanted.items()}
    return Source(splits, origin)


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))

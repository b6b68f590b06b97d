"""Where a run's reviews come from: files of your own, the quickstart's package, a local folder, or the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset

from recipe import hub, quickstart, slices
from recipe.arguments import DataArguments
from recipe.digests import file_sha256
from recipe.errors import UsageError
from recipe.files import read_file
from recipe.labels import BINARY_NAMES
from recipe.splitting import set_aside

# The commit each dataset is read at unless --dataset_revision says otherwise.
PINNED_REVISIONS = {"fancyzhx/amazon_polarity": "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"}
# The quickstart's test rows belong to the dataset, not to a run: --seed does not change them.
TEST_SEED = 42


@dataclass
class Source:
    """Rows as they were found.

    Attributes:
        splits: `train`, and `validation` and `test` where they exist, with at least the text columns and the label.
        origin: For `run.json`: the name, and the revision or sha256 that pins it.
    """

    splits: dict[str, Dataset]
    origin: dict[str, Any]


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
            raise UsageError(f"the {name} split of {source.origin['name']} is empty")
    return source


def _read_files(args: DataArguments) -> Source:
    """Return the rows of the user's own files."""
    if "train" not in args.files:
        raise UsageError(f"--{next(iter(args.files))}_file needs a --train_file beside it")
    splits = {
        name: _first(read_file(path, [*args.text_columns, args.label_column]), args.max_rows[name])
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
    rows = rows.cast_column("label", ClassLabel(names=BINARY_NAMES))
    test_rows = args.max_test_samples
    if test_rows == -1 or test_rows >= len(rows):
        raise UsageError(
            f"{args.dataset_name} has {len(rows)} rows and no test split of its own: "
            f"--max_test_samples {test_rows} leaves none to train on"
        )
    train, test = set_aside(rows, test_rows, TEST_SEED, "--max_test_samples")
    return Source(
        {"train": _first(train, args.max_train_samples), "test": test}, {"name": args.dataset_name} | package.pin
    )


def _read_dataset(args: DataArguments) -> Source:
    """Return the rows of a dataset on the Hub, or of a local folder laid out like one, whichever splits it has."""
    name, config = args.dataset_name, args.dataset_config_name
    if folder := hub.local_folder(name):
        with hub.one_line_errors(f"the dataset {folder!r}", None):
            found = datasets.get_dataset_split_names(folder, config)
            splits = {
                split: _read_folder(folder, config, split, rows)
                for split, rows in args.max_rows.items()
                if split in found
            }
        origin: dict[str, Any] = {"name": name, "config": config}
    else:
        commit = hub.resolve_commit("dataset", name, args.dataset_revision or PINNED_REVISIONS.get(name, "main"))
        found = slices.split_names(name, config, commit)
        columns = [*args.text_columns, args.label_column]
        splits = {
            split: _read_hub(name, config, commit, split, columns, rows)
            for split, rows in args.max_rows.items()
            if split in found
        }
        origin = {"name": name, "config": config, "revision": commit}
    if "train" not in splits:
        raise UsageError(f"the dataset {name!r} has no train split; it has {', '.join(map(str, found))}")
    return Source(splits, origin)


def _read_folder(folder: str, config: str | None, split: str, max_rows: int) -> Dataset:
    """Return the first rows of a split in a local folder; -1 returns all."""
    if max_rows == -1:
        return datasets.load_dataset(folder, config, split=split)
    stream = datasets.load_dataset(folder, config, split=split, streaming=True)
    rows = list(stream.take(max_rows))
    if not rows:
        raise UsageError(f"the {split} split of {folder!r} is empty")
    return Dataset.from_list(rows, features=stream.features)


def _read_hub(name: str, config: str | None, commit: str, split: str, columns: list[str], max_rows: int) -> Dataset:
    """Return the first rows of a split on the Hub; -1 downloads all of it."""
    if max_rows != -1:
        return slices.first_rows(name, config, commit, split, columns, max_rows)
    with hub.one_line_errors(f"the {split} split of {name!r}", commit):
        return datasets.load_dataset(name, config, split=split, revision=commit)


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))

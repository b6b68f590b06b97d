"""Where a run's reviews come from: files of your own, the quickstart's package, a local folder, or the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset

from recipe import hub, quickstart
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
    limits = {"train": args.max_train_samples, "validation": -1, "test": args.max_test_samples}
    splits = {
        name: _first(read_file(path, [*args.text_columns, args.label_column]), limits[name])
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
    location, revision = hub.local_folder(args.dataset_name), None
    if location is None:
        location = args.dataset_name
        wanted = args.dataset_revision or PINNED_REVISIONS.get(location, "main")
        revision = hub.resolve_commit("dataset", location, wanted)
    config = args.dataset_config_name
    with hub.one_line_errors(f"the dataset {location!r}", revision):
        found = datasets.get_dataset_split_names(location, config, revision=revision)
    if "train" not in found:
        raise UsageError(f"the dataset {location!r} has no train split; it has {', '.join(map(str, found))}")
    limits = {"train": args.max_train_samples, "validation": -1, "test": args.max_test_samples}
    splits = {
        name: _read_split(location, config, revision, name, limit) for name, limit in limits.items() if name in found
    }
    return Source(splits, {"name": args.dataset_name, "config": config, "revision": revision})


def _read_split(location: str, config: str | None, revision: str | None, split: str, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows of a split, reading no more of it than they need; -1 returns all."""
    every_row = max_rows == -1
    with hub.one_line_errors(f"the {split} split of {location!r}", revision):
        dataset = datasets.load_dataset(location, config, split=split, revision=revision, streaming=not every_row)
        rows = dataset if every_row else list(dataset.take(max_rows))
    if not len(rows):
        raise UsageError(f"the {split} split of {location!r} is empty")
    return rows if every_row else Dataset.from_list(rows, features=dataset.features)


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))

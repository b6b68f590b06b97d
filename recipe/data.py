"""Labelled reviews: read, split and turned into word pieces."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow.compute
import pyarrow.csv
from datasets import ClassLabel, Dataset
from sklearn.model_selection import train_test_split
from transformers import PreTrainedTokenizerBase

from recipe import hub, quickstart
from recipe.arguments import DataArguments
from recipe.errors import UsageError

# What 0 and 1 mean when a dataset's label column is a plain integer.
LABEL_NAMES = ["negative", "positive"]
# The commit each dataset is read at unless --dataset_revision says otherwise.
PINNED_REVISIONS = {"fancyzhx/amazon_polarity": "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"}
# The quickstart's test rows belong to the dataset, not to a run: --seed does not change them.
TEST_SEED = 42
# Below this number of rows, word pieces take seconds and a progress bar would only be noise.
PROGRESS_FROM_ROWS = 50_000


@dataclass
class Reviews:
    """A dataset's three splits, each with the text columns and `label`, a `ClassLabel`.

    Attributes:
        train, validation, test: No row is in two of them.
        source: Where they come from, for `run.json`: the name, and the revision or sha256.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    source: dict[str, Any]

    @property
    def label_names(self) -> list[str]:
        """Return the names of labels 0, 1, …."""
        return list(self.train.features["label"].names)

    @property
    def splits(self) -> dict[str, Dataset]:
        """Return the splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def load_reviews(args: DataArguments, seed: int) -> Reviews:
    """Return the reviews that the arguments ask for, the same ones for the same arguments and seed.

    Args:
        args: Dataset, columns and number of rows.
        seed: Decides which train rows are set aside for validation.

    Raises:
        UsageError: The dataset, a column or a split is missing or empty, or its labels are not 0 and 1.
    """
    datasets.disable_progress_bars()
    load = _load_package if quickstart.is_package(args.dataset_name) else _load_dataset
    train, test, source = load(args)
    train, validation = _set_aside(_standardise(train, args), args.validation_fraction, seed, "--validation_fraction")
    return Reviews(train, validation, _standardise(test, args), source)


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


def rows_sha256(reviews: Dataset) -> str:
    """Return a sha256 of a split's rows in their order: equal if and only if texts and labels are."""
    digest = hashlib.sha256()
    for batch in reviews.iter(batch_size=1000):
        digest.update(json.dumps([batch[column] for column in sorted(batch)]).encode())
    return digest.hexdigest()


def _load_package(args: DataArguments) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return the quickstart's train rows, held-out test rows and source."""
    package = quickstart.REVIEWS
    table = pyarrow.csv.read_csv(
        quickstart.find_package(args.dataset_name, package) / package.pin["file"],
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )
    table = table.filter(pyarrow.compute.field("source") == "rotten_tomatoes")
    rows = Dataset(table.select(["text", "label"]).rename_columns(["content", "label"]))
    rows = rows.cast_column("label", ClassLabel(names=LABEL_NAMES))
    test_rows = args.max_test_samples
    if test_rows == -1 or test_rows >= len(rows):
        raise UsageError(
            f"{args.dataset_name} has {len(rows)} rows and no test split of its own: "
            f"--max_test_samples {test_rows} leaves none to train on"
        )
    train, test = _set_aside(rows, test_rows, TEST_SEED, "--max_test_samples")
    return _first(train, args.max_train_samples), test, {"name": args.dataset_name} | package.pin


def _load_dataset(args: DataArguments) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return the train and test rows and the source of a dataset on the Hub, or of a folder laid out like one."""
    location, revision = hub.local_folder(args.dataset_name), None
    if location is None:
        location = args.dataset_name
        wanted = args.dataset_revision or PINNED_REVISIONS.get(location, "main")
        revision = hub.resolve_commit("dataset", location, wanted)
    train = _read_split(location, revision, "train", args.max_train_samples)
    test = _read_split(location, revision, "test", args.max_test_samples)
    return train, test, {"name": args.dataset_name, "revision": revision}


def _read_split(name: str, revision: str | None, split: str, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows of a split, reading no more of it than they need; -1 returns all."""
    with hub.one_line_errors(f"the {split} split of {name!r}", revision):
        every_row = max_rows == -1
        dataset = datasets.load_dataset(name, split=split, revision=revision, streaming=not every_row)
        rows = dataset if every_row else list(dataset.take(max_rows))
    if not len(rows):
        raise UsageError(f"the {split} split of {name!r} is empty")
    return rows if every_row else Dataset.from_list(rows, features=dataset.features)


def _first(rows: Dataset, max_rows: int) -> Dataset:
    """Return the first `max_rows` rows; -1 returns all."""
    return rows if max_rows == -1 else rows.select(range(min(max_rows, len(rows))))


def _standardise(rows: Dataset, args: DataArguments) -> Dataset:
    """Return only the text columns and the label, as the `ClassLabel` column `label`.

    Raises:
        UsageError: A column is missing, or the labels are neither a `ClassLabel` nor 0 and 1.
    """
    for column in (*args.text_columns, args.label_column):
        if column not in rows.column_names:
            raise UsageError(
                f"{args.dataset_name!r} has no column {column!r}; it has {', '.join(rows.column_names)} "
                "(--text_columns and --label_column choose)"
            )
    rows = rows.select_columns([*args.text_columns, args.label_column])
    if args.label_column != "label":
        rows = rows.rename_column(args.label_column, "label")
    if isinstance(rows.features["label"], ClassLabel):
        return rows
    values = set(rows.unique("label"))
    if not values <= {0, 1}:
        shown = ", ".join(map(repr, sorted(values, key=str)[:5]))
        raise UsageError(f"{args.dataset_name!r} has labels {shown} in {args.label_column!r}: 0 and 1 are needed")
    return rows.cast_column("label", ClassLabel(names=LABEL_NAMES))


def _set_aside(rows: Dataset, size: float | int, seed: int, flag: str) -> tuple[Dataset, Dataset]:
    """Return `rows` without a stratified, seeded sample of them, and that sample.

    Args:
        rows: With a `ClassLabel` column `label`.
        size: The sample's rows (int) or share of the rows (float).
        seed: The same sample for the same seed.
        flag: What the user can change, for the message.

    Raises:
        UsageError: There are too few rows to have each class on both sides.
    """
    labels = rows["label"][:]
    try:
        kept, sample = train_test_split(range(len(rows)), test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise UsageError(f"{flag} {size} does not split {len(rows)} rows by class: {error}") from error
    # Copied, because an index kept beside the rows would make every later read of them slower.
    return rows.select(kept).flatten_indices(), rows.select(sample).flatten_indices()

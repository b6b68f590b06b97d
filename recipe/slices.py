"""The first rows of a split on the Hub, streamed once and kept on disk."""

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter

from recipe import hub
from recipe.errors import UsageError
from recipe.run_folder import write_json

# datasets would try 20 times, 5 seconds apart, to read on from a server that has gone.
datasets.config.STREAMING_READ_MAX_RETRIES, datasets.config.STREAMING_READ_RETRY_INTERVAL = 3, 1


def split_names(name: str, config: str | None, commit: str) -> list[str]:
    """Return which splits a dataset on the Hub has; asked for once, then read from disk.

    Raises:
        UsageError: The dataset cannot be read.
    """
    file = _kept({"dataset": name, "config": config, "commit": commit}, ".json")
    if not file.is_file():
        with hub.one_line_errors(f"the dataset {name!r}", commit):
            found = datasets.get_dataset_split_names(name, config, revision=commit)
        write_json(file, {"splits": [str(split) for split in found]})
    return list(json.loads(file.read_text(encoding="utf-8"))["splits"])


def first_rows(name: str, config: str | None, commit: str, split: str, columns: list[str], rows: int) -> Dataset:
    """Return the first `rows` rows of a split, which costs the first row groups of its first files, once.

    They are kept under a key made of all of these arguments, so that a second run reads nothing from the network.

    Raises:
        UsageError: The split cannot be read, is empty, or lacks a column.
    """
    key = {"dataset": name, "config": config, "commit": commit, "split": split, "columns": columns, "rows": rows}
    file = _kept(key, ".arrow")
    if not file.is_file():
        with hub.one_line_errors(f"the {split} split of {name!r}", commit):
            _keep(file, name, config, commit, split, columns, rows)
    return Dataset.from_file(str(file))


def _keep(file: Path, name: str, config: str | None, commit: str, split: str, columns: list[str], rows: int) -> None:
    """Stream the rows into `file`, which appears whole or not at all."""
    stream = datasets.load_dataset(name, config, split=split, revision=commit, streaming=True)
    for column in columns:
        if stream.column_names is not None and column not in stream.column_names:
            raise UsageError(f"{name!r} has no column {column!r}; it has {', '.join(stream.column_names)}")
    stream = stream.select_columns(columns).take(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".part")
    try:
        with ArrowWriter(path=str(temporary), features=stream.features) as writer:
            for row in stream:
                writer.write(row)
            written, _ = writer.finalize()
        if not written:
            raise UsageError(f"the {split} split of {name!r} is empty")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _kept(key: dict[str, Any], extension: str) -> Path:
    """Return the file that holds what a key names, beside the datasets library's own cache."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "first_rows" / f"{digest[:32]}{extension}"

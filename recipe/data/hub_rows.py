"""Rows of a dataset on the Hub, or of a folder laid out like one: read once, then found on disk under a key."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from datasets import Dataset, DatasetBuilder, concatenate_datasets
from tqdm.auto import tqdm

from recipe import hub
from recipe.data.cache import kept_file, writing
from recipe.data.parallel_map import PARALLEL_FROM_ROWS
from recipe.errors import UsageError
from recipe.files.atomic import write_json
from recipe.machine import is_main_process

# datasets would try 20 times, 5 seconds apart, to read on from a server that has gone.
datasets.config.STREAMING_READ_MAX_RETRIES, datasets.config.STREAMING_READ_RETRY_INTERVAL = 3, 1
# From this size on, what is prepared takes long enough to be watched.
PROGRESS_FROM_BYTES = 50_000_000


@dataclass(frozen=True)
class Repository:
    """A dataset on the Hub at a commit, or a folder as it is now.

    Attributes:
        name: `owner/name`, or the folder's path.
        config: Its configuration, where it has several.
        commit: Of the Hub; `None` for a folder.
        state: What makes it this one and no later one: the commit, or a digest of the folder's files.
    """

    name: str
    config: str | None
    commit: str | None
    state: str

    @classmethod
    def on_the_hub(cls, name: str, config: str | None, commit: str) -> "Repository":
        """Return a repository at a commit."""
        return cls(name, config, commit, commit)

    @classmethod
    def in_folder(cls, folder: str, config: str | None) -> "Repository":
        """Return a folder, known by its files' names, sizes and times of change."""
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        listed = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return cls(folder, config, None, hashlib.sha256(json.dumps(listed).encode()).hexdigest())

    def kept(self, extension: str, **more: Any) -> Path:
        """Return the file, beside the datasets library's own cache, for what `more` says of this repository."""
        return kept_file(extension, dataset=self.name, config=self.config, state=self.state, **more)


def split_names(repository: Repository) -> list[str]:
    """Return which splits there are; asked for once, then read from disk.

    Raises:
        UsageError: The dataset cannot be read.
    """
    file = repository.kept(".json")
    if not file.is_file():
        with hub.one_line_errors(f"the dataset {repository.name!r}", repository.commit):
            found = datasets.get_dataset_split_names(repository.name, repository.config, revision=repository.commit)
        write_json(file, {"splits": [str(split) for split in found]})
    return list(json.loads(file.read_text(encoding="utf-8"))["splits"])


def read_rows(repository: Repository, split: str, columns: list[str], rows: int) -> Dataset:
    """Return the first rows of a split, with these columns at least; -1 returns all.

    The first rows cost the first row groups of the split's first files; all of them the whole dataset, which is said
    before. Either is read once, and found again under a key made of all of these arguments, without the network.

    Raises:
        UsageError: The split cannot be read, is empty, or lacks a column.
    """
    with hub.one_line_errors(f"the {split} split of {repository.name!r}", repository.commit):
        if rows == -1:
            return _all_rows(repository, split)
        return _first_rows(repository, split, columns, rows)


def _first_rows(repository: Repository, split: str, columns: list[str], rows: int) -> Dataset:
    """Return the first rows of a split."""
    file = repository.kept(".arrow", split=split, columns=columns, rows=rows)
    if not file.is_file():
        _stream(file, repository, split, columns, rows)
    return Dataset.from_file(str(file))


def _all_rows(repository: Repository, split: str) -> Dataset:
    """Return every row of a split."""
    file = repository.kept(".json", split=split)
    names = json.loads(file.read_text(encoding="utf-8"))["files"] if file.is_file() else []
    if not names or not all(map(os.path.exists, names)):
        names = [cached["filename"] for cached in _prepare(repository, split).cache_files]
        write_json(file, {"files": names})
    # From the very files, as offline datasets would take whichever commit it saw last.
    return concatenate_datasets([Dataset.from_file(name) for name in names])


def _stream(file: Path, repository: Repository, split: str, columns: list[str], rows: int) -> None:
    """Stream the rows into `file`, which appears whole or not at all."""
    name = repository.name
    stream = datasets.load_dataset(name, repository.config, split=split, revision=repository.commit, streaming=True)
    for column in columns:
        if stream.column_names is not None and column not in stream.column_names:
            raise UsageError(
                f"{name!r} has no column {column!r}; it has {', '.join(stream.column_names)} "
                "(--text_columns and --label_column choose)"
            )
    stream = stream.select_columns(columns).take(rows)
    quiet = True if rows < PARALLEL_FROM_ROWS else None
    with writing(file, stream.features) as writer:
        row = None
        for row in tqdm(stream, total=rows, desc=f"first {split} rows", unit="row", unit_scale=True, disable=quiet):
            writer.write(row)
        if row is None:
            raise UsageError(f"the {split} split of {name!r} is empty")


def _prepare(repository: Repository, split: str) -> Dataset:
    """Return a split from the datasets library's own cache, filled where it must be."""
    builder = datasets.load_dataset_builder(repository.name, repository.config, revision=repository.commit)
    if not os.path.isdir(builder.cache_dir):
        sizes = _file_sizes(builder, repository)
        if repository.commit and is_main_process():
            print(f"downloads  {repository.name}: {len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB", flush=True)
        with _progress_bars(sum(sizes) >= PROGRESS_FROM_BYTES):
            builder.download_and_prepare()
    rows = builder.as_dataset(split=split)
    assert isinstance(rows, Dataset)
    return rows


def _file_sizes(builder: DatasetBuilder, repository: Repository) -> list[int]:
    """Return the bytes of each file that a dataset is made of."""
    names = [name for files in (builder.config.data_files or {}).values() for name in files]
    if repository.commit is None:
        return [os.path.getsize(name) for name in names]
    info = huggingface_hub.HfApi().dataset_info(repository.name, revision=repository.commit, files_metadata=True)
    return [
        file.size or 0 for file in info.siblings or [] if any(name.endswith(f"/{file.rfilename}") for name in names)
    ]


@contextmanager
def _progress_bars(wanted: bool) -> Iterator[None]:
    """Show the datasets library's own progress bars for a while."""
    if wanted:
        datasets.enable_progress_bars()
    try:
        yield
    finally:
        datasets.disable_progress_bars()

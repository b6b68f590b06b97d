"""Read rows of a dataset on the Hub, or of a folder in its layout, and cache them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from datasets import ClassLabel, Dataset, DatasetBuilder, Features, IterableDataset, Value, concatenate_datasets
from tqdm.auto import tqdm

from recipe import hub
from recipe.data.mapping import PROGRESS_FROM_ROWS, progress_bars
from recipe.errors import UsageError
from recipe.files import readers
from recipe.files.atomic import read_json, write_json
from recipe.machine import is_main_process

# Smaller datasets are prepared in seconds, which need no progress bar.
PROGRESS_FROM_BYTES = 50_000_000


@dataclass(frozen=True)
class Repository:
    """A dataset on the Hub at a commit, or a folder as it is now.

    Attributes:
        name: `owner/name`, or the folder's path.
        commit: `None` for a folder.
        state: A digest that changes with the folder's files; empty on the Hub.
    """

    name: str
    config: str | None
    commit: str | None
    state: str = ""

    @classmethod
    def in_folder(cls, folder: str, config: str | None) -> "Repository":
        """Return a folder; its state is made of its files' names, sizes and times of change."""
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        listed = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return cls(folder, config, None, hashlib.sha256(json.dumps(listed).encode()).hexdigest())

    def key(self, **more: Any) -> str:
        """Return a cache key of this repository and `more`."""
        return hashlib.sha256(json.dumps(asdict(self) | more, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def is_known(self) -> bool:
        """Return whether its splits were read before, so that neither they nor rows read then need the Hub."""
        return self._file("splits").is_file()

    def _file(self, what: str) -> Path:
        return Path(datasets.config.HF_DATASETS_CACHE) / "repositories" / f"{self.key(what=what)}.json"

    def remember(self, what: str, find: Callable[[], Any], valid: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return what `find` returns, a JSON value; found once, then read from disk while it is `valid`."""
        file = self._file(what)
        if file.is_file() and valid(known := read_json(file)["value"]):
            return known
        write_json(file, {"value": (found := find())})
        return found


def split_names(repository: Repository) -> list[str]:
    """Return the names of a dataset's splits; raise `UsageError` if it cannot be read."""
    name, config, commit = repository.name, repository.config, repository.commit
    with hub.one_line_errors(f"the dataset {name!r}", commit):
        found = repository.remember("splits", lambda: datasets.get_dataset_split_names(name, config, revision=commit))
    return list(found)


@progress_bars(False)
def read_rows(repository: Repository, split: str, columns: list[str], rows: int) -> Dataset:
    """Return the first rows of a split, -1 for all, with all columns that hold one value per row.

    The first rows cost the first row groups of the split's first files. All rows cost the whole dataset; its size is
    printed before a download. The next call with the same arguments finds the rows on disk, without the network.

    Raises:
        UsageError: The split cannot be read, is empty, or lacks one of `columns`.
    """
    where = f"the {split} split of {repository.name!r}"
    with hub.one_line_errors(where, repository.commit):
        found = _all_rows(repository, split) if rows == -1 else _first_rows(repository, split, rows)
    require_columns(found, columns, where)
    return found


def require_columns(rows: Dataset, columns: list[str], where: str) -> None:
    """Raise `UsageError` if rows lack a column."""
    readers.require_columns(columns, rows.column_names, where, "--text_columns and --label_column choose")


def _first_rows(repository: Repository, split: str, rows: int) -> Dataset:
    """Return the first rows of a split, streamed into the datasets library's cache."""

    @cache
    def stream() -> IterableDataset:
        """Open the split, without columns such as images or lists."""
        name, config, commit = repository.name, repository.config, repository.commit
        opened = datasets.load_dataset(name, config, split=split, revision=commit, streaming=True)
        plain = [column for column, kind in (opened.features or {}).items() if isinstance(kind, ClassLabel | Value)]
        return opened.select_columns(plain) if plain else opened

    def generate() -> Iterator[dict[str, Any]]:
        # When a server has gone, datasets would try to read on 20 times, 5 seconds apart.
        datasets.config.STREAMING_READ_MAX_RETRIES, datasets.config.STREAMING_READ_RETRY_INTERVAL = 3, 1
        hidden = True if rows < PROGRESS_FROM_ROWS else None
        row = None
        for row in tqdm(stream().take(rows), f"first {split} rows", rows, unit="row", unit_scale=True, disable=hidden):
            yield row
        if row is None:
            raise UsageError(f"the {split} split of {repository.name!r} is empty")

    # A csv file has no types before it is read.
    types = repository.remember(f"types of {split}", lambda: (stream().features or Features()).to_dict())
    features = Features.from_dict(types) if types else None
    return Dataset.from_generator(generate, features=features, fingerprint=repository.key(split=split, rows=rows))


def _all_rows(repository: Repository, split: str) -> Dataset:
    # The files' names are remembered, because offline datasets would take the commit that it read last.
    files = repository.remember(
        f"files of {split}",
        lambda: [file["filename"] for file in _prepare(repository).as_dataset(split=split).cache_files],
        valid=lambda names: all(map(os.path.exists, names)),
    )
    return concatenate_datasets([Dataset.from_file(file) for file in files])


def _prepare(repository: Repository) -> DatasetBuilder:
    """Return a dataset in the datasets library's cache, downloaded if it is not there."""
    builder = datasets.load_dataset_builder(repository.name, repository.config, revision=repository.commit)
    if os.path.isdir(builder.cache_dir):
        return builder
    names = [str(name) for files in (builder.config.data_files or {}).values() for name in files]
    if repository.commit is None:
        sizes = [os.path.getsize(name) for name in names]
    else:
        info = huggingface_hub.HfApi().dataset_info(repository.name, revision=repository.commit, files_metadata=True)
        needed = [file for file in info.siblings or [] if any(name.endswith(f"/{file.rfilename}") for name in names)]
        sizes = [file.size or 0 for file in needed]
        if is_main_process():
            print(f"downloads  {repository.name}: {len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB", flush=True)
    with progress_bars(sum(sizes) >= PROGRESS_FROM_BYTES):
        builder.download_and_prepare()
    return builder

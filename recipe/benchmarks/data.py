"""Memory and time of the data step on as many rows as wanted, made by repeating a dataset's train rows."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as compute
import pyarrow.parquet
from datasets import disable_progress_bars

from recipe.arguments.parser import parse_arguments
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.inspection import inspect
from recipe.data.reviews import load_reviews
from recipe.data.tokens import tokenize
from recipe.errors import UsageError
from recipe.hub import local_folder
from recipe.machine import usable_cores
from recipe.model.pretrained import find_pretrained, load_tokenizer

SAMPLES_PER_SECOND = 10
TEXT_COLUMN = "content"
# Of the dataset, to be repeated: enough to have every length among them.
MAX_ROWS = 20_000


class PeakMemory:
    """The most memory that this process and those it started hold at once, while the block under `with` runs.

    Attributes:
        peak: Bytes resident, a page that several processes share counted once (the proportional set size of Linux).
    """

    def __enter__(self) -> "PeakMemory":
        """Start to look."""
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        """Keep the largest of many looks."""
        this = psutil.Process()
        while not self._done.wait(1 / SAMPLES_PER_SECOND):
            self.peak = max(self.peak, sum(map(_resident, [this, *this.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    """Return a process's proportional set size in bytes, 0 once it has ended."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def repeat_rows(dataset: str, rows: int, folder: Path) -> None:
    """Write a dataset's train rows over and over, `rows` in all, as parquet.

    The n-th time each text ends in n, as equal ones stay on one side of a split, which a few texts cannot share evenly.
    """
    folder.mkdir(parents=True)
    disable_progress_bars()
    if not (source := local_folder(dataset)):
        raise UsageError(f"no folder {dataset!r} here")
    found = read_rows(Repository.in_folder(source, None), "train", [TEXT_COLUMN, "label"], MAX_ROWS)
    table = found.with_format("arrow")[:]
    with pyarrow.parquet.ParquetWriter(folder / "train-00000-of-00001.parquet", table.schema) as writer:
        for number, start in enumerate(range(0, rows, table.num_rows)):
            texts = compute.binary_join_element_wise(table[TEXT_COLUMN], str(number), " ")
            writer.write_table(table.set_column(0, TEXT_COLUMN, texts).slice(0, rows - start))


def measure(folder: Path, output: Path) -> dict[str, Any]:
    """Read, clean, split, tokenize and inspect every row of a folder, and return what that took.

    Returns:
        `rows`, `cores`, `seconds` by step, `tokenized_rows_per_second`, `peak_gib` and `peak_gib_before` (the libraries
        alone).
    """
    argv = ["--dataset_name", str(folder), "--max_train_samples", "-1", "--text_columns", TEXT_COLUMN]
    arguments = parse_arguments([*argv, "--sampling", "first", "--output_dir", str(output), "--use_cpu"])
    before = _resident(psutil.Process())
    seconds = {}
    with PeakMemory() as memory:
        started = time.perf_counter()
        pretrained = find_pretrained(arguments.model, arguments.data.max_length)
        tokenizer = load_tokenizer(pretrained, arguments.data.max_length)
        reviews = load_reviews(arguments.data, arguments.training.seed)
        seconds["read, clean and split"] = time.perf_counter() - started
        started = time.perf_counter()
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
        seconds["tokenize"] = time.perf_counter() - started
        started = time.perf_counter()
        inspect(reviews, tokens["train"], arguments)
        seconds["inspect"] = time.perf_counter() - started
    tokenized = sum(map(len, tokens.values()))
    return {
        "rows": {name: len(split) for name, split in reviews.splits.items()},
        "cores": usable_cores(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "tokenized_rows_per_second": round(tokenized / seconds["tokenize"]),
        "peak_gib": round(memory.peak / 2**30, 2),
        "peak_gib_before": round(before / 2**30, 2),
    }

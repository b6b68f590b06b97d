"""Measure memory and time of the data step on a dataset's train rows, repeated as often as needed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.compute as compute
import pyarrow.parquet

from recipe.arguments.parser import parse_arguments
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.inspection import inspect
from recipe.data.reviews import load_reviews
from recipe.data.tokens import tokenize
from recipe.errors import UsageError
from recipe.hub import local_folder
from recipe.machine import usable_cores
from recipe.model.pretrained import find_pretrained, load_tokenizer

TEXT_COLUMN = "content"
# Distinct rows, enough to have every length among them.
MAX_ROWS = 20_000


@contextmanager
def sampled_memory() -> Iterator[dict[str, float]]:
    """Sample this process's memory ten times a second, and keep the peaks in GiB.

    `Anonymous` is its own memory; `Pss` adds pages of mapped files, which the kernel may drop.
    """
    peaks, done = {"Anonymous": 0.0, "Pss": 0.0}, threading.Event()

    def watch() -> None:
        """Keep the largest values."""
        while not done.wait(0.1):
            lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
            now = {name[:-1]: round(int(kib) / 2**20, 2) for name, kib, *_ in lines}
            peaks.update({name: max(peak, now[name]) for name, peak in peaks.items()})

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def repeat_rows(dataset: str, rows: int, folder: Path) -> None:
    """Write a dataset's train rows as parquet, repeated until there are `rows`.

    The n-th time each text ends in n, because equal texts stay on one side of a split.
    """
    folder.mkdir(parents=True)
    if not (source := local_folder(dataset)):
        raise UsageError(f"no folder {dataset!r} here")
    found = read_rows(Repository.in_folder(source, None), "train", [TEXT_COLUMN, "label"], MAX_ROWS)
    table = found.select_columns([TEXT_COLUMN, "label"]).with_format("arrow")[:]
    with pyarrow.parquet.ParquetWriter(folder / "train-00000-of-00001.parquet", table.schema) as writer:
        for number, start in enumerate(range(0, rows, table.num_rows)):
            texts = compute.binary_join_element_wise(table[TEXT_COLUMN], str(number), " ")
            writer.write_table(table.set_column(0, TEXT_COLUMN, texts).slice(0, rows - start))


def measure(folder: Path, output: Path) -> dict[str, Any]:
    """Read, clean, split, tokenize and inspect every row of a folder.

    Returns:
        `rows`, `cores`, `seconds` by step, `tokenized_rows_per_second` and `peak_gib` by kind of memory.
    """
    argv = ["--dataset_name", str(folder), "--max_train_samples", "-1", "--text_columns", TEXT_COLUMN]
    arguments = parse_arguments([*argv, "--output_dir", str(output), "--use_cpu"])
    max_length, clock = arguments.data.max_length, [time.perf_counter()]
    with sampled_memory() as peaks:
        tokenizer = load_tokenizer(find_pretrained(arguments.model, max_length), max_length)
        reviews = load_reviews(arguments.data, arguments.training.seed)
        clock.append(time.perf_counter())
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
        clock.append(time.perf_counter())
        inspect(reviews, tokens["train"], arguments)
        clock.append(time.perf_counter())
    seconds = [round(end - start, 1) for start, end in zip(clock, clock[1:], strict=False)]
    return {
        "rows": {name: len(split) for name, split in reviews.splits.items()},
        "cores": usable_cores(),
        "seconds": dict(zip(("read, clean and split", "tokenize", "inspect"), seconds, strict=True)),
        "tokenized_rows_per_second": round(sum(map(len, tokens.values())) / seconds[1]),
        "peak_gib": peaks,
    }

"""Measure memory and time of the data step on a dataset's train rows, repeated as often as needed."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as compute
import pyarrow.parquet

from recipe.arguments.parser import parse_arguments
from recipe.benchmarks.backends import peak_resident
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.inspection import inspect
from recipe.data.reviews import load_reviews
from recipe.data.tokens import tokenize
from recipe.hub import require_folder
from recipe.machine import usable_cores
from recipe.model.pretrained import find_pretrained, load_tokenizer

TEXT_COLUMN = "content"
STEPS = ("read, clean and split", "tokenize", "inspect")
# Distinct rows, enough to have every length among them.
MAX_ROWS = 20_000


def _repeat_rows(dataset: str, rows: int, folder: Path) -> None:
    """Write a dataset's train rows as parquet, repeated until there are `rows`.

    The n-th time each text ends in n, because equal texts stay on one side of a split.
    """
    folder.mkdir(parents=True)
    found = read_rows(Repository.in_folder(require_folder(dataset), None), "train", [TEXT_COLUMN, "label"], MAX_ROWS)
    table = found.select_columns([TEXT_COLUMN, "label"]).with_format("arrow")[:]
    with pyarrow.parquet.ParquetWriter(folder / "train-00000-of-00001.parquet", table.schema) as writer:
        for number, start in enumerate(range(0, rows, table.num_rows)):
            texts = compute.binary_join_element_wise(table[TEXT_COLUMN], str(number), " ")
            writer.write_table(table.set_column(0, TEXT_COLUMN, texts).slice(0, rows - start))


def measure(dataset: str, rows: int) -> dict[str, Any]:
    """Read, clean, split, tokenize and inspect `rows` rows, made of a dataset's train rows.

    Returns:
        `rows` by split, `cores`, `seconds` by step, `tokenized_rows_per_second`, and `peak_gib`, which this process
        has held resident, pages of mapped files among it.

    Raises:
        UsageError: There is no such folder, or it has no train rows with the columns content and label.
    """
    clock = []
    with tempfile.TemporaryDirectory() as work:
        # Rows cached by an earlier run would be fast.
        datasets.config.HF_DATASETS_CACHE = Path(work) / "cache"
        _repeat_rows(dataset, rows, Path(work) / "reviews")
        argv = ["--dataset_name", f"{work}/reviews", "--max_train_samples", "-1", "--text_columns", TEXT_COLUMN]
        arguments = parse_arguments([*argv, "--output_dir", f"{work}/run", "--use_cpu"])
        max_length = arguments.data.max_length
        clock.append(time.perf_counter())
        tokenizer = load_tokenizer(find_pretrained(arguments.model, max_length), max_length)
        reviews = load_reviews(arguments.data, arguments.training.seed)
        clock.append(time.perf_counter())
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
        clock.append(time.perf_counter())
        inspect(reviews, tokens["train"], arguments)
        clock.append(time.perf_counter())
    seconds = [end - start for start, end in pairwise(clock)]
    return {
        "rows": {name: len(split) for name, split in reviews.splits.items()},
        "cores": usable_cores(),
        "seconds": dict(zip(STEPS, (round(step, 1) for step in seconds), strict=True)),
        "tokenized_rows_per_second": round(sum(map(len, tokens.values())) / seconds[1]),
        "peak_gib": round(peak_resident() / 2**30, 2),
    }

"""One pass over all rows of a split: from disk to disk, in blocks, over the cores at hand, with an end in sight."""

from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset, Features, concatenate_datasets
from tqdm.auto import tqdm

from recipe.command_line import usable_cores

# Below this number of rows a pass takes seconds, and worker processes and a progress bar are not worth their start.
PARALLEL_FROM_ROWS = 50_000
# What one process works through at a time. The pages it reads of a file count as its memory until that file is closed,
# which is when its rows are done: so many rows, and not all of them, are what a pass holds. Each leaves a file open.
ROWS_PER_PROCESS = 50_000
MAX_PROCESSES = 16


def map_rows(rows: Dataset, function: Callable[[dict[str, list[Any]]], Any], features: Features, title: str) -> Dataset:
    """Return what `function` makes of the rows, on disk as Arrow, where the same pass finds it again.

    Args:
        rows: From disk, or few.
        function: From the columns of up to 1,000 rows to those columns of the result that `features` names.
        features: Of the result.
        title: What the pass is called beside its progress bar, shown on a terminal from `PARALLEL_FROM_ROWS` rows.
    """
    options: dict[str, Any] = {"batched": True, "remove_columns": rows.column_names, "features": features}
    if len(rows) < PARALLEL_FROM_ROWS:
        return rows.map(function, **options)
    processes = min(usable_cores(), MAX_PROCESSES)
    done = []
    with tqdm(total=len(rows), desc=title, unit="row", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for block in _blocks(rows, processes * ROWS_PER_PROCESS):
            done.append(block.map(function, num_proc=processes, **options))
            bar.update(len(block))
    return concatenate_datasets(done)


def _blocks(rows: Dataset, size: int) -> Iterator[Dataset]:
    """Yield the rows in order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows.select(range(start, min(start + size, len(rows))))

"""One pass over all rows of a split: from disk to disk, in blocks, over the cores at hand, with an end in sight."""

import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, concatenate_datasets
from datasets.fingerprint import Hasher
from tqdm.auto import tqdm

from recipe.command_line import usable_cores
from recipe.digests import file_sha256

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
        return rows.map(function, new_fingerprint=_fingerprint(rows, function), **options)
    processes = min(usable_cores(), MAX_PROCESSES)
    done = []
    with tqdm(total=len(rows), desc=title, unit="row", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for block in _blocks(rows, processes * ROWS_PER_PROCESS):
            key = _fingerprint(block, function)
            with _ended_as_asked():
                done.append(
                    block.map(partial(_in_worker, function), new_fingerprint=key, num_proc=processes, **options)
                )
            bar.update(len(block))
    return concatenate_datasets(done)


@contextmanager
def _ended_as_asked() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM through; datasets, while it clears up, raises an error of its own in their place."""
    try:
        yield
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt | SystemExit):
            raise error.__context__ from None
        raise


def _fingerprint(rows: Dataset, function: Callable[..., Any]) -> str:
    """Return the key of a pass; datasets' own does not change with the code of a function that a module holds."""
    code = file_sha256(Path(inspect.getsourcefile(function) or ""))
    return Hasher.hash((rows._fingerprint, function, code))


def _in_worker(function: Callable[[dict[str, list[Any]]], Any], batch: dict[str, list[Any]]) -> Any:
    """Return what `function` makes of a batch; Ctrl-C is left to the main process, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return function(batch)


def _blocks(rows: Dataset, size: int) -> Iterator[Dataset]:
    """Yield the rows in order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows.select(range(start, min(start + size, len(rows))))

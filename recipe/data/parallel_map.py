"""One pass over all rows of a split: from disk to disk, in blocks, over the cores at hand, with an end in sight."""

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import multiprocess
from datasets import Dataset, Features, concatenate_datasets
from datasets.fingerprint import Hasher
from tqdm.auto import tqdm

from recipe.files.atomic import file_sha256
from recipe.machine import usable_cores

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
                done.append(block.map(function, new_fingerprint=key, num_proc=processes, **options))
            bar.update(len(block))
    return concatenate_datasets(done)


@contextmanager
def _ended_as_asked() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM through, and the workers end with them.

    Raises:
        KeyboardInterrupt, SystemExit: In whose place datasets, while it clears up, raises an error of its own.
    """
    try:
        with _WORKER_SIGNALS:
            yield
    except BaseException as error:
        # The signal may have come before the pool, or its manager, knew of a process that it had started.
        for process in multiprocess.active_children():
            process.terminate()
        if isinstance(error, Exception) and isinstance(error.__context__, KeyboardInterrupt | SystemExit):
            raise error.__context__ from None
        raise


class _WorkerSignals:
    """While it is entered, processes that are forked leave Ctrl-C to this one, and die of SIGTERM at once.

    With this process's own handlers a worker might end while it holds a lock that the others wait for, or wait for one
    itself and never come to handle a signal that came a moment before: the end of a pass would wait for it for ever.
    """

    def __init__(self) -> None:
        """Take part in every fork from now on."""
        self.entered = False
        # In the child alone: what a handler raises while a hook runs is lost.
        os.register_at_fork(after_in_child=self._begin)

    def __enter__(self) -> None:
        """Begin."""
        self.entered = True

    def __exit__(self, *_: object) -> None:
        """End."""
        self.entered = False

    def _begin(self) -> None:
        """Set what a worker does with them."""
        if self.entered:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


_WORKER_SIGNALS = _WorkerSignals()


def _fingerprint(rows: Dataset, function: Callable[..., Any]) -> str:
    """Return the key of a pass; datasets' own does not change with the code of a function that a module holds."""
    code = file_sha256(Path(inspect.getsourcefile(function) or ""))
    return Hasher.hash((rows._fingerprint, function, code))


def _blocks(rows: Dataset, size: int) -> Iterator[Dataset]:
    """Yield the rows in order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows.select(range(start, min(start + size, len(rows))))

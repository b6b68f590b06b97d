"""Map a function over a dataset's rows; the datasets library caches the result on disk."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from datasets.fingerprint import Hasher

from recipe.files.atomic import file_sha256

# Fewer rows take seconds, which need no progress bar.
PROGRESS_FROM_ROWS = 50_000


def map_rows(rows: Dataset, function: Callable[..., Any], features: Features, title: str) -> Dataset:
    """Return the columns that `function` computes, from the cache if its code and the rows are unchanged.

    Args:
        rows: On disk, or few.
        function: Takes up to 1,000 rows and returns the columns named in `features`.
        title: Label of the progress bar, which a terminal shows from `PROGRESS_FROM_ROWS` rows on.
    """
    # The library's own key does not change with the code of a function that a module holds.
    code = file_sha256(Path(inspect.getsourcefile(function) or ""))
    key = Hasher.hash((rows._fingerprint, function, code))
    unneeded = [name for name in rows.column_names if name not in features]
    with progress_bars(len(rows) >= PROGRESS_FROM_ROWS):
        return rows.map(
            function, batched=True, remove_columns=unneeded, features=features, new_fingerprint=key, desc=title
        )


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Show the datasets library's progress bars inside the block, on a terminal only, or hide them."""
    hidden_before = are_progress_bars_disabled()
    (enable_progress_bars if shown and sys.stderr.isatty() else disable_progress_bars)()
    try:
        yield
    finally:
        (disable_progress_bars if hidden_before else enable_progress_bars)()

"""Say how far a scoring is: a bar on a terminal, and in a log file a line now and then."""

import sys
import threading
import time
from datetime import timedelta

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class LogLines:
    """Counts rows, and says on standard error how far they are."""

    def __init__(self, total: int, done: int) -> None:
        """Start the clock; `total` is 0 where nobody knows it, and `done` rows were scored before."""
        self.total, self.done, self.before = total, done, done
        self.began = self.said = time.perf_counter()
        self.lock = threading.Lock()

    def __enter__(self) -> "LogLines":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Say nothing: the summary follows."""

    def update(self, rows: int) -> None:
        """Count some rows, from any thread."""
        with self.lock:
            self.done += rows
            now = time.perf_counter()
            if now - self.said >= SECONDS_BETWEEN_LINES:
                self.said = now
                print(self.line(now - self.began), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """Return the line to say after so many seconds."""
        rate = (self.done - self.before) / seconds
        of, left = "", ""
        if self.total:
            of = f" of {self.total:,}"
            left = f", {timedelta(seconds=round((self.total - self.done) / rate))} left" if rate else ""
        return f"scoring: {self.done:,}{of} rows, {rate:,.0f} rows per second{left}"


def show_progress(total: int, done: int = 0) -> tqdm | LogLines:
    """Return what counts rows and shows them on standard error, as a context manager with `update`.

    Args:
        total: Number of rows, 0 if it is not known.
        done: Those of them that were scored before.
    """
    if not sys.stderr.isatty():
        return LogLines(total, done)
    return tqdm(desc="scoring", unit=" rows", smoothing=0.05, leave=False, total=total or None, initial=done)

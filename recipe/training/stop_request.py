"""Defer SIGTERM and Ctrl-C to the end of the training step, in the main process and its data-loader workers."""

import os
import signal
import time
from types import FrameType

# Seconds. One Ctrl-C arrives twice where a launcher passes on what the terminal has already sent to every process.
SECOND_REQUEST_AFTER = 1.0


class StopRequest:
    """A context that only notes the first SIGTERM or Ctrl-C; a Ctrl-C more than a second later interrupts as usual."""

    def __init__(self) -> None:
        """Start with no signal pending."""
        self.signal, self.since = 0, 0.0

    def __enter__(self) -> "StopRequest":
        """Install the handlers of the two signals."""
        self.process = os.getpid()
        self.earlier = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            # A data-loader worker, which inherits this handler and is still needed for the step.
            return
        if self.signal and number == signal.SIGINT and time.monotonic() - self.since > SECOND_REQUEST_AFTER:
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self.since = number, time.monotonic()


def outlive_stop(worker: int) -> None:
    """Let a data-loader worker end by the second SIGTERM, not by the first.

    A stop comes to every process of a job. A worker that ended by it would break the step that is still to be finished.
    At its own end the parent sends another, and one more if the worker is still there.
    """
    signal.signal(signal.SIGTERM, _end_next_time)


def _end_next_time(*_: object) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

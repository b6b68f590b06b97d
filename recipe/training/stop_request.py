"""Defer SIGTERM and Ctrl-C to the end of the training step, in the main process and its data-loader workers."""

import os
import signal
import sys
import threading
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
    """Let a data-loader worker end by SIGTERM only if its parent sends it.

    A stop comes to every process of a job. A worker that ended by it would break the step that is still to be finished.
    """
    if sys.platform != "darwin":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)

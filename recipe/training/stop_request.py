"""A wish to stop, by SIGTERM or Ctrl-C, that waits until nothing would be lost."""

import os
import signal
import time
from types import FrameType, TracebackType

# Ctrl-C reaches a process twice at once where a launcher passes on what the terminal has already sent to everyone.
SECOND_WISH_AFTER = 1.0


class StopRequest:
    """While it is entered, SIGTERM and the first Ctrl-C are only noted; a later Ctrl-C interrupts as ever.

    Attributes:
        signal: The number of the signal that came, 0 while there was none.
    """

    def __init__(self) -> None:
        """Begin with no wish."""
        self.signal = 0
        self.since = 0.0

    def __enter__(self) -> "StopRequest":
        """Take the two signals over."""
        self.process = os.getpid()
        self.earlier = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal, in this process; its workers, which inherit this, are still needed for the step."""
        if os.getpid() != self.process:
            return
        if self.signal and number == signal.SIGINT and time.monotonic() - self.since > SECOND_WISH_AFTER:
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self.since = number, time.monotonic()

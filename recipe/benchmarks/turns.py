"""Processes that take turns: each way to do a thing has one of its own, which waits while the others work.

Light on purpose: a way's memory is that of its own libraries. In one process PyTorch and ONNX Runtime slow each other,
as the threads of the one spin while the other works (onnxruntime#13808).
"""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recipe.errors import UsageError
from recipe.machine import silence_libraries

# Prepares, yields what is to be known of that, and from then on an answer to each wish that it is sent.
Work = Callable[..., Generator[Any, Any, None]]


class Worker:
    """A process that works when it is asked to, and ends with the block under `with`.

    Attributes:
        first: What the work yielded when it was prepared.
    """

    def __init__(self, work: Work, *args: Any) -> None:
        """Start `work(*args)` in a process of its own, and wait until it is prepared.

        Raises:
            UsageError: The work found a mistake in what was asked.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, args, theirs), daemon=True)
        self._process.start()
        # So that a process that died is noticed.
        theirs.close()
        self.first = self._answer()

    def __enter__(self) -> "Worker":
        """Return itself."""
        return self

    def __exit__(self, mistake: object, *_: object) -> None:
        """Let the process clear up and end, or end it where something went wrong."""
        self._pipe.close()
        if not mistake:
            self._process.join(timeout=10)
        self._process.terminate()

    def ask(self, wish: Any) -> Any:
        """Return the answer to a wish.

        Raises:
            UsageError: The work found a mistake in what was asked.
        """
        self._pipe.send(wish)
        return self._answer()

    def _answer(self) -> Any:
        """Return what the process answers.

        Raises:
            UsageError: It is one.
        """
        answer = self._pipe.recv()
        if isinstance(answer, UsageError):
            raise answer
        return answer


def peak_resident() -> int:
    """Return the most bytes that this process has held resident."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Not `ru_maxrss`, where Linux has it: that begins with the memory of the process that started this one.
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _serve(work: Work, args: tuple[Any, ...], pipe: Connection) -> None:
    """Be the process."""
    silence_libraries()
    # Ctrl-C is for whoever started this, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    steps = work(*args)
    try:
        pipe.send(next(steps))
        while True:
            pipe.send(steps.send(pipe.recv()))
    except UsageError as mistake:
        pipe.send(mistake)
    except (EOFError, BrokenPipeError):
        # Whoever asks has nothing more to ask.
        steps.close()

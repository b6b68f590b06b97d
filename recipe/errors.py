"""The ways a command may end early that are not defects of the recipe."""

import errno
import os


class UsageError(Exception):
    """What was asked for cannot be done: the message says what was given, what is allowed and what to do.

    Raised before anything is trained or overwritten. On the command line it is one line and exit code 2.
    """


class CheckFailed(Exception):
    """A result did not pass its own check, so nothing of it was kept. On the command line it is exit code 1."""


class Interrupted(Exception):
    """A signal asked for the end, and nothing was lost. On the command line the exit code is 128 and its number.

    Args:
        message: Says how to go on.
        signal_number: 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep both, as pickle wants them."""
        super().__init__(message, signal_number)

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])

    @property
    def code(self) -> int:
        """Return the exit code that a shell gives a process ended by the signal."""
        return 128 + int(self.args[1])


def disk_refusal(error: BaseException | None) -> str | None:
    """Return what a disk refused, and what to do, if that is what an error comes from; `None` if it is not.

    A disk that is full or read-only, or a file that this user may not read or write, however many other errors it was
    wrapped in.
    """
    while error is not None:
        # The second is how datasets says it when it looks before it writes.
        if isinstance(error, OSError) and (error.errno in (errno.ENOSPC, errno.EDQUOT) or "disk space" in str(error)):
            what_to_do = "free some space, or put --output_dir, or HF_HOME (the libraries' cache), elsewhere"
            return f"{os.strerror(errno.ENOSPC)}: {what_to_do}"
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
            return f"{error.strerror}: {error.filename}"
        error = error.__cause__ or error.__context__
    return None

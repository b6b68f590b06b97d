"""The ways a command may fail that are not defects of the recipe."""

import errno


class UsageError(Exception):
    """What was asked for cannot be done: the message says what was given, what is allowed and what to do.

    Raised before anything is trained or overwritten. On the command line it is one line and exit code 2.
    """


class CheckFailed(Exception):
    """A result did not pass its own check, so nothing of it was kept. On the command line it is exit code 1."""


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the full disk that an error comes from, however many others it was wrapped in; `None` without one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None

"""Define the ways a command may end early that are not defects of the recipe."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from signal import SIGINT, SIGTERM


class UsageError(Exception):
    """Reports a request that cannot be done: what was given, what is allowed and what to do.

    Raised before anything is trained or overwritten. On the command line it is one line and exit code 2.
    """

    code = 2


class RecipeWarning(UserWarning):
    """Warns of something that was done otherwise than asked. On the command line it is one line."""


class CheckFailed(Exception):
    """Reports a result that failed its own check and was not kept. On the command line it is exit code 1."""

    code = 1


class Interrupted(Exception):
    """Reports that a signal ended the command and nothing was lost.

    Args:
        message: How to go on.
        signal_number: 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep both as `args`, which pickle needs, and set the exit code that a shell gives to such an end."""
        super().__init__(message, signal_number)
        self.code = 128 + signal_number

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def signal_of(end: BaseException | None) -> int:
    """Return the signal that an exception ends a command by, 0 if it is none."""
    if isinstance(end, KeyboardInterrupt):
        return int(SIGINT)
    code = getattr(end, "code", 0)
    return code - 128 if code in (128 + SIGINT, 128 + SIGTERM) else 0


@contextmanager
def any_error_as_usage_error(what: str) -> Iterator[None]:
    """Turn any error into a `UsageError` that says what cannot be done and, after a colon, the error's first line.

    For libraries that raise types of their own, whose only common base is `Exception`.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{what}: {reason}") from error


def require_extra(package: str, extra: str = "") -> None:
    """Raise a `UsageError` with the pip command if a `package`, which an extra may bring, is not installed."""
    if find_spec(package) is None:
        wanted = f"-e '.[{extra}]'" if extra else package
        raise UsageError(f"{package} is not installed: run pip install {wanted}")


FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
CACHE_HELP = " (the libraries' cache: set HF_HOME to a folder that you may write to)"


def disk_refusal(error: BaseException | None) -> str | None:
    """Return one line for a full or read-only disk or a forbidden file, wherever in the error's causes; else `None`."""
    while error is not None:
        # datasets raises an OSError without a number when it looks at the free space before it writes.
        if isinstance(error, OSError) and (error.errno in (errno.ENOSPC, errno.EDQUOT) or "disk space" in str(error)):
            what_to_do = "free some space, or put --output_dir, or HF_HOME (the libraries' cache), elsewhere"
            return f"{os.strerror(errno.ENOSPC)}: {what_to_do}"
        if isinstance(error, OSError) and error.errno in (*FORBIDDEN, errno.ENOENT) and error.filename:
            cache = os.environ.get("HF_HOME", os.path.expanduser("~/.cache"))
            is_cache = str(error.filename).startswith(cache)
            # A file that is missing elsewhere is somebody's mistake.
            if not (is_cache or error.errno in FORBIDDEN):
                return None
            return f"{error.strerror}: {error.filename}{CACHE_HELP if is_cache else ''}"
        error = error.__cause__ or error.__context__
    return None

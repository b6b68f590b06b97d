"""Let one launch at a time write to a place, by a lock that ends with its process, however that ends."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from recipe.errors import UsageError
from recipe.machine import is_main_process

# Others that end at the same moment remove the file, or its folder, from under this process.
TRIES = 5

_held: set[int] = set()


def _leave_to_parent() -> None:
    """Close the locks in a child: a data-loader worker may outlive the killed process that holds them."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def holding(path: Path, claim: str, flag: str) -> Iterator[None]:
    """Hold the lock file `path` until the block ends, then remove it, and folders that were made for it and are empty.

    Several processes of one launch share it: the main one takes it. A file that a killed process has left is no lock.

    Args:
        path: Its folder is made if needed.
        claim: What whoever holds it does, as `runs/x is being written`.
        flag: The one that names another place.

    Raises:
        UsageError: Another launch holds it (names host and process), or the folder cannot be made or written.
    """
    if not is_main_process():
        yield
        return
    made, handle = [folder for folder in path.parents if not folder.exists()], None
    try:
        handle = _take(path, claim, flag)
        _held.add(handle)
        # For the message that another launch gets.
        os.truncate(handle, 0)
        owner = f"process {os.getpid()} on host {socket.gethostname()}"
        os.pwrite(handle, f"{owner} since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}\n".encode(), 0)
        yield
    finally:
        if handle is not None:
            # Removed first: whoever has opened it meanwhile sees that it is no longer the one to take.
            path.unlink(missing_ok=True)
            _held.discard(handle)
            os.close(handle)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _take(path: Path, claim: str, flag: str) -> int:
    """Return the locked file's descriptor."""
    failure = ""
    for _ in range(TRIES):
        try:
            os.makedirs(path.parent, exist_ok=True)
            is_new = not path.exists()
            handle = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_EXCL if is_new else 0), 0o666)
        except OSError as error:
            failure = error.strerror or str(error)
            continue
        try:
            _lock(handle, path, is_new, claim, flag)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(handle)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise UsageError(f"{flag} {path.parent} cannot be made or written: {failure or 'others write there'}")


def _lock(handle: int, path: Path, is_new: bool, claim: str, flag: str) -> None:
    """Lock an open file; where the file system has no locks, decide by the process that the file names."""
    advice = f"wait for it, or choose another {flag}"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another process"
        if error.errno != errno.EWOULDBLOCK:
            if is_new:
                return
            if _has_ended(owner):
                path.unlink(missing_ok=True)
                return
            advice += f"; if it has ended, remove {path}, as this file system has no locks"
        raise UsageError(f"{claim} by {owner}: {advice}") from None


def _has_ended(owner: str) -> bool:
    """Return whether a process is known to be no more: one of this host, which is not running."""
    found = re.match(r"process (\d+) on host (\S+)", owner)
    if not found or found[2] != socket.gethostname():
        return False
    try:
        # Signal 0 is sent to nobody. A container begun anew may give this process the number of the old one.
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(found[1]) == os.getpid()

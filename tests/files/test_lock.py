"""A lock is held by one launch at a time, names its process, and ends with it however it ends."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, files_under

from recipe.errors import UsageError
from recipe.files.lock import holding


def hold(path: Path) -> None:
    """Take the lock and leave it."""
    with holding(path, "it is being written", "--output"):
        pass


def test_who_comes_second_is_told_who_came_first_and_changes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "run" / ".lock"
    with holding(lock, "it is being written", "--output"):
        content = lock.read_text()
        owner = f"process {os.getpid()} on host {re.escape(socket.gethostname())}"
        said = f"^it is being written by {owner} since 2.*: wait for it, or choose another --output$"
        for _ in range(2):
            with pytest.raises(UsageError, match=said):
                hold(lock)
        assert lock.read_text() == content
    hold(lock)


def test_a_lock_leaves_nothing_but_what_was_written_meanwhile(tmp_path: Path) -> None:
    hold(tmp_path / "runs" / "mine" / ".lock")
    assert not list(tmp_path.iterdir())
    with holding(tmp_path / "runs" / "mine" / ".lock", "it is being written", "--output"):
        (tmp_path / "runs" / "mine" / "run.json").touch()
    assert list((tmp_path / "runs" / "mine").iterdir()) == [tmp_path / "runs" / "mine" / "run.json"]
    (tmp_path / "empty").mkdir()
    hold(tmp_path / "empty" / ".lock")
    assert (tmp_path / "empty").is_dir(), "which was there before"


def test_a_killed_process_holds_nothing_and_nor_do_its_children(tmp_path: Path) -> None:
    # The child lives for as long as the test reads.
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    program = f"""import os, signal, sys
from pathlib import Path
from recipe.files.lock import holding
with holding(Path({str(tmp_path / ".lock")!r}), 'it is being written', '--output'):
    begun, begin = os.pipe()
    if os.fork() == 0:
        os.write(begin, b"x")
        os.read({reader}, 1)
        os._exit(0)
    os.read(begun, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    try:
        killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, pass_fds=[reader], timeout=60)
        assert killed.returncode == -signal.SIGKILL and (tmp_path / ".lock").is_file()
        hold(tmp_path / ".lock")
        assert not (tmp_path / ".lock").exists()
    finally:
        os.close(reader)
        os.close(writer)


def test_a_lock_that_was_removed_before_it_could_be_taken_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock = tmp_path / ".lock", fcntl.flock

    def replaced_before(handle: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        # As by one that ends and one that begins, between our opening and our locking.
        lock.unlink()
        lock.touch()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", replaced_before)
    with holding(lock, "it is being written", "--output"), pytest.raises(UsageError, match="it is being written by"):
        hold(lock)


def test_of_many_at_once_one_holds_it(tmp_path: Path) -> None:
    inside, seen = [], []

    def hold_often() -> None:
        for _ in range(50):
            with suppress(UsageError), holding(tmp_path / "run" / ".lock", "it is being written", "--output"):
                inside.append(1)
                time.sleep(0.001)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Whoever made the folder may have gone while another held the lock.
    assert set(seen) == {1} and not files_under(tmp_path)


def test_the_processes_of_one_launch_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding(tmp_path / ".lock", "it is being written", "--output"):
        monkeypatch.setenv("RANK", "1")
        hold(tmp_path / ".lock")
        assert (tmp_path / ".lock").is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/nowhere"), Path("/proc/self")):
        with pytest.raises(UsageError, match=f"^--output {folder} cannot be made or written: [A-Z]"):
            hold(folder / ".lock")


@pytest.mark.parametrize(
    ("owner", "is_free"),
    [("process {ended} on host {host} since then", True), ("process {alive} on host {host} since then", False)]
    + [("process {ended} on host elsewhere since then", False), ("", False)],
)
def test_without_the_file_system_s_locks_the_named_process_decides(
    owner: str, is_free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lock = tmp_path / ".lock"
    hold(lock)
    assert not lock.exists()
    ended = subprocess.Popen(["true"])
    ended.wait()
    written = owner.format(ended=ended.pid, alive=os.getppid(), host=socket.gethostname())
    lock.write_text(written)
    if is_free:
        hold(lock)
        assert not lock.exists()
    else:
        named = written or "another process"
        with pytest.raises(UsageError, match=f"by {named}: wait .*; if it has ended, remove {lock}, as this file sys"):
            hold(lock)
        assert lock.read_text() == written

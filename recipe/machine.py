"""Describe the machine a process runs on (cores, CPU, rank) and quiet the libraries."""

import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds after which a process that waits for others says so.
SILENT_WAIT = 5.0


def silence_libraries() -> None:
    """Hide the libraries' progress, advice and deprecation notes; their errors still raise.

    Sets the environment before any library is imported, so that worker processes inherit it. Variables that the user
    has set stay.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # datasets logs an error and then raises it, which would make two lines.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # The tokenizer is used before data-loader workers fork; without a choice made here it warns in each of them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has set how; before torch is imported.

    By default they spin. Where other work takes one of the cores, the others then spin for as long as it does.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        # Some microseconds in the OpenMP of torch: no slower if quiet, twice as fast if busy (docs/training.md).
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def is_main_process() -> bool:
    """Return whether this is the main process (rank 0), which alone prints and writes."""
    return int(os.environ.get("RANK") or 0) == 0


def forget_leftover_launch() -> None:
    """Remove a launcher's variables from the environment, unless they say how many processes there are and which it is.

    Accelerate reads each of them, and fails on an empty one or waits for processes that nobody has started.
    """
    given = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    rank, processes = given["RANK"], given["WORLD_SIZE"]
    is_launch = rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)
    for name, value in given.items():
        if not (is_launch and value.isdecimal()):
            os.environ.pop(name, None)


@contextmanager
def connecting(processes: int) -> Iterator[None]:
    """Let signals end this process at once while it waits for others, and say what it waits for if that takes long.

    torch waits outside of Python, where no Python handler runs. Only the main thread can set handlers.
    """
    if processes < 2 or threading.current_thread() is not threading.main_thread():
        yield
        return
    message = (
        f"waiting for the other {processes - 1} process(es): RANK={os.environ.get('RANK')} and WORLD_SIZE={processes} "
        "are set. If nobody has started them, stop and unset both"
    )
    earlier = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    timer = threading.Timer(SILENT_WAIT, print, [message], {"file": sys.stderr, "flush": True})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def usable_cores() -> int:
    """Return how many cores this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_cpu() -> str:
    """Return the kind of this machine's CPU, as `kind_of_cpu` does."""
    flags = Path("/proc/cpuinfo")
    return kind_of_cpu(platform.machine(), flags.read_text(encoding="utf-8") if flags.is_file() else "")


def kind_of_cpu(machine: str, described: str) -> str:
    """Return `vnni`, `avx2` or `arm`, from `platform.machine()` and a text that holds the CPU's flags.

    If it is not known, `avx2`: a file for that runs right on every CPU.
    """
    if machine.lower() in ("arm64", "aarch64"):
        return "arm"
    return "vnni" if {"avx512_vnni", "avx_vnni"} & set(described.split()) else "avx2"

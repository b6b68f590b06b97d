"""Runs `scripts/predict.py` several times, one after another, each in a process forked once all is imported.

    echo '[{"argv": ["--input", "a.csv", "--output", "b.csv"], "window": 8, "die_at": 3}]' | python tests/score_probe.py

With `die_at` the process sends itself a signal, SIGKILL unless `signal` names another, before its `die_at`-th change to
the disk that other processes could see. Prints a JSON list: exit code, standard output, standard error and number of
such moments of each run.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.command_line import run
from recipe.machine import silence_libraries

CHANGES = [(os, "fsync"), (shutil, "rmtree"), *((Path, name) for name in ("replace", "mkdir", "unlink"))]


class HalfWritten:
    """A file in which the first half of what is written is on the disk a moment before the second half."""

    def __init__(self, file: Any, moment: Callable[[], None]) -> None:
        self.file = file
        self.moment = moment

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        data = bytes(data)
        written = self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.moment()
        return int(written + self.file.write(data[len(data) // 2 :]))


def count_moments(file: Any, die_at: int, number: int) -> None:
    """Write a byte to a file for each moment, and send a signal at one of them; `die_at` 0 sends none."""
    passed = 0

    def moment() -> None:
        nonlocal passed
        passed += 1
        file.write(b".")
        file.flush()
        if passed == die_at:
            os.kill(os.getpid(), number)

    def changed(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        moment()
        return original(*args, **kwargs)

    def opened(original: Callable[..., Any], path: Path, mode: str = "r", **kwargs: Any) -> Any:
        file = original(path, mode, **kwargs)
        return HalfWritten(file, moment) if mode == "wb" else file

    for owner, name in CHANGES:
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, original=original, **kwargs: changed(original, *args, **kwargs))
    original_open = Path.open
    Path.open = lambda *args, **kwargs: opened(original_open, *args, **kwargs)  # type: ignore[method-assign]


def run_job(job: dict[str, Any], moments: Any) -> None:
    """Run one command line in this process, and end it."""
    inference.WINDOW = job.get("window", inference.WINDOW)
    count_moments(moments, job.get("die_at", 0), job.get("signal", signal.SIGKILL))
    sys.argv = ["predict.py", *job["argv"]]
    try:
        run(main)
    except SystemExit as end:
        sys.stdout.flush()
        # ONNX Runtime would wait, while it shuts down, for a thread that only the parent has.
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    silence_libraries()
    # Imported once, for all of the processes; pyarrow imports pandas where it is installed.
    import pandas  # noqa: F401

    import recipe.scoring  # noqa: F401
    from recipe.inference import classifier as inference
    from scripts.predict import main

    answers = []
    for job in json.load(sys.stdin):
        files = [tempfile.TemporaryFile("w+") for _ in range(2)]
        # It has no name that a child could remove at its end.
        moments = tempfile.TemporaryFile()
        if not (child := os.fork()):
            os.dup2(os.open(job.get("stdin", os.devnull), os.O_RDONLY), 0)
            os.dup2(files[0].fileno(), 1)
            os.dup2(files[1].fileno(), 2)
            run_job(job, moments)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in files:
            file.seek(0)
        texts = [file.read() for file in files]
        passed = os.fstat(moments.fileno()).st_size
        answers.append({"code": code, "stdout": texts[0], "stderr": texts[1], "moments": passed})
    print(json.dumps(answers))

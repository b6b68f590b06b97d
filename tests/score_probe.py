"""Runs `scripts/predict.py` several times, one after another, each in a process forked once all is imported.

    echo '[{"argv": ["--input", "a.csv", "--output", "b.csv"], "window": 8, "die_at": 3}]' | python tests/score_probe.py

With `die_at` the process kills itself before it does the so-manieth thing to the disk that others could see. Prints a
JSON list: of each run its exit code, standard output, standard error, and how many such things it did.
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

ON_PATHS = ("open", "replace", "touch", "mkdir", "unlink")
MOMENTS = [(os, "fsync"), (shutil, "rmtree"), *((Path, name) for name in ON_PATHS)]


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


def count_moments(file: Any, die_at: int) -> None:
    """Write a byte for each moment to a file, and die at one of them; a number of 0 never comes."""
    passed, open_path = 0, Path.open

    def moment() -> None:
        nonlocal passed
        passed += 1
        file.write(b".")
        file.flush()
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if original is open_path:
            opened = original(*args, **kwargs)
            return HalfWritten(opened, moment) if args[1:] == ("wb",) else opened
        moment()
        return original(*args, **kwargs)

    for owner, name in MOMENTS:
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, original=original, **kwargs: deadly(original, *args, **kwargs))


if __name__ == "__main__":
    silence_libraries()
    # Imported once, for all of the processes.
    import recipe.scoring  # noqa: F401
    from recipe.inference import classifier as inference
    from scripts.predict import main

    answers = []
    for job in json.load(sys.stdin):
        files = [tempfile.TemporaryFile("w+") for _ in range(2)]
        # Without a name, for a child that ends would remove it.
        moments = tempfile.TemporaryFile()
        child = os.fork()
        if not child:
            os.dup2(os.open(job.get("stdin", os.devnull), os.O_RDONLY), 0)
            os.dup2(files[0].fileno(), 1)
            os.dup2(files[1].fileno(), 2)
            inference.WINDOW = job.get("window", inference.WINDOW)
            count_moments(moments, job.get("die_at", 0))
            sys.argv = ["predict.py", *job["argv"]]
            try:
                run(main)
            except SystemExit as end:
                sys.stdout.flush()
                # ONNX Runtime would wait, while it takes itself apart, for a thread that only the parent has.
                os._exit(int(end.code or 0))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in files:
            file.seek(0)
        texts = [file.read() for file in files]
        passed = os.fstat(moments.fileno()).st_size
        answers.append({"code": code, "stdout": texts[0], "stderr": texts[1], "moments": passed})
    print(json.dumps(answers))

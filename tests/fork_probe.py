"""Runs several command lines of `scripts/train.py`, each in a process of its own, forked once all is imported.

    echo '[["--inspect_data"]]' | python tests/fork_probe.py

Prints a JSON list: for each command line its exit code, standard output and standard error.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.command_line import run
from recipe.machine import silence_libraries

if __name__ == "__main__":
    silence_libraries()
    import recipe.training  # noqa: F401  Imported once, for all of the processes.
    from scripts.train import main

    answers = []
    for argv in json.load(sys.stdin):
        files = [tempfile.TemporaryFile("w+") for _ in range(2)]
        child = os.fork()
        if not child:
            os.dup2(files[0].fileno(), 1)
            os.dup2(files[1].fileno(), 2)
            sys.argv = ["train.py", *argv]
            run(main)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in files:
            file.seek(0)
        answers.append({"code": code, "stdout": files[0].read(), "stderr": files[1].read()})
    print(json.dumps(answers))

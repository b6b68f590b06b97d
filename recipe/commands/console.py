"""The command `review-classifier`: the scripts by shorter names, wherever the package is installed.

    review-classifier train --train_file mine.csv
    review-classifier export --run runs/mine
    review-classifier train --help

Each takes the flags of its script and has its exit codes. `train` runs in one process; for several, give
accelerate launch -m recipe.commands.console train …
"""

import sys
from importlib import import_module
from typing import NoReturn

from recipe.command_line import run, unknown_name
from recipe.errors import UsageError

# By command, the script of the same work.
COMMANDS = {
    "train": "train",
    "export": "export_onnx",
    "evaluate": "evaluate",
    "predict": "predict",
    "publish": "publish",
    "compare": "compare",
    "tune": "tune",
    "advise": "advise",
    "benchmark": "benchmark",
}


def main() -> NoReturn:
    """Run the command that the command line names, and exit with its code."""
    # What `--help` and errors call it.
    sys.argv[0] = "review-classifier"
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name not in COMMANDS:
        run(_other)
    sys.argv[:2] = [f"review-classifier {name}"]
    run(import_module(f"recipe.commands.{COMMANDS[name]}").main)


def _other(argv: list[str]) -> None:
    """Show what there is, or raise a `UsageError` for a name that is no command."""
    names = ", ".join(COMMANDS)
    if not argv:
        raise UsageError(f"give a command: {names}")
    if argv[0] not in ("-h", "--help"):
        raise UsageError(f"{unknown_name('command', argv[0], COMMANDS)}; there are {names}")
    print(f"{__doc__}\nCommands: {names}")


if __name__ == "__main__":
    main()

"""Evaluate a run's best checkpoint, its ONNX model and TF-IDF with logistic regression on the same held-out test rows.

    python scripts/evaluate.py
    python scripts/evaluate.py --run runs/mine

Prints a table and writes <run>/report.json. Exit codes: 0 done, 2 a mistake in what was asked.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where this very file would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import Parser, run  # noqa: E402
from recipe.run_folder import RunFolder  # noqa: E402


def parser() -> Parser:
    """Return the command line's parser."""
    return Parser(__doc__)


def main(argv: list[str]) -> None:
    """Evaluate the run that `argv` names."""
    folder = RunFolder(parser().parse_known_flags(argv).run)
    folder.require_onnx()
    from recipe.evaluation import as_table, evaluate_run

    print(as_table(evaluate_run(folder)))
    print(f"In full: {folder.report}")


if __name__ == "__main__":
    run(main)

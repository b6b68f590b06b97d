"""Evaluate a run's best checkpoint, its ONNX variants and TF-IDF with logistic regression on the same test rows.

python scripts/evaluate.py --help says the rest.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where this very file would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import run
from recipe.commands.evaluate import main

if __name__ == "__main__":
    run(main)

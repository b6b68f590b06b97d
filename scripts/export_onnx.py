"""Export a trained run to ONNX, and certify each variant on the run's own validation reviews.

python scripts/export_onnx.py --help says the rest.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import run
from recipe.commands.export_onnx import main

if __name__ == "__main__":
    run(main)

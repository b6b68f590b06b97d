"""Label reviews with a run's ONNX model: some, or a file of any size.

python scripts/predict.py --help says the rest.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import run
from recipe.commands.predict import main

if __name__ == "__main__":
    run(main)

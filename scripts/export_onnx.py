"""Export a trained run to ONNX, and prove on its own validation reviews that it is the same model.

    python scripts/export_onnx.py
    python scripts/export_onnx.py --run runs/mine

Writes <run>/onnx/: model.onnx, config.json with the label names, and the tokenizer. Exit codes: 0 done, 1 the ONNX
model differs from PyTorch's and nothing was kept, 2 a mistake in what was asked.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import Parser, run  # noqa: E402
from recipe.run_folder import RunFolder  # noqa: E402


def parser() -> Parser:
    """Return the command line's parser."""
    return Parser(__doc__)


def main(argv: list[str]) -> None:
    """Export the run that `argv` names."""
    folder = RunFolder(parser().parse_known_flags(argv).run)
    folder.require_finished()
    from recipe.export import export

    result = export(folder)
    print(f"{folder.onnx / 'model.onnx'}: {result}")
    print(f"Next: python scripts/evaluate.py --run {folder}")


if __name__ == "__main__":
    run(main)

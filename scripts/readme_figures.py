"""Put a run's figures and pictures into the project's README, from what the run has left.

    python scripts/readme_figures.py --run runs/quickstart

Fills the blocks of README.md that name the run's folder, and copies its pictures into .readme/. Exit codes: 0 done, 2 a
mistake in what was asked.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import Parser, run
from recipe.run_folder import RunFolder


def parser() -> Parser:
    """Return the command line's parser."""
    return Parser(__doc__)


def main(argv: list[str]) -> None:
    """Fill in the figures of the run that `argv` names."""
    folder = RunFolder(parser().parse_known_flags(argv).run)
    folder.require_onnx()
    from recipe.evaluation.readme_figures import fill_in

    print(f"README.md: {', '.join(fill_in(ROOT / 'README.md', folder, ROOT / '.readme'))}")


if __name__ == "__main__":
    run(main)

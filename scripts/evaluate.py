"""Evaluate a run's best checkpoint, its ONNX variants and TF-IDF with logistic regression on the same test rows.

    python scripts/evaluate.py
    python scripts/evaluate.py --run runs/mine --abstain 0.05 --target_precision 0.95 --slice_by source
    python scripts/evaluate.py --run runs/mine --test_file this_month.csv

Prints a table, and writes <run>/report.json, <run>/README.md (a model card), <run>/report/ with the pictures and the 50
most confident mistakes, and <run>/onnx/decision.json: the temperature, threshold and abstain bound, chosen on
validation rows, which predict.py applies from then on. Exit codes: 0 done, 2 a mistake in what was asked.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where this very file would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import Parser, run
from recipe.run_folder import RunFolder


def parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--target_precision", type=float, help="precision wanted for label 1 (default: the threshold of best F1)"
    )
    parser.add_argument("--abstain", type=float, help="share of reviews to leave to a person, as 0.05 (default: none)")
    parser.add_argument("--slice_by", metavar="COLUMN", help="a column of the test rows to show figures by")
    parser.add_files(test=", or other rows to measure the run on")
    return parser


def main(argv: list[str]) -> None:
    """Evaluate the run that `argv` names."""
    flags = parser().parse_known_flags(argv)
    folder = RunFolder(flags.run)
    folder.require_onnx()
    with folder.hold("--run"):
        from recipe.evaluation.report import evaluate_run, summary

        files = Parser.files_of(flags)
        print(summary(evaluate_run(folder, flags.target_precision, flags.abstain, flags.slice_by, files)))
    print(f"In full: {folder.card}, with pictures; {folder.report}; {folder.decision}")


if __name__ == "__main__":
    run(main)

"""Evaluate a run's best checkpoint, its ONNX variants and TF-IDF with logistic regression on the same test rows.

    python scripts/evaluate.py
    python scripts/evaluate.py --run runs/mine --target_precision 0.9 --abstain 0.05
    python scripts/evaluate.py --run runs/mine --target_accuracy 0.95 --slice_by source
    python scripts/evaluate.py --run runs/mine --test_file this_month.csv

Answers are the most probable label, with the calibrated probability, unless a wish is given. A wish is adopted only
where the validation rows show that it holds on other rows too. Prints the figures of what is served, of each label and
of each variant, and what came of each wish. Writes <run>/report.json, <run>/README.md (a model card), <run>/report/
with the pictures and the 50 most confident mistakes, and <run>/onnx/decision.json: temperature, threshold and what is
certain, which predict.py applies from then on. Exit codes: 0 done, also where a wish was not adopted, 1 the model is
not the one that was trained, 2 a mistake in what was asked.
"""

from contextlib import nullcontext
from dataclasses import fields

from recipe.command_line import RunFolderParser
from recipe.run_folder import RunFolder


def parser() -> RunFolderParser:
    """Return the command line's parser."""
    parser = RunFolderParser(__doc__)
    wish = parser.add_argument_group("targets, measured on validation rows")
    wish.add_argument("--target_precision", type=float, metavar="P", help="precision of label 1, as 0.9")
    wish.add_argument("--target_recall", type=float, metavar="R", help="recall of label 1, as 0.9")
    wish.add_argument("--best_f1", action="store_true", help="the threshold of best F1, where that is more than noise")
    wish.add_argument(
        "--target_accuracy", type=float, metavar="A", help="accuracy of the reviews that are not left to people"
    )
    wish.add_argument("--abstain", type=float, metavar="S", help="share of reviews to leave to people, as 0.05")
    wish.add_argument(
        "--confidence", type=float, metavar="C", help="probability that a target also holds on new rows (default: 0.9)"
    )
    parser.add_argument("--slice_by", metavar="COLUMN", help="a column of the test rows to show figures by")
    parser.add_files(test=", or other rows to measure the run on")
    return parser


def main(argv: list[str]) -> None:
    """Evaluate the run that `argv` names."""
    flags = parser().parse_known_flags(argv)
    folder = RunFolder(flags.run)
    # Whoever still trains it is named before what is missing from it. A folder that is not there is not made.
    with folder.hold("--run") if folder.path.is_dir() else nullcontext():
        folder.require_finished()
        folder.require_onnx()
        from recipe.evaluation.thresholds import Wishes

        given = {field.name: getattr(flags, field.name) for field in fields(Wishes)}
        wishes = Wishes(**{name: value for name, value in given.items() if value is not None})
        wishes.require_sense()
        from recipe.evaluation.report import evaluate_run
        from recipe.evaluation.screen import summary

        print(summary(evaluate_run(folder, wishes, flags.slice_by, RunFolderParser.files_of(flags)), flags.slice_by))
    print(f"In full: {folder.card}, with pictures; {folder.report}; {folder.decision}")

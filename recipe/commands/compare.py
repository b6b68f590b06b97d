"""Compare evaluated runs on the same test rows: which is best, and by more than noise?

    python scripts/compare.py runs/mine runs/longer
    python scripts/compare.py runs/*

Compares the answers that each run serves. Prints F1, accuracy and cost of each run, its difference from the best one
with a 95 % interval and a McNemar test, corrected for the number of comparisons, and the settings that differ. Folders
that hold no evaluated run are left out with a note, as long as two are left. Writes comparison.json, README.md and a
picture into the folder --output, in place of an earlier comparison. Exit codes: 0 done, 2 a mistake in what was asked,
such as runs that were measured on different rows.
"""

from pathlib import Path

from recipe.command_line import Parser


def parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of evaluated runs, two at least")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/comparison"), metavar="FOLDER", help="(default: %(default)s)"
    )
    return parser


def main(argv: list[str]) -> None:
    """Compare the runs that `argv` names."""
    flags = parser().parse_known_flags(argv)
    from recipe.comparison.runs import read_runs, require_output

    runs, left_out = read_runs(flags.runs)
    require_output(flags.output)
    from recipe.comparison.comparison import compare
    from recipe.comparison.page import summary, write_comparison

    comparison = compare(runs, left_out)
    write_comparison(comparison, flags.output)
    print(summary(comparison))
    print(f"In full: {flags.output / 'README.md'}, with a picture; {flags.output / 'comparison.json'}")

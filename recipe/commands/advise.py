"""Read a finished run and say what to do next: which labels to check, what to label, and what more labels would bring.

    python scripts/advise.py
    python scripts/advise.py --run runs/mine --unlabelled_file more.csv

Needs pip install -e ".[advise]". Trains regressions on frozen features, which takes a minute or two for 5,000 reviews;
no test row is read. Each answer says how sure it is and what it would cost. Writes <run>/advice/: suspects.csv, the
rows whose label may be wrong, to_label.csv, the unlabelled reviews that would help most, a picture of the learning
curve, and advice.json. With its column correct_label filled in, train.py takes suspects.csv as --corrections. Exit
codes: 0 done, 1 the model is not the one that was trained, 2 a mistake in what was asked.
"""

from recipe.command_line import RunFolderParser
from recipe.errors import require_extra
from recipe.run_folder import RunFolder


def parser() -> RunFolderParser:
    """Return the command line's parser."""
    parser = RunFolderParser(__doc__)
    parser.add_argument(
        "--unlabelled_file", nargs="+", metavar="FILE", help="reviews to choose those to label next from"
    )
    parser.add_files(test="; it may be gone")
    return parser


def main(argv: list[str]) -> None:
    """Advise on the run that `argv` names."""
    flags = parser().parse_known_flags(argv)
    folder = RunFolder(flags.run)
    folder.require_finished()
    require_extra("cleanlab", "advise")
    with folder.hold("--run"):
        from recipe.advice.run import advise, summary

        print(summary(advise(folder, RunFolderParser.files_of(flags), flags.unlabelled_file)))
    print(f"In full: {folder.path / 'advice'}")

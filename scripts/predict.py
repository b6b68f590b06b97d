"""Label reviews with a run's ONNX model.

    python scripts/predict.py "Great sound, but it died after two days."
    python scripts/predict.py --json < reviews.txt

Takes reviews as arguments, or one per line on standard input. Prints label, probability and review, tab-separated, in
the order given, with white space inside a review as single blanks; with --json an object per line, the review as it
was. Exit codes: 0 done, 2 a mistake in what was asked.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts this folder first on sys.path, where evaluate.py would hide the library `evaluate` from everything.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "scripts")]

from recipe.command_line import Parser, read_lines, require_utf8, run  # noqa: E402
from recipe.run_folder import RunFolder  # noqa: E402


def parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(__doc__)
    parser.add_argument("reviews", nargs="*", metavar="REVIEW", help="a review; none reads standard input")
    parser.add_argument("--json", action="store_true", help="an object per line: text, label, probability")
    return parser


def main(argv: list[str]) -> None:
    """Label the reviews that `argv` or standard input gives."""
    args = parser().parse_known_flags(argv)
    RunFolder(args.run).require_onnx()
    texts = require_utf8(args.reviews) or read_lines(sys.stdin)  # type: ignore[arg-type]
    from recipe.inference import OnnxClassifier

    predictions = OnnxClassifier.from_run(args.run)(texts)
    for text, (label, probability) in zip(texts, predictions, strict=True):
        if args.json:
            print(json.dumps({"text": text, "label": label, "probability": round(probability, 6)}, ensure_ascii=False))
        else:
            print(f"{label}\t{probability:.4f}\t{' '.join(text.split())}")


if __name__ == "__main__":
    run(main)

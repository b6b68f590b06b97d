"""Compare transformers.js with this recipe on the same reviews; run it to print what docs/publishing.md says.

python tests/publishing/transformers_js.py RUN REVIEWS.parquet

Needs node and npm, which installs `@huggingface/transformers` once, below .pytest_cache (half a GB).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow.parquet

from recipe.files.text_rows import Text
from recipe.inference.onnx import OnnxClassifier

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "@huggingface/transformers@4.3.2"
MODULES = ROOT / ".pytest_cache" / "transformers_js"
# transformers.js calls them so.
DTYPES = {"fp32": "fp32", "int8": "q8"}
ODD = [
    ("\U0001f600\U0001f44d\U0001f3fd", "Très déçu… naïve café ½ ﬁne \U0001f468\u200d\U0001f469\u200d\U0001f467 ok"),
    ("", "no title"),
    ("no content", ""),
    ("", ""),
    ("好评", "这个电影很好 좋아요 とても"),
    ("A\u0301 combining", "I\u0307stanbul ẞ ﷺ \u200b zero\ufeffwidth \x07bell \t tab\nnewline\u2028line"),
    ("don't", "[SEP] [MASK] <s> &amp; ' \" ``quotes''"),
    ("x", "a" * 300),
    ("x", "word " * 600),
    ("ĂÂÎȘȚ", "ß ss ŒÆ Ŀ ǆ \ufffd"),
]


class Compared(NamedTuple):
    """How far transformers.js lies from this recipe, on one file of a model.

    Attributes:
        labels_as_loaded, labels_with_end: How many labels differ, with the tokens of transformers.js, and with the last
            special token put back at the end of a truncated review.
        whole_as_loaded: The largest difference of a logit among the reviews that are not truncated.
        logits_with_end: The same among all, with the token put back.
    """

    labels_as_loaded: int
    labels_with_end: int
    whole_as_loaded: float
    logits_with_end: float


def missing() -> str | None:
    """Install the package if need be; return why it cannot be used, `None` if it can."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "node or npm is not installed"
    if not (MODULES / "node_modules" / "@huggingface").is_dir():
        MODULES.mkdir(parents=True, exist_ok=True)
        # Its scripts would fetch CUDA.
        command = ["npm", "install", PACKAGE, "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=MODULES, capture_output=True, text=True, timeout=240)
        if installed.returncode:
            return f"npm cannot install {PACKAGE}: {installed.stderr.strip().splitlines()[-1:]}"
    return None


def answers(run: Path, reviews: Sequence[Text]) -> dict[str, Any]:
    """Return what tests/node/compare.mjs prints."""
    # Node looks for packages from where the file is.
    script = shutil.copy(ROOT / "tests" / "node" / "compare.mjs", MODULES)
    given = json.dumps({"folder": f"{run.resolve().parent}/", "run": run.resolve().name, "reviews": reviews})
    done = subprocess.run(["node", script], input=given, capture_output=True, text=True, timeout=280)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def compare(run: Path, reviews: Sequence[Text]) -> dict[str, Compared]:
    """Compare each variant's logits, those of this recipe without a decision."""
    theirs, found = answers(run, reviews), {}
    for variant, dtype in DTYPES.items():
        ours = OnnxClassifier(run / "onnx", variant)
        (scores,) = ours.score([reviews])
        as_loaded, with_end = (np.array(theirs[dtype][way]) for way in ("as_loaded", "with_end"))
        changed = [int((scores.logits.argmax(1) != logits.argmax(1)).sum()) for logits in (as_loaded, with_end)]
        found[variant] = Compared(
            *changed,
            float(np.abs(scores.logits - as_loaded)[~scores.truncated].max()),
            float(np.abs(scores.logits - with_end).max()),
        )
    return found


def chosen(titles: Sequence[str], contents: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Return so many reviews: those with letters beyond ASCII, the longest, made up ones, and the first of the rest."""
    rows = list(zip(titles, contents, strict=True))
    accents = [row for row in rows if not "".join(row).isascii()][: number // 4]
    longest = sorted(rows, key=lambda row: -len(row[1]))[: number // 4]
    return list(dict.fromkeys([*ODD, *accents, *longest, *rows]))[:number]


def main(run: str, file: str) -> None:
    """Print a table for 200 reviews, as pairs of title and content and as single texts."""
    if why := missing():
        raise SystemExit(why)
    rows = pyarrow.parquet.read_table(file).slice(0, 5000).to_pydict()
    pairs = chosen(rows["title"], rows["content"], 200)
    odd = sum(not "".join(pair).isascii() for pair in pairs)
    (scores,) = OnnxClassifier(Path(run) / "onnx").score([pairs])
    print(f"{len(pairs)} reviews, {odd} not ASCII, {scores.truncated.sum()} truncated")
    for name, reviews in {"pairs": pairs, "texts": [" ".join(pair) for pair in pairs]}.items():
        for variant, found in compare(Path(run), reviews).items():
            print(name, variant, found)


if __name__ == "__main__":
    main(*sys.argv[1:])

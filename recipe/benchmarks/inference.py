"""Speed, memory and faithfulness of inference: the original's way, two libraries' and ours, taking turns."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recipe.benchmarks import backends
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.export.variants import write_onnx
from recipe.files.atomic import write_json
from recipe.hub import require_folder
from recipe.run_folder import RunFolder, versions
from recipe.text_table import columns

# Reviews that each backend answers one at a time, spread over the rounds.
ALONE = 100


def measure(run: RunFolder, dataset: str | None, reviews: int, rounds: int) -> dict[str, Any]:
    """Let each backend answer the same reviews, in turn, and write `<run>/benchmark/inference.json`.

    Args:
        run: A finished run that was exported in fp32 and int8.
        dataset: A folder in the Hub's layout, whose test rows are a second sample.
        reviews: How many of each sample, the first ones.
        rounds: Passes over each sample; one more warms up and is not counted.

    Returns:
        The file's content: `machine`, `load_before` (by `os.getloadavg`), `versions`, `rounds`, and by name of the
        sample under `reviews` its `rows`, and under `ways` the figures by backend, as `compare` returns them.

    Raises:
        UsageError: There is no such run or variant, the run's reviews have changed, or the dataset cannot be read.
    """
    for name in ("fp32", "int8"):
        run.choose_variant(name, ["cpu"])
    found: dict[str, Any] = {"machine": backends.describe_machine(), "load_before": round(os.getloadavg()[0], 2)}
    test = reviews_of(run).test
    samples = {"the run's test rows": list(texts_of(test)[:reviews])}
    if dataset:
        samples[f"{Path(dataset).name}'s test rows"] = _read_texts(dataset, test.text_columns, reviews)
    with tempfile.TemporaryDirectory() as work:
        plain = Path(work) / "plain"
        write_onnx(run.path, plain, backends.load_unmodified(run.path))
        passes = product((0, *range(rounds)), samples.values())
        requests = [(run.path, plain, texts, texts[:ALONE][number::rounds]) for number, texts in passes]
        turns = backends.take_turns(backends.BACKENDS, backends.pass_over, requests)
    found |= {"versions": versions(), "rounds": rounds, "reviews": {}}
    # The first turn of each sample warmed up.
    for turn, (name, texts) in enumerate(samples.items(), start=len(samples)):
        found["reviews"][name] = {"rows": len(texts), "ways": compare(turns[turn :: len(samples)])}
    write_json(run.path / "benchmark" / "inference.json", found)
    return found


def _read_texts(dataset: str, text_columns: list[str], count: int) -> list[Any]:
    folder = require_folder(dataset)
    rows = read_rows(Repository.in_folder(folder, None), "test", text_columns, count)
    texts = [tuple(row[column] or "" for column in text_columns) for row in rows]
    return [text if len(text) > 1 else text[0] for text in texts]


def compare(turns: Sequence[Mapping[str, backends.Pass]]) -> dict[str, dict[str, float]]:
    """Return each backend's figures, beside the original's speed and PyTorch's logits, from all passes by round."""
    expected, ways = turns[-1][backends.PYTORCH].logits, {}
    for name, last in turns[-1].items():
        p50, p95 = np.percentile([one for turn in turns for one in turn[name].alone], [50, 95]) * 1000
        difference = np.abs(last.logits - expected)
        ways[name] = backends.compare_speed(turns, name, len(expected)) | {
            "p50_ms": round(float(p50), 2),
            "p95_ms": round(float(p95), 2),
            "peak_mib": round(last.peak / 2**20),
            "labels_flipped": int((last.logits.argmax(axis=1) != expected.argmax(axis=1)).sum()),
            "largest_difference": float(f"{difference.max():.1e}"),
            "mean_difference": float(f"{difference.mean():.1e}"),
        }
    return ways


def as_table(found: Mapping[str, Any]) -> str:
    """Return for the screen what `measure` returned."""
    lines = []
    for name, part in found["reviews"].items():
        rows = [[way, *map(str, figures.values())] for way, figures in part["ways"].items()]
        lines += [*columns([[f"{part['rows']:,} of {name}", *part["ways"][backends.PYTORCH]], *rows]), ""]
    where = f"{found['machine']}; load average before: {found['load_before']}"
    return "\n".join([*lines, f"Medians of {found['rounds']} rounds on {where}"])

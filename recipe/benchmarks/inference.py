"""Speed, memory and faithfulness of inference: the original's way, two libraries' and ours, taking turns."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from recipe.arguments.data import data_arguments_of
from recipe.benchmarks import backends
from recipe.benchmarks.backends import BACKENDS, Pass
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.export.variants import write_onnx
from recipe.files.atomic import write_json
from recipe.files.text_rows import Text
from recipe.hub import local_folder
from recipe.metrics.scores import score_labels
from recipe.run_folder import RunFolder, versions
from recipe.text_table import columns

# Reviews that each backend answers one at a time, spread over the rounds.
ALONE = 100
HEAD = ("reviews/s", "×", "p50 ms", "p95 ms", "MiB", "flipped", "logits differ: most", "mean", "F1")


class Sample(NamedTuple):
    """Reviews that every backend answers; their labels are int64 (reviews,), or `None` where they are not known."""

    texts: list[Text]
    labels: np.ndarray | None


@dataclass(frozen=True)
class Figures:
    """Median figures of a backend, compared with the original's speed and with PyTorch's logits and labels.

    Attributes:
        p50_ms, p95_ms: Latency of one review alone.
        logit_difference: `largest` and `mean`.
        f1: `None` where the labels are not known.
    """

    reviews_per_second: float
    ratio: float
    p50_ms: float
    p95_ms: float
    peak_mib: int
    labels_flipped: int
    logit_difference: dict[str, float]
    f1: float | None


def measure(run: RunFolder, dataset: str | None, reviews: int, rounds: int) -> dict[str, Any]:
    """Let each backend answer the same reviews, in turn, and write `<run>/benchmark/inference.json`.

    Every backend has a process of its own. A first round warms up and is not counted in `rounds`.

    Args:
        run: A finished run that was exported in fp32 and int8.
        dataset: A folder in the Hub's layout, whose test rows are a second sample; `None` takes the run's alone.
        reviews: How many of each sample, the first ones.

    Returns:
        The file's content: `machine`, `load_before` (by `os.getloadavg`), `versions`, `rounds`, and by name of the
        sample under `reviews` its `rows`, and under `ways` the `Figures` by backend.

    Raises:
        UsageError: There is no such run or variant, the run's reviews have changed, or the dataset cannot be read.
    """
    for name in ("fp32", "int8"):
        run.choose_variant(name, ["cpu"])
    load = round(os.getloadavg()[0], 2)
    samples = _read_samples(run, dataset, reviews)
    with tempfile.TemporaryDirectory() as work:
        plain = Path(work) / "plain"
        write_onnx(run.path, plain, backends.load_unmodified(run.path))
        passes = _take_turns(run.path, plain, samples, rounds)
    found = {
        "machine": backends.describe_machine(),
        "load_before": load,
        "versions": versions(),
        "rounds": rounds,
        "reviews": {
            name: {
                "rows": len(sample.texts),
                "ways": {backend: asdict(_figures(passes[name], backend, sample.labels)) for backend in BACKENDS},
            }
            for name, sample in samples.items()
        },
    }
    write_json(run.path / "benchmark" / "inference.json", found)
    return found


def as_table(found: Mapping[str, Any]) -> str:
    """Return for the screen what `measure` returned."""
    lines = []
    for name, part in found["reviews"].items():
        rows = [_row(backend, Figures(**figures)) for backend, figures in part["ways"].items()]
        lines += [*columns([[f"{part['rows']:,} of {name}", *HEAD], *rows]), ""]
    where = f"{found['machine']}; load average before: {found['load_before']}"
    return "\n".join([*lines, f"Medians of {found['rounds']} rounds on {where}"])


def _row(backend: str, figures: Figures) -> list[str]:
    """Return a backend's row of the table."""
    difference, f1 = figures.logit_difference, "" if figures.f1 is None else f"{figures.f1:.3f}"
    speed = [
        f"{figures.reviews_per_second:.1f}",
        f"{figures.ratio:.2f}",
        f"{figures.p50_ms:.1f}",
        f"{figures.p95_ms:.1f}",
    ]
    faithful = [str(figures.labels_flipped), f"{difference['largest']:.1e}", f"{difference['mean']:.1e}", f1]
    return [backend, *speed, f"{figures.peak_mib:,}", *faithful]


def _read_samples(run: RunFolder, dataset: str | None, count: int) -> dict[str, Sample]:
    """Return the first test rows of a run, and of a dataset if one is named.

    Raises:
        UsageError: They cannot be read, or the run's have changed.
    """
    # The dataset first: to prepare the run's reviews takes longer, and a mistake is to be said at once.
    other = _read_dataset(dataset, data_arguments_of(run.read_config()).text_columns, count) if dataset else {}
    test = reviews_of(run).test
    test = test.take(np.arange(min(count, len(test))))
    return {"the run's test rows": Sample(list(texts_of(test)), test.labels)} | other


def _read_dataset(dataset: str, text_columns: list[str], count: int) -> dict[str, Sample]:
    """Return the first test rows of a folder, which need no labels.

    Raises:
        UsageError: There is no such folder, or it has no test rows with these columns.
    """
    if not (folder := local_folder(dataset)):
        raise UsageError(f"no folder {dataset!r} here")
    table = read_rows(Repository.in_folder(folder, None), "test", list(text_columns), count)
    pairs = [tuple(row[column] or "" for column in text_columns) for row in table]
    texts: list[Any] = [pair[0] if len(pair) == 1 else pair for pair in pairs]
    return {f"{Path(folder).name}'s test rows": Sample(texts, None)}


def _take_turns(run: Path, plain: Path, samples: Mapping[str, Sample], rounds: int) -> dict[str, dict[str, list[Pass]]]:
    """Return the passes of each backend over each sample, by name of the sample and of the backend."""
    texts = {name: sample.texts for name, sample in samples.items()}
    passes: dict[str, dict[str, list[Pass]]] = {name: {backend: [] for backend in BACKENDS} for name in samples}
    with backends.start_workers(
        backends.prepare_backend, {backend: (backend, run, plain, texts) for backend in BACKENDS}
    ) as workers:
        # Round -1 warms up.
        for number in tqdm(range(-1, rounds), unit=" rounds", desc="inference", disable=None):
            for name, backend in product(samples, BACKENDS):
                alone = range(min(ALONE, len(texts[name])))[max(number, 0) :: rounds]
                done = workers[backend]((name, alone))
                if number >= 0:
                    passes[name][backend].append(done)
    return passes


def _figures(passes: Mapping[str, list[Pass]], backend: str, labels: np.ndarray | None) -> Figures:
    """Return a backend's figures from every backend's passes over a sample."""
    own, expected = passes[backend], passes[backends.PYTORCH][-1].logits
    seconds, logits = [done.seconds for done in own], own[-1].logits
    p50, p95 = np.percentile([one for done in own for one in done.alone], [50, 95]) * 1000
    difference, predicted = np.abs(logits - expected), logits.argmax(axis=1)
    return Figures(
        reviews_per_second=round(len(logits) / median(seconds), 1),
        ratio=backends.median_ratio([done.seconds for done in passes[backends.ORIGINAL]], seconds),
        p50_ms=round(float(p50), 2),
        p95_ms=round(float(p95), 2),
        peak_mib=round(max(done.peak for done in own) / 2**20),
        labels_flipped=int((predicted != expected.argmax(axis=1)).sum()),
        logit_difference={"largest": float(difference.max()), "mean": float(difference.mean())},
        f1=None if labels is None else score_labels(labels, predicted, logits.shape[1])["f1"],
    )

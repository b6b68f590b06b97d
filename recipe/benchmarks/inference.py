"""Speed, memory and faithfulness of inference: the original's way, the libraries' documented ones and ours, in turn."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tqdm.auto import tqdm

from recipe.arguments.data import data_arguments_of
from recipe.benchmarks import limits, ways
from recipe.benchmarks.cost import operations, operations_of
from recipe.benchmarks.turns import Worker
from recipe.benchmarks.ways import ORIGINAL, PYTORCH, WAYS, Folders, Pass
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.evaluation.pictures import draw_throughput, save_picture
from recipe.export.variants import CALIBRATION_REVIEWS, write_onnx
from recipe.files.atomic import write_json
from recipe.files.text_rows import Text
from recipe.hub import local_folder
from recipe.machine import usable_cores
from recipe.metrics.scores import score_labels
from recipe.model.pretrained import load_trained
from recipe.run_folder import VARIANT_FILES, RunFolder, versions
from recipe.text_table import columns

TEST_ROWS = "the run's test rows"
# Reviews that each way answers one at a time, some in every round.
ALONE = 100


@dataclass(frozen=True)
class Rows:
    """Reviews to be timed on.

    Attributes:
        texts: Of each.
        labels: int64 (reviews,), or `None` where they are not known.
    """

    texts: list[Text]
    labels: np.ndarray | None


@dataclass
class Timed:
    """What a way has shown on some reviews, an entry for each round.

    Attributes:
        passes: Over all of them.
        alone: Seconds of each review that was answered by itself.
        sizes: int64 (batches, 3), as `recipe.benchmarks.ways.serve` gives them.
    """

    passes: list[Pass]
    alone: list[float]
    sizes: np.ndarray

    @property
    def seconds(self) -> list[float]:
        """Return how long each pass took."""
        return [one.seconds for one in self.passes]


def measure(run: RunFolder, dataset: str | None, reviews: int, rounds: int) -> dict[str, Any]:
    """Let each way answer the same reviews, in turn, and write `<run>/benchmark/`.

    Every way has a process of its own, that waits while the others work. A first round warms up and is not counted.

    Args:
        run: A finished run that was exported in fp32 and int8.
        dataset: A folder in the Hub's layout, whose test rows are taken as well; `None` is the run's own alone.
        reviews: How many of either, the first ones.
        rounds: Passes of each way.

    Returns:
        What `inference.json` holds: `machine`, `load_before` (of other work, by `os.getloadavg`), `versions`, `rounds`;
        `limits`, operations per second of large matrix multiplications; `left_out`, ways that cannot be measured here,
        with the reason; and by name of the reviews their `rows`, and by way the figures of `_figures`.

    Raises:
        UsageError: There is no such run or variant, or its reviews or the dataset cannot be read.
    """
    for name in ("fp32", "int8"):
        run.choose_variant(name, ["cpu"])
    load = round(os.getloadavg()[0], 2)
    rows, calibration = _read_reviews(run, dataset, reviews)
    left_out = ways.left_out()
    names = [name for name in WAYS if name not in left_out]
    with tempfile.TemporaryDirectory() as work:
        folders = _write_models(run, Path(work), calibration, with_openvino=ways.OPENVINO in names)
        timed, best, traits = _take_turns(names, folders, rows, rounds)
    costs = _costs(run)
    compared: dict[str, dict[str, Any]] = {
        of: {"rows": len(some.texts), "ways": _all_figures(timed[of], some.labels, traits, costs, best)}
        for of, some in rows.items()
    }
    found = {
        "machine": f"{usable_cores()} CPU cores",
        "load_before": load,
        "versions": versions() | ways.versions_of_extra(),
        "rounds": rounds,
        "limits": {f"{name}_giga_per_second": round(limit / 1e9) for name, limit in best.items()},
        "left_out": left_out,
        "reviews": compared,
    }
    speeds = {f"{part['rows']:,} of {of}": _speeds(part["ways"]) for of, part in compared.items()}
    save_picture(draw_throughput(speeds), run.path / "benchmark" / "inference.png")
    write_json(run.path / "benchmark" / "inference.json", found)
    return found


def as_table(found: dict[str, Any]) -> str:
    """Return for the screen what `measure` returned."""
    head = ["reviews/s", "×", "p50 ms", "p95 ms", "MiB", "limit", "flipped", "logits differ: most", "mean", "F1"]
    lines = []
    for of, part in found["reviews"].items():
        rows = [_row(name, figures) for name, figures in part["ways"].items()]
        lines += [*columns([[f"{part['rows']:,} of {of}", *head], *rows]), ""]
    fp32, int8 = (found["limits"][f"{name}_giga_per_second"] for name in ("fp32", "int8"))
    return "\n".join(
        [
            *lines,
            *(f"left out  {name}: {reason}" for name, reason in found["left_out"].items()),
            f"Medians of {found['rounds']} rounds on {found['machine']}; load average before: {found['load_before']}. "
            f"limit: share of {fp32} GFLOP/s in fp32, {int8} GOP/s in int8",
        ]
    )


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    """Return a way's row of the table."""
    return [
        name,
        f"{figures['reviews_per_second']:.1f}",
        f"{figures['ratio']:.2f}",
        f"{figures['p50_ms']:.1f}",
        f"{figures['p95_ms']:.1f}",
        f"{figures['peak_mib']:,}",
        f"{figures['share_of_limit']:.0%}",
        str(figures["labels_flipped"]),
        f"{figures['logit_difference']['largest']:.1e}",
        f"{figures['logit_difference']['mean']:.1e}",
        f"{figures['f1']:.3f}" if "f1" in figures else "",
    ]


def _speeds(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return each way's reviews per second and its ratio."""
    return {name: (way["reviews_per_second"], way["ratio"]) for name, way in figures.items()}


def _read_reviews(run: RunFolder, dataset: str | None, count: int) -> tuple[dict[str, Rows], list[Text]]:
    """Return the reviews to be timed on by their name, and train reviews for calibration.

    Raises:
        UsageError: They cannot be read.
    """
    args = data_arguments_of(run.read_config())
    # Before anything that takes longer, so that a mistake is said at once.
    more = _read_dataset(dataset, args.text_columns, count) if dataset else {}
    reviews = reviews_of(run)
    test = reviews.test.take(np.arange(min(count, len(reviews.test))))
    own = {TEST_ROWS: Rows(list(texts_of(test)), test.labels)}
    return own | more, list(texts_of(reviews.train.spread(CALIBRATION_REVIEWS)))


def _read_dataset(dataset: str, columns: Sequence[str], count: int) -> dict[str, Rows]:
    """Return the first test rows of a folder, which need no labels.

    Raises:
        UsageError: There is no such folder, or it has no test rows with these columns.
    """
    if not (folder := local_folder(dataset)):
        raise UsageError(f"no folder {dataset!r} here")
    table = read_rows(Repository.in_folder(folder, None), "test", list(columns), count)
    texts = [tuple(row[column] or "" for column in columns) for row in table]
    some: list[Any] = [one[0] if len(one) == 1 else one for one in texts]
    return {f"{Path(folder).name}'s test rows": Rows(some, None)}


def _write_models(run: RunFolder, work: Path, calibration: list[Text], with_openvino: bool) -> Folders:
    """Write the models that only the others' ways need."""
    folders = Folders(run.path, work / "plain", work / "dynamic")
    write_onnx(run.path, folders.plain, ways.untouched_class(run.path))
    shutil.copytree(run.onnx, folders.dynamic, ignore=shutil.ignore_patterns("*.onnx"))
    source, target = run.onnx / VARIANT_FILES["fp32"], folders.dynamic / VARIANT_FILES["int8"]
    # It advises, each time, a pass over the graph that the usual recipe leaves out.
    logging.disable(logging.WARNING)
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    if with_openvino:
        # In a process of its own, as nncf changes torch where it finds it.
        with Worker(ways.write_openvino, folders.plain, calibration):
            pass
    return folders


def _take_turns(
    names: Sequence[str], folders: Folders, rows: Mapping[str, Rows], rounds: int
) -> tuple[dict[str, dict[str, Timed]], dict[str, float], dict[str, tuple[str, bool]]]:
    """Return what each way has shown by name of the reviews, the machine's limits, and each way's first answer."""
    texts = {of: some.texts for of, some in rows.items()}
    with ExitStack() as ended:
        limit = ended.enter_context(Worker(limits.serve))
        workers = {name: ended.enter_context(Worker(ways.serve, name, folders, texts)) for name in names}
        timed = {of: {name: Timed([], [], np.empty(0)) for name in names} for of in rows}
        measured = []
        # The first round warms up.
        for number in tqdm(range(-1, rounds), unit=" rounds", desc="inference", disable=None):
            for of, name in product(rows, names):
                alone = range(min(ALONE, len(texts[of])))[max(number, 0) :: rounds]
                _take_turn(workers[name], of, timed[of][name], number, alone)
            measured.append(limit.ask("limits"))
        for of, name in product(rows, names):
            timed[of][name].sizes = workers[name].ask(("sizes", of))
    best = {name: median(one[name] for one in measured[1:]) for name in measured[0]}
    return timed, best, {name: worker.first for name, worker in workers.items()}


def _take_turn(worker: Worker, of: str, timed: Timed, number: int, alone: Sequence[int]) -> None:
    """Let a way pass over the reviews once, and answer some of them alone; round -1 is not noted."""
    done, seconds = worker.ask(("pass", of)), worker.ask(("alone", of, alone))
    if number >= 0:
        timed.passes.append(done)
        timed.alone += seconds


def _costs(run: RunFolder) -> dict[bool, np.ndarray]:
    """Return what an answer costs, as `operations` does, by whether the last layer is computed for `[CLS]` alone."""
    found = {}
    for reads_only_cls, model in ((False, ways.untouched_class(run.path)), (True, load_trained(run.path))):
        with torch.no_grad():
            found[reads_only_cls] = operations(
                lambda batch, model=model: model(input_ids=batch, attention_mask=batch),  # type: ignore[misc]
                torch.device("cpu"),
            )
    return found


def _all_figures(
    timed: Mapping[str, Timed],
    labels: np.ndarray | None,
    traits: Mapping[str, tuple[str, bool]],
    costs: Mapping[bool, np.ndarray],
    best: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Return each way's figures on some reviews."""
    found = {}
    for name, shown in timed.items():
        precision, reads_only_cls = traits[name]
        needed = operations_of(shown.sizes, costs[reads_only_cls])
        share = {"precision": precision, "share_of_limit": round(needed / median(shown.seconds) / best[precision], 3)}
        found[name] = _figures(shown, timed) | share | _faithfulness(shown, timed[PYTORCH], labels)
    return found


def _figures(shown: Timed, timed: Mapping[str, Timed]) -> dict[str, Any]:
    """Return a way's speed and memory.

    Returns:
        `reviews_per_second`, and `ratio` to the original, medians with the ratio taken round by round; `p50_ms` and
        `p95_ms` of one review alone; `padding`, its share of what is computed; and `peak_mib`, resident.
    """
    reviews, padded, real = _totals(shown.sizes)
    original = timed[ORIGINAL].seconds
    p50, p95 = np.percentile(shown.alone, [50, 95]) * 1000
    return {
        "reviews_per_second": round(reviews / median(shown.seconds), 1),
        "ratio": round(median(one / mine for one, mine in zip(original, shown.seconds, strict=True)), 2),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "padding": round(1 - real / padded, 3),
        "peak_mib": round(max(one.peak for one in shown.passes) / 2**20),
    }


def _totals(sizes: np.ndarray) -> tuple[int, int, int]:
    """Return reviews, positions that are computed, and word pieces of batches."""
    return int(sizes[:, 0].sum()), int((sizes[:, 0] * sizes[:, 1]).sum()), int(sizes[:, 2].sum())


def _faithfulness(shown: Timed, pytorch: Timed, labels: np.ndarray | None) -> dict[str, Any]:
    """Return how far a way's logits lie from PyTorch's, the labels that differ, and F1 where labels are known."""
    found, expected = shown.passes[-1].logits, pytorch.passes[-1].logits
    difference = np.abs(found - expected)
    predicted = found.argmax(axis=1)
    result = {
        "labels_flipped": int((predicted != expected.argmax(axis=1)).sum()),
        "logit_difference": {"largest": float(difference.max()), "mean": float(difference.mean())},
    }
    return result if labels is None else result | {"f1": score_labels(labels, predicted, found.shape[1])["f1"]}

"""F1 by the number of labels: the recipe beside its old defaults, a frozen encoder, TF-IDF and SetFit."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from recipe.arguments.model import ModelArguments
from recipe.benchmarks.backends import describe_machine
from recipe.data.hub_rows import Repository, read_rows
from recipe.data.labels import BINARY_NAMES
from recipe.data.mapping import progress_bars
from recipe.data.sources import hold_out
from recipe.data.tokens import flat
from recipe.errors import CheckFailed, UsageError
from recipe.files.atomic import read_json, write_json, write_whole
from recipe.hub import require_folder
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.scores import score_labels
from recipe.model.baseline import fit_baseline
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import Pretrained, find_pretrained, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
STORE = "cells.jsonl"
TEXT_COLUMNS, LABEL_COLUMN, MAX_LENGTH = ["title", "content"], "label", 128
# A fifth of them, with a review of each label among it, validates.
FEWEST_LABELS = 16
# What own reviews were trained with before their number decided: the quickstart's schedule.
OLD_SCHEDULE = "--global_batch_size 32 --num_train_epochs 2 --learning_rate 1e-4 --warmup_ratio 0.1".split()
# With more labels SetFit's defaults take hours: a step of 16 pairs takes some three seconds of one core.
SETFIT_LABELS, SETFIT_BATCH = 100, 16
# Runs in an environment that has setfit, with its defaults; the recipe's own has not.
SETFIT = """
import json, sys, time
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

torch.set_num_threads(1)
work, weights, max_length, seed = sys.argv[1:]
with open(f"{work}/given.json", encoding="utf-8") as file:
    given = json.load(file)
model = SetFitModel.from_pretrained(weights)
model.model_body.max_seq_length = int(max_length)
arguments = TrainingArguments(output_dir=f"{work}/run", seed=int(seed), save_strategy="no", report_to="none")
start = time.process_time()
Trainer(model, args=arguments, train_dataset=Dataset.from_dict(given["train"])).train()
cpu_seconds = time.process_time() - start
predicted = [int(label) for label in model.predict(given["test"])]
with open(f"{work}/found.json", "w", encoding="utf-8") as file:
    json.dump({"predicted": predicted, "cpu_seconds": cpu_seconds}, file)
"""


@dataclass(frozen=True)
class Cell:
    """What one way reached with one draw of labels; a line of the store.

    Attributes:
        draw: The seed of the draw and of the training.
        cpu_seconds: User and system time of learning, not of answering the test rows.
        seconds: Of both, by the clock.
        dataset: The folder's name.
    """

    way: str
    labels: int
    draw: int
    f1: float
    accuracy: float
    cpu_seconds: float
    seconds: float
    dataset: str
    model: str
    test_rows: int
    commit: str
    machine: str


@dataclass
class Material:
    """The reviews, and what the ways learn with.

    Attributes:
        train, test: Rows with the text columns, and the label 0 or 1.
        model, pretrained: The weights' name, and where they are.
        setfit: The Python of an environment that has setfit, if there is one.
    """

    train: Dataset
    test: Dataset
    model: str
    pretrained: Pretrained
    setfit: str | None

    def draw(self, labels: int, number: int) -> Dataset:
        """Return so many train rows, drawn by a seed and stratified by label, in the order of the split."""
        _, sample = hold_out(labels_of(self.train), labels, number, BINARY_NAMES, "--labels")
        return self.train.select(sample)

    @cached_property
    def encode(self) -> Callable[[Sequence[tuple[str, str]]], np.ndarray]:
        """Turn reviews into the frozen encoder's vectors, float32 (reviews, hidden)."""
        return partial(encode, load_encoder(self.pretrained), load_tokenizer(self.pretrained, MAX_LENGTH))

    @cached_property
    def test_vectors(self) -> np.ndarray:
        """The test rows' vectors, which are the same for each draw."""
        return self.encode(texts_of(self.test))


def texts_of(rows: Dataset) -> list[tuple[str, str]]:
    """Return the reviews' titles and contents; one that is missing is empty."""
    columns = ([text or "" for text in rows[column][:]] for column in TEXT_COLUMNS)
    return list(zip(*columns, strict=True))


def labels_of(rows: Dataset) -> np.ndarray:
    """Return the reviews' labels, int64 (reviews,)."""
    return np.asarray(rows[LABEL_COLUMN][:])


def train_recipe(
    flags: Sequence[str], material: Material, rows: Dataset, draw: int, unlabelled: bool = False
) -> tuple[np.ndarray, float]:
    """Let `scripts/train.py` learn from all rows, of which it holds out its own; the best epoch answers.

    Args:
        unlabelled: It is given the texts of the other train rows too, without their labels.
    """
    with tempfile.TemporaryDirectory() as work, progress_bars(False):
        if unlabelled:
            material.train.select_columns(TEXT_COLUMNS).to_parquet(f"{work}/unlabelled.parquet")
            flags = [*flags, "--unlabelled_file", f"{work}/unlabelled.parquet"]
        run, cpu_seconds = train_in(work, flags, material, rows, draw)
        logits = TorchClassifier.from_run(run).logits(texts_of(material.test), "test rows")
    return logits.argmax(axis=1), cpu_seconds


def train_in(work: str, flags: Sequence[str], material: Material, rows: Dataset, draw: int) -> tuple[str, float]:
    """Let `scripts/train.py` learn from all rows, and return the run, inside the folder `work`, and CPU seconds."""
    rows.to_parquet(f"{work}/draw.parquet")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--train_file", f"{work}/draw.parquet"]
    command += ["--text_columns", *TEXT_COLUMNS, "--label_column", LABEL_COLUMN, "--max_length", str(MAX_LENGTH)]
    command += ["--model_name_or_path", material.model, "--seed", str(draw), "--threads", "1"]
    return f"{work}/run", run_alone([*command, "--output_dir", f"{work}/run", *flags])


def run_alone(command: Sequence[str]) -> float:
    """Run a command and return its CPU seconds; if it fails, raise a `CheckFailed` with its last line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise CheckFailed(f"{command[0]} ended with {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def probe_frozen(material: Material, rows: Dataset, draw: int) -> tuple[np.ndarray, float]:
    """Fit logistic regression to the mean vectors of the encoder as it was pretrained."""
    encode_texts, start = material.encode, time.process_time()
    regression = LogisticRegression(max_iter=1000).fit(encode_texts(texts_of(rows)), labels_of(rows))
    cpu_seconds = time.process_time() - start
    return regression.predict(material.test_vectors), cpu_seconds


def fit_tfidf(material: Material, rows: Dataset, draw: int) -> tuple[np.ndarray, float]:
    """Fit TF-IDF with logistic regression, the recipe's baseline."""
    start = time.process_time()
    baseline = fit_baseline(flat(texts_of(rows)), labels_of(rows))
    cpu_seconds = time.process_time() - start
    return baseline.predict(flat(texts_of(material.test))), cpu_seconds


def run_setfit(material: Material, rows: Dataset, draw: int) -> tuple[np.ndarray, float]:
    """Let SetFit learn with its own defaults, title and content as one text; its CPU seconds are of training alone."""
    joined = [[f"{title}. {content}" for title, content in texts_of(some)] for some in (rows, material.test)]
    with tempfile.TemporaryDirectory() as work:
        given = {"train": {"text": joined[0], "label": labels_of(rows).tolist()}, "test": joined[1]}
        write_json(Path(work, "given.json"), given)
        run_alone([str(material.setfit), "-c", SETFIT, work, material.pretrained.location, str(MAX_LENGTH), str(draw)])
        found = read_json(Path(work, "found.json"))
    return np.asarray(found["predicted"]), found["cpu_seconds"]


# Each takes all that there is, the rows of a draw and its number. Returns the test rows' predicted labels, int64
# (reviews,), and the CPU seconds of learning.
WAYS: dict[str, Callable[[Material, Dataset, int], tuple[np.ndarray, float]]] = {
    "ours": partial(train_recipe, []),
    "unlabelled": partial(train_recipe, [], unlabelled=True),
    "old": partial(train_recipe, OLD_SCHEDULE),
    "frozen": probe_frozen,
    "tfidf": fit_tfidf,
    "setfit": run_setfit,
}


def setfit_steps(labels: int) -> int:
    """Return the steps that SetFit 1.2 takes by default on balanced labels.

    It makes every pair of the reviews of a label, those of a review with itself among them, and as many of unlike ones.
    """
    half = labels // 2
    return -(-2 * half * (half + 1) // SETFIT_BATCH)


def plan(sizes: Sequence[int], ways: Sequence[str] | None, setfit: str | None) -> tuple[list[tuple[int, str]], str]:
    """Return the sizes and ways to measure, and a note on what is left out because nobody named the `ways`."""
    if ways:
        if "setfit" in ways and not setfit:
            raise UsageError("--ways setfit needs --setfit with the Python of an environment that has setfit")
        return list(product(sizes, ways)), ""
    cells = [(size, way) for size, way in product(sizes, WAYS) if way != "setfit" or (setfit and size <= SETFIT_LABELS)]
    if not setfit:
        return cells, "SetFit is left out: --setfit takes the Python of an environment that has setfit"
    if over := [size for size in sizes if size > SETFIT_LABELS]:
        steps = f"{setfit_steps(over[0]):,} steps of {SETFIT_BATCH} pairs by default: --ways setfit measures it"
        return cells, f"SetFit is left out from {over[0]:,} labels on, where it takes {steps}"
    return cells, ""


def measure(
    dataset: str,
    model: str,
    sizes: Sequence[int],
    draws: int,
    ways: Sequence[str] | None,
    setfit: str | None,
    test_rows: int,
    output: Path,
) -> list[Cell]:
    """Measure each way with each number of labels and each draw, and store each result at once; print what is left.

    What the store holds already is not measured again.

    Args:
        dataset: A folder in the Hub's layout, with the columns title, content and label (0 or 1).
        draws: Numbered from 1; all ways take the first before any takes the second.
        ways: Some of `WAYS`; by default all that are affordable, as `plan` says.
        output: The store's folder.

    Returns:
        What the store then holds of this dataset, these weights and so many test rows.

    Raises:
        UsageError: The rows, the weights or SetFit's Python are not there, or there are fewer rows than labels.
        CheckFailed: A training failed.
    """
    wanted, note = plan(list(dict.fromkeys(sizes)), ways, setfit)
    material = find_material(dataset, model, setfit, test_rows)
    if (smallest := min(sizes)) < FEWEST_LABELS:
        raise UsageError(f"--labels {smallest} must be {FEWEST_LABELS} at least")
    # The largest of them is refused here if there are too few rows.
    material.draw(max(sizes), 1)
    same: dict[str, Any] = {"dataset": Path(dataset).resolve().name, "model": model, "test_rows": test_rows}
    where = same | {"commit": _commit(), "machine": describe_machine()}

    def stored() -> list[Cell]:
        return [cell for cell in read_cells(output / STORE) if same.items() <= asdict(cell).items()]

    known = {(cell.draw, cell.labels, cell.way) for cell in stored()}
    left = [(draw, *cell) for draw, cell in product(range(1, draws + 1), wanted) if (draw, *cell) not in known]
    if note:
        print(note)
    while left:
        draw, size, way = left.pop(0)
        cell = Cell(way=way, labels=size, draw=draw, **_measure_cell(material, way, size, draw), **where)
        add_cell(output / STORE, cell)
        reached = f"F1 {cell.f1:.4f}, {cell.cpu_seconds:,.1f} CPU s"
        print(
            f"{way}, {size:,} labels, draw {draw}: {reached}; {len(left):,} left{_time_left(left, stored())}",
            flush=True,
        )
    return stored()


def _measure_cell(material: Material, way: str, labels: int, draw: int) -> dict[str, Any]:
    start = time.perf_counter()
    predicted, cpu_seconds = WAYS[way](material, material.draw(labels, draw), draw)
    found = score_labels(labels_of(material.test), predicted, 2)
    seconds = {"cpu_seconds": round(cpu_seconds, 2), "seconds": round(time.perf_counter() - start, 2)}
    return {name: round(found[name], 6) for name in ("f1", "accuracy")} | seconds


def find_material(dataset: str, model: str, setfit: str | None, test_rows: int) -> Material:
    """Return what the ways learn from, and with; if it is not here, or not usable, raise a `UsageError`."""
    repository = Repository.in_folder(require_folder(dataset), None)
    columns = [*TEXT_COLUMNS, LABEL_COLUMN]
    train, test = (read_rows(repository, *split) for split in (("train", columns, -1), ("test", columns, test_rows)))
    for rows in (train, test):
        if set(labels_of(rows).tolist()) != {0, 1}:
            raise UsageError(f"the column {LABEL_COLUMN!r} of {dataset!r} does not hold 0 and 1")
    if len(test) < test_rows:
        raise UsageError(f"--test_rows {test_rows}: {dataset!r} has {len(test)} test rows")
    if setfit:
        _require_setfit(setfit)
    return Material(train, test, model, find_pretrained(ModelArguments(model_name_or_path=model), MAX_LENGTH), setfit)


def _require_setfit(python: str) -> None:
    code = "import sys, importlib.util; sys.exit(importlib.util.find_spec('setfit') is None)"
    try:
        has_setfit = subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        raise UsageError(f"--setfit {python}: no Python can be started there") from None
    if not has_setfit:
        raise UsageError(f"--setfit {python}: setfit is not installed there")


def _commit() -> str:
    # Of the code alone, because the store may stand in the repository too.
    commands = (["rev-parse", "--short", "HEAD"], ["diff", "--name-only", "HEAD", "--", "recipe", "scripts"])
    try:
        head, changed = (
            subprocess.check_output(["git", *words], cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
            for words in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + "-dirty" * bool(changed)


def read_cells(store: Path) -> list[Cell]:
    """Return all that a store holds; nothing if there is none. Raise `UsageError` if a line is not a cell."""
    lines = store.read_text(encoding="utf-8").splitlines() if store.is_file() else []
    try:
        return [Cell(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{store} has a line that is no measurement: {error}") from None


def add_cell(store: Path, cell: Cell) -> None:
    """Add a line to a store, which is read again before, as somebody else may have added one."""
    lines = [json.dumps(asdict(known)) for known in [*read_cells(store), cell]]
    write_whole(store, "".join(f"{line}\n" for line in lines))


def _time_left(left: Sequence[tuple[int, int, str]], cells: Sequence[Cell]) -> str:
    """Return some minutes, if each way was measured with as many labels before."""
    seconds = {(cell.labels, cell.way): cell.seconds for cell in cells}
    if not left or any((size, way) not in seconds for _, size, way in left):
        return ""
    return f", some {sum(seconds[size, way] for _, size, way in left) / 60:,.0f} min"

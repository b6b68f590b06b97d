"""A file of reviews, however large, as a file of scored reviews: resumable, in the input's order, by many processes."""

import json
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import onnxruntime
from tqdm import tqdm

from recipe import __version__
from recipe.errors import CheckFailed, Interrupted, UsageError, disk_refusal
from recipe.files.atomic import file_sha256
from recipe.files.readers import (
    ADDED,
    DELIMITERS,
    STANDARD,
    Kind,
    ParquetReviews,
    Reviews,
    TextReviews,
    Window,
    kind_of,
)
from recipe.files.text_rows import Text
from recipe.files.writers import Answers, Format, TextFormat, added_names, compressed, format_of
from recipe.inference import classifier as inference
from recipe.inference.classifier import Scores
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.machine import usable_cores
from recipe.run_folder import RunFolder, Variant
from recipe.scoring.parts import Part, Parts
from recipe.scoring.processes import Processes

# Of a row in text: a label's name, six decimals and a truth value, and what separates them.
ADDED_BYTES = 64
# Reviews as text become at least so many times smaller.
COMPRESSION = 3


@dataclass(frozen=True)
class Request:
    """What is to be scored, and how.

    Attributes:
        run: The folder of a run that was exported.
        input, output: A file, or `-` for a standard stream.
        variant: A certified one; `None` is the fastest of those that can be run here.
        provider: `cpu` or `cuda`; `None` is the one that the variant was certified on.
        text_columns: One, or two that are a pair; `None` are those of the run.
        threads: Batches that are computed at a time; `None` shares the machine's cores between its processes.
        on_error: `stop` at a malformed row, or `skip` it.
        limit: Score no more rows than so many; `None` scores all.
        overwrite: Whether an output, and parts of one that was made in another way, may be replaced.
        raw: Whether to leave out the temperature, the threshold and the doubt that an evaluation has chosen.
    """

    run: Path
    input: str
    output: str
    variant: str | None = None
    provider: str | None = None
    text_columns: list[str] | None = None
    threads: int | None = None
    on_error: str = "stop"
    limit: int | None = None
    overwrite: bool = False
    raw: bool = False


@dataclass
class Summary:
    """What was done.

    Attributes:
        rows, truncated, skipped: How many, in all.
        rows_now: Of the rows, those scored since the command was started.
        seconds: Since then.
        where: The output, and where the skipped rows are.
    """

    rows: int = 0
    truncated: int = 0
    skipped: int = 0
    rows_now: int = 0
    seconds: float = 0.0
    where: str = ""

    def add(self, part: Part) -> None:
        """Count a window."""
        self.rows += part.rows
        self.truncated += part.truncated
        self.skipped += part.skipped

    def __str__(self) -> str:
        """Return it in one line."""
        before = f" ({self.rows - self.rows_now:,} of them were there)" if self.rows_now < self.rows else ""
        return (
            f"{self.rows:,} rows{before} in {self.seconds:,.1f} s, "
            f"{self.rows_now / self.seconds:,.0f} rows per second, {self.truncated / max(self.rows, 1):.1%} truncated, "
            f"{self.skipped:,} skipped: {self.where}"
        )


def score(request: Request) -> Summary:
    """Score a file or a stream of reviews.

    Raises:
        UsageError: There is no such run, variant, input or column, the output cannot be written, or a row is malformed.
        Interrupted: By Ctrl-C or SIGTERM, while a file was written; says how to go on.
        CheckFailed: Not every row was scored once.
    """
    began = time.perf_counter()
    processes = Processes()
    kinds = _require_files(request, processes)
    # Before a byte of it is read.
    stamp = _stamp(request.input)
    job = _prepare(request, kinds, processes)
    if request.output == STANDARD:
        summary = _to_stream(job)
    else:
        parts = _require_parts(job, request, kinds[1])
        summary = _to_file(job, parts, kinds[1], lambda: _require_unchanged(request.input, stamp))
    summary.seconds = time.perf_counter() - began
    return summary


@dataclass
class Job:
    """A scoring, all of which is checked and nothing of which is done.

    Attributes:
        classifier: That answers.
        reviews: That are answered.
        format: Of the output.
        names: Of the columns that are added.
        processes: That share the work.
        manifest: All that the output's bytes depend on.
        window: Rows that are scored and kept at a time.
    """

    classifier: OnnxClassifier
    reviews: Reviews
    format: Format
    names: tuple[str, ...]
    processes: Processes
    manifest: dict[str, Any]
    window: int

    def scored(self, done: set[int], bar: tqdm) -> Iterator[tuple[Part, bytes, list[tuple[int, str]]]]:
        """Yield each window of this process's that is not done, with its rows as they are to be written."""
        waiting: deque[Window] = deque()

        def texts() -> Iterator[list[Text]]:
            """Yield the windows' reviews, and let the windows wait for their scores."""
            for window in self.reviews.windows(self.window):
                if window.number % self.processes.count == self.processes.rank and window.number not in done:
                    waiting.append(window)
                    yield window.texts

        for scores in self.classifier.score(texts(), bar.update):
            window = waiting.popleft()
            bar.update(len(window.malformed))
            answers = _answers(scores, self.classifier)
            counts = len(window.texts), int(scores.truncated.sum()), len(window.malformed)
            yield Part(window.number, *counts), self.format.encode(window.kept, answers), window.malformed


def _answers(scores: Scores, classifier: OnnxClassifier) -> Answers:
    """Return what the model's output says."""
    found = classifier.decision(scores.logits)
    labels = [classifier.label_names[label] for label in found.labels]
    doubtful = None if classifier.decision.abstain_below is None else ~found.certain
    return Answers(labels, found.probabilities, scores.truncated, doubtful)


def _require_files(request: Request, processes: Processes) -> tuple[Kind, Kind]:
    """Return what input and output are.

    Raises:
        UsageError: There is no input, or the output cannot be written.
    """
    RunFolder(request.run).require_onnx()
    kinds = _kinds(request)
    if STANDARD in (request.input, request.output) and processes.count > 1:
        raise UsageError("several processes cannot share standard input or output: give files, or start one process")
    if request.input == STANDARD and sys.stdin.isatty():
        raise UsageError("standard input is a terminal: give --input a file, or pipe one in")
    source, target = Path(request.input), Path(request.output)
    if request.input != STANDARD and not source.is_file():
        raise UsageError(f"no file {request.input!r} here (looked for {source.resolve()})")
    if request.output != STANDARD:
        _require_target(source, target)
        _parts(request.output).require_free(request.overwrite)
    return kinds


def _parts(output: str) -> Parts:
    """Return where an output's parts go: beside the file itself, not beside a link to it."""
    path = Path(output)
    return Parts(path.resolve() if path.is_symlink() else path)


def _require_target(source: Path, target: Path) -> None:
    """Refuse an output that could not be written, or would be the end of the input.

    Raises:
        UsageError: Says which.
    """
    if not target.parent.is_dir():
        raise UsageError(f"no folder {target.parent} for the output {target}: make it first")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"--output {target} is the input: choose another file")
    if target.exists() and not target.is_file():
        raise UsageError(f"--output {target} is not a file")
    if not os.access(target.resolve().parent, os.W_OK):
        raise UsageError(f"no file may be written in {target.resolve().parent}: choose another --output")


def _kinds(request: Request) -> tuple[Kind, Kind]:
    """Return what input and output are; a standard stream is what the other is, jsonl where both are one.

    Raises:
        UsageError: An extension is not known, or the two are no match.
    """
    flags = {"--input": request.input, "--output": request.output}
    kinds = [kind_of(path, flag) for flag, path in flags.items() if path != STANDARD] or [Kind(".jsonl", "")]
    if STANDARD in (request.input, request.output):
        if kinds[0].format == ".parquet":
            raise UsageError("parquet cannot be read from or written to a standard stream: give --input and --output")
        plain = Kind(kinds[0].format, "")
        return (plain if request.input == STANDARD else kinds[0], plain if request.output == STANDARD else kinds[0])
    given, wanted = kinds
    if wanted.format != given.format and not {wanted.format, given.format} <= DELIMITERS.keys():
        like = " or ".join(DELIMITERS if given.format in DELIMITERS else [given.format])
        raise UsageError(f"--output {request.output} must be {like}, as the input is {request.input}")
    return given, wanted


def _prepare(request: Request, kinds: tuple[Kind, Kind], processes: Processes) -> Job:
    """Read and check all that there is before anything is scored.

    Raises:
        UsageError: As `score`.
    """
    run, window = RunFolder(request.run), inference.WINDOW
    text_columns = request.text_columns or run.read_config().get("text_columns", ["content"])
    providers = [request.provider] if request.provider else installed_providers()
    variant = run.choose_variant(request.variant, providers)
    reviews = _survey(request, kinds[0], text_columns, window)
    provider = request.provider or variant.provider
    threads = request.threads or max(1, usable_cores() // processes.on_this_machine)
    classifier = OnnxClassifier.from_run(request.run, variant.name, provider, threads, request.raw)
    doubt = classifier.decision.abstain_below is not None
    names = added_names({*reviews.columns, *reviews.found}, reviews.name, doubt)
    reviews.taken = set(names)
    manifest = _manifest(request, run, variant) | {"text columns": text_columns, "provider": provider, "window": window}
    manifest |= {"labels": classifier.label_names, "decision": classifier.decision.to_dict(), "format": kinds[1].format}
    manifest |= {"max_length": classifier.max_length, "batch": classifier.batch_size}
    schema = reviews.schema if isinstance(reviews, ParquetReviews) else None
    format_ = format_of(kinds[1].format, reviews.columns, names, schema)
    return Job(classifier, reviews, format_, names, processes, manifest, window)


def _survey(request: Request, kind: Kind, text_columns: list[str], window: int) -> Reviews:
    """Return the reviews, all that can be known of them before they are scored known.

    Raises:
        UsageError: They cannot be read, or lack a column.
    """
    settings = request.input, text_columns, request.limit, request.on_error == "skip"
    reviews: Reviews
    if kind.format == ".parquet":
        reviews = ParquetReviews(*settings)
    else:
        reviews = text_reviews = TextReviews(kind, *settings)
        if request.input == STANDARD:
            text_reviews.look_ahead(window)
    if request.input != STANDARD:
        reviews.survey()
    reviews.require_text_columns()
    return reviews


def _manifest(request: Request, run: RunFolder, variant: Variant) -> dict[str, Any]:
    """Return what of the request, the run and the input the output's bytes depend on."""
    return {
        "input": None if request.input == STANDARD else file_sha256(Path(request.input)),
        "model": variant.sha256,
        "tokenizer": file_sha256(run.onnx / "tokenizer.json"),
        "variant": variant.name,
        "limit": request.limit,
        "on_error": request.on_error,
        "version": __version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _to_stream(job: Job) -> Summary:
    """Write rows to standard output as they are scored, and a line on standard error for each that is skipped."""
    output, summary = sys.stdout.buffer, Summary(where="standard output")
    assert isinstance(job.format, TextFormat)
    _announce(job, sys.stderr)
    output.write(job.format.head)
    with tqdm(disable=True) as bar:
        for part, rows, malformed in job.scored(set(), bar):
            output.write(rows)
            output.flush()
            for line, error in malformed:
                print(json.dumps({"line": line, "error": error}, ensure_ascii=False), file=sys.stderr)
            summary.add(part)
    output.flush()
    summary.rows_now = summary.rows
    return summary


def _require_parts(job: Job, request: Request, kind: Kind) -> Parts:
    """Return where the parts of the output go.

    Raises:
        UsageError: There are others, or the disk has no room.
    """
    parts = _parts(request.output)
    parts.require_same(job.manifest, request.overwrite)
    _require_space(parts, job.reviews, kind)
    return parts


def _to_file(job: Job, parts: Parts, kind: Kind, require_unchanged: Callable[[], None]) -> Summary:
    """Write a part for each window, and of all parts the output."""
    processes = job.processes
    processes.join()
    processes.wait()
    with _kept(parts, resumable=job.manifest["input"] is not None, alone=processes.count == 1):
        if processes.rank == 0:
            _announce(job, sys.stdout)
            parts.begin(job.manifest)
        processes.wait()
        parts.require_shared(job.manifest)
        there = parts.done()
        processes.wait()
        _write_parts(job, parts, there)
        require_unchanged()
        processes.wait()
        summary = _finish(job, parts, kind, sum(part.rows for part in there))
        processes.wait()
    processes.leave()
    return summary


def _write_parts(job: Job, parts: Parts, there: list[Part]) -> None:
    """Write those of this process's parts that are not there."""
    count, rank, windows = job.processes.count, job.processes.rank, -(-job.reviews.rows // job.window)
    total = sum(min(job.window, job.reviews.rows - number * job.window) for number in range(rank, windows, count))
    initial = sum(part.rows + part.skipped for part in there if part.number % count == rank)
    settings = {"desc": "scoring", "unit": " rows", "total": total or None, "initial": initial, "leave": False}
    with tqdm(**settings, smoothing=0.05, disable=None if rank == 0 else True) as bar:
        for part, rows, malformed in job.scored({done.number for done in there}, bar):
            parts.add(part, rows, malformed)


def _finish(job: Job, parts: Parts, kind: Kind, rows_before: int) -> Summary:
    """Return what was done; the process that speaks for all makes the output of the parts."""
    summary = Summary(where=str(parts.output))
    for part in parts.done() if job.processes.rank == 0 else []:
        summary.add(part)
    if job.processes.rank == 0 and job.reviews.rows not in (0, summary.rows + summary.skipped):
        raise CheckFailed(
            f"{parts.folder} holds {summary.rows + summary.skipped:,} of {job.reviews.rows:,} rows: "
            "begin anew with --overwrite"
        )
    summary.rows_now = summary.rows - rows_before
    if summary.skipped:
        summary.where += f" ({parts.errors.name})"

    def join(files: Any, target: Any) -> None:
        """Write the parts' rows, compressed as the output's name says."""
        with compressed(target, kind.compression) as stream:
            job.format.join(files, stream)

    if job.processes.rank == 0:
        parts.finish(join)
    return summary


@contextmanager
def _kept(parts: Parts, resumable: bool, alone: bool) -> Iterator[None]:
    """Say what is kept when the writing ends early, and remove what is not.

    Args:
        parts: That are written.
        resumable: Whether the input can be read once more.
        alone: Whether no other process may be writing.

    Raises:
        Interrupted: By Ctrl-C or SIGTERM.
        UsageError: The disk is full.
    """
    kept = f"{parts.folder} keeps what is done: the same command goes on from it"
    try:
        yield
    except BaseException as error:
        if alone and not (resumable and parts.done()):
            parts.discard()
            raise
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"stopped; {kept}", signal.SIGINT) from error
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
            raise Interrupted(f"stopped; {kept}", signal.SIGTERM) from error
        if isinstance(error, Exception) and (refusal := disk_refusal(error)):
            raise UsageError(f"{refusal.split(':')[0]}; {kept} once there is room") from error
        raise


def _require_space(parts: Parts, reviews: Reviews, kind: Kind) -> None:
    """Refuse to begin what the disk has no room for: the parts, and the file that is made of them.

    Raises:
        UsageError: Says how much is needed, and how much is free.
    """
    size = reviews.size + (ADDED_BYTES * reviews.rows if kind.format != ".parquet" else 0)
    needed = size + (size // COMPRESSION if kind.compression else size) - parts.size()
    free = shutil.disk_usage(parts.output.parent).free
    if needed > free:
        raise UsageError(
            f"{parts.output.parent} has {free / 1e6:,.1f} MB free, and {parts.output.name} needs about "
            f"{needed / 1e6:,.1f} (its parts, and the whole): free some space, or choose another --output"
        )


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what a file that is written to has another one of; a stream has none."""
    if path == STANDARD:
        return None
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


def _require_unchanged(path: str, stamp: tuple[int, int, int] | None) -> None:
    """Refuse an input whose parts are of two minds.

    Raises:
        UsageError: It was written to since `stamp` was taken.
    """
    if _stamp(path) != stamp:
        raise UsageError(f"{path} was changed while it was scored: begin anew with --overwrite")


def _announce(job: Job, screen: TextIO) -> None:
    """Say where the answers are, if that is not where one looks."""
    if job.names[0] != ADDED[0]:
        print(f"{job.reviews.name} has columns of these names, so they are called {', '.join(job.names)}", file=screen)

"""Score a file of reviews window by window, in the input's order: resumable, and by any number of processes."""

import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import onnxruntime
from tqdm import tqdm

from recipe import __version__
from recipe.errors import CheckFailed, Interrupted, UsageError, disk_refusal
from recipe.files.atomic import file_sha256
from recipe.files.readers import STANDARD_STREAM, FileFormat, ParquetReviewFile, TextReviewFile, Window, review_file
from recipe.files.text_rows import Text
from recipe.files.writers import ADDED, Encoder, ScoredRows, TextEncoder, added_names, compressed, encoder
from recipe.inference import classifier as inference
from recipe.inference.onnx import OnnxClassifier
from recipe.machine import usable_cores
from recipe.run_folder import RunFolder
from recipe.scoring.journal import Journal, WindowRecord
from recipe.scoring.processes import Processes
from recipe.scoring.request import Request

# Upper bound on the bytes that the added columns take per text row.
ADDED_BYTES = 64
# Lower bound on the ratio by which compression shrinks text.
COMPRESSION = 3


@dataclass
class Summary:
    """Totals of a scoring.

    Attributes:
        where: The output, and the report on skipped rows.
        rows, truncated, skipped: Numbers of scored, truncated and skipped rows.
        rows_before: Rows that were scored before the command was started.
        seconds: Time since then.
    """

    where: str
    rows: int = 0
    truncated: int = 0
    skipped: int = 0
    rows_before: int = 0
    seconds: float = 0.0

    def add(self, record: WindowRecord) -> None:
        """Add a window."""
        self.rows += record.rows
        self.truncated += record.truncated
        self.skipped += len(record.malformed)

    def __str__(self) -> str:
        """Return one line."""
        before = f" ({self.rows_before:,} of them were there)" if self.rows_before else ""
        return (
            f"{self.rows:,} rows{before} in {self.seconds:,.1f} s, "
            f"{(self.rows - self.rows_before) / self.seconds:,.0f} rows per second, "
            f"{self.truncated / max(self.rows, 1):.1%} truncated, {self.skipped:,} skipped: {self.where}"
        )


@dataclass
class ScoringPlan:
    """A validated scoring job, not started yet.

    Attributes:
        processes: The processes that share the windows.
        classifier: The model.
        reviews: The input.
        encoder, target: Encoder and format of the output.
        names: The added columns' names.
        manifest: Everything the output's bytes depend on.
    """

    processes: Processes
    classifier: OnnxClassifier
    reviews: TextReviewFile | ParquetReviewFile
    encoder: Encoder
    target: FileFormat
    names: tuple[str, ...]
    manifest: dict[str, Any]

    def is_own(self, window: int) -> bool:
        """Return whether this process scores the window of this number."""
        return window % self.processes.count == self.processes.rank

    def scored(self, wanted: Callable[[int], bool], bar: tqdm) -> Iterator[tuple[WindowRecord, bytes]]:
        """Yield the record and the encoded rows of each window whose number is wanted."""
        waiting: deque[Window] = deque()

        def texts() -> Iterator[list[Text]]:
            """Yield the windows' reviews, while the windows wait for their scores."""
            for window in self.reviews.windows(self.manifest["window"], wanted):
                waiting.append(window)
                yield window.texts

        for scores in self.classifier.score(texts(), bar.update):
            window = waiting.popleft()
            bar.update(len(window.malformed))
            found = self.classifier.decision(scores.logits)
            labels = [self.classifier.label_names[label] for label in found.labels]
            doubtful = None if self.classifier.decision.abstain_below is None else ~found.certain
            rows = ScoredRows(labels, found.probabilities, scores.truncated, doubtful)
            record = WindowRecord(window.number, len(labels), int(scores.truncated.sum()), window.malformed)
            yield record, self.encoder.encode(window.source, rows)

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write the output from its windows, compressed as its name says."""
        with compressed(file, self.target.compression) as stream:
            self.encoder.join(windows, stream)


def score(request: Request) -> Summary:
    """Score a file or a stream of reviews.

    Raises:
        UsageError: A run, variant, input or column is missing, the output cannot be written, a row is malformed, or the
            input changes meanwhile.
        Interrupted: Ctrl-C or SIGTERM came while a file was written; says how to resume.
        CheckFailed: Not every row was scored once.
    """
    began, state, processes = time.perf_counter(), _file_state(request.input), Processes()
    request.require_files(processes.count)
    plan = _plan(request, processes)
    journal = None if request.output == STANDARD_STREAM else Journal(Path(request.output))
    if journal:
        _require_journal(journal, plan, request.overwrite)
    if plan.names[0] != ADDED[0] and processes.rank == 0:
        where = f"{plan.reviews.name} has columns of these names, so they are called {', '.join(plan.names)}"
        print(where, file=sys.stdout if journal else sys.stderr)
    summary = _score_to_file(plan, journal, lambda: _file_state(request.input) == state) if journal else _stream(plan)
    summary.seconds = time.perf_counter() - began
    return summary


def _plan(request: Request, processes: Processes) -> ScoringPlan:
    """Load the model, survey the input, and check that the two fit.

    Raises:
        UsageError: As for `score`.
    """
    run, (source, target) = RunFolder(request.run), request.formats()
    text_columns = request.text_columns or run.read_config().get("text_columns", ["content"])
    threads = request.threads or max(1, usable_cores() // processes.on_this_machine)
    classifier = OnnxClassifier.from_run(request.run, request.variant, request.provider, threads, request.raw)
    reviews = review_file(request.input, source, text_columns, limit=request.limit)
    reviews.skip_malformed, reviews.advice = request.on_error == "skip", " (--on_error skip leaves such rows out)"
    reviews.look_ahead(inference.WINDOW) if request.input == STANDARD_STREAM else reviews.survey()
    reviews.require_columns()
    names = added_names(reviews.columns, reviews.name, classifier.decision.abstain_below is not None)
    reviews.reserved = set(names)
    manifest = {
        "input": None if request.input == STANDARD_STREAM else file_sha256(Path(request.input)),
        "model": classifier.certified.sha256,
        "tokenizer": file_sha256(run.onnx / "tokenizer.json"),
        "variant": classifier.certified.name,
        "provider": request.provider or classifier.certified.provider,
        "text columns": text_columns,
        "labels": classifier.label_names,
        "decision": classifier.decision.to_json(),
        "max_length": classifier.max_length,
        "batch": classifier.batch_size,
        "window": inference.WINDOW,
        "limit": request.limit,
        "on_error": request.on_error,
        "format": target.extension,
        "version": __version__,
        "onnxruntime": onnxruntime.__version__,
    }
    encode = encoder(target.extension, reviews.columns, names, getattr(reviews, "schema", None))
    return ScoringPlan(processes, classifier, reviews, encode, target, names, manifest)


def _require_journal(journal: Journal, plan: ScoringPlan, overwrite: bool) -> None:
    """Check that the journal is of this scoring, and that the disk has room for its windows and for the output.

    Raises:
        UsageError: Says what has changed, or how much room is needed.
    """
    if not overwrite:
        journal.require_same(plan.manifest)
    windows = plan.reviews.size + (ADDED_BYTES * plan.reviews.rows if plan.target.extension != ".parquet" else 0)
    needed = windows + (windows // COMPRESSION if plan.target.compression else windows) - journal.size()
    free = shutil.disk_usage(journal.output.parent).free
    if needed > free:
        raise UsageError(
            f"{journal.output.parent} has {free / 1e6:,.1f} MB free, and {journal.output.name} needs about "
            f"{needed / 1e6:,.1f} (its parts, and the whole): free some space, or choose another --output"
        )


def _stream(plan: ScoringPlan) -> Summary:
    """Write rows to standard output as they are scored, and a line to standard error for each skipped one."""
    output, summary = sys.stdout.buffer, Summary("standard output")
    assert isinstance(plan.encoder, TextEncoder)
    output.write(plan.encoder.head.encode("utf-8"))
    with tqdm(disable=True) as bar:
        for record, rows in plan.scored(plan.is_own, bar):
            output.write(rows)
            output.flush()
            sys.stderr.writelines(record.error_lines())
            summary.add(record)
    output.flush()
    return summary


def _score_to_file(plan: ScoringPlan, journal: Journal, is_unchanged: Callable[[], bool]) -> Summary:
    """Score the windows that the journal lacks, and publish the output.

    Args:
        plan, journal: The job, and where its windows are kept.
        is_unchanged: Whether the input is the file that was surveyed.

    Raises:
        UsageError: The input was changed, or several machines do not share the output's folder.
        CheckFailed: A row is missing.
    """
    processes, summary = plan.processes, Summary(str(journal.output))
    processes.wait()
    with _resumable(journal, plan):
        if processes.rank == 0:
            journal.begin(plan.manifest)
        processes.wait()
        if journal.read_manifest() != plan.manifest:
            raise UsageError(f"{journal.output} must be the same file on every machine: a shared file system")
        done = {record.number for record in journal.records()}
        summary.rows_before = sum(record.rows for record in journal.records())
        processes.wait()
        _score_windows(plan, journal, done)
        if not is_unchanged():
            raise UsageError(f"{plan.reviews.name} was changed while it was scored: start over with --overwrite")
        processes.wait()
        if processes.rank == 0:
            for record in journal.records():
                summary.add(record)
            found, rows = summary.rows + summary.skipped, plan.reviews.rows
            if rows not in (0, found):
                raise CheckFailed(f"{journal.folder} holds {found:,} of {rows:,} rows: start over with --overwrite")
            summary.where += f" ({journal.errors.name})" if summary.skipped else ""
            journal.publish(plan.join)
        processes.wait()
    processes.disconnect()
    return summary


def _score_windows(plan: ScoringPlan, journal: Journal, done: set[int]) -> None:
    """Score this process's windows that are not done, with a progress bar in the main process."""
    rows, size = plan.reviews.rows, plan.manifest["window"]
    sizes = {number: min(size, rows - number * size) for number in range(-(-rows // size)) if plan.is_own(number)}
    settings = {"desc": "scoring", "unit": " rows", "total": sum(sizes.values()) or None, "smoothing": 0.05}
    settings |= {"initial": sum(sizes[number] for number in sizes if number in done), "leave": False}
    with tqdm(**settings, disable=None if plan.processes.rank == 0 else True) as bar:
        for record, encoded in plan.scored(lambda number: plan.is_own(number) and number not in done, bar):
            journal.add(record, encoded)


@contextmanager
def _resumable(journal: Journal, plan: ScoringPlan) -> Iterator[None]:
    """Turn an early end into an error that says how to resume; remove a journal that is no use for that.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came.
        UsageError: The disk is full.
    """
    kept = f"{journal.folder} keeps what is done: the same command goes on from it"
    try:
        yield
    except BaseException as error:
        if plan.processes.count == 1 and not (plan.manifest["input"] and any(journal.records())):
            journal.remove()
            raise
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"stopped; {kept}", signal.SIGINT) from error
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
            raise Interrupted(f"stopped; {kept}", signal.SIGTERM) from error
        if isinstance(error, Exception) and (refusal := disk_refusal(error)):
            raise UsageError(f"{refusal.split(':')[0]}; {kept} once there is room") from error
        raise


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return size, mtime and inode, which change when a file is written; `None` for a stream or a missing file."""
    if not os.path.isfile(path):
        return None
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino

"""Score a file of reviews window by window, in the input's order, and resumable at any moment."""

import hashlib
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import onnxruntime
from tqdm import tqdm

from recipe import __version__
from recipe.errors import CheckFailed, Interrupted, UsageError, disk_refusal
from recipe.files.atomic import file_sha256
from recipe.files.conversion import converter, strings_schema
from recipe.files.joined import JoinedFiles
from recipe.files.parts import joined_name
from recipe.files.readers import (
    COMPRESSION_RATIO,
    SCORED_FORMATS,
    STANDARD_STREAM,
    FileFormat,
    file_format,
    review_file,
)
from recipe.files.writers import TextEncoder, encoder
from recipe.inference import classifier as inference
from recipe.inference.columns import added_names, answer_columns, column_kinds
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.scoring.journal import Journal, WindowRecord
from recipe.scoring.request import Request

# Upper bound on the bytes that the added columns take per text row.
ADDED_BYTES = 64
# Lower bound on the ratio by which compression shrinks text.
COMPRESSION = 3
# Share of unknown tokens from which on the summary names it.
NOTABLE_UNKNOWN = 0.01


@dataclass
class Summary:
    """Totals of a scoring; `rows_before` were scored before the command was started, `seconds` is the time since."""

    where: str
    rows: int = 0
    truncated: int = 0
    wordless: int = 0
    tokens: int = 0
    unknown: int = 0
    skipped: int = 0
    rows_before: int = 0
    seconds: float = 0.0

    def add(self, record: WindowRecord) -> None:
        """Add a window."""
        for name in ("rows", "truncated", "wordless", "tokens", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(record, name))
        self.skipped += len(record.malformed)

    def __str__(self) -> str:
        """Return one line."""
        before = f" ({self.rows_before:,} of them were there)" if self.rows_before else ""
        unknown = self.unknown / max(self.tokens, 1)
        notes = f", {unknown:.1%} of the tokens unknown" if unknown > NOTABLE_UNKNOWN else ""
        notes += f", {self.wordless:,} without a known word" if self.wordless else ""
        return (
            f"{self.rows:,} rows{before} in {self.seconds:,.1f} s, "
            f"{(self.rows - self.rows_before) / self.seconds:,.0f} rows per second, "
            f"{self.truncated / max(self.rows, 1):.1%} truncated, {self.skipped:,} skipped{notes}: {self.where}"
        )


def score(request: Request) -> Summary:
    """Score a file or a stream of reviews.

    Raises:
        UsageError: A run, variant, input or column is missing, the output cannot be written or is being scored, a row
            is malformed, or the input changes meanwhile.
        Interrupted: Ctrl-C or SIGTERM came while a file was written; says how to resume.
        CheckFailed: Not every row was scored once.
    """
    began = time.perf_counter()
    if request.output == STANDARD_STREAM:
        summary = _Scoring(request).to_stream()
    else:
        # Looked at before there is a lock, which needs a folder, and again once no one else can write there.
        request.require_files()
        journal = Journal(Path(request.output))
        with journal.hold():
            summary = _Scoring(request).to_file(journal)
    summary.seconds = time.perf_counter() - began
    return summary


class _Scoring:
    """A job whose model, input and output fit.

    Attributes:
        convert: Makes the output's rows of the input's, if these are of another format.
        kinds: The added columns, each with the type of its values.
        names: Their names in the output.
        manifest: Everything the output's bytes depend on.
    """

    def __init__(self, request: Request) -> None:
        """Load the model, and survey the input."""
        self.request = request
        self.state = list(map(_file_state, request.inputs))
        source, self.target = request.require_files()
        self.classifier = OnnxClassifier.from_run(
            request.run, request.variant, request.provider, request.threads, request.raw
        )
        run, streams = RunFolder(request.run), request.inputs == [STANDARD_STREAM]
        text_columns = request.text_columns or run.read_config().get("text_columns", ["content"])
        self.reviews = reviews = _open(request, source, text_columns)
        self.kinds = column_kinds(self.classifier)
        self.names = added_names(self.kinds, reviews.columns, reviews.name)
        for file in reviews.files:
            file.reserved = set(self.names)
        columns, extension = reviews.columns, self.target.extension
        self.convert = converter(source.extension, extension, columns, reviews.name)
        delimiter = reviews.files[0].delimiter if extension == source.extension else ""
        schema = reviews.schema or strings_schema(columns)
        self.encoder = encoder(
            extension, columns, dict(zip(self.names, self.kinds.values(), strict=True)), schema, delimiter
        )
        self.manifest = {
            "input": None if streams else _files_sha256(request.inputs),
            "model": self.classifier.certified.sha256,
            "tokenizer": file_sha256(run.onnx / "tokenizer.json"),
            "variant": self.classifier.variant,
            "provider": self.classifier.provider,
            "text columns": text_columns,
            "dialect": [request.delimiter, request.quoting, request.escape, request.column_names],
            "labels": self.classifier.label_names,
            "decision": self.classifier.decision.to_json(),
            "max_length": self.classifier.max_length,
            "batch": self.classifier.batch_size,
            "window": inference.WINDOW,
            "limit": request.limit,
            "on_error": request.on_error,
            "format": self.target.extension,
            "version": __version__,
            "onnxruntime": onnxruntime.__version__,
        }

    def to_stream(self) -> Summary:
        """Write rows to standard output as they are scored, and a line to standard error for each skipped one."""
        output, summary = sys.stdout.buffer, Summary("standard output")
        self._say_names(sys.stderr)
        assert isinstance(self.encoder, TextEncoder)
        output.write(self.encoder.head.encode("utf-8"))
        for record, rows in self._scored({}, int):
            output.write(rows)
            output.flush()
            sys.stderr.writelines(record.error_lines())
            summary.add(record)
        output.flush()
        return summary

    def to_file(self, journal: Journal) -> Summary:
        """Score the windows that the journal lacks, and publish the output."""
        if not self.request.overwrite:
            journal.require_same(self.manifest)
        self._require_room(journal)
        self._say_names(sys.stdout)
        summary = Summary(str(journal.output))
        with self._resumable(journal):
            journal.begin(self.manifest)
            done = {record.number: record.rows + len(record.malformed) for record in journal.records()}
            summary.rows_before = sum(record.rows for record in journal.records())
            with self._progress_bar(sum(done.values())) as bar:
                for record, encoded in self._scored(done, bar.update):
                    journal.add(record, encoded)
            if list(map(_file_state, self.request.inputs)) != self.state:
                raise UsageError(f"{self.reviews.name} was changed while it was scored: start over with --overwrite")
            for record in journal.records():
                summary.add(record)
            found, rows = summary.rows + summary.skipped, self.reviews.rows
            if rows not in (0, found):
                raise CheckFailed(f"{journal.folder} holds {found:,} of {rows:,} rows: start over with --overwrite")
            summary.where += f" ({journal.errors.name})" if summary.skipped else ""
            journal.publish(self.encoder.join, self.target.compression)
        return summary

    def _say_names(self, stream: IO[str]) -> None:
        if self.names != list(self.kinds):
            names, taken = ", ".join(self.names), next(name for name in self.kinds if name in self.reviews.columns)
            print(f"{self.reviews.name} has a column {taken!r}: the added ones are called {names}", file=stream)

    def _require_room(self, journal: Journal) -> None:
        """Check that the disk has room for the windows that the journal lacks, and for the output."""
        windows, reviews = self.reviews.size, self.reviews
        if self.target.extension != ".parquet":
            windows *= COMPRESSION_RATIO if reviews.schema else 1
            windows += ADDED_BYTES * reviews.rows
        needed = windows + (windows // COMPRESSION if self.target.compression else windows) - journal.size()
        free = shutil.disk_usage(journal.output.parent).free
        if needed > free:
            raise UsageError(
                f"{journal.output.parent} has {free / 1e6:,.1f} MB free, and {journal.output.name} needs about "
                f"{needed / 1e6:,.1f} (its parts, and the whole): free some space, or choose another --output"
            )

    def _progress_bar(self, done: int) -> tqdm:
        """Return a bar of all rows, of which so many are done."""
        settings = {"desc": "scoring", "unit": " rows", "smoothing": 0.05, "leave": False, "disable": None}
        return tqdm(**settings, total=self.reviews.rows or None, initial=done)

    def _scored(self, done: Collection[int], count: Callable[[int], Any]) -> Iterator[tuple[WindowRecord, bytes]]:
        """Yield the record and the encoded rows of each window that is not done."""
        windows = self.reviews.windows(inference.WINDOW, lambda number: number not in done)
        # The classifier reads one window ahead of the scores that it yields.
        windows, ahead = itertools.tee(windows)
        scored = self.classifier.score((window.texts for window in ahead), count)
        for window, scores in zip(windows, scored, strict=True):
            count(len(window.malformed))
            added = answer_columns(self.classifier, scores)
            record = WindowRecord(
                window.number,
                len(window.texts),
                truncated=int(scores.truncated.sum()),
                wordless=int(scores.wordless.sum()),
                tokens=int(scores.tokens.sum()),
                unknown=int(scores.unknown.sum()),
                malformed=window.malformed,
            )
            yield record, self.encoder.encode(self.convert(window.source), added)

    @contextmanager
    def _resumable(self, journal: Journal) -> Iterator[None]:
        """Turn an early end into an error that says how to resume; remove a journal that is no use for that."""
        kept = f"{journal.folder} keeps what is done: the same command goes on from it"
        try:
            yield
        except BaseException as error:
            if not (self.manifest["input"] and any(journal.records())):
                journal.remove()
                raise
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"stopped; {kept}", signal.SIGINT) from error
            if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
                raise Interrupted(f"stopped; {kept}", signal.SIGTERM) from error
            if isinstance(error, Exception) and (refusal := disk_refusal(error)):
                raise UsageError(f"{refusal.split(':')[0]}; {kept} once there is room") from error
            raise


def _open(request: Request, format: FileFormat, text_columns: list[str]) -> JoinedFiles:
    """Return the input, after reading all of it, or the first window of a stream."""
    streams, files = request.inputs == [STANDARD_STREAM], []
    for path in request.inputs:
        # Of several files some may be compressed.
        file = review_file(path, format if streams else file_format(path, SCORED_FORMATS), text_columns)
        file.dialect = request.dialect
        file.skip_malformed, file.advice = request.on_error == "skip", " (--on_error skip leaves such rows out)"
        files.append(file)
    joined = JoinedFiles(joined_name([file.name for file in files]), files)
    if streams:
        files[0].limit = request.limit
        files[0].look_ahead(inference.WINDOW)
        files[0].require_columns()
    else:
        joined.survey(request.limit)
    return joined


def _files_sha256(paths: list[str]) -> str:
    """Return a file's sha256, or one of the files' own."""
    found = [file_sha256(Path(path)) for path in paths]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return size, mtime and inode, which change when a file is written; `None` for a stream or a missing file."""
    if not os.path.isfile(path):
        return None
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino

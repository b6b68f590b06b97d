"""Score one input into one output, window by window in the input's order, and resumable at any moment."""

import itertools
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import onnxruntime

from recipe import __version__
from recipe.errors import CheckFailed, Interrupted, UsageError, disk_refusal
from recipe.files.atomic import file_sha256, file_state
from recipe.files.conversion import converter, strings_schema
from recipe.files.joined import JoinedFiles
from recipe.files.keys import Keys
from recipe.files.parts import joined_name
from recipe.files.readers import (
    COMPRESSION_RATIO,
    SCORED_FORMATS,
    STANDARD_STREAM,
    ParquetReviewFile,
    TextReviewFile,
    file_format,
    review_file,
    uncompressed,
)
from recipe.files.writers import ParquetEncoder, TextEncoder, encoder
from recipe.inference import classifier as inference
from recipe.inference.columns import added_names, answer_columns, column_kinds
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.scoring.journal import Journal, WindowRecord
from recipe.scoring.progress import LogLines, show_progress
from recipe.scoring.request import Request
from recipe.scoring.summary import Summary

# Lower bound on the ratio by which compression shrinks text.
COMPRESSION = 3


@dataclass
class Model:
    """A run's model, loaded once for any number of files.

    Attributes:
        kinds: The added columns, each with the type of its values.
        settings: Everything the bytes of any output depend on beside its input.
    """

    classifier: OnnxClassifier
    text_columns: list[str]
    kinds: dict[str, type]
    settings: dict[str, Any]

    @classmethod
    def load(cls, request: Request) -> "Model":
        """Load what a request asks for.

        Raises:
            UsageError: The run or the variant is missing or damaged, or cannot be run here.
        """
        classifier = OnnxClassifier.from_run(
            request.run, request.variant, request.provider, request.threads, request.raw
        )
        run = RunFolder(request.run)
        text_columns = request.text_columns or run.read_config().get("text_columns", ["content"])
        settings = {
            "model": classifier.certified.sha256,
            "tokenizer": file_sha256(run.onnx / "tokenizer.json"),
            "variant": classifier.variant,
            "provider": classifier.provider,
            "text columns": text_columns,
            "dialect": [request.delimiter, request.quoting, request.escape, request.column_names],
            "labels": classifier.label_names,
            "decision": classifier.decision.to_json(),
            "max_length": classifier.max_length,
            "batch tokens": classifier.batch_tokens,
            "window": inference.WINDOW,
            "limit": request.limit,
            "on_error": request.on_error,
            "all_scores": request.all_scores,
            "format": request.formats()[1].extension,
            "version": __version__,
            "onnxruntime": onnxruntime.__version__,
        }
        return cls(classifier, text_columns, column_kinds(classifier, request.all_scores), settings)


class Job:
    """A job whose model, input and output fit.

    Attributes:
        convert: Makes the output's rows of the input's, if these are of another format.
        names: The added columns' names in the output.
        manifest: Everything the output's bytes depend on.
        before: The output that stands there already, if new rows are to be added to it.
    """

    def __init__(self, request: Request, model: Model, keys: Keys | None = None) -> None:
        """Survey the input; of rows with keys, only those that are new are scored."""
        self.request, self.model, self.classifier = request, model, model.classifier
        self.state = list(map(file_state, request.inputs))
        source, self.target = request.formats()
        self.streams = request.inputs == [STANDARD_STREAM]
        self.reviews = reviews = _open(request, model.text_columns, keys)
        self.names = added_names(model.kinds, reviews.columns, reviews.name)
        for file in reviews.files:
            file.reserved = set(self.names)
        columns, extension = reviews.columns, self.target.extension
        self.convert = converter(source.extension, extension, columns, reviews.name)
        delimiter = reviews.files[0].delimiter if extension == source.extension else ""
        schema = reviews.schema or strings_schema(columns)
        kinds = dict(zip(self.names, model.kinds.values(), strict=True))
        self.encoder = encoder(extension, columns, kinds, schema, delimiter)
        self.before = Path(request.output) if keys and Path(request.output).exists() else None
        self.manifest = {"input": None if self.streams else reviews.sha256} | model.settings
        if keys:
            scored = file_sha256(self.before) if self.before else None
            self.manifest |= {"key": keys.column, "rows scored before": scored}

    def require_added_to(self, scored: TextReviewFile | ParquetReviewFile) -> None:
        """Raise `UsageError` if a scored file has other columns than the ones that this job writes."""
        expected = [*self.reviews.columns, *self.names]
        if isinstance(self.encoder, ParquetEncoder) and isinstance(scored, ParquetReviewFile):
            same = scored.schema.equals(self.encoder.schema)
        elif self.target.extension == ".jsonl":
            same = set(self.names) <= set(scored.columns) <= set(expected)
        else:
            same = scored.all_columns == expected
        if not same:
            raise UsageError(
                f"{scored.name} has the columns {', '.join(scored.all_columns)}, and this scoring would write "
                f"{', '.join(expected)}: score into another --output"
            )

    def to_stream(self) -> Summary:
        """Write rows to standard output as they are scored, and a line to standard error for each skipped one."""
        output, summary = sys.stdout.buffer, Summary("standard output")
        if self.renamed:
            print(self.renamed, file=sys.stderr)
        assert isinstance(self.encoder, TextEncoder)
        output.write(self.encoder.head.encode("utf-8"))
        # On a terminal a bar would stand among the rows.
        count = int if sys.stderr.isatty() else LogLines(self.reviews.rows, 0).update
        for record, rows in self._scored({}, count):
            output.write(rows)
            output.flush()
            sys.stderr.writelines(record.error_lines())
            summary.add(record)
        output.flush()
        return summary

    def to_file(
        self, journal: Journal, progress: LogLines | None = None, published: Callable[[Summary], Any] = repr
    ) -> Summary:
        """Score the windows that the journal lacks, and publish the output.

        Args:
            progress: Counts the rows of several files; the caller has counted those that are done.
            published: Called with the totals before the output takes its place.
        """
        summary, done = Summary(str(journal.output)), self.done(journal)
        summary.rows_before = sum(record.rows for record in done)
        with self._resumable(journal):
            journal.begin(self.manifest)
            rows_done = sum(record.read for record in done)
            with nullcontext(progress) if progress else show_progress(self.reviews.rows, rows_done) as counted:
                for record, encoded in self._scored({record.number for record in done}, counted.update):
                    journal.add(record, encoded)
            self._require_unchanged()
            for record in journal.records():
                summary.add(record)
            found, rows = summary.rows + summary.skipped, self.reviews.rows
            if rows not in (0, found):
                raise CheckFailed(f"{journal.folder} holds {found:,} of {rows:,} rows: start over with --overwrite")
            summary.where += f" ({journal.errors.name})" if summary.skipped else ""
            published(summary)
            journal.publish(self._join, self.target.compression)
        return summary

    def done(self, journal: Journal) -> list[WindowRecord]:
        """Return the records of the windows that an earlier launch has left and this job goes on from."""
        kept = self.manifest["input"] and journal.read_manifest() == self.manifest
        return list(journal.records()) if kept else []

    def needed(self) -> tuple[int, int]:
        """Return estimates of the bytes of the windows and of the output."""
        windows, reviews = self.reviews.size, self.reviews
        if self.target.extension != ".parquet":
            windows *= COMPRESSION_RATIO if reviews.schema else 1
            # In quotes, 0.123456 and false.
            values = {str: max(map(len, self.classifier.label_names)) + 2, float: 8, bool: 5}
            spelled = [len(name) + len(', "": ') if self.target.extension == ".jsonl" else 1 for name in self.names]
            windows += (sum(spelled) + sum(values[kind] for kind in self.model.kinds.values())) * reviews.rows
        output = windows // COMPRESSION if self.target.compression else windows
        return windows, output + (self.before.stat().st_size if self.before else 0)

    def _require_unchanged(self) -> None:
        if list(map(file_state, self.request.inputs)) != self.state:
            raise UsageError(f"{self.reviews.name} was changed while it was scored: start over with --overwrite")

    def _join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write the output: what stood there before, and the windows."""
        if not self.before:
            self.encoder.join(windows, file)
            return
        with self.before.open("rb") as scored, uncompressed(scored, self.target.compression) as stream:
            self.encoder.join(windows, file, stream)

    @property
    def renamed(self) -> str:
        """Return what to say of the added columns' names, nothing if they are the plain ones."""
        plain = list(self.model.kinds)
        if self.names == plain:
            return ""
        taken = next(name for name in plain if name in self.reviews.columns)
        return f"{self.reviews.name}: there is a column {taken!r}, so the added ones are called {', '.join(self.names)}"

    def _scored(self, done: Collection[int], count: Callable[[int], Any]) -> Iterator[tuple[WindowRecord, bytes]]:
        """Yield the record and the encoded rows of each window that is not done."""
        windows = self.reviews.windows(inference.WINDOW, lambda number: number not in done)
        windows, ahead = itertools.tee(windows)
        texts = (window.texts for window in ahead)
        # The classifier reads one window ahead of the scores that it yields, and a stream may pause there.
        scored = (
            itertools.chain.from_iterable(self.classifier.score([window], count) for window in texts)
            if self.streams and self.request.output == STANDARD_STREAM
            else self.classifier.score(texts, count)
        )
        for window, scores in zip(windows, scored, strict=True):
            count(len(window.malformed))
            added = answer_columns(self.classifier, scores, self.request.all_scores)
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
        kept = f"{journal.place} keeps what is done: the same command goes on from it"
        try:
            yield
        except BaseException as error:
            if not (self.manifest["input"] and any(journal.records())):
                journal.remove()
                if journal.place == journal.folder:
                    raise
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"stopped; {kept}", signal.SIGINT) from error
            if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
                raise Interrupted(f"stopped; {kept}", signal.SIGTERM) from error
            if isinstance(error, Exception) and (refusal := disk_refusal(error)):
                raise UsageError(f"{refusal.split(':')[0]}; {kept} once there is room") from error
            raise


def open_file(request: Request, path: str, text_columns: list[str]) -> TextReviewFile | ParquetReviewFile:
    """Return one of the inputs; nothing of it is read."""
    # Of several files some may be compressed.
    format = request.formats()[0] if path == STANDARD_STREAM else file_format(path, SCORED_FORMATS)
    file = review_file(path, format, text_columns)
    file.dialect = request.dialect
    file.skip_malformed, file.advice = request.on_error == "skip", " (--on_error skip leaves such rows out)"
    return file


def require_room(output: Path, needed: int) -> None:
    """Raise `UsageError` if the disk has not so many bytes free beside an output."""
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise UsageError(
            f"{output.parent} has {free / 1e6:,.1f} MB free, and {output.name} needs about {needed / 1e6:,.1f} (its "
            "parts, and the whole): free some space, or choose another --output"
        )


def _open(request: Request, text_columns: list[str], keys: Keys | None) -> JoinedFiles:
    """Return the input, after reading all of it, or the first window of a stream."""
    files = [open_file(request, path, text_columns) for path in request.inputs]
    joined = JoinedFiles(joined_name([file.name for file in files]), files)
    if request.inputs != [STANDARD_STREAM]:
        for file in files if keys else []:
            assert keys
            file.key, file.is_new = keys.column, keys.is_new
        joined.survey(request.limit)
        return joined
    files[0].limit = request.limit
    # A file appears when it is whole, and need not be begun early.
    files[0].look_ahead(inference.WINDOW, may_pause=request.output == STANDARD_STREAM)
    files[0].require_columns()
    return joined

"""Describe and check a request to score a file."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from recipe.errors import UsageError
from recipe.files.readers import SCORED_FORMATS, STANDARD_STREAM, FileFormat, file_format, require_file
from recipe.files.text_rows import Dialect, Escape, Quoting
from recipe.scoring.journal import Journal


@dataclass(frozen=True)
class Request:
    """A file to score, and the settings.

    Attributes:
        input, output: A file, or `-` for a standard stream.
        variant: A certified variant; `None` is the fastest one that can run here.
        provider: `cpu` or `cuda`; `None` is the one that the variant was certified on.
        text_columns: One, or two that are a pair; `None` takes the run's own.
        threads: Batches computed at a time; `None` shares the machine's cores between its processes.
        on_error: `stop` at a malformed row, or `skip` it.
        delimiter, quoting, escape, column_names: How csv and tsv are spelled, see `dialect`.
        limit: Number of rows to score at most.
        overwrite: Whether to replace an existing output, and the journal of another scoring.
        raw: Whether to ignore the run's decision: temperature, threshold and abstain bound.
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
    delimiter: str | None = None
    quoting: Quoting = "checked"
    escape: Escape = "none"
    column_names: list[str] | None = None

    @property
    def dialect(self) -> Dialect:
        """Return how csv and tsv are spelled; raise `UsageError` if that makes no sense."""
        return Dialect.of(self)

    def require_files(self, processes: int) -> tuple[FileFormat, FileFormat]:
        """Check that files can be read and written by so many processes, and return their formats.

        Raises:
            UsageError: There is no input, or the output cannot be written without harm.
        """
        formats, source, target = self._formats(), Path(self.input), Path(self.output)
        if STANDARD_STREAM in (self.input, self.output) and processes > 1:
            raise UsageError("several processes cannot share standard input or output: give files, or start one")
        if self.input != STANDARD_STREAM:
            require_file(self.input)
        elif sys.stdin.isatty():
            raise UsageError("standard input is a terminal: give --input a file, or pipe one in")
        if self.output == STANDARD_STREAM:
            return formats
        if not target.parent.is_dir():
            raise UsageError(f"no folder {target.parent} for the output {target}: make it first")
        if target.exists() and source.exists() and target.samefile(source):
            raise UsageError(f"--output {target} is the input: choose another file")
        if target.exists() and not target.is_file():
            raise UsageError(f"--output {target} is not a file")
        if not os.access(target.resolve().parent, os.W_OK):
            raise UsageError(f"no file may be written in {target.resolve().parent}: choose another --output")
        if not self.overwrite:
            Journal(target).require_free()
        return formats

    def _formats(self) -> tuple[FileFormat, FileFormat]:
        """Return the formats of input and output; a standard stream has the other's, jsonl where both are streams."""
        source = None if self.input == STANDARD_STREAM else file_format(self.input, SCORED_FORMATS, "--input")
        target = None if self.output == STANDARD_STREAM else file_format(self.output, SCORED_FORMATS, "--output")
        if target and target.extension == ".json":
            raise UsageError(f"--output {self.output} must be .jsonl: rows are written one by one")
        if source and target:
            return source, target
        stream = FileFormat((source or target or FileFormat(".jsonl")).extension)
        if stream.extension == ".parquet":
            raise UsageError("parquet cannot be read from or written to a standard stream: give --input and --output")
        return source or stream, target or stream

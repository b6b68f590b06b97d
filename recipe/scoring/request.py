"""Describe and check a request to score a file."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recipe.errors import UsageError
from recipe.files.parts import find_parts
from recipe.files.readers import SCORED_FORMATS, STANDARD_STREAM, FileFormat, file_format, require_file
from recipe.files.text_rows import Dialect, Escape, Quoting
from recipe.scoring.journal import Journal


@dataclass(frozen=True)
class Request:
    """A file to score, and the settings.

    Attributes:
        input: Files, patterns and folders of parts, one or several; or `-` for standard input.
        output: A file, or `-` for standard output.
        variant: A certified variant; `None` is the fastest one that can run here.
        provider: `cpu` or `cuda`; `None` is the one that the variant was certified on.
        text_columns: One, or two that are a pair; `None` takes the run's own.
        threads: Batches computed at a time; `None` is one for each core that this process may use.
        on_error: `stop` at a malformed row, or `skip` it.
        delimiter, quoting, escape, column_names: How csv and tsv are spelled, see `dialect`.
        limit: Number of rows to score at most.
        overwrite: Whether to replace an existing output, and the journal of another scoring.
        raw: Whether to ignore the run's decision: temperature, threshold and what is certain.
    """

    run: Path
    input: str | list[str]
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

    @cached_property
    def inputs(self) -> list[str]:
        """Return the files to score, in order."""
        return find_parts([self.input] if isinstance(self.input, str) else self.input)

    def require_files(self) -> tuple[FileFormat, FileFormat]:
        """Check that files can be read and written, and return their formats.

        Raises:
            UsageError: There is no input, or the output cannot be written without harm.
        """
        formats, target = self._formats(), Path(self.output)
        if STANDARD_STREAM not in self.inputs:
            for path in self.inputs:
                require_file(path)
        elif len(self.inputs) > 1:
            raise UsageError("standard input is scored alone, not beside files: leave one of them out of --input")
        elif sys.stdin.isatty():
            raise UsageError("standard input is a terminal: give --input a file, or pipe one in")
        if self.output == STANDARD_STREAM:
            return formats
        if not target.parent.is_dir():
            raise UsageError(f"no folder {target.parent} for the output {target}: make it first")
        if target.exists() and any(target.samefile(path) for path in self.inputs if Path(path).exists()):
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
        sources = [file_format(path, SCORED_FORMATS, "--input") for path in self.inputs if path != STANDARD_STREAM]
        source = sources[0] if sources else None
        if source and (other := next((found for found in sources if found.extension != source.extension), None)):
            raise UsageError(
                f"--input has files that are {source.extension}, and others that are {other.extension}: files that go "
                "together are of one format"
            )
        target = None if self.output == STANDARD_STREAM else file_format(self.output, SCORED_FORMATS, "--output")
        if target and target.extension == ".json":
            raise UsageError(f"--output {self.output} must be .jsonl: rows are written one by one")
        if source and target:
            return source, target
        stream = FileFormat((source or target or FileFormat(".jsonl")).extension)
        if stream.extension == ".parquet":
            raise UsageError("parquet cannot be read from or written to a standard stream: give --input and --output")
        return source or stream, target or stream

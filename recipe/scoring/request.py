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
        output: A file, `-` for standard output, or a folder of a part for each input: one that exists, or a name that
            ends with a slash or has no extension.
        output_format: `csv`, `tsv`, `jsonl` or `parquet`, of a folder's parts; `None` keeps the inputs'.
        variant: A certified variant; `None` is the fastest one that can run here.
        provider: `cpu` or `cuda`; `None` is the one that the variant was certified on.
        text_columns: One, or two that are a pair; `None` takes the run's own.
        threads: Batches computed at a time; `None` is one for each core that this process may use.
        on_error: `stop` at a malformed row, or `skip` it.
        delimiter, quoting, escape, column_names: How csv and tsv are spelled, see `dialect`.
        limit: Number of rows to score at most.
        overwrite: Whether to replace an existing output, and the journal of another scoring.
        raw: Whether to ignore the run's decision: temperature, threshold and what is certain.
        all_scores: Whether to add `confidence`, and a probability for each label.
        skip_scored: A column; rows whose value stands in the output already are left alone, and others are added to it.
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
    all_scores: bool = False
    skip_scored: str | None = None
    output_format: str | None = None
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
        formats, target = self.formats(), Path(self.output)
        self._require_sense()
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
        if self.is_folder:
            self._require_folder(target)
            return formats
        if target.exists() and any(target.samefile(path) for path in self.inputs if Path(path).exists()):
            raise UsageError(f"--output {target} is the input: choose another file")
        if not os.access(target.resolve().parent, os.W_OK):
            raise UsageError(f"no file may be written in {target.resolve().parent}: choose another --output")
        if not self.overwrite and not self.skip_scored:
            Journal(target).require_free()
        return formats

    def _require_sense(self) -> None:
        """Raise `UsageError` for settings that do not go together."""
        if remote := next((path for path in (*self.inputs, self.output) if "://" in path), None):
            raise UsageError(f"{remote} is not on this machine: --engine ray reads and writes such addresses")
        if self.skip_scored and STANDARD_STREAM in (*self.inputs, self.output):
            raise UsageError("--skip_scored is for files: a standard stream cannot be read twice")
        if self.output_format and not self.is_folder:
            raise UsageError(f"--output_format is for a folder: the name of {self.output} says its format")
        if self.limit and self.is_folder:
            raise UsageError("--limit is for one output: give --output a file, not a folder")

    def _require_folder(self, target: Path) -> None:
        """Raise `UsageError` if the parts cannot be written into a folder without harm."""
        if STANDARD_STREAM in self.inputs:
            raise UsageError(f"standard input has no name for a part in {target}: give --output a file")
        if target.exists() and not target.is_dir():
            raise UsageError(f"--output {target} is a file, and not a folder")
        if inner := next((path for path in self.inputs if Path(path).resolve().parent == target.resolve()), None):
            raise UsageError(f"--output {target} holds the input {inner}: choose another folder")
        if not os.access(target if target.exists() else target.resolve().parent, os.W_OK):
            raise UsageError(f"no file may be written in {target}: choose another --output")

    @property
    def is_folder(self) -> bool:
        """Return whether the output is a folder of parts."""
        target = Path(self.output)
        return self.output != STANDARD_STREAM and (
            self.output.endswith("/") or target.is_dir() or (not target.suffix and not target.is_file())
        )

    def formats(self) -> tuple[FileFormat, FileFormat]:
        """Return the formats of input and output; a standard stream has the other's, jsonl where both are streams.

        A folder has its parts', without their compression.

        Raises:
            UsageError: A format is unknown, or does not go with the others.
        """
        sources = [file_format(path, SCORED_FORMATS, "--input") for path in self.inputs if path != STANDARD_STREAM]
        source = sources[0] if sources else None
        if source and (other := next((found for found in sources if found.extension != source.extension), None)):
            raise UsageError(
                f"--input has files that are {source.extension}, and others that are {other.extension}: files that go "
                "together are of one format"
            )
        if source and self.is_folder:
            extension = f".{self.output_format}" if self.output_format else source.extension
            return source, FileFormat(".jsonl" if extension == ".json" else extension)
        streams = self.output == STANDARD_STREAM or self.is_folder
        target = None if streams else file_format(self.output, SCORED_FORMATS, "--output")
        if target and target.extension == ".json":
            raise UsageError(f"--output {self.output} must be .jsonl: rows are written one by one")
        if source and target:
            return source, target
        stream = FileFormat((source or target or FileFormat(".jsonl")).extension)
        if stream.extension == ".parquet":
            raise UsageError("parquet cannot be read from or written to a standard stream: give --input and --output")
        return source or stream, target or stream

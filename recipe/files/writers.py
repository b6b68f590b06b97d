"""Write scored rows as csv, tsv, jsonl or parquet: each row as it was spelled, and the added columns after it."""

import gzip
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet

from recipe.errors import UsageError
from recipe.files.text_rows import DELIMITERS

# The columns that scoring adds, and their names where the file has any of these already. The last one is added only
# where the run's decision has an abstain bound.
ADDED = ("label", "probability", "truncated", "doubtful")
PREDICTED = tuple(f"predicted_{name}" for name in ADDED)
# A row group ends at one of these: large enough to be read fast, small enough to be held in memory.
GROUP_BYTES = 32 * 2**20
GROUP_ROWS = 128 * 1024


class ScoredRows(NamedTuple):
    """The added columns of some rows.

    Attributes:
        labels: Label names.
        probabilities: float (rows,), of these labels.
        truncated: bool (rows,), whether the review was longer than the model reads.
        doubtful: bool (rows,), whether a person should decide; `None` without an abstain bound.
    """

    labels: list[str]
    probabilities: np.ndarray
    truncated: np.ndarray
    doubtful: np.ndarray | None = None

    def spelled(self) -> Iterator[tuple[str, ...]]:
        """Yield the values of each row as text."""
        facts = [column for column in (self.truncated, self.doubtful) if column is not None]
        columns = [["true" if value else "false" for value in column] for column in facts]
        return zip(self.labels, (f"{value:.6f}" for value in self.probabilities), *columns, strict=True)


def added_names(present: Collection[str], where: str, with_doubtful: bool) -> tuple[str, ...]:
    """Return names for the added columns that no column has yet.

    Args:
        present: The file's column names.
        where: The file's name, for the message.
        with_doubtful: Whether `doubtful` is added.

    Raises:
        UsageError: Both the plain and the `predicted_` names clash.
    """
    count = len(ADDED) if with_doubtful else len(ADDED) - 1
    for names in (ADDED[:count], PREDICTED[:count]):
        if not set(names) & set(present):
            return names
    clash = sorted({*ADDED, *PREDICTED} & set(present))
    raise UsageError(f"{where} has the columns {', '.join(clash)}, which scoring adds: rename or remove {clash[-1]!r}")


class Encoder(ABC):
    """Encodes scored rows window by window, and joins the windows to a file."""

    @abstractmethod
    def encode(self, source: Any, scored: ScoredRows) -> bytes:
        """Return a window's rows, as `Window.source` has them, with the added columns."""

    @abstractmethod
    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write a whole file from encoded windows, holding few of them at a time."""


class TextEncoder(Encoder):
    """Encodes a format in which a file is a head and its windows, one after another."""

    head = b""

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Copy the head and the windows."""
        file.write(self.head)
        for window in windows:
            shutil.copyfileobj(window, file)


class DelimitedEncoder(TextEncoder):
    """Encodes csv or tsv, with quotes only where a field needs them."""

    def __init__(self, delimiter: str, columns: Iterable[str]) -> None:
        """Write all columns, the added ones last."""
        self.delimiter = delimiter
        # Python's own writer leaves a lone carriage return unquoted, and its reader ends the row there.
        self.special = re.compile(f'[{delimiter}"\r\n]')
        self.head = self._line(columns)

    def encode(self, source: list[list[str]], scored: ScoredRows) -> bytes:
        """Return lines."""
        return b"".join(self._line((*row, *added)) for row, added in zip(source, scored.spelled(), strict=True))

    def _line(self, fields: Iterable[str]) -> bytes:
        """Return a record in UTF-8."""
        quoted = ('"' + field.replace('"', '""') + '"' if self.special.search(field) else field for field in fields)
        return (self.delimiter.join(quoted) + "\n").encode("utf-8")


class JsonEncoder(TextEncoder):
    """Encodes lines of JSON: each object as it was spelled, with further members."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Add members of these names."""
        self.names = [json.dumps(name) for name in names]

    def encode(self, source: list[str], scored: ScoredRows) -> bytes:
        """Return lines."""
        lines = []
        for line, (label, *values) in zip(source, scored.spelled(), strict=True):
            spelled = (json.dumps(label, ensure_ascii=False), *values)
            members = ", ".join(f"{name}: {value}" for name, value in zip(self.names, spelled, strict=True))
            # Re-encoding the object would turn 1.10 into 1.1, and round a number of many digits.
            opened = line.rstrip().removesuffix("}").rstrip()
            lines.append(f"{opened}{'' if opened.lstrip() == '{' else ', '}{members}}}\n")
        return "".join(lines).encode("utf-8")


class ParquetEncoder(Encoder):
    """Encodes a table with its own types and metadata, and further columns."""

    def __init__(self, schema: pyarrow.Schema, names: tuple[str, ...]) -> None:
        """Extend the table's schema by columns of these names."""
        types = (pyarrow.string(), pyarrow.float32(), pyarrow.bool_(), pyarrow.bool_())
        self.added = list(map(pyarrow.field, names, types))
        self.schema = pyarrow.schema([*schema, *self.added], metadata=schema.metadata)

    def encode(self, source: pyarrow.Table, scored: ScoredRows) -> bytes:
        """Return a small parquet file."""
        for field, values in zip(self.added, scored, strict=False):
            source = source.append_column(field, pyarrow.array(values, field.type))
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(source.cast(self.schema), buffer, compression="zstd", store_schema=True)
        return bytes(buffer.getvalue())

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write row groups of several windows each."""
        held: list[pyarrow.Table] = []
        with pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd", store_schema=True) as writer:

            def write_group() -> None:
                """Write the held windows as a row group."""
                writer.write_table(pyarrow.concat_tables(held), row_group_size=GROUP_ROWS)
                held.clear()

            for window in windows:
                held.append(pyarrow.parquet.ParquetFile(pyarrow.BufferReader(window.read())).read())
                if sum(table.nbytes for table in held) >= GROUP_BYTES or sum(map(len, held)) >= GROUP_ROWS:
                    write_group()
            if held:
                write_group()


def encoder(
    extension: str, columns: Iterable[str], names: tuple[str, ...], schema: pyarrow.Schema | None = None
) -> Encoder:
    """Return the encoder of a format.

    Args:
        extension: `.csv`, `.tsv`, `.jsonl` or `.parquet`.
        columns: The input's columns.
        names: The added columns' names.
        schema: The input's schema, for parquet.
    """
    if schema is not None:
        return ParquetEncoder(schema, names)
    return JsonEncoder(names) if extension == ".jsonl" else DelimitedEncoder(DELIMITERS[extension], (*columns, *names))


@contextmanager
def compressed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """Open a stream that compresses into a file, with no time or name in it; nothing named, it is the file itself."""
    if compression == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as stream:
            yield stream  # type: ignore[misc]
    elif compression == ".zst":
        # Arrow closes the file it writes to.
        with open(file.fileno(), "wb", closefd=False) as duplicate:
            with pyarrow.CompressedOutputStream(duplicate, "zstd") as stream:
                yield stream
    else:
        yield file

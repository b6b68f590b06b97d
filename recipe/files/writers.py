"""What is written of scored reviews: each row as it was, with its label, probability and truncation after it."""

import gzip
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet

from recipe.errors import UsageError
from recipe.files.readers import ADDED, DELIMITERS, PREDICTED

# Bytes and rows that a row group of parquet is ended at: large enough to be read fast, small enough to be held.
GROUP_BYTES = 32 * 2**20
GROUP_ROWS = 128 * 1024


class Answers(NamedTuple):
    """What the model says of some rows.

    Attributes:
        labels: A name for each.
        probabilities: float32 (rows,), of that label.
        truncated: bool (rows,), whether the review was longer than the model reads.
        doubtful: bool (rows,), whether a person should decide; `None` where nobody has said when.
    """

    labels: list[str]
    probabilities: np.ndarray
    truncated: np.ndarray
    doubtful: np.ndarray | None = None

    def columns(self) -> list[Any]:
        """Return what is added to the rows, column by column."""
        return [column for column in self if column is not None]


def added_names(present: Collection[str], where: str, doubt: bool = False) -> tuple[str, ...]:
    """Return the names of the columns that are added, none of which is there already.

    Args:
        present: The names of those that are.
        where: They are, for the message.
        doubt: Whether there is a fourth, `doubtful`.

    Raises:
        UsageError: Under either name one of them is there.
    """
    count = len(ADDED) if doubt else len(ADDED) - 1
    for names in (ADDED[:count], PREDICTED[:count]):
        if not set(names) & set(present):
            return names
    clash = sorted({*ADDED, *PREDICTED} & set(present))
    raise UsageError(f"{where} has the columns {', '.join(clash)}, which scoring adds: rename or remove {clash[-1]!r}")


class Format(ABC):
    """A file format that scored rows are written in, part by part."""

    @abstractmethod
    def encode(self, kept: Any, answers: Answers) -> bytes:
        """Return a part: the rows of a window with the answers to them."""

    @abstractmethod
    def join(self, parts: Iterable[Path], file: IO[bytes]) -> None:
        """Write a whole file of its parts, holding few of them at a time."""


class TextFormat(Format):
    """A format in which a file is its head and its parts, one after another."""

    head = b""

    def join(self, parts: Iterable[Path], file: IO[bytes]) -> None:
        """Write one after another."""
        file.write(self.head)
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


class Delimited(TextFormat):
    """Values as csv or tsv, each as it was, in quotes where it needs them."""

    def __init__(self, delimiter: str, columns: Iterable[str]) -> None:
        """Name the columns, added ones among them."""
        self.delimiter = delimiter
        # Python's own writer leaves a lone carriage return without quotes, and its own reader ends the row there.
        self.special = re.compile(f'[{delimiter}"\r\n]')
        self.head = self._line(columns)

    def encode(self, kept: list[list[str]], answers: Answers) -> bytes:
        """Return lines."""
        rows = zip(kept, *_spelled(answers), strict=True)
        return b"".join(self._line((*fields, *added)) for fields, *added in rows)

    def _line(self, fields: Iterable[str]) -> bytes:
        """Return a record."""
        return (self.delimiter.join(map(self._quoted, fields)) + "\n").encode("utf-8")

    def _quoted(self, field: str) -> str:
        """Return a field, in quotes if it would not be read as it is without."""
        return '"' + field.replace('"', '""') + '"' if self.special.search(field) else field


class JsonLines(TextFormat):
    """Objects, each as it was spelled, with further members."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Name these."""
        self.names = [json.dumps(name) for name in names]

    def encode(self, kept: list[str], answers: Answers) -> bytes:
        """Return lines."""
        labels, *others = _spelled(answers)
        lines = []
        for line, label, *values in zip(kept, labels, *others, strict=True):
            members = zip(self.names, (json.dumps(label, ensure_ascii=False), *values), strict=True)
            lines.append(_extended(line, ", ".join(f"{name}: {value}" for name, value in members)))
        return "".join(lines).encode("utf-8")


class Parquet(Format):
    """A table with its own types and notes, and further columns."""

    def __init__(self, schema: pyarrow.Schema, names: tuple[str, ...]) -> None:
        """Take the table's schema, and name these."""
        types = (pyarrow.string(), pyarrow.float32(), pyarrow.bool_(), pyarrow.bool_())
        self.added = list(map(pyarrow.field, names, types))
        self.schema = pyarrow.schema([*schema, *self.added], metadata=schema.metadata)

    def encode(self, kept: pyarrow.Table, answers: Answers) -> bytes:
        """Return a small parquet file."""
        for field, values in zip(self.added, answers.columns(), strict=True):
            kept = kept.append_column(field, pyarrow.array(values, field.type))
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(kept.cast(self.schema), buffer, compression="zstd", store_schema=True)
        return bytes(buffer.getvalue())

    def join(self, parts: Iterable[Path], file: IO[bytes]) -> None:
        """Write the parts as row groups, several in each."""
        with pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd", store_schema=True) as writer:
            for tables in _groups(parts):
                writer.write_table(pyarrow.concat_tables(tables), row_group_size=GROUP_ROWS)


def format_of(name: str, columns: list[str], names: tuple[str, ...], schema: pyarrow.Schema | None) -> Format:
    """Return the format that an extension means, for rows of these columns, with the added ones' names."""
    if schema is not None:
        return Parquet(schema, names)
    return JsonLines(names) if name == ".jsonl" else Delimited(DELIMITERS[name], (*columns, *names))


@contextmanager
def compressed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """Give what is to be written to, for a file that is compressed so, with no time or name in it."""
    if compression == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as stream:
            yield stream  # type: ignore[misc]
    elif compression == ".zst":
        # Arrow closes what it writes to.
        with open(file.fileno(), "wb", closefd=False) as open_once_more:
            with pyarrow.CompressedOutputStream(open_once_more, "zstd") as stream:
                yield stream
    else:
        yield file


def _spelled(answers: Answers) -> list[list[str]]:
    """Return the added columns as text."""
    labels, probabilities, *facts = answers.columns()
    spelled = [["true" if value else "false" for value in column] for column in facts]
    return [labels, [f"{probability:.6f}" for probability in probabilities], *spelled]


def _extended(line: str, members: str) -> str:
    """Return a line that holds an object with more members at its end."""
    # Spelled anew, 1.10 would become 1.1, and a number with many digits another one.
    opened = line.rstrip().removesuffix("}").rstrip()
    return opened + ("" if opened.lstrip() == "{" else ", ") + members + "}\n"


def _groups(parts: Iterable[Path]) -> Iterator[list[pyarrow.Table]]:
    """Yield tables of parquet files, as many at a time as make a row group."""
    held: list[pyarrow.Table] = []
    for part in parts:
        with pyarrow.parquet.ParquetFile(part) as file:
            held.append(file.read())
        if sum(table.nbytes for table in held) >= GROUP_BYTES or sum(map(len, held)) >= GROUP_ROWS:
            yield held
            held = []
    if held:
        yield held

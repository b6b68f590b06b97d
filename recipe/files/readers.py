"""A file of reviews to be scored, window by window: csv, tsv, jsonl or parquet, the text formats also as gz or zst."""

import gzip
import itertools
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow
import pyarrow.parquet
from pyarrow import types

from recipe.errors import UsageError
from recipe.files.text_rows import DelimitedRows, Malformed, Row, Text, is_utf8, json_lines, require_text

STANDARD = "-"
# The columns that scoring adds, and what they are called where the file has any of them already.
# The last only where an evaluation has chosen how many reviews to leave to a person.
ADDED = ("label", "probability", "truncated", "doubtful")
PREDICTED = tuple(f"predicted_{name}" for name in ADDED)
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TEXT_FORMATS = (*DELIMITERS, ".jsonl")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# Rows of parquet that are decoded at once: with reviews a megabyte long, still far from the 2 GiB that Arrow's strings
# end at.
DECODED = 256
LEAVE_OUT = "--on_error skip leaves such rows out"


class Kind(NamedTuple):
    """What a file's extensions say of it.

    Attributes:
        format: `.csv`, `.tsv`, `.jsonl` or `.parquet`.
        compression: `.gz`, `.zst`, or nothing.
    """

    format: str
    compression: str


@dataclass
class Window:
    """Some rows that stand one after another in a file.

    Attributes:
        number: Of the window, from 0.
        texts: The reviews of its rows, without those that are malformed.
        kept: The same rows as they are to be written: lists of fields, lines of JSON, or a table of Arrow.
        malformed: The line and what is wrong with it, of each of the others.
    """

    number: int
    texts: list[Text]
    kept: Any
    malformed: list[tuple[int, str]]


class Reviews(ABC):
    """A file of reviews, or standard input.

    Attributes:
        name: What a message calls it.
        columns: Of the header, of the schema, or of the first object.
        found: Of the text columns and those that scoring adds, the ones that some row has.
        taken: Names that no row may have from now on.
        rows: How many there are, once the file was surveyed.
        size: In bytes, uncompressed where it is text, once the file was surveyed.
    """

    def __init__(self, path: str, text_columns: list[str], limit: int | None, skip_malformed: bool) -> None:
        """Name the file.

        Args:
            path: `-` is standard input.
            text_columns: One, or two that are a pair.
            limit: Read no more rows than so many; `None` reads all.
            skip_malformed: Hand malformed rows out, where else the first of them is refused.
        """
        self.path = path
        self.name = "standard input" if path == STANDARD else path
        self.text_columns = text_columns
        self.limit = limit
        self.skip_malformed = skip_malformed
        self.columns: list[str] = []
        self.found: set[str] = set()
        self.watched = {*text_columns, *ADDED, *PREDICTED}
        self.taken: set[str] = set()
        self.rows = self.size = 0

    @abstractmethod
    def survey(self) -> None:
        """Learn columns, rows and size, of a text file by reading it all.

        Raises:
            UsageError: It is not what its extension says, or a row is malformed; names the line.
        """

    @abstractmethod
    def windows(self, size: int) -> Iterator[Window]:
        """Yield the rows, `size` at a time, malformed ones counted among them.

        Raises:
            UsageError: As `survey`.
        """

    def require_text_columns(self) -> None:
        """Refuse reviews without a column to read them from.

        Raises:
            UsageError: Lists the columns that are there.
        """
        for column in self.text_columns:
            if self.columns and column not in (*self.columns, *self.found):
                raise UsageError(
                    f"{self.name} has no column {column!r}; it has {', '.join(self.columns)} (--text_columns chooses)"
                )


class TextReviews(Reviews):
    """Reviews in csv, tsv or jsonl."""

    def __init__(self, kind: Kind, *args: Any) -> None:
        """Name the file and its kind."""
        super().__init__(*args)
        self.kind = kind
        self.read_ahead: Iterator[Window] | None = None

    def survey(self) -> None:
        """Read all rows, keeping none."""
        malformed, first = 0, ""
        with self._opened() as stream:
            for line, _, text in self._records(stream):
                self.rows += 1
                if isinstance(text, Malformed):
                    malformed += 1
                    first = first or f"{self.name}, line {line}: {text.message}"
            self.size = stream.tell() if self.kind.compression != ".zst" else 4 * Path(self.path).stat().st_size
        if malformed and not self.skip_malformed:
            more = f", as are {malformed - 1:,} more rows" if malformed > 1 else ""
            raise UsageError(f"{first}{more} ({LEAVE_OUT})")

    def look_ahead(self, size: int) -> None:
        """Learn the columns of a stream, which can be read but once, from its first window."""
        windows = self._windows(size)
        self.read_ahead = itertools.chain(list(itertools.islice(windows, 1)), windows)

    def windows(self, size: int) -> Iterator[Window]:
        """Yield the rows, `size` at a time."""
        return self.read_ahead or self._windows(size)

    def _windows(self, size: int) -> Iterator[Window]:
        """Yield the rows from the beginning."""
        with self._opened() as stream:
            records = self._records(stream)
            for number in itertools.count():
                if not (window := list(itertools.islice(records, size))):
                    return
                yield self._window(number, window)

    def _window(self, number: int, records: list[tuple[int, Any, Text | Malformed]]) -> Window:
        """Return a window of these records."""
        texts: list[Text] = []
        kept, malformed = [], []
        for line, row, text in records:
            if not isinstance(text, Malformed):
                texts.append(text)
                kept.append(row)
            elif self.skip_malformed:
                malformed.append((line, text.message))
            else:
                raise UsageError(f"{self.name}, line {line}: {text.message} ({LEAVE_OUT})")
        return Window(number, texts, kept, malformed)

    def _records(self, stream: IO[bytes]) -> Iterator[tuple[int, Any, Text | Malformed]]:
        """Yield line, what is kept, and the review of each row.

        Raises:
            UsageError: The header is malformed or missing.
        """
        rows = self._json_rows(stream) if self.kind.format == ".jsonl" else self._delimited_rows(stream)
        for line, kept, row in itertools.islice(rows, self.limit):
            if isinstance(row, Malformed) and row.fatal:
                raise UsageError(f"{self.name}, line {line}: {row.message}")
            yield line, kept, row if isinstance(row, Malformed) else self._text(row)

    def _delimited_rows(self, stream: IO[bytes]) -> Iterator[tuple[int, list[str], Row | Malformed]]:
        """Yield line, fields, and row.

        Raises:
            UsageError: There is no header.
        """
        rows = DelimitedRows(stream, DELIMITERS[self.kind.format])
        for line, row in rows:
            self._learn(rows.header)
            yield line, [] if isinstance(row, Malformed) else list(row.values()), row
        self._learn(rows.header)
        if not rows.header:
            raise UsageError(f"{self.name} is empty: its first line must name the columns")

    def _json_rows(self, stream: IO[bytes]) -> Iterator[tuple[int, str, Row | Malformed]]:
        """Yield line, the line itself, and the object on it."""
        for number, line, row in json_lines(stream):
            if isinstance(row, dict):
                self._learn(row)
                if clash := self.taken & row.keys():
                    row = Malformed(f"has a {min(clash)!r}, which the rows before it had not: it would be there twice")
            yield number, line, row

    def _learn(self, names: Iterable[str]) -> None:
        """Remember the columns of the first row, and which of the watched ones there are."""
        if not self.columns:
            self.columns = list(names)
        self.found |= self.watched.intersection(names)

    def _text(self, row: Row) -> Text | Malformed:
        """Return the review of a row, empty where it has none."""
        try:
            return _text(*(_whole(require_text(row.get(column)) or "") for column in self.text_columns))
        except TypeError as error:
            return Malformed(str(error))

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """Give the file's bytes, uncompressed.

        Raises:
            UsageError: It is compressed in another way, or not whole.
        """
        try:
            with _uncompressed(self.path, self.kind.compression) as stream:
                yield stream
        except (EOFError, zlib.error, OSError) as error:
            # What the disk refused has a number.
            if getattr(error, "errno", None):
                raise
            what = COMPRESSIONS.get(self.kind.compression, "text")
            raise UsageError(f"{self.name} is not a whole {what} file that can be read: {error}") from error


class ParquetReviews(Reviews):
    """Reviews in parquet."""

    def survey(self) -> None:
        """Read the file's own summary."""
        with self._opened() as parquet:
            self.schema = parquet.schema_arrow
            rows = parquet.metadata.num_rows
        self.columns = self.schema.names
        self.found = self.watched.intersection(self.columns)
        self.rows = rows if self.limit is None else min(rows, self.limit)
        self.size = Path(self.path).stat().st_size * self.rows // max(rows, 1)

    def require_text_columns(self) -> None:
        """Refuse columns that are missing, there twice, or hold something else than text."""
        super().require_text_columns()
        for column in self.text_columns:
            if self.columns.count(column) > 1:
                raise UsageError(f"{self.name} has {self.columns.count(column)} columns {column!r}: rename all but one")
            if not _is_text(type_ := self.schema.field(column).type):
                raise UsageError(f"column {column!r} of {self.name} holds {type_}, not text (--text_columns chooses)")

    def windows(self, size: int) -> Iterator[Window]:
        """Yield the rows, `size` at a time, holding no more of the file."""
        with self._opened() as parquet:
            for number, table in enumerate(self._tables(parquet, size)):
                columns = [_strings(table[column]) for column in self.text_columns]
                texts = [_text(*row) for row in zip(*columns, strict=True)]
                yield Window(number, texts, table, [])

    def _tables(self, parquet: pyarrow.parquet.ParquetFile, size: int) -> Iterator[pyarrow.Table]:
        """Yield tables of `size` rows, wherever the file's row groups end."""
        held: list[pyarrow.RecordBatch] = []
        left = self.rows
        for batch in parquet.iter_batches(batch_size=min(DECODED, size), use_threads=False):
            while batch.num_rows and left:
                missing = min(size, left) - sum(part.num_rows for part in held)
                held.append(batch.slice(0, missing))
                batch = batch.slice(missing)
                if held[-1].num_rows == missing:
                    yield pyarrow.Table.from_batches(held, self.schema)
                    left -= sum(part.num_rows for part in held)
                    held = []
            if not left:
                return

    @contextmanager
    def _opened(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        """Give the file.

        Raises:
            UsageError: It is not parquet, or damaged.
        """
        try:
            # Else a whole row group of each column would be read before its first row.
            with pyarrow.parquet.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as parquet:
                yield parquet
        except (pyarrow.ArrowException, OSError) as error:
            if getattr(error, "errno", None):
                raise
            reason = str(error).splitlines()[0]
            raise UsageError(f"{self.name} is not a whole parquet file that can be read: {reason}") from error


def kind_of(path: str, flag: str) -> Kind:
    """Return what the extensions of a file say.

    Raises:
        UsageError: They are not known.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    format_ = suffixes[-1] if suffixes else ""
    if format_ not in TEXT_FORMATS and (compression or format_ != ".parquet"):
        raise UsageError(
            f"{flag} {path} has the extension {format_ + compression!r}; known are {', '.join(TEXT_FORMATS)}, "
            "each also with .gz or .zst after it, and .parquet"
        )
    return Kind(format_, compression)


@contextmanager
def _uncompressed(path: str, compression: str) -> Iterator[IO[bytes]]:
    """Give the bytes of a file, or of standard input."""
    with open(sys.stdin.fileno() if path == STANDARD else path, "rb", closefd=path != STANDARD) as file:
        if compression == ".gz":
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream  # type: ignore[misc]
        elif compression == ".zst":
            with pyarrow.CompressedInputStream(file, "zstd") as stream:
                yield stream
        else:
            yield file


def _text(first: str, second: str | None = None) -> Text:
    """Return a review of one text or two."""
    return first if second is None else (first, second)


def _whole(text: str) -> str:
    """Return a text in which halves of characters, as JSON can spell them, are marked as unknown."""
    return text if is_utf8(text) else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _is_text(type_: pyarrow.DataType) -> bool:
    """Return whether a column holds text, be it as categories."""
    if types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_))


def _strings(column: pyarrow.ChunkedArray) -> list[str]:
    """Return a column's texts, empty where they are null; what is not UTF-8, which Arrow lets by, is marked."""
    try:
        return [text or "" for text in column.to_pylist()]
    except UnicodeDecodeError:
        values = column.cast(pyarrow.large_binary()).to_pylist()
        return [(value or b"").decode("utf-8", "replace") for value in values]

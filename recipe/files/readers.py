"""Read files of reviews, for training and for scoring: text formats, also as .gz or .zst, and parquet."""

import glob
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow
import pyarrow.parquet
from pyarrow import types

from recipe.errors import UsageError
from recipe.files.arrival import arriving
from recipe.files.text_rows import (
    TEXT_FORMATS,
    DelimitedRows,
    Dialect,
    Malformed,
    Record,
    Row,
    Text,
    looks_like_data,
    replace_lone_surrogates,
    text_rows,
)

STANDARD_STREAM = "-"
# fastText's lines name no columns that scores could be added to.
SCORED_FORMATS = tuple(extension for extension in TEXT_FORMATS if extension != ".txt")
TRAINING_FORMATS = TEXT_FORMATS
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# Estimate of the ratio by which compression shrinks text.
COMPRESSION_RATIO = 4
# Rows decoded at once: with reviews a megabyte long, still far from the 2 GiB limit of Arrow's strings.
DECODED_ROWS = 256
# What a message shows of a list of names, and of a name: a first row taken for names may be of any length.
SHOWN_NAMES = 12
SHOWN_CHARACTERS = 40


class FileFormat(NamedTuple):
    """A file's format, by its name: one of `TEXT_FORMATS` or `.parquet`, and `.gz`, `.zst` or nothing."""

    extension: str
    compression: str = ""


@dataclass
class Window:
    """Consecutive rows of a file, scored together.

    Attributes:
        number: From 0.
        texts: The rows' reviews, without malformed ones.
        source: The same rows as they were spelled: lists of fields, lines of JSON, or an Arrow table.
        malformed: Line and reason of each malformed row.
    """

    number: int
    texts: list[Text]
    source: Any
    malformed: list[tuple[int, str]]


@dataclass
class ReviewFile:
    """A file of reviews, or standard input.

    Attributes:
        path: `-` is standard input.
        text_columns: One, or two that are a pair.
        limit: Number of rows to read at most.
        skip_malformed: Whether `windows` reports malformed rows instead of raising at the first one.
        advice: Ends the message about a malformed row.
        dialect: How csv and tsv are spelled.
        choose: Ends the message about a missing column; empty names the flags of columns.
        columns: The columns of all rows read so far, in order.
        header, delimiter: Of csv and tsv, the names as they stand there, without one and repeated too, and what
            separates them.
        reserved: Names that no row may have from now on.
        key, is_new: A column, and what tells of its value and of the place of the row whether the row is to be read;
            `survey` alone names the place, and reads the others for their columns.
        rows, size: Number of rows, and an estimate of their bytes without compression; known after `survey`.
        sha256: Of the whole file, where `survey` has read all of it; else empty.
    """

    path: str
    format: FileFormat
    text_columns: list[str]
    label_column: str | None = None
    limit: int | None = None
    skip_malformed: bool = False
    advice: str = ""
    dialect: Dialect = field(default_factory=Dialect)
    choose: str = ""
    header: list[str] = field(default_factory=list)
    delimiter: str = ""
    columns: dict[str, None] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    key: str | None = None
    is_new: Callable[[Any, str], bool] = lambda value, place: True
    rows: int = 0
    size: int = 0
    sha256: str = ""

    @property
    def name(self) -> str:
        """Return the name for messages."""
        return "standard input" if self.path == STANDARD_STREAM else self.path

    @property
    def needed(self) -> list[str]:
        """Return the text columns and the label column."""
        return [*self.text_columns, *([self.label_column] if self.label_column else [])]

    @property
    def all_columns(self) -> list[str]:
        """Return the names to write back: the header's, else those of all rows read so far."""
        return self.header or list(self.columns)

    def require_columns(self) -> None:
        """Raise `UsageError` if a needed column is missing; a file without rows may name none."""
        if self.columns:
            hint = "--text_columns and --label_column choose" if self.label_column else "--text_columns chooses"
            if len(self.header) == 1:
                hint += "; --delimiter says what separates columns"
            require_columns(self.needed, self.columns, self.name, self.choose or hint)


@dataclass
class TextReviewFile(ReviewFile):
    """Reviews in a text format."""

    records_ahead: Iterator[Record] | None = None
    windows_ahead: Iterator[list[Record]] | None = None

    def look_ahead(self, rows: int, may_pause: bool = False) -> None:
        """Learn the columns from the first rows; `windows` and `values` still yield these rows first.

        Args:
            may_pause: Whether the rows may come slowly: then neither this nor a window waits for so many of them.

        Raises:
            UsageError: The file is damaged, its header is malformed, or lacks a needed column.
        """
        records = self._records()
        if may_pause:
            windows = arriving(records, rows)
            self.windows_ahead = itertools.chain(list(itertools.islice(windows, 1)), windows)
        else:
            self.records_ahead = itertools.chain(list(itertools.islice(records, rows)), records)

    def survey(self) -> None:
        """Learn columns, number of rows and size by reading the whole file.

        Raises:
            UsageError: The file is damaged, a needed column is missing, or a row is malformed; names the line.
        """
        first, more, digest = None, -1, hashlib.sha256()
        for record in self._records(digest.update):
            self.rows += 1
            if isinstance(record.row, Malformed):
                first, more = first or record, more + 1
        if first and not self.skip_malformed:
            raise self._refusal(first, f", as are {more:,} more rows" if more else "")
        # A limit may have ended the reading.
        self.sha256 = digest.hexdigest() if self.limit is None else ""
        self.size = Path(self.path).stat().st_size * (COMPRESSION_RATIO if self.format.compression else 1)

    def windows(self, size: int, wanted: Callable[[int], bool]) -> Iterator[Window]:
        """Yield the windows of `size` rows, malformed ones included, whose number is `wanted`; raise as `survey`."""
        records = self.records_ahead or self._records()
        held_rows = self.windows_ahead or iter(lambda: list(itertools.islice(records, size)), [])
        for number, held in enumerate(held_rows):
            if not wanted(number):
                continue
            window = Window(number, [], [], [])
            for record in held:
                if not isinstance(record.row, Malformed):
                    texts = [replace_lone_surrogates(record.row.get(name) or "") for name in self.text_columns]
                    window.texts.append(_text(texts))
                    window.source.append(record.source)
                elif self.skip_malformed:
                    window.malformed.append((record.line, record.row.message))
                else:
                    raise self._refusal(record)
            yield window

    def values(self, columns: Iterable[str]) -> Iterator[tuple[int, Row]]:
        """Yield the line of each row and its values in some columns, `None` for a missing one; raise as `survey`."""
        for record in self.records_ahead or self._records():
            if isinstance(record.row, Malformed):
                raise self._refusal(record)
            yield record.line, {column: record.row.get(column) for column in columns}

    def require_columns(self) -> None:
        """Raise `UsageError` if a needed column is missing; say so where the first line looks like a row."""
        missing = next((name for name in self.needed if name not in self.columns), None)
        if self.header and missing and not self.dialect.column_names and looks_like_data(self.header):
            raise UsageError(
                f"{self.name} has no column {missing!r}, and its first line looks like a row: {listed(self.header)} "
                f"(--column_names gives each of its {len(self.header)} columns a name, as in --column_names label "
                "title content)"
            )
        super().require_columns()

    def _records(self, seen: Callable[[memoryview], Any] | None = None) -> Iterator[Record]:
        """Yield the records from the beginning, up to the limit; see `_all_records`."""
        return itertools.islice(self._all_records(seen), self.limit)

    def _all_records(self, seen: Callable[[memoryview], Any] | None) -> Iterator[Record]:
        """Yield the records from the beginning that are new, and learn the columns; `seen` is shown all bytes."""
        with self._opened(seen) as stream:
            rows = text_rows(self.format.extension, stream, self.dialect, self.needed)
            for record in rows:
                if isinstance(record.row, Malformed):
                    if record.row.fatal:
                        raise UsageError(f"{self.name}, line {record.line}: {record.row.message}")
                    if not self.columns:
                        self._learn(rows)
                    yield record
                else:
                    if record.row.keys() != self.columns.keys():
                        self._learn(rows)
                        self.columns.update(dict.fromkeys(record.row))
                    if self.key is None or self._is_new(record, bool(seen)):
                        yield record._replace(row=self._checked(record.row))
            if isinstance(rows, DelimitedRows) and not rows.header:
                raise UsageError(f"{self.name} is empty: its first line must name the columns")
            self._learn(rows)

    def _is_new(self, record: Record, in_survey: bool) -> bool:
        """Return whether a row's key is; raise `UsageError` if it has none."""
        place, row = f"{self.name}, line {record.line}", record.row
        if isinstance(row, Malformed) or self.key not in row:
            raise UsageError(f"{place} has no column {self.key!r}, which --skip_scored names")
        return self.is_new(row[self.key], place if in_survey else "")

    def _learn(self, rows: Iterable[Record]) -> None:
        """Learn what stands in the header of csv and tsv, and check that the needed columns are there."""
        if isinstance(rows, DelimitedRows):
            self.header, self.delimiter = rows.header, rows.delimiter
            self.columns.update(dict.fromkeys(rows.names))
            self.require_columns()

    def _checked(self, row: Row) -> Row | Malformed:
        """Return a row, or why it is malformed: a wrong type of text or label, or clashing columns."""
        for name in self.needed:
            value, is_text = row.get(name), name in self.text_columns
            if not isinstance(value, str | None) and (is_text or isinstance(value, list | dict)):
                wanted = "text" if is_text else "label"
                return Malformed(f"{json.dumps(value)[:60]} is a {type(value).__name__}, where a {wanted} is needed")
        if clash := self.reserved & row.keys():
            return Malformed(f"has a {min(clash)!r}, which earlier rows lacked and scoring adds")
        return row

    def _refusal(self, record: Record, more: str = "") -> UsageError:
        assert isinstance(record.row, Malformed)
        return UsageError(f"{self.name}, line {record.line}: {record.row.message}{more}{self.advice}")

    @contextmanager
    def _opened(self, seen: Callable[[memoryview], Any] | None = None) -> Iterator[IO[bytes]]:
        """Open the file or standard input as uncompressed bytes; show `seen` all of the file's own."""
        standard, compression = self.path == STANDARD_STREAM, COMPRESSIONS.get(self.format.compression)
        try:
            with open(sys.stdin.fileno() if standard else self.path, "rb", closefd=not standard) as opened:
                file: Any = io.BufferedReader(_Watched(opened, seen), 1 << 20) if seen else opened
                with uncompressed(file, self.format.compression) as stream:
                    yield stream
                    # A compressed file may go on behind what was read of it.
                    while seen and file.read(1 << 20):
                        pass
        except OSError as error:
            # An error of the disk has a number.
            if error.errno or not compression:
                raise
            raise UsageError(f"{self.name} is not a whole {compression} file that can be read: {error}") from error


class _Watched(io.RawIOBase):
    """A file of which somebody sees all bytes that are read."""

    def __init__(self, file: IO[bytes], seen: Callable[[memoryview], Any]) -> None:
        self.file, self.seen = file, seen

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self.file.readinto(buffer))  # type: ignore[attr-defined]
        self.seen(memoryview(buffer)[:count])
        return count


@contextmanager
def uncompressed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """Open a file's content, which is compressed as an extension says; nothing named, it is the file itself."""
    if compression:
        with pyarrow.CompressedInputStream(file, COMPRESSIONS[compression]) as stream:
            yield stream
    else:
        yield file


@dataclass
class ParquetReviewFile(ReviewFile):
    """Reviews in parquet; the schema is known after `look_ahead` or `survey`."""

    schema: pyarrow.Schema = None

    def look_ahead(self, rows: int, may_pause: bool = False) -> None:
        """Read the schema, as `survey` does."""
        self.survey()

    def survey(self) -> None:
        """Read schema, number of rows and size.

        Raises:
            UsageError: The file is damaged, or not parquet.
        """
        with self._opened() as parquet:
            self.schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        self.columns = dict.fromkeys(self.schema.names)
        found = rows if self.key is None else self._count_new(self.key)
        self.rows = found if self.limit is None else min(found, self.limit)
        self.size = Path(self.path).stat().st_size * self.rows // max(rows, 1)

    def require_columns(self) -> None:
        """Raise `UsageError` unless the needed columns exist, once each, and the text columns hold text."""
        super().require_columns()
        for column in self.needed:
            if (count := self.schema.names.count(column)) > 1:
                raise UsageError(f"{self.name} has {count} columns {column!r}: rename or remove all but one")
        for column in self.text_columns:
            type_ = value_type(self.schema.field(column).type)
            if not (types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)):
                raise UsageError(f"column {column!r} of {self.name} holds {type_}, not text (--text_columns chooses)")

    def windows(self, size: int, wanted: Callable[[int], bool]) -> Iterator[Window]:
        """Yield the windows of `size` rows whose number is `wanted`, wherever row groups end."""
        numbers, held, left = itertools.count(), self.schema.empty_table(), self.rows
        for batch in self._batches(min(DECODED_ROWS, size)):
            if self.key is not None:
                batch = batch.filter(pyarrow.array([self.is_new(key, "") for key in python_values(batch[self.key])]))
            batch = batch.slice(0, left)
            left -= len(batch)
            held = pyarrow.concat_tables([held, pyarrow.Table.from_batches([batch], self.schema)])
            while len(held) >= size or (len(held) and not left):
                table, held = held.slice(0, size), held.slice(size)
                if wanted(number := next(numbers)):
                    columns = [python_values(table[column]) for column in self.text_columns]
                    texts = [_text([text or "" for text in row]) for row in zip(*columns, strict=True)]
                    yield Window(number, texts, table, [])
            if not left:
                return

    def values(self, columns: Iterable[str]) -> Iterator[tuple[int, Row]]:
        """Yield the number, from 1, of each row and its values in some columns."""
        numbers, names = itertools.count(1), list(columns)
        for batch in self._batches(DECODED_ROWS, names):
            lists = [
                python_values(batch[name]) if name in self.text_columns else batch[name].to_pylist() for name in names
            ]
            for row in zip(*lists, strict=True):
                yield next(numbers), dict(zip(names, row, strict=True))

    def _count_new(self, key: str) -> int:
        """Return the number of rows whose key is new."""
        if key not in self.columns:
            raise UsageError(f"{self.name} has no column {key!r}, which --skip_scored names")
        keys = (value for batch in self._batches(DECODED_ROWS, [key]) for value in python_values(batch[key]))
        return sum(self.is_new(value, f"{self.name}, row {row}") for row, value in enumerate(keys, 1))

    def _batches(self, rows: int, columns: list[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
        with self._opened() as parquet:
            yield from parquet.iter_batches(batch_size=rows, columns=columns, use_threads=False)

    @contextmanager
    def _opened(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        try:
            # With a buffer and without pre-buffering, no whole row group is read before its first row.
            with pyarrow.parquet.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as parquet:
                yield parquet
        except (pyarrow.ArrowException, OSError) as error:
            if getattr(error, "errno", None):
                raise
            reason = str(error).splitlines()[0]
            raise UsageError(f"{self.name} is not a whole parquet file that can be read: {reason}") from error


def review_file(path: str, format: FileFormat, *args: Any, **settings: Any) -> TextReviewFile | ParquetReviewFile:
    """Return the file of reviews at a path; `args` and `settings` are those of `ReviewFile`."""
    return (ParquetReviewFile if format.extension == ".parquet" else TextReviewFile)(path, format, *args, **settings)


def file_format(path: str, text_formats: Iterable[str], flag: str = "") -> FileFormat:
    """Return the format that a file's extensions name: one of `text_formats`, or parquet.

    Raises:
        UsageError: The extension is unknown; names `flag`, which gave the file.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    extension = suffixes[-1] if suffixes else ""
    if extension not in text_formats and (compression or extension != ".parquet"):
        known = f"{', '.join(text_formats)}, each also with .gz or .zst after it, and .parquet"
        raise UsageError(f"{flag} {path} has the extension {extension + compression!r}; known are {known}".strip())
    return FileFormat(extension, compression)


def require_file(path: str) -> None:
    """Raise `UsageError` if a file does not exist."""
    if glob.has_magic(path) and not Path(path).exists():
        raise UsageError(f"the pattern {path!r} finds no file (looked in {Path.cwd()})")
    if not Path(path).is_file():
        raise UsageError(f"no file {path!r} here (looked for {Path(path).resolve()})")


def require_columns(needed: Iterable[str], present: Collection[str], where: str, choose: str) -> None:
    """Raise `UsageError` if a needed column is not present; `where` names the rows, and `choose` the flags."""
    for column in needed:
        if column not in present:
            raise UsageError(f"{where} has no column {column!r}; it has {listed(present)} ({choose})")


def listed(names: Collection[str]) -> str:
    """Return names for a message, separated by commas; both a long name and a long list are cut."""
    shown = [" ".join(name[: SHOWN_CHARACTERS + 1].split()) for name in itertools.islice(names, SHOWN_NAMES)]
    shown = [name if len(name) <= SHOWN_CHARACTERS else name[:SHOWN_CHARACTERS] + "…" for name in shown]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def value_type(type_: pyarrow.DataType) -> pyarrow.DataType:
    """Return a column's type; for categories, which pandas writes, the type of their values."""
    return type_.value_type if types.is_dictionary(type_) else type_


def _text(texts: list[str]) -> Text:
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def python_values(column: pyarrow.ChunkedArray | pyarrow.Array) -> list[Any]:
    """Return a column's values; in texts, a mark replaces each byte that is not UTF-8, which Arrow lets pass."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        values = column.cast(pyarrow.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "replace") for value in values]

"""Read the rows of text files: csv, tsv, jsonl, and fastText's `__label__2 title: text`.

Light: it imports the standard library alone. Each reader continues after a malformed row, so that scoring may skip it.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import TextIOWrapper
from typing import IO, Any, NamedTuple

FASTTEXT_COLUMNS = ["label", "title", "content"]
_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)

# A review, or the pair of its title and content for a model trained on two text columns.
Text = str | tuple[str, str]
Row = dict[str, Any]


class Malformed(NamedTuple):
    """Why a row cannot be read.

    Attributes:
        message: In words.
        fatal: Whether no row after it can be read either.
    """

    message: str
    fatal: bool = False


class Record(NamedTuple):
    """One row of a text file.

    Attributes:
        line: The number, from 1, of the line it begins on.
        source: The row as it was spelled: the fields of csv and tsv, the line of jsonl and fastText.
        row: Its values by column.
    """

    line: int
    source: Any
    row: Row | Malformed


NOT_UTF8 = Malformed("not UTF-8; convert the file first")


class _Lines:
    """Decodes the lines of a byte stream.

    Attributes:
        not_utf8: Number, from 1, of the first line that is not UTF-8 since the caller last set this to 0.
    """

    def __init__(self, stream: IO[bytes], newline: str) -> None:
        """Leave out a byte order mark, with which spreadsheets begin their files."""
        # A strict decoder would end the reading at the first byte that is not UTF-8.
        self.text = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
        self.not_utf8 = 0

    def __iter__(self) -> Iterator[str]:
        """Yield each line with its end."""
        try:
            for number, line in enumerate(self.text, start=1):
                if not self.not_utf8 and not is_utf8(line):
                    self.not_utf8 = number
                yield line
        finally:
            # Otherwise the wrapper closes the stream, which the caller owns, when it is deleted.
            if not self.text.closed:
                self.text.detach()


class DelimitedRows:
    """Reads csv or tsv, whose first record names the columns; blank lines are left out.

    Attributes:
        header: The column names, known once the first record was asked for.
    """

    def __init__(self, stream: IO[bytes], delimiter: str) -> None:
        """Keep the stream; nothing is read yet."""
        self.lines = _Lines(stream, newline="")
        self.delimiter = delimiter
        self.header: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        """Yield every record after the header; yield the header too if it is malformed."""
        for line, fields in self._fields():
            if isinstance(fields, Malformed):
                yield Record(line, fields, fields._replace(fatal=not self.header))
            elif not fields or (len(fields) == 1 and not fields[0].strip() and len(self.header) != 1):
                continue
            elif not self.header:
                self.header = [name.strip() for name in fields]
                repeated = next((name for name in self.header if self.header.count(name) > 1), None)
                if repeated is not None:
                    message = f"names the column {repeated!r} {self.header.count(repeated)} times"
                    yield Record(line, fields, Malformed(message, fatal=True))
            elif len(fields) != len(self.header):
                message = f"{len(fields)} fields, but the header has {len(self.header)}"
                yield Record(line, fields, Malformed(message))
            else:
                yield Record(line, fields, dict(zip(self.header, fields, strict=True)))

    def _fields(self) -> Iterator[tuple[int, list[str] | Malformed]]:
        """Yield the number of each record's first line, and its fields; a record may span several lines."""
        # A review may be longer than the module's limit of 131,072 characters, which no single reader can change.
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(iter(self.lines), delimiter=self.delimiter, strict=True)
        begins = 1
        while True:
            fields: list[str] | Malformed | None
            try:
                fields = next(reader, None)
            except csv.Error as error:
                message = str(error).replace("\t", "\\t") + "; is a quote never closed?"
                if reader.line_num > begins:
                    message += f" (all up to line {reader.line_num} was taken for one row)"
                fields = Malformed(message)
            if self.lines.not_utf8:
                begins, fields, self.lines.not_utf8 = self.lines.not_utf8, NOT_UTF8, 0
            if fields is None:
                return
            yield begins, fields
            begins = reader.line_num + 1


def json_rows(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the object on each line that is not blank."""
    for number, line in _numbered_lines(stream):
        row: Any = NOT_UTF8
        if is_utf8(line):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    row = Malformed(f"a {type(row).__name__}, where an object is needed")
            except (ValueError, RecursionError) as error:
                row = Malformed(f"not JSON ({getattr(error, 'msg', error)})")
        yield Record(number, line, row)


def fasttext_rows(stream: IO[bytes]) -> Iterator[Record]:
    """Yield label, title and content of each line; a title ends at the first colon and space, and may be missing."""
    for number, line in _numbered_lines(stream):
        match = _FASTTEXT_LINE.fullmatch(line)
        row: Row | Malformed
        if not is_utf8(line):
            row = NOT_UTF8
        elif match is None:
            row = Malformed("does not begin with __label__NAME and a space")
        elif match[2].startswith("__label__"):
            row = Malformed("has several labels; a review has one here")
        else:
            title, colon, content = match[2].partition(": ")
            texts = (title, content) if colon else ("", title)
            row = dict(zip(FASTTEXT_COLUMNS, (match[1], *texts), strict=True))
        yield Record(number, line, row)


def _numbered_lines(stream: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number, from 1; only a newline ends a line."""
    for number, line in enumerate(_Lines(stream, newline="\n"), start=1):
        if line.strip():
            yield number, line.strip("\r\n")


DELIMITERS = {".csv": ",", ".tsv": "\t"}
ROWS: dict[str, Callable[[IO[bytes]], Iterable[Record]]] = {
    **{extension: partial(DelimitedRows, delimiter=delimiter) for extension, delimiter in DELIMITERS.items()},
    ".jsonl": json_rows,
    ".txt": fasttext_rows,
}


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can encode a text, that is, whether it has no lone surrogates."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True

"""Read the rows of text files: csv, tsv, jsonl, and fastText's `__label__2 title: text`.

Light: it imports the standard library alone. Each reader continues after a malformed row, so that scoring may skip it.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from io import TextIOWrapper
from typing import IO, Any, NamedTuple

_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)

# A review, or the pair of its title and content for a model trained on two text columns.
Text = str | tuple[str, str]
Row = dict[str, Any]


class Malformed(NamedTuple):
    """Why a row cannot be read; `fatal` where no row after it can be read either."""

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


@dataclass
class DelimitedRows:
    """Reads csv or tsv, whose first record names the columns; blank lines are left out.

    Attributes:
        header: The column names, known once the first record was asked for.
    """

    stream: IO[bytes]
    delimiter: str
    header: list[str] = field(default_factory=list)

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
        not_utf8: list[int] = []

        def lines() -> Iterator[str]:
            for number, line in _lines(self.stream, newline=""):
                if not is_utf8(line):
                    not_utf8.append(number)
                yield line

        # A review may be longer than the module's limit of 131,072 characters, which no single reader can change.
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(lines(), delimiter=self.delimiter, strict=True)
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
            if not_utf8:
                begins, fields = not_utf8[0], NOT_UTF8
                not_utf8.clear()
            if fields is None:
                return
            yield begins, fields
            begins = reader.line_num + 1


def _line_rows(stream: IO[bytes], parse: Callable[[str], Row | Malformed]) -> Iterator[Record]:
    """Yield a record for each line that is not blank; only a newline ends a line."""
    for number, ended in _lines(stream, newline="\n"):
        if ended.strip():
            line = ended.strip("\r\n")
            yield Record(number, line, parse(line) if is_utf8(line) else NOT_UTF8)


def _json_row(line: str) -> Row | Malformed:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON ({getattr(error, 'msg', error)})")
    return row if isinstance(row, dict) else Malformed(f"a {type(row).__name__}, where an object is needed")


def _fasttext_row(line: str) -> Row | Malformed:
    """Return label, title and content; a title ends at the first colon and space, and may be missing."""
    match = _FASTTEXT_LINE.fullmatch(line)
    if match is None:
        return Malformed("does not begin with __label__NAME and a space")
    if match[2].startswith("__label__"):
        return Malformed("has several labels; a review has one here")
    title, colon, content = match[2].partition(": ")
    return {"label": match[1], "title": title if colon else "", "content": content if colon else title}


def _lines(stream: IO[bytes], newline: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and the line with its end."""
    # It leaves out a byte order mark, with which spreadsheets begin their files. A strict decoder would end the reading
    # at the first byte that is not UTF-8.
    text = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    try:
        yield from enumerate(text, start=1)
    finally:
        # Otherwise the wrapper closes the stream, which the caller owns, when it is deleted.
        if not text.closed:
            text.detach()


DELIMITERS = {".csv": ",", ".tsv": "\t"}
ROWS: dict[str, Callable[[IO[bytes]], Iterable[Record]]] = {
    **{extension: partial(DelimitedRows, delimiter=delimiter) for extension, delimiter in DELIMITERS.items()},
    ".jsonl": partial(_line_rows, parse=_json_row),
    ".txt": partial(_line_rows, parse=_fasttext_row),
}


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can encode a text, that is, whether it has no lone surrogates."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True

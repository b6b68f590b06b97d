"""The rows of text files, one at a time: csv, tsv, jsonl, and fastText's `__label__2 title: text`.

Light on purpose. Each reader goes on after a row that it cannot read: whoever scores reviews by the million may want to
pass over one, whoever trains on them does not.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from typing import IO, Any, NamedTuple

FASTTEXT_COLUMNS = ["label", "title", "content"]
_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)

# A review may be longer than the 131,072 characters that the csv module stops at.
csv.field_size_limit(sys.maxsize)


class Malformed(NamedTuple):
    """Why a row cannot be read.

    Attributes:
        message: In words.
        fatal: Whether no row after it can be read either.
    """

    message: str
    fatal: bool = False


NOT_UTF8 = Malformed("not UTF-8; convert the file first")
# A review, or the pair of its title and content for a model trained on two text columns.
Text = str | tuple[str, str]
Row = dict[str, Any]
# Each with the number, from 1, of the line it begins on.
Rows = Iterable[tuple[int, Row | Malformed]]


class _Lines:
    """The lines of a stream of bytes, and where among them there were bytes that are not UTF-8.

    Attributes:
        not_utf8: The number, from 1, of the first such line since this was last set to 0.
    """

    def __init__(self, stream: IO[bytes], newline: str) -> None:
        """Decode a stream; a byte order mark, with which spreadsheets begin their files, is no part of its text."""
        # Strictly decoded, the first such byte would end the reading.
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
            # Or it would close the stream, which is not its own, when it is thrown away.
            if not self.text.closed:
                self.text.detach()


class DelimitedRows:
    """The rows of a stream whose first record names the columns; blank lines are passed over.

    Attributes:
        header: The columns' names, once the first row was asked for.
    """

    def __init__(self, stream: IO[bytes], delimiter: str) -> None:
        """Name the stream; nothing is read yet."""
        self.lines = _Lines(stream, newline="")
        self.delimiter = delimiter
        self.header: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, Row | Malformed]]:
        """Yield each row with its line."""
        for line, fields in self._records():
            if isinstance(fields, Malformed):
                yield line, fields._replace(fatal=not self.header)
            elif not fields or (len(fields) == 1 and not fields[0].strip() and len(self.header) != 1):
                continue
            elif not self.header:
                self.header = [name.strip() for name in fields]
                yield from ((line, repeated) for repeated in _repeated(self.header))
            elif len(fields) != len(self.header):
                yield line, Malformed(f"{len(fields)} fields, but the header has {len(self.header)}")
            else:
                yield line, dict(zip(self.header, fields, strict=True))

    def _records(self) -> Iterator[tuple[int, list[str] | Malformed]]:
        """Yield the fields of each record; one may go over several lines."""
        reader = csv.reader(iter(self.lines), delimiter=self.delimiter, strict=True)
        begins = 1
        while True:
            fields: list[str] | Malformed | None
            try:
                fields = next(reader, None)
            except csv.Error as error:
                fields = Malformed(_spelled_out(error, begins, reader.line_num))
            if self.lines.not_utf8:
                begins, fields, self.lines.not_utf8 = self.lines.not_utf8, NOT_UTF8, 0
            if fields is None:
                return
            yield begins, fields
            begins = reader.line_num + 1


def _spelled_out(error: csv.Error, begins: int, ends: int) -> str:
    """Return what is wrong with a record that begins and ends on these lines."""
    message = str(error).replace("\t", "\\t") + "; is a quote never closed?"
    return message if ends <= begins else f"{message} (all up to line {ends} was taken for one row)"


def _repeated(header: list[str]) -> Iterator[Malformed]:
    """Yield a refusal of the first name that a header has twice."""
    for name in header:
        if header.count(name) > 1:
            yield Malformed(f"names the column {name!r} {header.count(name)} times", fatal=True)
            return


def json_lines(stream: IO[bytes]) -> Iterator[tuple[int, str, Row | Malformed]]:
    """Yield each line that is not blank with its number, and the object it holds."""
    for number, line in _numbered_lines(stream):
        yield number, line, NOT_UTF8 if not is_utf8(line) else _object(line)


def _object(line: str) -> Row | Malformed:
    """Return the object that a line holds."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON ({getattr(error, 'msg', error)})")
    return row if isinstance(row, dict) else Malformed(f"a {type(row).__name__}, where an object is needed")


def fasttext_rows(stream: IO[bytes]) -> Iterator[tuple[int, Row | Malformed]]:
    """Yield label, title and content of each line; a title ends at the first colon and space, and may be missing."""
    for number, line in _numbered_lines(stream):
        match = _FASTTEXT_LINE.fullmatch(line)
        if not is_utf8(line):
            yield number, NOT_UTF8
        elif match is None:
            yield number, Malformed("does not begin with __label__NAME and a space")
        elif match[2].startswith("__label__"):
            yield number, Malformed("has several labels; a review has one here")
        else:
            title, colon, content = match[2].partition(": ")
            texts = (title, content) if colon else ("", title)
            yield number, dict(zip(FASTTEXT_COLUMNS, (match[1], *texts), strict=True))


def _numbered_lines(stream: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number, from 1; only a newline ends a line."""
    for number, line in enumerate(_Lines(stream, newline="\n"), start=1):
        if line.strip():
            yield number, line.strip("\r\n")


ROWS: dict[str, Callable[[IO[bytes]], Rows]] = {
    ".csv": lambda stream: DelimitedRows(stream, ","),
    ".tsv": lambda stream: DelimitedRows(stream, "\t"),
    ".jsonl": lambda stream: ((number, row) for number, _, row in json_lines(stream)),
    ".txt": fasttext_rows,
}


def require_text(value: Any) -> str | None:
    """Return a value of a text column.

    Raises:
        TypeError: It is not text.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{json.dumps(value)[:60]} is a {type(value).__name__}, where a text is needed")
    return value


def is_utf8(text: str) -> bool:
    """Return whether a text holds no half of a character, which stands for a byte that could not be decoded."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True

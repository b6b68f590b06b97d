"""Read the rows of text files: csv, tsv, jsonl, json, and fastText's `__label__2 title: text`.

Light: beside the standard library it imports the errors alone. Each reader continues after a malformed row, so that
scoring may skip it.
"""

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader, TextIOWrapper
from typing import IO, Any, Literal, NamedTuple, cast

from recipe.errors import UsageError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# What is tried where the extension's own delimiter does not lead to the needed columns.
OTHER_DELIMITERS = (",", "\t", ";", "|")
Quoting = Literal["checked", "trusted", "none"]
Escape = Literal["none", "backslash"]
# Lines of one record that are compared with rows: more tell no more, and would be held in memory.
EXAMINED_LINES = 1000
# Characters of a JSON array that are read at once.
BLOCK = 1 << 16
# JSON's longest word is -Infinity; behind it, what cannot be decoded is malformed and not only cut by a block's end.
LONGEST_WORD = 16

_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)
# Excel's first line may say what separates the columns.
_EXCEL_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_BLANKS = re.compile(r"[ \t\r\n]*")

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
        source: The row as it was spelled: the fields of csv and tsv, the line of jsonl and fastText, an object in one
            line.
        row: Its values by column.
    """

    line: int
    source: Any
    row: Row | Malformed


NOT_UTF8 = Malformed("not UTF-8; convert the file first")


@dataclass(frozen=True)
class Dialect:
    """How csv and tsv are spelled; the other formats have no use for it.

    Attributes:
        delimiter: One character; `None` finds it.
        quoting: `checked` refuses a quoted field whose lines look like rows, `trusted` takes it for one field, and with
            `none` quotes are plain characters.
        escape: `backslash` takes the character after a backslash as it is, such as a quote; or `none`.
        column_names: Those of a file without a header; a column whose name is empty is not read.
    """

    delimiter: str | None = None
    quoting: Quoting = "checked"
    escape: Escape = "none"
    column_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, flags: Any) -> "Dialect":
        """Return the dialect that an object's attributes of the same names ask for; `tab` is a delimiter's name.

        Raises:
            UsageError: The delimiter is not one character, or a column is named twice.
        """
        delimiter, names = flags.delimiter, tuple(flags.column_names or ())
        delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\\\r\n'):
            raise UsageError(f"--delimiter {delimiter!r} is not one character that can separate columns, or 'tab'")
        if repeated := next((name for name in names if name and names.count(name) > 1), None):
            raise UsageError(f"--column_names names {repeated!r} {names.count(repeated)} times")
        return cls(delimiter, flags.quoting, flags.escape, names)

    def reader(self, lines: Iterable[str], delimiter: str, strict: bool = True) -> Any:
        """Return Python's csv reader of lines, which raises at a quote in the wrong place if it is `strict`."""
        quoting: Any = csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL
        escape = "\\" if self.escape == "backslash" else None
        # A review may be longer than the module's limit of 131,072 characters, which no single reader can change.
        csv.field_size_limit(sys.maxsize)
        return csv.reader(lines, delimiter=delimiter, quoting=quoting, escapechar=escape, strict=strict)


@dataclass
class DelimitedRows:
    """Reads csv or tsv, whose first record names the columns unless the dialect does; blank lines are left out.

    Attributes:
        needed: Columns that must have one name each. Those without a name or with a repeated one are in no row.
        usual: The extension's own delimiter.
        header, delimiter: The column names, and what separates them; known once the first record was asked for.
    """

    stream: IO[bytes]
    dialect: Dialect
    needed: Collection[str] = ()
    usual: str = ","
    header: list[str] = field(default_factory=list)
    delimiter: str = ""

    def __iter__(self) -> Iterator[Record]:
        """Yield every record after the header; yield the header too if it is malformed."""
        self.header = list(self.dialect.column_names)
        namer, first = "--column_names" if self.header else "the header", bool(self.header)
        kept = self._kept()
        for line, fields in self._fields():
            if isinstance(fields, Malformed):
                yield Record(line, fields, fields._replace(fatal=not self.header))
            elif not fields or (len(fields) == 1 and not fields[0].strip() and len(self.header) != 1):
                continue
            elif not self.header:
                self.header = [name.strip() for name in fields]
                kept = self._kept()
                if repeated := next((name for name in self.needed if self.header.count(name) > 1), None):
                    message = f"names the column {repeated!r} {self.header.count(repeated)} times"
                    yield Record(line, fields, Malformed(message, fatal=True))
            elif first and self.needed and set(self.needed) <= {name.strip() for name in fields}:
                message = "names the columns itself: leave --column_names out"
                yield Record(line, fields, Malformed(message, fatal=True))
            elif len(fields) != len(self.header):
                message = f"{len(fields)} fields, but {namer} has {len(self.header)}"
                yield Record(line, fields, Malformed(message))
            else:
                yield Record(line, fields, dict(itertools.compress(zip(self.header, fields, strict=True), kept)))
            first = False

    @property
    def names(self) -> list[str]:
        """Return the names that rows have."""
        return list(itertools.compress(self.header, self._kept()))

    def _kept(self) -> list[bool]:
        counts = Counter(self.header)
        return [bool(name) and counts[name] == 1 for name in self.header]

    def _fields(self) -> Iterator[tuple[int, list[str] | Malformed]]:
        """Yield the number of each record's first line, and its fields; a record may span several lines."""
        not_utf8: list[int] = []
        held: list[str] = []

        def lines() -> Iterator[str]:
            for number, line in numbered:
                if not is_utf8(line):
                    not_utf8.append(number)
                if len(held) < EXAMINED_LINES:
                    held.append(line)
                yield line

        numbered = self._numbered_lines()
        reader = self.dialect.reader(lines(), self.delimiter)
        begins = 1
        while True:
            fields: list[str] | Malformed | None
            try:
                fields = next(reader, None)
                if reader.line_num > begins and self.dialect.quoting == "checked" and self._hides_rows(held):
                    fields = Malformed(
                        f"a quote opens here and is closed in line {reader.line_num}, but each of these lines looks "
                        "like a row: close the quote, or give --quoting none, with which quotes are plain characters, "
                        "or --quoting trusted if it is one review"
                    )
            except csv.Error as error:
                fields = _broken_quote(error, held, reader.line_num if reader.line_num > begins else 0)
            if not_utf8:
                begins, fields = not_utf8[0], NOT_UTF8
                not_utf8.clear()
            if fields is None:
                return
            yield begins, fields
            begins = reader.line_num + 1
            held.clear()

    def _numbered_lines(self) -> Iterator[tuple[int, str]]:
        """Return the lines and their numbers, and learn the delimiter; Excel's `sep=;` comes as a blank line."""
        numbered, ahead, said, line = _lines(self.stream, newline=""), [], "", ""
        for number, line in numbered:
            if number == 1 and (match := _EXCEL_LINE.fullmatch(line)):
                said, line = match[1], "\n"
            ahead.append((number, line))
            if line.strip():
                break
        self.delimiter = self.dialect.delimiter or said or self._delimiter_of(line)
        return itertools.chain(ahead, numbered)

    def _delimiter_of(self, line: str) -> str:
        """Return the only delimiter that finds the needed columns in the first line; in doubt, the usual one.

        If none finds them, it is the only one that splits the line at all.
        """
        split: dict[str, list[str]] = {}
        for delimiter in OTHER_DELIMITERS:
            # The line may be the first of several that are one record.
            fields: list[str] = next(self.dialect.reader([line.replace("\x00", "")], delimiter, strict=False), [])
            split[delimiter] = [name.strip() for name in fields]
        names, needed = self.dialect.column_names, set(self.needed)
        fitting = [one for one in split if (len(split[one]) == len(names) if names else needed <= set(split[one]))]
        if not fitting and len(split[self.usual]) == 1:
            fitting = [one for one in split if len(split[one]) > 1]
        return fitting[0] if len(fitting) == 1 else self.usual

    def _hides_rows(self, lines: list[str]) -> bool:
        """Return whether each of a record's lines looks like a row, so that a quote hides rows that are none of it.

        Each line, split without regard to quotes, must have as many fields as the header. No field may begin with a
        blank, as behind a comma in prose, and not all lines but one may have a number like 3,50. Where the first line
        has a number, or a word alone, all must; if it has neither, at least three lines are needed. So reviews with
        line breaks pass, and some hidden rows do too: those whose own text has the delimiter in it, and all in a file
        of one column, where nothing tells a row from a line.
        """
        rows = [line.rstrip("\r\n").split(self.delimiter) for line in lines]
        if len(self.header) < 2 or any(len(row) != len(self.header) for row in rows):
            return False
        if any(name[:1].isspace() for row in rows for name in row[1:]):
            return False
        decimals = [row for row in rows if len(row) == 2 and row[0][-1:].isdigit() and row[1][:1].isdigit()]
        if len(decimals) >= len(rows) - 1:
            return False
        columns = [column for column in zip(*rows, strict=True) if not column[0].startswith('"')]
        alike = [column for column in columns if _NUMBER.fullmatch(column[0])]
        if alike:
            return all(_NUMBER.fullmatch(value) for column in alike for value in column)
        alike = [column for column in columns if len(column[0].split()) == 1]
        return all(len(value.split()) == 1 for column in alike for value in column) and (bool(alike) or len(rows) > 2)


def _broken_quote(error: csv.Error, lines: list[str], last: int) -> Malformed:
    """Return what a record's lines, up to line `last` where there are several, are refused with."""
    message = str(error).replace("\t", "\\t") + "; is a quote never closed?"
    if last:
        message += f" (all up to line {last} was taken for one row)"
    if any('\\"' in line for line in lines):
        return Malformed(message + ' --escape backslash reads \\" as a quote')
    return Malformed(message + " With --quoting none quotes are plain characters")


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
        return _not_json(error)
    return _object(row)


def _not_json(error: ValueError | RecursionError) -> Malformed:
    return Malformed(f"not JSON ({getattr(error, 'msg', error)})")


def _object(value: Any) -> Row | Malformed:
    return value if isinstance(value, dict) else Malformed(f"a {type(value).__name__}, where an object is needed")


def _json_rows(stream: IO[bytes]) -> Iterator[Record]:
    """Yield a record for each object of an array, or for each line if the file is no array."""
    buffered = BufferedReader(cast(Any, stream))
    try:
        is_array = buffered.peek().removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        yield from _ArrayRows(buffered) if is_array else _line_rows(buffered, _json_row)
    finally:
        if not buffered.closed:
            buffered.detach()


class _ArrayRows:
    """Reads the elements of a JSON array; holds one of them, and a block of what follows.

    After a mistake in JSON itself no element can be read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.text = _text(stream, newline="")
        # What was read and not yet used begins at `at`, which is in line `line`.
        self.held, self.at, self.line = "", 0, 1

    def __iter__(self) -> Iterator[Record]:
        self._upcoming()
        self._skip(1)
        try:
            while self._upcoming() != "]":
                row, end = self._element()
                line, spelled = self.line, self.held[self.at : end]
                self._skip(end - self.at)
                # Line ends stand between JSON's words alone.
                source = re.sub(r"\s*[\r\n]\s*", " ", spelled)
                yield Record(line, source, _object(row) if is_utf8(spelled) else NOT_UTF8)
                if self._upcoming() == ",":
                    self._skip(1)
                elif self._upcoming() != "]":
                    raise ValueError("Expecting ',' or ']'")
            self._skip(1)
            if self._upcoming():
                raise ValueError("Extra data behind the array")
        except (ValueError, RecursionError) as error:
            yield Record(self.line, "", _not_json(error)._replace(fatal=True))
        finally:
            if not self.text.closed:
                self.text.detach()

    def _element(self) -> tuple[Any, int]:
        """Return the next element, and where it ends; raise if it is malformed."""
        decode = json.JSONDecoder().raw_decode
        while True:
            try:
                row, end = decode(self.held, self.at)
                # A number may go on in the next block.
                if end < len(self.held) or not self._more():
                    return row, end
            except json.JSONDecodeError as error:
                cut = error.pos + LONGEST_WORD >= len(self.held) or error.msg.startswith("Unterminated string")
                if not cut or not self._more():
                    raise

    def _upcoming(self) -> str:
        """Move on to the next character that is not blank, and return it; empty at the end."""
        while True:
            blanks = _BLANKS.match(self.held, self.at)
            assert blanks
            self._skip(blanks.end() - self.at)
            if self.at < len(self.held) or not self._more():
                return self.held[self.at : self.at + 1]

    def _skip(self, characters: int) -> None:
        self.line += self.held.count("\n", self.at, self.at + characters)
        self.at += characters

    def _more(self) -> bool:
        """Read a block, as long as what is held at least: a long element is decoded anew with each block."""
        block = self.text.read(max(BLOCK, len(self.held) - self.at))
        self.held, self.at = self.held[self.at :] + block, 0
        return bool(block)


def _fasttext_row(line: str) -> Row | Malformed:
    """Return label, title and content; a title ends at the first colon and space, and may be missing."""
    match = _FASTTEXT_LINE.fullmatch(line)
    if match is None:
        return Malformed("does not begin with __label__NAME and a space")
    if match[2].startswith("__label__"):
        return Malformed("has several labels; a review has one here")
    title, colon, content = match[2].partition(": ")
    return {"label": match[1], "title": title if colon else "", "content": content if colon else title}


def _text(stream: IO[bytes], newline: str) -> TextIOWrapper:
    # It leaves out a byte order mark, with which spreadsheets begin their files. A strict decoder would end the reading
    # at the first byte that is not UTF-8.
    return TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _lines(stream: IO[bytes], newline: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and the line with its end."""
    text = _text(stream, newline)
    try:
        yield from enumerate(text, start=1)
    finally:
        # Otherwise the wrapper closes the stream, which the caller owns, when it is deleted.
        if not text.closed:
            text.detach()


# All but csv and tsv.
LINE_ROWS: dict[str, Callable[[IO[bytes]], Iterable[Record]]] = {
    ".jsonl": partial(_line_rows, parse=_json_row),
    ".ndjson": partial(_line_rows, parse=_json_row),
    ".json": _json_rows,
    ".txt": partial(_line_rows, parse=_fasttext_row),
}
TEXT_FORMATS = (*DELIMITERS, *LINE_ROWS)


def text_rows(
    extension: str, stream: IO[bytes], dialect: Dialect | None = None, needed: Collection[str] = ()
) -> Iterable[Record]:
    """Return the rows of a stream in the format that an extension means; for csv and tsv a `DelimitedRows`."""
    if extension in DELIMITERS:
        return DelimitedRows(stream, dialect or Dialect(), needed, DELIMITERS[extension])
    return LINE_ROWS[extension](stream)


def looks_like_data(header: Iterable[str]) -> bool:
    """Return whether a first record is rather a row than the names of columns: it has a number, or a long text."""
    return any(_NUMBER.fullmatch(name) or len(name) > 60 for name in header)


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can encode a text, that is, whether it has no lone surrogates."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True


def replace_lone_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text if is_utf8(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

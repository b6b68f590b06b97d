"""Labelled reviews in files of your own: csv, tsv, jsonl, parquet, and fastText's `__label__2 title: text`."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError

from recipe.errors import UsageError

FASTTEXT_COLUMNS = ["label", "title", "content"]
_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)

# A review may be longer than the 131,072 characters that the csv module stops at.
csv.field_size_limit(sys.maxsize)


def read_file(path: str, columns: list[str]) -> Dataset:
    """Return the named columns of a file, on disk as Arrow however large it is.

    Args:
        path: Its extension says what it is: .csv, .tsv, .jsonl, .parquet, or .txt for fastText.
        columns: What to keep. Of text formats each value becomes a string; a value that is null stays `None`.

    Raises:
        UsageError: There is no such file or column, or it is not what its extension says; names the line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"no file {path!r} here (looked for {file.resolve()})")
    extension = file.suffix.lower()
    if extension == ".parquet":
        return _read_parquet(file, columns)
    if extension not in _ROWS:
        raise UsageError(f"{path} has the extension {extension!r}; known are {', '.join(sorted([*_ROWS, '.parquet']))}")
    return _read_rows(file, _ROWS[extension], columns)


def _read_parquet(file: Path, columns: list[str]) -> Dataset:
    """Return the columns of a parquet file, with the types it gives them."""
    try:
        rows = Dataset.from_parquet(str(file))
    except (DatasetGenerationError, pyarrow.ArrowInvalid, ValueError) as error:
        raise UsageError(f"{file} is not a whole parquet file: {error.__cause__ or error}") from error
    _require_columns(file, rows.column_names, columns)
    return rows.select_columns(columns)


def _read_rows(file: Path, rows_of: Callable[[Path], Iterator[dict[str, Any]]], columns: list[str]) -> Dataset:
    """Return the columns of a text file, as strings."""
    stat = file.stat()
    try:
        return Dataset.from_generator(
            _strings,
            features=Features({column: Value("string") for column in columns}),
            # datasets keeps the result under a key made of these; a changed file is read anew.
            gen_kwargs={
                "file": file.resolve(),
                "rows_of": rows_of,
                "columns": tuple(columns),
                "changed": stat.st_mtime_ns,
                "size": stat.st_size,
            },
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from None
        raise


def _strings(
    file: Path, rows_of: Callable[[Path], Iterator[dict[str, Any]]], columns: tuple[str, ...], **_: int
) -> Iterator[dict[str, str | None]]:
    """Yield the rows, each value a string or `None`."""
    checked = False
    try:
        for row in rows_of(file):
            if not checked:
                _require_columns(file, list(row), list(columns))
                checked = True
            yield {column: _as_string(row.get(column)) for column in columns}
    except UnicodeDecodeError:
        raise UsageError(f"{file}, line {_first_line_not_utf8(file)}: not UTF-8; convert the file first") from None
    if not checked:
        raise UsageError(f"{file} holds no rows")


def _as_string(value: Any) -> str | None:
    """Return a value as text; what is not a string as JSON would write it."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _require_columns(file: Path, found: list[str], wanted: list[str]) -> None:
    """Refuse a file that lacks a column.

    Raises:
        UsageError: Lists the columns that are there.
    """
    for column in wanted:
        if column not in found:
            raise UsageError(
                f"{file} has no column {column!r}; it has {', '.join(found)} (--text_columns and --label_column choose)"
            )


def _first_line_not_utf8(file: Path) -> int:
    """Return the number, from 1, of the first line whose bytes are not UTF-8."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{file} is UTF-8")


def _delimited_rows(file: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    """Yield a row per record of a file whose first record names the columns; blank lines are passed over."""
    # utf-8-sig: spreadsheets begin their files with a byte order mark.
    with file.open(encoding="utf-8-sig", newline="") as lines:
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        try:
            for fields in filter(None, records):
                if header is None:
                    header = fields
                elif len(fields) != len(header):
                    raise UsageError(
                        f"{file}, line {records.line_num}: {len(fields)} fields, but the header has {len(header)}"
                    )
                else:
                    yield dict(zip(header, fields, strict=True))
        except csv.Error as error:
            raise UsageError(f"{file}, line {records.line_num}: {error}") from None


def _csv_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of comma-separated values."""
    return _delimited_rows(file, ",")


def _tsv_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of tab-separated values."""
    return _delimited_rows(file, "\t")


def _jsonl_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of each line; blank lines are passed over."""
    for number, line in _numbered_lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number}: a {type(row).__name__}, where an object is needed")
        yield row


def _fasttext_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield label, title and content of each line; a title ends at the first colon and space, and may be missing."""
    for number, line in _numbered_lines(file):
        match = _FASTTEXT_LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"{file}, line {number}: does not begin with __label__NAME and a space")
        title, colon, content = match[2].partition(": ")
        if not colon:
            title, content = "", title
        yield dict(zip(FASTTEXT_COLUMNS, (match[1], title, content), strict=True))


def _numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number, from 1; only a newline ends a line."""
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip("\r\n")


_ROWS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _jsonl_rows,
    ".txt": _fasttext_rows,
}

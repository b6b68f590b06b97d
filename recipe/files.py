"""Labelled reviews in files of your own: csv, tsv, jsonl, parquet, and fastText's `__label__2 title: text`."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, Value

from recipe.digests import file_sha256
from recipe.errors import UsageError
from recipe.kept import kept_file, writing

FASTTEXT_COLUMNS = ["label", "title", "content"]
_FASTTEXT_LINE = re.compile(r"__label__(\S+)\s+(.*)", re.DOTALL)
# A row of a text file with the number, from 1, of the line it begins on.
_Rows = Iterator[tuple[int, dict[str, Any]]]

# A review may be longer than the 131,072 characters that the csv module stops at.
csv.field_size_limit(sys.maxsize)


def read_file(path: str, text_columns: list[str], label_column: str) -> Dataset:
    """Return the named columns of a file, on disk as Arrow however large it is.

    They are kept under a key made of the file's content, so that the next run need not read it again.

    Args:
        path: Its extension says what it is: .csv, .tsv, .jsonl, .parquet, or .txt for fastText.
        text_columns, label_column: What to keep. Of text formats each value becomes a string, a null stays `None`.

    Raises:
        UsageError: There is no such file or column, or it is not what its extension says; names the line.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UsageError(f"{path} is a folder: give it as --dataset_name, or name a file in it")
    if not file.is_file():
        raise UsageError(f"no file {path!r} here (looked for {file.resolve()})")
    extension = file.suffix.lower()
    if extension not in (*_ROWS, ".parquet"):
        raise UsageError(f"{path} has the extension {extension!r}; known are {', '.join(sorted([*_ROWS, '.parquet']))}")
    code = file_sha256(Path(__file__))
    key = {"file": file_sha256(file), "format": extension, "texts": text_columns, "label": label_column}
    kept = kept_file(".arrow", code=code, **key)
    if not kept.is_file():
        if extension == ".parquet":
            _keep_parquet(kept, file, [*text_columns, label_column])
        else:
            _keep_rows(kept, file, _ROWS[extension](file), text_columns, label_column)
    return Dataset.from_file(str(kept))


def _keep_parquet(kept: Path, file: Path, columns: list[str]) -> None:
    """Write the columns of a parquet file to `kept`, with the types it gives them."""
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            found = parquet.schema_arrow
            _require_columns(file, found.names, columns)
            if not parquet.metadata.num_rows:
                raise UsageError(f"{file} holds no rows")
            fields = [pyarrow.field(name, _plain(found.field(name).type)) for name in columns]
            schema = pyarrow.schema(fields, metadata=found.metadata)
            features = Features.from_arrow_schema(schema)
            with writing(kept, Features({name: features[name] for name in columns})) as writer:
                for batch in parquet.iter_batches(batch_size=10_000, columns=columns):
                    writer.write_table(pyarrow.Table.from_batches([batch]).select(columns).cast(schema))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, NotImplementedError) as error:
        raise UsageError(f"{file} is not a whole parquet file that can be read: {error}") from error


def _plain(type_: pyarrow.DataType) -> pyarrow.DataType:
    """Return a column's type; of categories, as pandas writes them, that of the values."""
    return type_.value_type if pyarrow.types.is_dictionary(type_) else type_


def _keep_rows(kept: Path, file: Path, rows: _Rows, text_columns: list[str], label_column: str) -> None:
    """Write the columns of a text file to `kept`, as strings."""
    columns = [*text_columns, label_column]
    empty = True
    try:
        with writing(kept, Features({column: Value("string") for column in columns})) as writer:
            for number, row in rows:
                if empty:
                    _require_columns(file, list(row), columns)
                    empty = False
                try:
                    values = {column: _text(row.get(column)) for column in text_columns}
                    writer.write(values | {label_column: _label(row.get(label_column))})
                except (TypeError, UnicodeEncodeError) as error:
                    raise UsageError(f"{file}, line {number}: {error}") from None
            if empty:
                raise UsageError(f"{file} holds no rows")
    except UnicodeDecodeError:
        raise UsageError(f"{file}, line {_first_line_not_utf8(file)}: not UTF-8; convert the file first") from None


def _text(value: Any) -> str | None:
    """Return a value of a text column.

    Raises:
        TypeError: It is not text.
        UnicodeEncodeError: It holds half of a character, which JSON can spell and UTF-8 cannot.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{json.dumps(value)[:60]} is a {type(value).__name__}, where a text is needed")
    if value is not None:
        value.encode("utf-8")
    return value


def _label(value: Any) -> str | None:
    """Return a value of the label column as text; what is not a string as JSON would write it.

    Raises:
        TypeError: It is no single value.
    """
    if isinstance(value, list | dict):
        raise TypeError(f"{json.dumps(value)[:60]} is a {type(value).__name__}, where a label is needed")
    return _text(value if value is None or isinstance(value, str) else json.dumps(value))


def _require_columns(file: Path, found: list[str], wanted: list[str]) -> None:
    """Refuse a file that lacks a column.

    Raises:
        UsageError: Lists the columns that are there.
    """
    for column in wanted:
        if found.count(column) > 1:
            raise UsageError(f"{file} has {found.count(column)} columns {column!r}: rename or remove all but one")
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


def _delimited_rows(file: Path, delimiter: str) -> _Rows:
    """Yield a row per record of a file whose first record names the columns; blank lines are passed over."""
    # utf-8-sig: spreadsheets begin their files with a byte order mark.
    with file.open(encoding="utf-8-sig", newline="") as lines:
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] = []
        begins = 1
        try:
            for fields in records:
                blank = not fields or (len(fields) == 1 and not fields[0].strip() and len(header) != 1)
                if blank:
                    pass
                elif not header:
                    header = [name.strip() for name in fields]
                    _require_no_repeats(file, header)
                elif len(fields) != len(header):
                    raise UsageError(f"{file}, line {begins}: {len(fields)} fields, but the header has {len(header)}")
                else:
                    yield begins, dict(zip(header, fields, strict=True))
                begins = records.line_num + 1
        except csv.Error as error:
            message = str(error).replace("\t", "\\t")
            raise UsageError(f"{file}, line {begins}: {message}; is a quote never closed?") from None


def _require_no_repeats(file: Path, header: list[str]) -> None:
    """Refuse a header that names a column twice.

    Raises:
        UsageError: Names the column.
    """
    for name in header:
        if header.count(name) > 1:
            raise UsageError(f"{file}, line 1: names the column {name!r} {header.count(name)} times")


def _csv_rows(file: Path) -> _Rows:
    """Yield the rows of comma-separated values."""
    return _delimited_rows(file, ",")


def _tsv_rows(file: Path) -> _Rows:
    """Yield the rows of tab-separated values."""
    return _delimited_rows(file, "\t")


def _jsonl_rows(file: Path) -> _Rows:
    """Yield the object of each line; blank lines are passed over."""
    for number, line in _numbered_lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file}, line {number}: not JSON ({getattr(error, 'msg', error)})") from None
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number}: a {type(row).__name__}, where an object is needed")
        yield number, row


def _fasttext_rows(file: Path) -> _Rows:
    """Yield label, title and content of each line; a title ends at the first colon and space, and may be missing."""
    for number, line in _numbered_lines(file):
        match = _FASTTEXT_LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"{file}, line {number}: does not begin with __label__NAME and a space")
        if match[2].startswith("__label__"):
            raise UsageError(f"{file}, line {number}: has several labels; a review has one here")
        title, colon, content = match[2].partition(": ")
        if not colon:
            title, content = "", title
        yield number, dict(zip(FASTTEXT_COLUMNS, (match[1], title, content), strict=True))


def _numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number, from 1; only a newline ends a line."""
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip("\r\n")


_ROWS: dict[str, Callable[[Path], _Rows]] = {
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _jsonl_rows,
    ".txt": _fasttext_rows,
}

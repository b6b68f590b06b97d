"""Labelled reviews in files of your own: csv, tsv, jsonl, parquet, and fastText's `__label__2 title: text`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, Value

from recipe.data.cache import kept_file, writing
from recipe.errors import UsageError
from recipe.files import text_rows as rows
from recipe.files.atomic import file_sha256
from recipe.files.text_rows import ROWS, Malformed, Row, require_text


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
    if extension not in (*ROWS, ".parquet"):
        raise UsageError(f"{path} has the extension {extension!r}; known are {', '.join(sorted([*ROWS, '.parquet']))}")
    code = [file_sha256(Path(module)) for module in (__file__, rows.__file__)]
    key = {"file": file_sha256(file), "format": extension, "texts": text_columns, "label": label_column}
    kept = kept_file(".arrow", code=code, **key)
    if not kept.is_file():
        if extension == ".parquet":
            _keep_parquet(kept, file, [*text_columns, label_column])
        else:
            _keep_rows(kept, file, text_columns, label_column)
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


def _keep_rows(kept: Path, file: Path, text_columns: list[str], label_column: str) -> None:
    """Write the columns of a text file to `kept`, as strings."""
    columns = [*text_columns, label_column]
    empty = True
    with writing(kept, Features({column: Value("string") for column in columns})) as writer:
        for number, row in _well_formed(file):
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


def _well_formed(file: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a text file.

    Raises:
        UsageError: Names the line of the first one that cannot be read.
    """
    with file.open("rb") as stream:
        for number, row in ROWS[file.suffix.lower()](stream):
            if isinstance(row, Malformed):
                raise UsageError(f"{file}, line {number}: {row.message}")
            yield number, row


def _text(value: Any) -> str | None:
    """Return a value of a text column.

    Raises:
        TypeError: It is not text.
        UnicodeEncodeError: It holds half of a character, which JSON can spell and UTF-8 cannot.
    """
    text = require_text(value)
    if text is not None:
        text.encode("utf-8")
    return text


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

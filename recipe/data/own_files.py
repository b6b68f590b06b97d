"""Read labelled reviews from files of your own into a Dataset, cached by content."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pyarrow
from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError
from pyarrow import types

from recipe.errors import UsageError
from recipe.files import readers, text_rows
from recipe.files.atomic import file_sha256
from recipe.files.readers import ParquetReviewFile, TextReviewFile
from recipe.files.text_rows import Dialect, Row

# Rows of jsonl whose columns are kept; text and label columns must be among them.
LOOK_AHEAD = 2048


def read_file(path: str, text_columns: list[str], label_column: str, dialect: Dialect | None = None) -> Dataset:
    """Return all columns of a file, on disk as Arrow however large it is; the next call finds them in the cache.

    Args:
        path: .csv, .tsv, .jsonl, .ndjson, .json or .txt for fastText, each also with .gz or .zst after it, or .parquet.
        text_columns, label_column: Columns that must exist. Text formats give strings; null stays `None`.
        dialect: How csv and tsv are spelled.

    Raises:
        UsageError: There is no such file or column, or it is not what its extension says; names the line.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UsageError(f"{path} is a folder: give it as --dataset_name, or name a file in it")
    readers.require_file(str(file))
    format = readers.file_format(path, readers.TRAINING_FORMATS)
    code = [file_sha256(Path(module)) for module in (__file__, readers.__file__, text_rows.__file__)]
    dialect = dialect or Dialect()
    key = json.dumps([file_sha256(file), *format, text_columns, label_column, astuple(dialect), *code])
    reviews = readers.review_file(str(file), format, text_columns, label_column, dialect=dialect)
    reviews.look_ahead(LOOK_AHEAD)
    reviews.require_columns()
    features = _features(reviews)
    try:
        return Dataset.from_generator(
            _rows,
            features=features,
            gen_kwargs={"reviews": reviews, "columns": tuple(features)},
            fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError | TypeError | pyarrow.ArrowException):
            raise UsageError(f"{path} holds a value that its own types forbid: {error.__cause__}") from error
        raise


def _features(reviews: TextReviewFile | ParquetReviewFile) -> Features:
    """Return strings for a text file; for parquet its own types, without unused columns of lists, structs and bytes."""
    if isinstance(reviews, TextReviewFile):
        return Features({column: Value("string") for column in reviews.columns})
    fields = []
    for name in reviews.columns:
        type_ = readers.value_type(reviews.schema.field(reviews.schema.names.index(name)).type)
        type_ = pyarrow.string() if types.is_string_view(type_) else type_
        if name in reviews.needed or types.is_primitive(type_) or type_ in (pyarrow.string(), pyarrow.large_string()):
            fields.append(pyarrow.field(name, type_))
    try:
        found = Features.from_arrow_schema(pyarrow.schema(fields, metadata=reviews.schema.metadata))
    except (ValueError, NotImplementedError, pyarrow.ArrowException) as error:
        raise UsageError(f"{reviews.name} has a column of a type that datasets cannot hold: {error}") from error
    return Features({field.name: found[field.name] for field in fields})


def _rows(reviews: TextReviewFile | ParquetReviewFile, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the values of each row, those of text formats as strings: numbers and lists as JSON writes them."""
    line = 0
    for line, row in reviews.values(columns):
        if isinstance(reviews, TextReviewFile):
            for column, value in row.items():
                if value is not None:
                    text = value if isinstance(value, str) else json.dumps(value)
                    row[column] = readers.replace_lone_surrogates(text)
                    if column in reviews.needed and row[column] != text:
                        raise UsageError(f"{reviews.name}, line {line}: holds half of a character in {column!r}")
        yield row
    if not line:
        raise UsageError(f"{reviews.name} holds no rows")

"""Read labelled reviews from files of your own into a Dataset, cached by content."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets.exceptions import DatasetGenerationError
from pyarrow import types

from recipe.errors import UsageError
from recipe.files import readers, text_rows
from recipe.files.atomic import file_sha256
from recipe.files.parts import Place, find_parts, joined_name
from recipe.files.readers import ParquetReviewFile, TextReviewFile
from recipe.files.text_rows import Dialect, Row

# Rows of jsonl whose columns are kept; text and label columns must be among them.
LOOK_AHEAD = 2048
# What names a split in the name of a file, as in the Hub's layout.
SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|dev|test)(?![a-z])")


class Part(NamedTuple):
    """One of the user's files, by the path they gave, and all of its rows."""

    file: str
    sha256: str
    rows: Dataset


class Parts(NamedTuple):
    """The user's files, one after another: all of their rows, where each row stands, and each file's own."""

    rows: Dataset
    place: Place
    parts: list[Part]

    @property
    def origin(self) -> list[dict[str, str]]:
        """Name and sha256 of each file, for `run.json`."""
        return [{"file": part.file, "sha256": part.sha256} for part in self.parts]


def read_files(
    given: list[str], text_columns: list[str], label_column: str | None, dialect: Dialect | None = None
) -> Parts:
    """Return all rows of some files, on disk as Arrow however large they are; the next call finds them in the cache.

    Args:
        given: Files, patterns and folders of parts: .csv, .tsv, .jsonl, .ndjson, .json or .txt for fastText, each also
            with .gz or .zst after it, or .parquet; all of one format.
        text_columns, label_column: Columns that every file must have; `None` where no label is needed. Text formats
            give strings; null stays `None`, and so do other columns that a file lacks.
        dialect: How csv and tsv are spelled.

    Raises:
        UsageError: There is no such file or column, a file is not what its extension says, or files differ in format or
            types; names the file, and the line.
    """
    files = find_parts(given)
    _require_one_split(given)
    readers.require_file(files[0])
    first = readers.file_format(files[0], readers.TRAINING_FORMATS).extension
    for file in files[1:]:
        readers.require_file(file)
        if (other := readers.file_format(file, readers.TRAINING_FORMATS).extension) != first:
            raise UsageError(f"{file} is {other}, and {files[0]} is {first}: files that go together are of one format")
    parts = [_read_part(file, text_columns, label_column, dialect) for file in files]
    types = dict(parts[0].rows.features)
    for part in parts:
        for column, type_ in part.rows.features.items():
            if types.setdefault(column, type_) != type_:
                raise UsageError(
                    f"column {column!r} of {part.file} holds {_said(type_)}, but {_said(types[column])} in the files "
                    "before it: files that go together have the same types"
                )
    rows = parts[0].rows if len(parts) == 1 else concatenate_datasets([part.rows for part in parts])
    return Parts(rows, Place(joined_name(given), [(part.file, len(part.rows)) for part in parts]), parts)


def _require_one_split(given: list[str]) -> None:
    for folder in (path for path in map(Path, given) if path.expanduser().is_dir()):
        splits = {match[1] for file in find_parts([str(folder)]) if (match := SPLIT.search(Path(file).name))}
        if len(splits) > 1:
            raise UsageError(
                f"{folder} is a folder of several splits ({', '.join(sorted(splits))}): give it as --dataset_name, or "
                "name the files"
            )


def _said(type_: Any) -> str:
    names = getattr(type_, "names", None)
    return f"the labels {', '.join(names)}" if names else getattr(type_, "dtype", type(type_).__name__)


def _read_part(path: str, text_columns: list[str], label_column: str | None, dialect: Dialect | None) -> Part:
    file = Path(path).expanduser()
    sha256 = file_sha256(file)
    format = readers.file_format(path, readers.TRAINING_FORMATS)
    code = [file_sha256(Path(module)) for module in (__file__, readers.__file__, text_rows.__file__)]
    dialect = dialect or Dialect()
    key = json.dumps([sha256, *format, text_columns, label_column, astuple(dialect), *code])
    reviews = readers.review_file(str(file), format, text_columns, label_column, dialect=dialect)
    reviews.look_ahead(LOOK_AHEAD)
    reviews.require_columns()
    features = _features(reviews)
    try:
        rows = Dataset.from_generator(
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
    return Part(path, sha256, rows)


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
                    row[column] = text_rows.replace_lone_surrogates(text)
                    if column in reviews.needed and row[column] != text:
                        raise UsageError(f"{reviews.name}, line {line}: holds half of a character in {column!r}")
        yield row
    if not line:
        raise UsageError(f"{reviews.name} holds no rows")

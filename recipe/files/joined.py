"""Read several files of reviews one after another, as if they were one."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.files.readers import ParquetReviewFile, TextReviewFile, Window, listed
from recipe.files.text_rows import DELIMITERS


@dataclass
class JoinedFiles:
    """Files of reviews, of one format; a window has rows of one of them.

    Attributes:
        name: What messages call all of them.
    """

    name: str
    files: list[TextReviewFile | ParquetReviewFile]

    @property
    def rows(self) -> int:
        """Return the number of rows; 0 before `survey`."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Return an estimate of the rows' bytes without compression."""
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """Return the file's sha256, or one of the files' own; known after `survey`."""
        found = [file.sha256 or file_sha256(Path(file.path)) for file in self.files]
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()

    @property
    def schema(self) -> pyarrow.Schema | None:
        """Return the columns' types in parquet; text has none."""
        return getattr(self.files[0], "schema", None)

    @property
    def columns(self) -> list[str]:
        """Return the names to write back: a header's or a schema's, else those of all rows read so far."""
        if self.schema or self.files[0].header:
            return list(self.schema.names if self.schema else self.files[0].header)
        return list(dict.fromkeys(name for file in self.files for name in file.columns))

    def survey(self, limit: int | None) -> None:
        """Learn columns, number of rows and size of all files, up to `limit` rows.

        Raises:
            UsageError: A file is damaged, a row is malformed, or columns are missing or not those of the first file.
        """
        first = self.files[0]
        for number, file in enumerate(self.files):
            if limit is not None and (number and self.rows >= limit):
                del self.files[number:]
                return
            file.limit = None if limit is None else limit - self.rows
            file.survey()
            file.require_columns()
            require_same_columns(file, first)

    def windows(self, size: int, wanted: Callable[[int], bool]) -> Iterator[Window]:
        """Yield the windows of up to `size` rows whose number is `wanted`, numbered through all files."""
        before = 0
        for file in self.files:
            for window in file.windows(size, lambda number, before=before: wanted(before + number)):  # type: ignore[misc]
                window.number += before
                if len(self.files) > 1:
                    window.malformed = [(line, f"{file.name}: {why}") for line, why in window.malformed]
                yield window
            before += -(-file.rows // size)


def require_same_columns(file: TextReviewFile | ParquetReviewFile, first: TextReviewFile | ParquetReviewFile) -> None:
    """Raise `UsageError` if a file has other columns than the first one, or, in parquet, other types."""
    # Each object of jsonl names its own.
    if file.format.extension not in (*DELIMITERS, ".parquet"):
        return
    if isinstance(file, ParquetReviewFile) and isinstance(first, ParquetReviewFile):
        same, found = file.schema.equals(first.schema), [f"{field.name} ({field.type})" for field in file.schema]
    else:
        same, found = file.all_columns == first.all_columns, file.all_columns
    if not same:
        has = f"{file.name} has other columns than {first.name}: {listed(found)}"
        raise UsageError(f"{has}: files that go together have the same")

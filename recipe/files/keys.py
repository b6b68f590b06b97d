"""Tell rows that were scored before from new ones by the values of one column."""

from pathlib import Path
from typing import Any

from recipe.errors import UsageError
from recipe.files.conversion import spelled
from recipe.files.readers import FileFormat, ParquetReviewFile, TextReviewFile, review_file
from recipe.files.text_rows import Dialect


class Keys:
    """The keys of all rows that were scored before; memory grows with their number.

    Keys of different formats are compared as csv spells them.

    Attributes:
        left_alone: Number of rows that were found to be scored, up to the end of the survey.
    """

    def __init__(self, column: str) -> None:
        """Know no key yet."""
        self.column, self.known, self.left_alone = column, set[str](), 0
        self._seen = set[str]()

    def learn(self, path: Path, format: FileFormat) -> TextReviewFile | ParquetReviewFile:
        """Learn the keys of a scored file, and return the file, which knows its columns by then.

        Raises:
            UsageError: It is damaged, or has no such column.
        """
        file = review_file(str(path), format, [], self.column, choose="--skip_scored names it")
        # It was written by this project, and its input may have been read with other quotes.
        file.dialect = Dialect(quoting="trusted")
        file.look_ahead(1)
        file.require_columns()
        self.known.update(_spelled(row[self.column]) for _, row in file.values([self.column]))
        return file

    def is_new(self, key: Any, place: str) -> bool:
        """Return whether a row of the input is to be scored.

        Args:
            place: In the survey, what messages call the row.

        Raises:
            UsageError: In the survey, an earlier row has the same key.
        """
        value = _spelled(key)
        is_known = value in self.known
        if place:
            if value in self._seen:
                raise UsageError(
                    f"{place} has the {self.column} {value!r}, as an earlier row has: --skip_scored needs a column "
                    "that tells rows apart"
                )
            self._seen.add(value)
            self.left_alone += is_known
        return not is_known


def _spelled(key: Any) -> str:
    return "" if key is None else spelled(key)

"""Write csv that a spreadsheet shows as it is meant, and read its cells again."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Columns of to_label.csv beside the user's own; a file with both of them is one that `sheet` wrote.
PREDICTED, PROBABILITY = "predicted", "probability"
# What a spreadsheet would run as a formula, and what `cell` makes of it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def cell(text: str) -> str:
    """Return a text as a cell that is no formula: an apostrophe stands before one that would be."""
    return f"'{text}" if _FORMULA.match(text) else text


def text_of(cell: str) -> str:
    """Return the text of which `cell` made a cell."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def sheet(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return columns of equal length as csv with a byte order mark, without which Excel takes it for Latin-1."""
    content = io.StringIO(newline="")
    # A carriage return by itself ends a row unless it is quoted.
    writer = csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    writer.writerows(map(_cells, zip(*columns.values(), strict=True)))
    return "\ufeff" + content.getvalue()


def _cells(row: Iterable[Any]) -> list[Any]:
    return [cell(value) if isinstance(value, str) else value for value in row]

"""Map a dataset's label values to 0, 1, … and their names."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset

from recipe.errors import UsageError

BINARY_NAMES = ["negative", "positive"]
# Numbers that mean negative and positive: the Hub's, and those of fastText and other mirrors of Amazon Polarity.
BINARY_NUMBERS = ({"0", "1"}, {"1", "2"})
# A column with more different values is probably not the label.
MAX_LABELS = 1000
# Marks a row without a label, as in a `ClassLabel` column; in other columns -1 is a label like any other.
NO_LABEL = -1
_UNKNOWN = -2


def encode_labels(
    splits: dict[str, Dataset], column: str, where: Callable[[str], str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the label names, and each split's labels: int64 (rows,), `NO_LABEL` if a row has none.

    A `ClassLabel` keeps its order of names. 0/1 and 1/2 become negative and positive. Other labels are sorted as
    numbers if all are numbers, else by name. Only train's labels decide; a `ClassLabel` of another split is matched by
    name.

    Args:
        splits: `train` and others, with `column`.
        column: The label column.
        where: Returns what a message calls a split.

    Raises:
        UsageError: Train has a single label or far too many, or another split has a label that train lacks.
    """
    # In Arrow, which leaves millions of rows on disk.
    values = {name: rows.select_columns(column).with_format("arrow")[:].column(0) for name, rows in splits.items()}
    distinct = {
        name: label_values(found.unique().to_pylist(), splits[name].features[column]) for name, found in values.items()
    }
    names, keys = _names_and_keys(distinct["train"], splits["train"].features[column], column)
    return names, {name: _encode(found, distinct[name], where(name), keys) for name, found in values.items()}


def label_values(values: list[Any], feature: Any) -> list[Any]:
    """Return a column's values, those of a `ClassLabel` as names or `None`."""
    if not isinstance(feature, ClassLabel):
        return values
    return [None if value in (None, NO_LABEL) else feature.names[value] for value in values]


def _names_and_keys(distinct: list[Any], feature: Any, column: str) -> tuple[list[str], dict[str, int]]:
    """Return the label names in their order, and the label of each value."""
    if isinstance(feature, ClassLabel):
        keys = {str(label): label for label in range(len(feature.names))}
        return list(feature.names), keys | {name: label for label, name in enumerate(feature.names)}
    found = {_key(value) for value in distinct if _is_label(value)}
    if len(found) < 2:
        raise UsageError(
            f"every train row has the same label in {column!r} ({', '.join(found) or 'none'}): two are needed; of a "
            "file that is sorted by label, --sampling random takes rows of each"
        )
    if len(found) > MAX_LABELS:
        raise UsageError(f"{len(found):,} different labels in {column!r}: is it the label? --label_column chooses")
    ordered = sorted(found, key=float) if all(map(_is_number, found)) else sorted(found)
    names = BINARY_NAMES if found in BINARY_NUMBERS else ordered
    return names, {name: label for order in (ordered, names) for label, name in enumerate(order)}


def _encode(values: pyarrow.ChunkedArray, distinct: list[Any], where: str, keys: dict[str, int]) -> np.ndarray:
    """Return one split's labels, int64 (rows,)."""
    labels = [keys.get(_key(value), _UNKNOWN) if _is_label(value) else NO_LABEL for value in distinct]
    number = compute.index_in(values, value_set=values.unique()).to_numpy()
    encoded = np.array(labels, dtype=np.int64)[number]
    if (unknown := np.flatnonzero(encoded == _UNKNOWN)).size:
        row = int(unknown[0])
        label, known = distinct[number[row]], ", ".join(keys)
        raise UsageError(f"row {row + 1} of {where} has the label {label!r}, which no train row has: {known}")
    return encoded


def _is_label(value: Any) -> bool:
    """Return whether a value is a label: not empty, and not NaN, which pandas writes for missing values."""
    return value is not None and str(value).strip().lower() not in ("", "nan")


def _key(value: Any) -> str:
    """Return a label as text: the same for 1, 1.0 and "1", and for True and "true"."""
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    return str(int(float(text))) if re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text) else text


def _is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", text) is not None

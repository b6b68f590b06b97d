"""What a dataset's labels mean: whatever they are called there, 0, 1, … and a name each here."""

from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset

from recipe.errors import UsageError

BINARY_NAMES = ["negative", "positive"]
# Numbers that mean negative and positive, as the Hub and as fastText and other mirrors of Amazon Polarity have them.
BINARY_NUMBERS = ({"0", "1"}, {"1", "2"})
# More different labels than this, and the column is hardly a label.
MAX_LABELS = 1000
# What stands for a row without a label, as in a column of the type `ClassLabel`; elsewhere -1 is a label like others.
NO_LABEL = -1
_UNKNOWN = -2


def encode_labels(splits: dict[str, Dataset], column: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the label names, and each split's labels: int64 (rows,), `NO_LABEL` where a row has none.

    The order of the names is a `ClassLabel`'s own; negative before positive for 0/1 and 1/2; else by number, where all
    are numbers, or by name. It depends on train's labels and on nothing else.

    Raises:
        UsageError: Train has a single label or far too many, or another split has one that train has not.
    """
    values = {name: _values(rows, column) for name, rows in splits.items()}
    names, keys = _names_and_keys(values["train"], splits["train"].features[column], column)
    return names, {split: _encode(found, split, keys) for split, found in values.items()}


def _values(rows: Dataset, column: str) -> pyarrow.ChunkedArray:
    """Return a column as Arrow, which leaves millions of rows on disk."""
    return rows.select_columns(column).with_format("arrow")[:].column(0)


def _names_and_keys(train: pyarrow.ChunkedArray, feature: Any, column: str) -> tuple[list[str], dict[str, int]]:
    """Return the label names in their order, and which label each value stands for."""
    if isinstance(feature, ClassLabel):
        keys = {str(label): label for label in (NO_LABEL, *range(len(feature.names)))}
        return list(feature.names), keys | {name: label for label, name in enumerate(feature.names)}
    found = {_key(value) for value in train.unique().to_pylist() if _is_label(value)}
    if len(found) < 2:
        raise UsageError(
            f"every train row has the same label in {column!r} ({', '.join(found) or 'none'}): two are needed"
        )
    if len(found) > MAX_LABELS:
        raise UsageError(f"{len(found):,} different labels in {column!r}: is it the label? --label_column chooses")
    ordered = sorted(found, key=float) if all(map(_is_number, found)) else sorted(found)
    return BINARY_NAMES if found in BINARY_NUMBERS else ordered, {value: label for label, value in enumerate(ordered)}


def _encode(values: pyarrow.ChunkedArray, split: str, keys: dict[str, int]) -> np.ndarray:
    """Return one split's labels, int64 (rows,)."""
    distinct = values.unique()
    labels = [keys.get(_key(value), _UNKNOWN) if _is_label(value) else NO_LABEL for value in distinct.to_pylist()]
    encoded = np.array(labels, dtype=np.int64)[compute.index_in(values, value_set=distinct).to_numpy()]
    if (unknown := np.flatnonzero(encoded == _UNKNOWN)).size:
        row, known = int(unknown[0]), (key for key, label in keys.items() if label != NO_LABEL)
        label = values[row].as_py()
        raise UsageError(
            f"row {row + 1} of {split} has the label {label!r}, which no train row has: {', '.join(known)}"
        )
    return encoded


def _is_label(value: Any) -> bool:
    """Return whether a value is one; an empty one is not."""
    return value is not None and str(value).strip() != ""


def _key(value: Any) -> str:
    """Return a label's value as text, the same for 1, 1.0 and "1"."""
    text = str(value).strip()
    return str(int(float(text))) if _is_number(text) and float(text).is_integer() else text


def _is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False

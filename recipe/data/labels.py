"""Map a dataset's label values to 0, 1, … and their names."""

import re
from typing import Any

import numpy as np
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset

from recipe.errors import UsageError
from recipe.files.parts import Place

BINARY_NAMES = ["negative", "positive"]
# Numbers that mean negative and positive: the Hub's, and those of fastText and other mirrors of Amazon Polarity.
BINARY_NUMBERS = ({"0", "1"}, {"1", "2"})
# A column with more different values is probably not the label.
MAX_LABELS = 1000
# Marks a row without a label, as in a `ClassLabel` column; in other columns -1 is a label like any other.
NO_LABEL = -1
_UNKNOWN = -2


def encode_labels(
    splits: dict[str, Dataset], column: str, places: dict[str, Place]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the label names, and each split's labels: int64 (rows,), `NO_LABEL` if a row has none.

    A `ClassLabel` keeps its order of names. 0/1 and 1/2 become negative and positive. Other labels are sorted as
    numbers if all are numbers, else by name. Only train's labels decide; a `ClassLabel` of another split is matched by
    name. `places` is what messages call each split's rows.

    Raises:
        UsageError: Train has a single label or far too many, or another split has a label that train lacks.
    """
    # In Arrow, which leaves millions of rows on disk.
    values = {name: rows.select_columns(column).with_format("arrow")[:].column(0) for name, rows in splits.items()}
    distinct = {
        name: label_values(found.unique().to_pylist(), splits[name].features[column]) for name, found in values.items()
    }
    names, keys = _names_and_keys(distinct["train"], splits["train"].features[column], column)
    label_of = {None: NO_LABEL} | keys
    encoded = {}
    for name, found in values.items():
        labels = [label_of.get(_key(value), _UNKNOWN) for value in distinct[name]]
        number = compute.index_in(found, value_set=found.unique()).to_numpy()
        encoded[name] = np.array(labels, dtype=np.int64)[number]
        if (unknown := np.flatnonzero(encoded[name] == _UNKNOWN)).size:
            label, row = distinct[name][number[unknown[0]]], places[name].row(unknown[0])
            raise UsageError(f"{row} has the label {label!r}, which no train row has: {', '.join(keys)}")
    return names, encoded


def label_values(values: list[Any], feature: Any) -> list[Any]:
    """Return a column's values, those of a `ClassLabel` as names or `None`."""
    if not isinstance(feature, ClassLabel):
        return values
    return [None if value in (None, NO_LABEL) else feature.names[value] for value in values]


def _names_and_keys(distinct: list[Any], feature: Any, column: str) -> tuple[list[str], dict[str, int]]:
    """Return the label names in their order, and the label of each key."""
    if isinstance(feature, ClassLabel):
        keys = {str(label): label for label in range(len(feature.names))}
        return list(feature.names), keys | {name: label for label, name in enumerate(feature.names)}
    found = {key for value in distinct if (key := _key(value)) is not None}
    if len(found) < 2:
        raise UsageError(
            f"every train row has the same label in {column!r} ({', '.join(found) or 'none'}): two are needed; of a "
            "file that is sorted by label, --sampling random takes rows of each"
        )
    if len(found) > MAX_LABELS:
        raise UsageError(f"{len(found):,} different labels in {column!r}: is it the label? --label_column chooses")
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d*)?", key) for key in found)
    ordered = sorted(found, key=float if numbers else None)
    names = BINARY_NAMES if found in BINARY_NUMBERS else ordered
    return names, {name: label for order in (ordered, names) for label, name in enumerate(order)}


def _key(value: Any) -> str | None:
    """Return a label as text: the same for 1, 1.0 and "1", and for True and "true"; `None` if there is none."""
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    # pandas writes NaN for missing values.
    if value is None or text.lower() in ("", "nan"):
        return None
    return str(int(float(text))) if re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text) else text

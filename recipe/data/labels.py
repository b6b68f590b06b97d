"""Map a dataset's label values to 0, 1, … and their names."""

import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow.compute as compute
from datasets import ClassLabel, Dataset

from recipe.errors import UsageError
from recipe.files.parts import Place

BINARY_NAMES = ["negative", "positive"]
# Numbers that mean negative and positive: the Hub's, and those of fastText and other mirrors of Amazon Polarity.
BINARY_NUMBERS = ({"0", "1"}, {"1", "2"})
# What these numbers are beside the names, as where a person has labelled more rows.
NUMBERED = {"0": 0, "1": 1}
BOOLEANS = ("true", "false")
# A column with more different values is probably not the label.
MAX_LABELS = 1000
# Marks a row without a label, as in a `ClassLabel` column; in other columns -1 is a label like any other.
NO_LABEL = -1
_UNKNOWN = -2


def encode_labels(
    splits: dict[str, Dataset], column: str, places: dict[str, Place]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the label names, and each split's labels: int64 (rows,), `NO_LABEL` if a row has none.

    A `ClassLabel` keeps its order of names. 0/1 and 1/2 become negative and positive, and so do 0/1 beside these two
    names. Other labels are sorted as numbers if all are numbers, else by name. Labels that differ as text are
    different, as "01" and "1" do, but 1, 1.0 and "1" are one, and so are true and "True". Only train's labels decide; a
    `ClassLabel` of another split is matched by name. `places` is what messages call each split's rows.

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
        labels = [label_of.get(label_key(value), _UNKNOWN) for value in distinct[name]]
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
        return list(feature.names), keys | {label_key(name) or name: label for label, name in enumerate(feature.names)}
    found = {key for value in distinct if (key := label_key(value)) is not None}
    spelled: dict[str, int] = {}
    if found & NUMBERED.keys() and found & {*BINARY_NAMES} and found <= {*NUMBERED, *BINARY_NAMES}:
        spelled = NUMBERED
        found = {BINARY_NAMES[NUMBERED[key]] if key in NUMBERED else key for key in found}
    if len(found) < 2:
        raise UsageError(
            f"every train row has the same label in {column!r} ({', '.join(found) or 'none'}): two are needed; of a "
            "file that is sorted by label, --sampling random takes rows of each"
        )
    if len(found) > MAX_LABELS:
        raise UsageError(f"{len(found):,} different labels in {column!r}: is it the label? --label_column chooses")
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d*)?", key) for key in found)
    texts = sorted(value.strip() for value in distinct if isinstance(value, str))
    name_of = {key: key for key in found} | {text.lower(): text for text in texts if text.lower() in BOOLEANS}
    # 01 and 1 are the same number.
    ordered = sorted(found, key=lambda key: (float(key) if numbers else 0, name_of[key]))
    names = BINARY_NAMES if found in BINARY_NUMBERS else [name_of[key] for key in ordered]
    return names, spelled | {name: label for order in (ordered, names) for label, name in enumerate(order)}


def label_key(value: Any) -> str | None:
    """Return what is the same for each spelling of a label, `None` if there is none."""
    # A column of whole numbers in which some are missing becomes one of floats, and is written as 1.0 into text files.
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        # Without the zeros at its end, as a float has none.
        return format(value.normalize(), "f")
    text = str(value).strip()
    # pandas writes NaN for missing values.
    if value is None or text.lower() in ("", "nan"):
        return None
    if text.lower() in BOOLEANS:
        return text.lower()
    return text.removesuffix(".0") if re.fullmatch(r"(0|-?[1-9]\d*)\.0", text) else text

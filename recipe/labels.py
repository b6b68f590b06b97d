"""What a dataset's labels mean: whatever they are called there, 0, 1, … and a name each here."""

from typing import Any

from datasets import ClassLabel, Dataset

from recipe.errors import UsageError

BINARY_NAMES = ["negative", "positive"]
# Numbers that mean negative and positive, as the Hub and as fastText and other mirrors of Amazon Polarity have them.
BINARY_NUMBERS = ({"0", "1"}, {"1", "2"})
# More different labels than this, and the column is hardly a label.
MAX_LABELS = 1000


def encode_labels(splits: dict[str, Dataset], column: str) -> dict[str, Dataset]:
    """Return the splits with `label`, a `ClassLabel` with the same names in all of them, in place of `column`.

    Rows without a label keep `None`. The order of the names is a `ClassLabel`'s own; negative before positive for 0/1
    and 1/2; else by number, where all are numbers, or by name. It depends on train's labels and on nothing else.

    Raises:
        UsageError: Train has a single label or far too many, or another split has one that train has not.
    """
    names, keys = _names_and_keys(splits["train"], column)
    return {split: _encode(rows, column, split, keys, names) for split, rows in splits.items()}


def _names_and_keys(train: Dataset, column: str) -> tuple[list[str], dict[str, int]]:
    """Return the label names in their order, and which label each value stands for."""
    feature = train.features[column]
    if isinstance(feature, ClassLabel):
        keys = {name: label for label, name in enumerate(feature.names)}
        return list(feature.names), keys | {str(label): label for label in range(len(feature.names))}
    found = {_key(value) for value in train.unique(column) if _is_label(value)}
    if len(found) < 2:
        raise UsageError(
            f"every train row has the same label in {column!r} ({', '.join(found) or 'none'}): two are needed"
        )
    if len(found) > MAX_LABELS:
        raise UsageError(f"{len(found):,} different labels in {column!r}: is it the label? --label_column chooses")
    ordered = sorted(found, key=float) if all(map(_is_number, found)) else sorted(found)
    return BINARY_NAMES if found in BINARY_NUMBERS else ordered, {value: label for label, value in enumerate(ordered)}


def _encode(rows: Dataset, column: str, split: str, keys: dict[str, int], names: list[str]) -> Dataset:
    """Return one split with its labels encoded."""
    values = rows[column][:]
    labels = [keys.get(_key(value)) if _is_label(value) else None for value in values]
    for number, (value, label) in enumerate(zip(values, labels, strict=True), start=1):
        if label is None and _is_label(value):
            raise UsageError(
                f"row {number} of {split} has the label {value!r}, which no train row has: {', '.join(keys)}"
            )
    rows = rows.remove_columns(column)
    return rows.add_column("label", labels, feature=ClassLabel(names=names))


def _is_label(value: Any) -> bool:
    """Return whether a value is one; empty ones and a `ClassLabel`'s -1 are not."""
    return value is not None and value != "" and value != -1


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

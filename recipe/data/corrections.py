"""Correct the labels of train and validation rows, from a list that a person has filled in."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import ClassLabel, Dataset

from recipe.data.duplicates import contradictory, text_keys
from recipe.data.labels import NO_LABEL, label_key, label_values
from recipe.data.own_files import read_files
from recipe.errors import UsageError
from recipe.files.parts import Place
from recipe.files.spreadsheet import text_of
from recipe.files.text_rows import Dialect

if TYPE_CHECKING:
    from recipe.data.reviews import Split

COLUMN = "correct_label"


def correct_labels(given: list[str], splits: dict[str, "Split"], names: list[str], label_column: str) -> dict[str, Any]:
    """Give train and validation rows, in place, the label that a file has for their text.

    Args:
        given: Files with the text columns and `correct_label`, in which a label is named, or spelled as the train rows
            spell it; a row in which that is empty corrects nothing. Texts are compared as those that repeat each other
            are, without case and white space, which spreadsheets change.
        splits: After the hold-out, so that validation has the same rows with corrections as without.
        names: The label names.
        label_column: What the train rows call their label.

    Returns:
        For `run.json`: `files`, each with its `sha256`, and the `rows` of each split that have another label now.

    Raises:
        UsageError: A file cannot be read, they correct nothing, have an unknown label or two for one text; a text is
            not among the rows, or is a test row's; or a label has no row left.
    """
    try:
        found = read_files(given, splits["train"].text_columns, COLUMN, Dialect(quoting="trusted"))
    except UsageError as error:
        # The flags that it names choose how the train file is read.
        raise UsageError(str(error).partition(" (--")[0]) from None
    rows, place = found.rows, found.place
    column = label_values(rows[COLUMN][:], rows.features[COLUMN])
    # A key is spelled as the train rows' is, whatever the type.
    known = [(value, label_key(value) or "") for value in column]
    values = [value.strip() if key and isinstance(value, str) else key for value, key in known]
    filled = [number for number, value in enumerate(values) if value]
    if not filled:
        raise UsageError(f"{place} corrects nothing: fill in its column {COLUMN}, with {', '.join(names)}")
    label_of = _spellings(splits["train"], label_column) | {name: label for label, name in enumerate(names)}
    labels = _labels([values[number] for number in filled], label_of, names, [place.row(number) for number in filled])
    keys = _keys(rows.select(filled), splits["train"].text_columns)
    if twice := contradictory(keys, labels):
        raise UsageError(f"{place} has two different labels in {COLUMN} for {twice:,} of its texts: keep one of them")
    _require_known(keys, splits, [place.row(number) for number in filled])
    wanted = dict(zip(keys.tolist(), labels.tolist(), strict=True))
    changed = {name: _correct(splits, name, wanted, names, place) for name in ("train", "validation")}
    return {"files": found.origin, "rows": changed}


def _spellings(train: "Split", label_column: str) -> dict[str | None, int]:
    """Return the label of each value of the label column; a `ClassLabel` has a number beside each name."""
    feature = train.rows.features[label_column]
    numbers = range(len(feature.names)) if isinstance(feature, ClassLabel) else ()
    values = label_values(train.rows[label_column][:], feature)
    spelled = {label_key(value): label for value, label in zip(values, train.labels.tolist(), strict=True)}
    return {str(number): number for number in numbers} | spelled


def _labels(values: list[str], label_of: dict[str | None, int], names: list[str], places: list[str]) -> np.ndarray:
    # A spreadsheet makes TRUE of true.
    folded = {name.casefold(): label for label, name in enumerate(names)}
    texts = [text_of(value) for value in values]
    labels = [
        label_of.get(text, label_of.get(label_key(text), folded.get(text.casefold(), NO_LABEL))) for text in texts
    ]
    if NO_LABEL in labels:
        row = labels.index(NO_LABEL)
        known = ", ".join(names)
        raise UsageError(f"{places[row]} has the {COLUMN} {values[row]!r}, which no train row has: {known}")
    return np.array(labels, dtype=np.int64)


def _keys(rows: Dataset, columns: list[str]) -> np.ndarray:
    texts = {column: [text_of(text or "") for text in rows[column][:]] for column in columns}
    return text_keys(Dataset.from_dict(texts)).normalised


def _require_known(keys: np.ndarray, splits: dict[str, "Split"], places: list[str]) -> None:
    """Check that texts, of `keys` uint64 (corrections,), are those of train or validation rows and of no test row."""
    if "test" in splits and (tested := np.flatnonzero(np.isin(keys, splits["test"].keys.normalised))).size:
        raise UsageError(f"{places[tested[0]]} corrects a text that stands in test: test labels are never corrected")
    known = np.concatenate([splits[name].keys.normalised for name in ("train", "validation")])
    if (unknown := np.flatnonzero(~np.isin(keys, known))).size:
        count, first = f"{len(unknown):,} of the {len(keys):,} corrected texts", places[unknown[0]]
        raise UsageError(f"{count} are in no train or validation row; the first is {first}")


def _correct(splits: dict[str, "Split"], name: str, wanted: dict[int, int], names: list[str], place: Place) -> int:
    """Give a split's rows the labels `wanted` for their texts' keys, and return how many have another one now."""
    before = splits[name].labels
    after = [wanted.get(key, label) for key, label in zip(splits[name].keys.normalised.tolist(), before, strict=True)]
    labels = np.array(after, dtype=np.int64)
    if gone := set(before.tolist()) - set(after):
        raise UsageError(f"{place} leaves no {name} row with the label {names[min(gone)]!r}")
    splits[name] = replace(splits[name], labels=labels)
    return int((labels != before).sum())

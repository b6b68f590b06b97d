"""Where a model fails: its figures on slices of the rows, and the mistakes it was surest of."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipe.errors import UsageError
from recipe.files.atomic import write_whole
from recipe.metrics.intervals import f1_interval, interval, resample, share_interval
from recipe.metrics.scores import score_labels

# The same for every run, so that slices of two runs can be compared; BERT's usual max_length are among them.
LENGTH_EDGES = (32, 64, 128, 256, 512)
LENGTHS = (
    f"up to {LENGTH_EDGES[0]}",
    *(f"{low + 1} to {high}" for low, high in zip(LENGTH_EDGES, LENGTH_EDGES[1:], strict=False)),
    f"over {LENGTH_EDGES[-1]}",
)
OTHER = "other"
MOST_VALUES = 10
MISTAKES = 50
# English words that turn the meaning of what follows, a known difficulty of sentiment (Wiegand et al., *A Survey on the
# Role of Negation in Sentiment Analysis*, 2010): negators, their contractions, and words that deny almost all.
NEGATION = re.compile(
    r"\b(?:not?|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|hardly|barely|scarcely"
    r"|(?:ai|are|ca|could|did|does|do|had|has|have|is|might|must|need|should|was|were|wo|would)n['’]?t)\b",
    re.IGNORECASE,
)


def length_buckets(word_pieces: np.ndarray) -> list[str]:
    """Return the length bucket of each review from its word pieces before the cut, int64 (reviews,)."""
    return [LENGTHS[bucket] for bucket in np.digitize(word_pieces, LENGTH_EDGES, right=True)]


def truncation(word_pieces: np.ndarray, max_length: int) -> list[str]:
    """Return `truncated` or `whole` for each review, from its word pieces before the cut, int64 (reviews,)."""
    return ["truncated" if cut else "whole" for cut in word_pieces > max_length]


def title_presence(titles: Sequence[str]) -> list[str]:
    """Return `present` or `missing` for each title; one of white space is missing."""
    return ["present" if title.strip() else "missing" for title in titles]


def negation_presence(texts: Sequence[str]) -> list[str]:
    """Return `present` or `none` for each text: whether a negation word stands in it. English alone."""
    return ["present" if NEGATION.search(text) else "none" for text in texts]


def column_values(rows: Mapping[str, Sequence[Any]], column: str) -> list[str]:
    """Return the values of a column of the user's own, the 10 most frequent; the rest are `other`.

    Args:
        rows: The columns of the test rows.
        column: One of them.

    Raises:
        UsageError: It is not there: lists those that are.
    """
    if column not in rows:
        raise UsageError(f"--slice_by {column}: the test rows have no such column; they have {', '.join(rows)}")
    values = ["(empty)" if value is None or value == "" else str(value) for value in rows[column]]
    common = {value for value, _ in Counter(values).most_common(MOST_VALUES)}
    return [value if value in common else OTHER for value in values]


def describe_slices(
    slices: Mapping[str, Sequence[str]], labels: np.ndarray, predicted: np.ndarray, classes: int
) -> list[dict[str, Any]]:
    """Return a model's figures on every slice of its rows.

    Args:
        slices: By name, as `length`, the value of each row.
        labels: The true ones, int64 (rows,).
        predicted: int64 (rows,).
        classes: How many there are.

    Returns:
        For each slice that has rows: `slice` and `value`, `rows`, `accuracy` and `accuracy_interval`, `[low, high]` of
        95 %, and, where the slice has more than one label, `f1` and `f1_interval`. With two classes both intervals are
        Wilson's, which are honest on few rows; that of a macro average is a bootstrap's, and left out where no row is
        wrong, as no resample then is. Lengths are in their order, other values by rows, most first, `other` last.
    """
    return [
        {"slice": name, "value": value} | _describe(labels[rows], predicted[rows], classes)
        for name, values in slices.items()
        for value, rows in _rows_by_value(values)
    ]


def most_confident_mistakes(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    count: int = MISTAKES,
) -> list[dict[str, Any]]:
    """Return the wrong answers that a model was surest of, the surest first: its faults, or wrong labels.

    Args:
        labels: The true ones, int64 (reviews,).
        predicted: int64 (reviews,).
        probabilities: Of the predicted labels, float64 (reviews,).
        label_names: Of labels 0, 1, ….
        texts: The text columns by name.
        count: At most how many.

    Returns:
        `row` (from 1, of the test rows), `label`, `predicted`, `probability` and the text columns of each.
    """
    wrong = np.flatnonzero(labels != predicted)
    surest = wrong[np.argsort(-probabilities[wrong], kind="stable")][:count]
    return [
        {
            "row": int(row) + 1,
            "label": label_names[labels[row]],
            "predicted": label_names[predicted[row]],
            "probability": round(float(probabilities[row]), 4),
            **{name: column[row] for name, column in texts.items()},
        }
        for row in surest.tolist()
    ]


def write_mistakes(path: Path, mistakes: Sequence[dict[str, Any]], text_columns: Sequence[str]) -> None:
    """Write mistakes as csv, whole or not at all; its head alone where there are none."""
    text = io.StringIO(newline="")
    columns = ["row", "label", "predicted", "probability", *text_columns]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(mistakes)
    write_whole(path, text.getvalue())


def _rows_by_value(values: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each value with whether each row has it, bool (rows,), in the order of `describe_slices`."""
    counts = Counter(values)

    def place(value: str) -> tuple[int, int, str]:
        """Return what a value is sorted by."""
        known = LENGTHS.index(value) if set(counts) <= set(LENGTHS) else int(value == OTHER)
        return known, -counts[value], value

    column = np.asarray(values, dtype=object)
    for value in sorted(counts, key=place):
        yield value, column == value


def _describe(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    """Return the figures of one slice, as in `describe_slices`."""
    right = int((labels == predicted).sum())
    figures = score_labels(labels, predicted, classes)
    described = {
        "rows": len(labels),
        "accuracy": figures["accuracy"],
        "accuracy_interval": list(share_interval(right, len(labels))),
    }
    if len(np.unique(labels)) < 2:
        return described
    found = f1_interval(labels, predicted) if classes == 2 else _macro_interval(labels, predicted, classes)
    return described | {"f1": figures["f1"]} | ({"f1_interval": list(found)} if found else {})


def _macro_interval(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float] | None:
    """Return the 95 % interval of macro F1; `None` where no row is wrong."""
    if (labels == predicted).all():
        return None
    return interval(resample(labels, predicted[None], classes=classes)[0][:, 0])

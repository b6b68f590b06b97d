"""Figures on slices of the test rows, and the most confident mistakes."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recipe.metrics.intervals import f1_interval, interval, resample, share_interval
from recipe.metrics.scores import score_labels

# The same for every run, so that slices of two runs can be compared; they include the usual values of max_length.
LENGTH_EDGES = (32, 64, 128, 256, 512)
LENGTHS = (
    f"up to {LENGTH_EDGES[0]}",
    *(f"{low + 1} to {high}" for low, high in zip(LENGTH_EDGES, LENGTH_EDGES[1:], strict=False)),
    f"over {LENGTH_EDGES[-1]}",
)
OTHER = "other"
MOST_VALUES = 10
MISTAKES = 50
# English words that reverse the meaning of what follows, which makes sentiment hard (Wiegand et al., *A Survey on the
# Role of Negation in Sentiment Analysis*, 2010): negators, their contractions, and words for almost none.
NEGATION = re.compile(
    r"\b(?:not?|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|hardly|barely|scarcely"
    r"|(?:ai|are|ca|could|did|does|do|had|has|have|is|might|must|need|should|was|were|wo|would)n['’]?t)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SliceFigures:
    """Figures of one slice of the rows. The intervals are `[low, high]` of 95 %.

    Attributes:
        slice, value: What the rows have in common, such as `length` and `up to 32`.
        rows: Number of rows.
        accuracy, accuracy_interval: The interval is Wilson's, which stays valid for few rows.
        f1, f1_interval: `None` where all rows have one label. With more than two classes the interval is a bootstrap's;
            it is `None` where no row is wrong, because then no resample has an error.
    """

    slice: str
    value: str
    rows: int
    accuracy: float
    accuracy_interval: list[float]
    f1: float | None = None
    f1_interval: list[float] | None = None


def length_buckets(tokens: np.ndarray) -> list[str]:
    """Return each review's length bucket from its number of tokens before truncation, int64 (reviews,)."""
    return [LENGTHS[bucket] for bucket in np.digitize(tokens, LENGTH_EDGES, right=True)]


def truncation(tokens: np.ndarray, max_length: int) -> list[str]:
    """Return `truncated` or `whole` for each review from its number of tokens before truncation, int64 (reviews,)."""
    return ["truncated" if longer else "whole" for longer in tokens > max_length]


def title_presence(titles: Sequence[str]) -> list[str]:
    """Return `present` or `missing` for each title; a title of white space is missing."""
    return ["present" if title.strip() else "missing" for title in titles]


def negation_presence(texts: Sequence[str]) -> list[str]:
    """Return `present` or `none` for each text: whether it has an English negation word."""
    return ["present" if NEGATION.search(text) else "none" for text in texts]


def most_frequent(column: Sequence[Any]) -> list[str]:
    """Return a column's values as text: the 10 most frequent, and `other` for the rest."""
    values = ["(empty)" if value is None or value == "" else str(value) for value in column]
    common = {value for value, _ in Counter(values).most_common(MOST_VALUES)}
    return [value if value in common else OTHER for value in values]


def figures_by_slice(
    slices: Mapping[str, Sequence[str]], labels: np.ndarray, predicted: np.ndarray, classes: int
) -> list[SliceFigures]:
    """Return a model's figures on every slice of the rows.

    Args:
        slices: Maps a slice's name, such as `length`, to each row's value.
        labels: True labels, int64 (rows,).
        predicted: int64 (rows,).
        classes: Number of classes.

    Returns:
        Lengths from short to long; other values by number of rows, most first and `other` last.
    """
    return [
        _figures(name, value, labels[rows], predicted[rows], classes)
        for name, values in slices.items()
        for value, rows in _rows_by_value(values)
    ]


def most_confident_mistakes(
    labels: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    count: int = MISTAKES,
) -> str:
    """Return, as csv, the wrong predictions that a model was most confident of: model errors, or wrong labels.

    Args:
        labels: True labels, int64 (reviews,).
        probabilities: float64 (reviews, classes).
        label_names: Names of labels 0, 1, ….
        texts: The text columns by name.
        count: Largest number of mistakes.

    Returns:
        Columns `row` (from 1, of the test rows), `label`, `predicted`, `probability` and the text columns; the most
        confident first.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(labels != predicted)
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["row", "label", "predicted", "probability", *texts])
    for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:count].tolist():
        names = label_names[labels[row]], label_names[predicted[row]]
        writer.writerow(
            [row + 1, *names, round(float(confidence[row]), 4), *(column[row] for column in texts.values())]
        )
    return content.getvalue()


def _rows_by_value(values: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each value with a mask of the rows that have it, bool (rows,), in the order of `figures_by_slice`."""
    counts = Counter(values)
    by_length = set(counts) <= set(LENGTHS)
    by_rows = sorted(counts, key=lambda value: (value == OTHER, -counts[value], value))
    column = np.asarray(values, dtype=object)
    for value in sorted(counts, key=LENGTHS.index) if by_length else by_rows:
        yield value, column == value


def _figures(name: str, value: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> SliceFigures:
    """Return the figures of one slice."""
    right, rows, figures = labels == predicted, len(labels), score_labels(labels, predicted, classes)
    wilson = list(share_interval(int(right.sum()), rows))
    found = SliceFigures(name, value, rows, figures["accuracy"], wilson)
    if len(np.unique(labels)) < 2:
        return found
    if classes == 2:
        ends = f1_interval(labels, predicted)
    else:
        ends = None if right.all() else interval(resample(labels, predicted[None], classes=classes)[0][:, 0])
    return replace(found, f1=figures["f1"], f1_interval=list(ends) if ends else None)

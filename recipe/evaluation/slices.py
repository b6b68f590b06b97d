"""Figures on slices of the test rows, and the most confident mistakes."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipe.data.tokens import flat
from recipe.files.text_rows import Text
from recipe.metrics.intervals import f1_interval, interval, resample, share_interval
from recipe.metrics.scores import score_labels

# The same for every run, so that slices of two runs can be compared; they include the usual values of max_length.
LENGTH_EDGES = (32, 64, 128, 256, 512)
LENGTHS = ("up to 32", "33 to 64", "65 to 128", "129 to 256", "257 to 512", "over 512")
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


def slice_values(texts: Sequence[Text], tokens: np.ndarray, max_length: int) -> dict[str, list[str]]:
    """Return each review's value in the slices of every evaluation, by the slice's name; `title` is for pairs alone.

    Args:
        texts: The reviews.
        tokens: Their numbers of tokens before truncation, int64 (reviews,).
        max_length: Tokens that a review is truncated to.
    """
    slices = {
        "length": [LENGTHS[bucket] for bucket in np.digitize(tokens, LENGTH_EDGES, right=True)],
        "truncated": ["truncated" if longer else "whole" for longer in tokens > max_length],
    }
    if titles := [text[0] for text in texts if not isinstance(text, str)]:
        slices["title"] = ["present" if title.strip() else "missing" for title in titles]
    return slices | {"negation": ["present" if NEGATION.search(text) else "none" for text in flat(texts)]}


def most_frequent(column: Sequence[Any]) -> list[str]:
    """Return a column's values as text: the 10 most frequent, and `other` for the rest."""
    values = ["(empty)" if value is None or value == "" else str(value) for value in column]
    common = {value for value, _ in Counter(values).most_common(MOST_VALUES)}
    return [value if value in common else OTHER for value in values]


def figures_by_slice(
    slices: Mapping[str, Sequence[str]], labels: np.ndarray, predicted: np.ndarray, classes: int
) -> list[SliceFigures]:
    """Return a model's figures on every slice of the rows.

    Lengths stand from short to long; other values by number of rows, most first and `other` last.

    Args:
        slices: Each row's value, by the slice's name.
        labels, predicted: int64 (rows,).
        classes: Number of classes.
    """
    found = []
    for name, values in slices.items():
        counts, column = Counter(values), np.asarray(values, dtype=object)
        if counts.keys() <= set(LENGTHS):
            order = sorted(counts, key=LENGTHS.index)
        else:
            order = sorted(counts, key=lambda value: (value == OTHER, -counts[value], value))
        for value in order:
            rows = column == value
            found.append(_figures(name, value, labels[rows], predicted[rows], classes))
    return found


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
        texts: The text columns by name.

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
        of_row = [column[row] for column in texts.values()]
        writer.writerow([row + 1, *names, round(float(confidence[row]), 4), *of_row])
    return content.getvalue()


def _figures(name: str, value: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> SliceFigures:
    """Return the figures of one slice."""
    right, figures = labels == predicted, score_labels(labels, predicted, classes)
    f1 = ends = None
    if len(np.unique(labels)) > 1:
        f1 = figures["f1"]
        if classes == 2:
            ends = f1_interval(labels, predicted)
        elif not right.all():
            ends = interval(resample(labels, predicted[None], classes=classes)[0][:, 0])
    wilson = share_interval(int(right.sum()), len(labels))
    return SliceFigures(name, value, len(labels), figures["accuracy"], wilson, f1, ends)

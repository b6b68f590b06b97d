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
from recipe.metrics.intervals import label_intervals
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
        f1, f1_interval: `None` where all rows have one label.
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
        "tokens": [LENGTHS[bucket] for bucket in np.digitize(tokens, LENGTH_EDGES, right=True)],
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
) -> tuple[list[SliceFigures], list[str]]:
    """Return the figures of answers on every slice of the rows, and a note for each kind of slice that is left out.

    A value that a single row has says nothing, and neither does the only other value. Lengths stand from short to long;
    other values by number of rows, most first and `other` last.

    Args:
        slices: Each row's value, by the slice's name.
        labels, predicted: int64 (rows,).
        classes: Number of classes.
    """
    found, single, alike = [], [], []
    for name, values in slices.items():
        counts, column = Counter(values), np.asarray(values, dtype=object)
        shown = [value for value, rows in counts.items() if rows > 1]
        if len(shown) < 2:
            alike.append(f"{name} ({shown[0] if shown and shown != [OTHER] else 'different in each row'})")
            continue
        single += [f"{name} ({value})" for value, rows in counts.items() if rows == 1]
        if counts.keys() <= set(LENGTHS):
            shown.sort(key=LENGTHS.index)
        else:
            shown.sort(key=lambda value: (value == OTHER, -counts[value], value))
        for value in shown:
            rows = column == value
            found.append(_figures(name, value, labels[rows], predicted[rows], classes))
    notes = {"Slices left out, because they compare nothing": alike, "Slice values left out, of one row each": single}
    return found, [f"{note}: {', '.join(some)}." for note, some in notes.items() if some]


def most_confident_mistakes(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    count: int = MISTAKES,
) -> str:
    """Return, as csv, the wrong answers with the highest probability: model errors, or wrong labels.

    Args:
        labels, predicted: True and answered labels, int64 (reviews,).
        probabilities: Of the answered labels, float64 (reviews,).
        texts: The text columns by name.

    Returns:
        Columns `row` (from 1, of the test rows), `label`, `predicted`, `probability` and the text columns; the most
        confident first.
    """
    wrong = np.flatnonzero(labels != predicted)
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["row", "label", "predicted", "probability", *texts])
    for row in wrong[np.argsort(-probabilities[wrong], kind="stable")][:count].tolist():
        names = label_names[labels[row]], label_names[predicted[row]]
        of_row = [column[row] for column in texts.values()]
        writer.writerow([row + 1, *names, round(float(probabilities[row]), 4), *of_row])
    return content.getvalue()


def _figures(name: str, value: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> SliceFigures:
    """Return the figures of one slice."""
    figures, ends = score_labels(labels, predicted, classes), label_intervals(labels, predicted, classes)
    has_f1 = len(np.unique(labels)) > 1
    return SliceFigures(
        slice=name,
        value=value,
        rows=len(labels),
        accuracy=figures["accuracy"],
        accuracy_interval=ends["accuracy"],
        f1=figures["f1"] if has_f1 else None,
        f1_interval=ends["f1"] if has_f1 else None,
    )

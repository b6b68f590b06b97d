"""The columns that scoring adds to reviews, whichever engine reads and writes the rows."""

from collections.abc import Collection, Iterable

import numpy as np

from recipe.errors import UsageError
from recipe.inference.classifier import Classifier, Scores

# The values of each column: label names, or a bool or float array.
Columns = dict[str, list[str] | np.ndarray]
PREFIX = "predicted_"


def column_kinds(classifier: Classifier, all_scores: bool = False) -> dict[str, type]:
    """Return the added columns in their order, each with the type of its values: `str`, `float` or `bool`.

    Args:
        classifier: `doubtful` is added where its decision leaves reviews to people.
        all_scores: Whether to add `confidence`, and `probability_NAME` for each label.
    """
    kinds: dict[str, type] = {"label": str, "probability": float, "truncated": bool}
    if classifier.decision.certain_from is not None:
        kinds["doubtful"] = bool
    if all_scores:
        kinds |= {"confidence": float} | {f"probability_{name}": float for name in classifier.label_names}
    return kinds


def answer_columns(classifier: Classifier, scores: Scores, all_scores: bool = False) -> Columns:
    """Return the values of the columns of `column_kinds`, in their order.

    `confidence` is how much more probable the answer is than the next label, from 0 to 1; it is 0 where the model knows
    no word, and where a threshold has made the answer other than the most probable label.
    """
    answers, probabilities = classifier.answer(scores), classifier.decision.probabilities(scores.logits)
    columns: Columns = {
        "label": [classifier.label_names[label] for label in answers.labels],
        "probability": answers.probabilities,
        "truncated": scores.truncated,
    }
    if classifier.decision.certain_from is not None:
        columns["doubtful"] = ~answers.certain
    if all_scores:
        others = probabilities.copy()
        np.put_along_axis(others, answers.labels[:, None], -1.0, axis=1)
        lead = np.maximum(answers.probabilities - others.max(axis=1, initial=0.0), 0.0)
        columns["confidence"] = np.where(scores.wordless, 0.0, lead)
        columns |= {f"probability_{name}": probabilities[:, label] for label, name in enumerate(classifier.label_names)}
    return columns


def added_names(wanted: Iterable[str], present: Collection[str], where: str) -> list[str]:
    """Return names for added columns that none of the columns `present` has: the `wanted` ones, or all with a prefix.

    Raises:
        UsageError: Both the plain and the prefixed names clash; `where` names the rows.
    """
    plain = list(wanted)
    prefixed = [PREFIX + name for name in plain]
    for names in (plain, prefixed):
        if not set(names) & set(present):
            return names
    clash = sorted({*plain, *prefixed} & set(present))
    raise UsageError(f"{where} has the columns {', '.join(clash)}, which scoring adds: rename or remove {clash[-1]!r}")

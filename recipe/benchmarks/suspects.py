"""How many labels that are changed on purpose the list of suspects finds, and how soon."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from recipe.advice.suspects import CHANGED, fold_numbers, learners, named_issues, out_of_fold
from recipe.pictures.style import GRID, REFERENCE, STYLES
from recipe.text_table import columns

# Rows of the list that a person looks at: at first, and in an hour.
FIRST, MANY = 50, 250
# By what stands in the table, with the look of the picture's.
LOOKS = {
    "encoder's vectors": STYLES["int8"],
    "words": None,
    "characters": None,
    "words and characters": STYLES["tfidf"],
    "all three, the script's": STYLES["pytorch"],
}


@dataclass(frozen=True)
class Found:
    """What one list has found.

    Attributes:
        hits: Whether the label of each row of the list was changed, bool (rows named,), most suspicious first.
        changed: How many labels were.
    """

    hits: np.ndarray
    changed: int

    @property
    def figures(self) -> list[float]:
        """Return four figures, for a row of the table.

        The share of the first 50 rows that were changed, the share of all changed ones that the first 250 hold, how
        many rows the list has, and the share of all changed ones that it holds.
        """
        count = self.hits.sum() / self.changed
        return [self.hits[:FIRST].sum() / FIRST, self.hits[:MANY].sum() / self.changed, len(self.hits), count]


def find_changed(
    texts: Sequence[Any], vectors: np.ndarray, keys: np.ndarray, labels: np.ndarray, draws: int
) -> dict[str, list[Found]]:
    """Return what the list finds of labels that are changed on purpose, of two, by what its probabilities come from.

    Args:
        vectors: Of the texts, float32 (rows, hidden).
        keys: Of the texts, uint64 (rows,).
        labels: 0 or 1, int64 (rows,).
        draws: Of the rows whose label is changed.
    """
    encoder, words, characters = learners(texts, vectors)
    views = [[encoder], [words], [characters], [words, characters], [encoder, words, characters]]
    found: dict[str, list[Found]] = {name: [] for name in LOOKS}
    for seed in tqdm(range(draws), desc="suspects", disable=None, leave=False):
        chosen = np.random.default_rng(seed).choice(len(labels), round(CHANGED * len(labels)), replace=False)
        changed = np.isin(np.arange(len(labels)), chosen)
        given = np.where(changed, 1 - labels, labels)
        folds = fold_numbers(keys, given)
        for name, some in zip(found, views, strict=True):
            named = named_issues(given, out_of_fold(some, given, folds, 2))
            found[name].append(Found(changed[named], len(chosen)))
    return found


def table_of(found: dict[str, list[Found]]) -> list[str]:
    """Return the table of what was found: means of the draws, and the least."""
    head = ["probabilities of", f"changed of the first {FIRST}", f"of all changed, in the first {MANY}", "rows named"]
    table = [[*head, "changed ones named"]]
    for name, tries in found.items():
        figures = [one.figures for one in tries]
        mean, least = np.mean(figures, axis=0), np.min(figures, axis=0)
        shares = [f"{mean[at]:.0%} (least {least[at]:.0%})" for at in (0, 1)]
        table.append([name, *shares, f"{mean[2]:.0f}", f"{mean[3]:.0%}"])
    return columns(table)


def draw_found(found: dict[str, list[Found]]) -> Figure:
    """Draw the share of the changed labels that are among the first rows of the list: the mean of the draws."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes, looked_at = figure.subplots(), np.arange(MANY + 1)
    axes.axvline(FIRST, **REFERENCE)
    for name, style in LOOKS.items():
        if style:
            # A list that ends earlier finds no more.
            curves = [
                np.concatenate([[0], np.pad(one.hits[:MANY], (0, max(MANY - len(one.hits), 0))).cumsum()]) / one.changed
                for one in found[name]
            ]
            axes.plot(looked_at, np.mean(curves, axis=0), **style | {"marker": ""}, label=name)
    changed = found[name][0].changed
    axes.plot(looked_at, np.minimum(looked_at / changed, 1), **REFERENCE | {"linestyle": "-"}, label="if each were one")
    axes.set(xlabel="rows of the list looked at", ylabel=f"share of the {changed:,} changed labels")
    axes.set_title(f"Labels changed on purpose that the list finds, {len(found[name])} draws", fontsize="medium")
    axes.grid(**GRID)
    axes.legend(frameon=False)
    return figure

"""How often intervals hold the figures of the rows' source, by simulation; run it to print the table in docs/."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from recipe.metrics.intervals import difference_intervals, label_intervals

BALANCES = {
    "two labels, 50:50": [0.5, 0.5],
    "two labels, 90:10": [0.9, 0.1],
    "three labels, even": [1 / 3] * 3,
    "five labels, 5 % to 50 %": [0.05, 0.1, 0.15, 0.2, 0.5],
    "twenty labels, 1.4 % to 28 %": (1 / np.arange(1, 21) / (1 / np.arange(1, 21)).sum()).tolist(),
}
ROWS, ACCURACIES = (100, 300, 2000), (0.7, 0.95, 0.995, 1.0)


@dataclass(frozen=True)
class Source:
    """Where rows come from: the probability of each true label and two models' answers, (classes, classes, classes)."""

    probabilities: np.ndarray

    @property
    def classes(self) -> int:
        """The number of labels."""
        return len(self.probabilities)

    def rows(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """Draw rows freely: true labels, the first model's answers and the second's, int64 (3, rows)."""
        counts = draw.multinomial(count, self.probabilities.ravel())
        return np.repeat(np.indices(self.probabilities.shape).reshape(3, -1), counts, axis=1)

    def figures(self, model: int, averaged: tuple[int, ...]) -> dict[str, float]:
        """What a model is worth, over these labels."""
        true, *answers = np.indices(self.probabilities.shape).reshape(3, -1)
        weights = self.probabilities.ravel()
        values = precision_recall_fscore_support(
            true, answers[model], labels=averaged, sample_weight=weights, average="macro", zero_division=0
        )
        accuracy = weights[true == answers[model]].sum()
        return {"f1": values[2], "accuracy": accuracy, "precision": values[0], "recall": values[1]}


def two_models(balance: list[float], accuracy: float) -> Source:
    """A model that errs on every label as often, and one that copies four answers in five and errs more elsewhere."""
    true, first, second = np.indices((len(balance),) * 3)
    others = len(balance) - 1
    of_first = np.where(first == true, accuracy, (1 - accuracy) / others)
    own = np.where(second == true, 0.9 * accuracy, (1 - 0.9 * accuracy) / others)
    return Source(np.asarray(balance)[true] * of_first * (0.8 * (second == first) + 0.2 * own))


def coverage(source: Source, rows: int, draws: int, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """Return by figure how often intervals hold it, and their mean width; a difference is `f1 - f1`."""
    draw, held, width, worth = np.random.default_rng(seed), {}, {}, {}
    for _ in range(draws):
        labels, first, second = source.rows(rows, draw)
        averaged = (1,) if source.classes == 2 else tuple(np.unique(labels).tolist())
        if averaged not in worth:
            worth[averaged] = [source.figures(model, averaged) for model in (0, 1)]
        of_first, of_second = worth[averaged]
        found = [(name, of_first[name], ends) for name, ends in label_intervals(labels, first, source.classes).items()]
        for name, ends in difference_intervals(labels, first, second, source.classes).items():
            found.append((f"{name} - {name}", of_first[name] - of_second[name], ends))
        for name, value, (low, high) in found:
            held[name] = held.get(name, 0) + (low - 1e-9 <= value <= high + 1e-9) / draws
            width[name] = width.get(name, 0) + (high - low) / draws
    return held, width


def table(draws: int) -> Iterator[str]:
    """Markdown: by source and rows, the lowest coverage over the accuracies, and the widths at the second of them."""
    yield "| labels | rows | F1 | accuracy | precision | recall | difference of F1 | of accuracy |"
    yield "| --- | --: " + 6 * "| --: " + "|"
    for name, balance in BALANCES.items():
        for rows in ROWS:
            found = [coverage(two_models(balance, accuracy), rows, draws) for accuracy in ACCURACIES]
            lowest = {figure: min(held[figure] for held, _ in found) for figure in found[0][0]}
            cells = [f"{100 * share:.1f} % ({found[1][1][figure]:.3f})" for figure, share in lowest.items()]
            yield f"| {name} | {rows:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in table(int(sys.argv[1])):
        print(line, flush=True)

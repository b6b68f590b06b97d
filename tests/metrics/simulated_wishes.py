"""Print the table of docs/evaluation.md: how often a wish is adopted, and then missed, in draws of validation rows.

    PYTHONPATH=. python tests/metrics/simulated_wishes.py 400

The draws are from the quickstart's own logits, see test_bounds.py; a wish is missed where all of these rows miss it.
"""

import sys
from pathlib import Path

import numpy as np

from recipe.evaluation.thresholds import Wishes, choose_decision

WISHES = (
    Wishes(target_precision=0.85),
    Wishes(target_precision=0.9),
    Wishes(target_precision=0.95),
    Wishes(target_recall=0.9),
    Wishes(target_accuracy=0.9),
    Wishes(target_accuracy=0.95),
)


def line(labels: np.ndarray, logits: np.ndarray, wishes: Wishes, rows: int, draws: int) -> str:
    """Return a line of the table."""
    draw, adopted, missed, shares = np.random.default_rng(0), 0, 0, []
    for _ in range(draws):
        some = draw.integers(len(labels), size=rows)
        decision, (asked,) = choose_decision(logits[some], labels[some], wishes)
        if not asked.adopted:
            continue
        answers = decision(logits)
        reached, of = answers.labels == 1, labels == 1
        if wishes.target_accuracy:
            reached, of = answers.certain, answers.certain
        elif wishes.target_precision:
            of = reached
        target = wishes.target_precision or wishes.target_recall or wishes.target_accuracy or 0
        adopted, missed = adopted + 1, missed + ((answers.labels == labels)[of].mean() < target)
        shares.append(reached.mean())
    share = f"{100 * np.mean(shares):.0f} %" if shares else "–"
    return f"| `{asked.wish}` | {rows:,} | {100 * adopted / draws:.1f} % | {100 * missed / draws:.1f} % | {share} |"


def main(draws: int) -> None:
    """Print the table."""
    table = np.loadtxt(Path(__file__).with_name("quickstart_logits.csv"), delimiter=",", skiprows=1, usecols=(1, 2, 3))
    labels, logits = table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32)
    for wishes in WISHES:
        for rows in (300, 1000):
            print(line(labels, logits, wishes, rows, draws), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))

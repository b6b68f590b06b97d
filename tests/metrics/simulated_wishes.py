"""Print the table of docs/evaluation.md: how often a target is shown, and then missed, in draws of validation rows.

    PYTHONPATH=. python tests/metrics/simulated_wishes.py 1000

The draws are from the quickstart's own logits, and a target is missed where all of these rows miss it. A temperature is
left out, as with two labels it changes no order.
"""

import sys

import numpy as np
from test_bounds import IS_POSITIVE, IS_RIGHT, MOST, POSITIVE

from recipe.metrics.bounds import recall_bound, share_bound

WISHES = (
    ("--target_precision 0.85", POSITIVE, IS_POSITIVE),
    ("--target_precision 0.9", POSITIVE, IS_POSITIVE),
    ("--target_precision 0.95", POSITIVE, IS_POSITIVE),
    ("--target_recall 0.9", POSITIVE, IS_POSITIVE),
    ("--target_accuracy 0.9", MOST, IS_RIGHT),
    ("--target_accuracy 0.95", MOST, IS_RIGHT),
)


def line(wish: str, scores: np.ndarray, right: np.ndarray, rows: int, draws: int) -> str:
    """Return a line of the table."""
    draw, missed, shares = np.random.default_rng(0), 0, []
    name, target = wish.split()[0], float(wish.split()[1])
    for _ in range(draws):
        some = draw.integers(len(scores), size=rows)
        if name == "--target_recall":
            found = recall_bound(scores[some][right[some]], target, 0.9)
        else:
            found = share_bound(scores[some], right[some], target, 0.9)
        if found:
            there = scores >= found.score
            missed += (there[right] if name == "--target_recall" else right[there]).mean() < target
            shares.append(there.mean())
    share = f"{100 * np.mean(shares):.0f} %" if shares else "–"
    return f"| `{wish}` | {rows:,} | {100 * len(shares) / draws:.1f} % | {100 * missed / draws:.1f} % | {share} |"


if __name__ == "__main__":
    for wish, scores, right in WISHES:
        for rows in (300, 1000):
            print(line(wish, scores, right, rows, int(sys.argv[1])))

"""Rows set aside: stratified by label, and the same ones for the same seed."""

import math

import numpy as np
from sklearn.model_selection import train_test_split

from recipe.errors import UsageError


def set_aside(
    labels: np.ndarray, size: float | int, seed: int, names: list[str], flag: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows stay, and which a stratified, seeded sample of them takes away.

    Args:
        labels: int64 (rows,).
        size: The sample's rows (int) or share of the rows (float).
        seed: The same sample for the same seed.
        names: Of the labels, for the message.
        flag: What the user can change, for the message.

    Returns:
        Two int64 of row numbers, each in their order: millions of rows are read many times faster from one end of a
        file to the other.

    Raises:
        UsageError: There are too few rows to have each label on both sides.
    """
    rows, (found, counts) = len(labels), np.unique(labels, return_counts=True)
    sampled = size if isinstance(size, int) else math.ceil(size * rows)
    if counts.min() < 2:
        rare = names[found[counts.argmin()]]
        raise UsageError(f"the label {rare!r} has a single row, and {flag} needs two to split: correct or remove it")
    if not len(found) <= sampled <= rows - len(found):
        raise UsageError(
            f"{flag} {size} does not split {rows} rows by label: each of the {len(found)} labels needs a row on "
            "either side"
        )
    kept, sample = train_test_split(np.arange(rows), test_size=size, stratify=labels, random_state=seed)
    return np.sort(kept), np.sort(sample)

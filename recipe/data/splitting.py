"""Hold out a stratified, seeded sample of rows."""

import math

import numpy as np
from sklearn.model_selection import train_test_split

from recipe.errors import UsageError


def hold_out(
    labels: np.ndarray, size: float | int, seed: int, names: list[str], flag: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into those that stay and a sample that is held out, stratified by label.

    Args:
        labels: int64 (rows,).
        size: Rows (int) or share of the rows (float) of the sample.
        seed: The same seed gives the same sample.
        names: Label names, for the message.
        flag: The flag that sets `size`, for the message.

    Returns:
        Two int64 arrays of row numbers in ascending order, which a large file is read fastest in.

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

"""Rows set aside: stratified by label, and the same ones for the same seed."""

import numpy as np
from datasets import Dataset
from sklearn.model_selection import train_test_split

from recipe.errors import UsageError


def set_aside(rows: Dataset, size: float | int, seed: int, flag: str) -> tuple[Dataset, Dataset]:
    """Return `rows` without a stratified, seeded sample of them, and that sample; both in the order of the rows.

    Args:
        rows: With a `ClassLabel` column `label`.
        size: The sample's rows (int) or share of the rows (float).
        seed: The same sample for the same seed.
        flag: What the user can change, for the message.

    Raises:
        UsageError: There are too few rows to have each class on both sides.
    """
    labels = rows.with_format("numpy")["label"][:]
    try:
        kept, sample = train_test_split(np.arange(len(rows)), test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise UsageError(f"{flag} {size} does not split {len(rows)} rows by class: {error}") from error
    # In their order, because millions of rows are read many times faster from one end of a file to the other. Copied,
    # because an index kept beside the rows would make every later read of them slower.
    kept, sample = np.sort(kept), np.sort(sample)
    return rows.select(kept).flatten_indices(), rows.select(sample).flatten_indices()

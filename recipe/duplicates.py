"""Texts that stand in more than one place, and what that does to a fair evaluation."""

import hashlib
from collections.abc import Iterable

import numpy as np
from datasets import Dataset

from recipe.arguments import DataArguments


def text_keys(rows: Dataset, args: DataArguments) -> tuple[np.ndarray, np.ndarray]:
    """Return a key of each row's text, equal where the texts are: exactly, and but for case and white space.

    Returns:
        Two uint64 (rows,): 64 bits of a hash, so that 4 million rows have no chance collision worth counting.
    """
    exact, normalised = [], []
    for batch in rows.select_columns(args.text_columns).iter(batch_size=10_000):
        for texts in zip(*(batch[column] for column in args.text_columns), strict=True):
            exact.append(_key(texts))
            normalised.append(_key(" ".join(text.casefold().split()) for text in texts))
    return np.array(exact, dtype=np.uint64), np.array(normalised, dtype=np.uint64)


def _key(texts: Iterable[str]) -> int:
    """Return 64 bits of a hash of one row's texts."""
    joined = "\x1f".join(texts).encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def repeated(keys: np.ndarray) -> int:
    """Return how many rows repeat a row before them."""
    return len(keys) - len(np.unique(keys))


def contradictory(keys: np.ndarray, labels: np.ndarray) -> int:
    """Return how many texts stand with more than one label.

    Args:
        keys: uint64 (rows,).
        labels: int64 (rows,).
    """
    pairs = np.unique(np.stack([keys, labels.astype(np.uint64)]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def without(rows: Dataset, keys: np.ndarray, others: np.ndarray) -> Dataset:
    """Return the rows whose key is not among the others."""
    kept = np.flatnonzero(~np.isin(keys, others))
    return rows if len(kept) == len(rows) else rows.select(kept).flatten_indices()

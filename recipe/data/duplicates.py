"""Texts that stand in more than one place, and what that does to a fair evaluation."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from recipe.data.parallel_map import map_rows

_KEY_FEATURES = Features({"exact": Value("uint64"), "normalised": Value("uint64"), "empty": Value("bool")})


@dataclass(frozen=True)
class TextKeys:
    """What tells texts apart, one entry per row in each.

    Attributes:
        exact: uint64 (rows,), equal where the texts are: 64 bits of a hash, so that 4 million rows have no chance
            collision worth counting.
        normalised: uint64 (rows,), equal where the texts are but for case and white space.
        empty: bool (rows,), no text but white space.
    """

    exact: np.ndarray
    normalised: np.ndarray
    empty: np.ndarray

    def take(self, numbers: np.ndarray) -> "TextKeys":
        """Return the keys of the rows with these numbers, int64 (rows taken,)."""
        return TextKeys(self.exact[numbers], self.normalised[numbers], self.empty[numbers])


def text_keys(texts: Dataset) -> TextKeys:
    """Return the keys of rows whose columns are all text, none of it null."""
    keys = map_rows(texts, _keys_of, _KEY_FEATURES, "comparing texts").with_format("numpy")
    return TextKeys(**{name: keys[name][:] for name in _KEY_FEATURES})


def _keys_of(batch: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the columns of `_KEY_FEATURES` for a batch of rows."""
    rows = list(zip(*batch.values(), strict=True))
    normalised = [[" ".join(text.casefold().split()) for text in texts] for texts in rows]
    return {
        "exact": np.array([_key(texts) for texts in rows], dtype=np.uint64),
        "normalised": np.array([_key(texts) for texts in normalised], dtype=np.uint64),
        "empty": [not any(texts) for texts in normalised],
    }


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
    order = np.argsort(keys, kind="stable")
    keys, labels = keys[order], labels[order]
    differs = (keys[1:] == keys[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(keys[1:][differs]))

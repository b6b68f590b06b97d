"""Find texts that occur more than once."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from recipe.data.mapping import map_rows

_KEY_FEATURES = Features({"exact": Value("uint64"), "normalised": Value("uint64"), "empty": Value("bool")})


@dataclass(frozen=True)
class TextKeys:
    """Hashes that tell texts apart, one entry per row in each.

    Attributes:
        exact: uint64 (rows,), 64 bits of a hash of the row's texts: no chance collision among 4 million rows.
        normalised: uint64 (rows,), the same, ignoring case and white space.
        empty: bool (rows,), whether all texts are white space.
    """

    exact: np.ndarray
    normalised: np.ndarray
    empty: np.ndarray

    def take(self, numbers: np.ndarray) -> "TextKeys":
        """Return the keys of the rows with these numbers, int64 (rows taken,)."""
        return TextKeys(self.exact[numbers], self.normalised[numbers], self.empty[numbers])


def text_keys(texts: Dataset) -> TextKeys:
    """Return the keys of rows whose columns are all text without nulls."""
    keys = map_rows(texts, _keys_of, _KEY_FEATURES, "comparing texts").with_format("numpy")
    return TextKeys(**{name: keys[name][:] for name in _KEY_FEATURES})


def _keys_of(batch: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the columns of `_KEY_FEATURES` for a batch of rows."""
    normalised = [[" ".join(text.casefold().split()) for text in texts] for texts in batch.values()]
    return {
        "exact": _hashes(batch.values()),
        "normalised": _hashes(normalised),
        "empty": [not any(texts) for texts in zip(*normalised, strict=True)],
    }


def _hashes(columns: Iterable[list[str]]) -> np.ndarray:
    """Return 64 bits of a hash of each row's texts, uint64 (rows,)."""
    rows = [text.encode("utf-8", errors="surrogatepass") for text in map("\x1f".join, zip(*columns, strict=True))]
    digests = b"".join([hashlib.blake2b(row, digest_size=8).digest() for row in rows])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def repeated(keys: np.ndarray) -> int:
    """Return the number of rows that repeat an earlier row."""
    return len(keys) - len(np.unique(keys))


def contradictory(keys: np.ndarray, labels: np.ndarray) -> int:
    """Return the number of texts that occur with more than one label.

    Args:
        keys: uint64 (rows,).
        labels: int64 (rows,).
    """
    order = np.argsort(keys, kind="stable")
    keys, labels = keys[order], labels[order]
    differs = (keys[1:] == keys[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(keys[1:][differs]))

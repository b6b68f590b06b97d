"""Find texts that occur more than once."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from recipe.data.mapping import map_rows

_KEY_TYPES = {"exact": "uint64", "normalised": "uint64", "empty": "bool"}


def text_keys(texts: Dataset) -> np.recarray:
    """Return hashes that tell apart rows whose columns are all text without nulls.

    Returns:
        (rows,) with `exact`, uint64, 64 bits of a hash of the row's texts: no chance collision among 4 million rows;
        `normalised`, the same, ignoring case and white space; `empty`, bool, whether all texts are white space.
    """
    features = Features({name: Value(type_) for name, type_ in _KEY_TYPES.items()})
    keys = map_rows(texts, _keys_of, features, "comparing texts").with_format("numpy")
    return np.rec.fromarrays([keys[name][:] for name in _KEY_TYPES], dtype=list(_KEY_TYPES.items()))


def _keys_of(batch: dict[str, list[Any]]) -> dict[str, Any]:
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
    """Return how many texts, of `keys` uint64 (rows,), occur with more than one of `labels`, int64 (rows,)."""
    order = np.argsort(keys, kind="stable")
    keys, labels = keys[order], labels[order]
    differs = (keys[1:] == keys[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(keys[1:][differs]))

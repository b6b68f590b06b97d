"""Is it the same file, are these the same rows: a sha256 of each."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not else: every script asks for a file's sha256, and --help must not wait for NumPy.
    import numpy as np


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def rows_sha256(keys: "np.ndarray", labels: "np.ndarray") -> str:
    """Return a sha256 of rows in their order: another one wherever a text or a label is another.

    Args:
        keys: uint64 (rows,), a hash of each row's texts.
        labels: int64 (rows,).
    """
    return hashlib.sha256(keys.astype("<u8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()

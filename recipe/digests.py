"""Is it the same file, are these the same rows: a sha256 of each."""

import hashlib
import json
from pathlib import Path

from datasets import Dataset


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def rows_sha256(reviews: Dataset) -> str:
    """Return a sha256 of a split's rows in their order: equal if and only if texts and labels are."""
    digest = hashlib.sha256()
    for batch in reviews.iter(batch_size=1000):
        digest.update(json.dumps([batch[column] for column in sorted(batch)]).encode())
    return digest.hexdigest()

"""Rows that were read once, found again on disk under a key of all that they depend on."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import Features
from datasets.arrow_writer import ArrowWriter


def kept_file(extension: str, **key: Any) -> Path:
    """Return the file, beside the datasets library's own cache, that belongs to a key; it need not be there."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "kept_rows" / f"{digest[:32]}{extension}"


@contextmanager
def writing(file: Path, features: Features) -> Iterator[ArrowWriter]:
    """Give a writer of Arrow rows whose `file` appears when all went well, and whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.part")
    try:
        with ArrowWriter(path=str(temporary), features=features) as writer:
            yield writer
            writer.finalize()
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)

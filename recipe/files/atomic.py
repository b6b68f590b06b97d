"""Write files whole or not at all, identify them by their sha256, and remove them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_state(path: str | Path) -> list[int] | None:
    """Return size, mtime and inode, which change when a file is written; `None` for a stream or a missing file."""
    if not os.path.isfile(path):
        return None
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as readable JSON, whole or not at all; NaN is an error, as JSON has none."""
    write_whole(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return `content` as readable JSON in UTF-8; NaN is an error."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, whose target stays."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text in UTF-8, or bytes, whole or not at all; make the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file, which replaces `path` once it is on the disk; after an error it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

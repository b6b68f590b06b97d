"""Find, read and write files wherever fsspec opens them; on this machine they are taken where they are."""

import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsspec.core import has_magic, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from recipe.errors import UsageError, any_error_as_usage_error
from recipe.files.atomic import file_sha256
from recipe.files.parts import find_parts
from recipe.files.readers import require_file
from recipe.scoring.parts import LocalStorage


def refusals(address: str) -> AbstractContextManager[None]:
    """Turn any error of a storage into a `UsageError`: each client raises its own types."""
    return any_error_as_usage_error(f"{address} cannot be read or written")


def find_files(given: Iterable[str]) -> list[str]:
    """Return the files that paths, addresses, patterns and folders name: absolute paths, and addresses.

    Raises:
        UsageError: One of them finds nothing, or a storage cannot be read.
    """
    found: list[str] = []
    for name in given:
        with refusals(name):
            fs, path = url_to_fs(name)
            if isinstance(fs, LocalFileSystem):
                files = find_parts([path if "://" in name else name])
                for file in files:
                    require_file(file)
                found += [str(Path(file).expanduser().absolute()) for file in files]
                continue
            matches = fs.glob(path) if has_magic(path) else fs.find(path, maxdepth=1)
            files = [match for match in sorted(matches) if posixpath.basename(match)[:1] not in "._"]
            if not files:
                raise UsageError(f"no file at {name}")
            found += [fs.unstrip_protocol(file) for file in files]
    return found


def is_local(address: str) -> bool:
    """Return whether a path or an address is on this machine."""
    return isinstance(url_to_fs(address)[0], LocalFileSystem)


def identity(address: str) -> str:
    """Return what changes when a file does: the sha256 of one on this machine, else what its storage tells it by."""
    with refusals(address):
        fs, path = url_to_fs(address)
        return file_sha256(Path(path)) if isinstance(fs, LocalFileSystem) else str(fs.ukey(path))


def size(address: str) -> int:
    """Return a file's bytes, 0 where its storage does not tell them."""
    with refusals(address):
        fs, path = url_to_fs(address)
        return fs.size(path) or 0


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """Fetch a file until the block ends; one on this machine is taken where it is."""
    with refusals(address):
        fs, path = url_to_fs(address)
    if isinstance(fs, LocalFileSystem):
        yield Path(path)
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / posixpath.basename(path)
        with refusals(address):
            fs.get_file(path, str(copy))
        try:
            yield copy
        except UsageError as error:
            raise UsageError(str(error).replace(str(copy), address)) from error


@dataclass(frozen=True)
class RemoteStorage:
    """A folder at an address; see `recipe.scoring.parts.Storage`.

    Each file is written under another name and then moved, which on an object store copies it there.
    """

    address: str

    def __str__(self) -> str:
        """Return the address."""
        return self.address

    def names(self) -> list[str]:
        """Return the names in it, none where there is no such folder."""
        fs, path = self._at()
        fs.invalidate_cache()
        return sorted(posixpath.basename(file) for file in fs.ls(path, detail=False)) if fs.isdir(path) else []

    def read(self, name: str) -> bytes | None:
        """Return a file's content, `None` where there is none."""
        fs, path = self._at(name)
        return bytes(fs.cat_file(path)) if fs.isfile(path) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, and make the folder if needed."""
        with TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(content)
            self.put(Path(folder) / name)

    def put(self, file: Path) -> None:
        """Send a file of this machine, whole or not at all, to where it keeps its name."""
        fs, path = self._at(file.name)
        _, unfinished = self._at(f".{file.name}.{os.getpid()}")
        fs.makedirs(posixpath.dirname(path), exist_ok=True)
        fs.put_file(str(file), unfinished)
        fs.mv(unfinished, path)

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        fs, path = self._at(name)
        if fs.exists(path):
            fs.rm(path, recursive=True)

    def _at(self, name: str = "") -> tuple[Any, str]:
        fs, path = url_to_fs(self.address)
        return fs, posixpath.join(path, name) if name else path


def storage_at(output: str) -> LocalStorage | RemoteStorage:
    """Return the folder that a path or an address names."""
    with refusals(output):
        fs, path = url_to_fs(output)
    return LocalStorage(Path(path)) if isinstance(fs, LocalFileSystem) else RemoteStorage(output.rstrip("/"))

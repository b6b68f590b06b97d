"""The parts of an output that is not whole yet, one per window, each of them whole or not there at any moment."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from recipe.errors import UsageError
from recipe.files.atomic import flush, write_json

MANIFEST = "manifest.json"
FINISHED = "finished"


class Part(NamedTuple):
    """What is known of a window that was scored.

    Attributes:
        number: Of the window.
        rows, truncated, skipped: How many.
    """

    number: int
    rows: int
    truncated: int
    skipped: int

    def file_name(self) -> str:
        """Return the name of its file; with the counts in it, both are there at once."""
        return f"{self.number:09d}.{self.rows}.{self.truncated}.{self.skipped}.part"


class Parts:
    """The folder of parts beside an output.

    manifest.json   what the parts were made of, and how
    N.R.T.S.part    the rows of window N: R of them, T of these truncated, and S that were skipped
    N.errors        the skipped ones
    finished        all are there, and the output gets its name

    Attributes:
        errors: Where the rows that were skipped are reported.
    """

    def __init__(self, output: Path) -> None:
        """Name the output; neither need exist."""
        self.output = output
        self.errors = output.with_name(f"{output.name}.errors.jsonl")
        self.folder = output.with_name(f".{output.name}.parts")
        self.discarded = output.with_name(f".{output.name}.discarded")

    def require_free(self, overwrite: bool) -> None:
        """Refuse to write over a file, unless asked to.

        Raises:
            UsageError: Names it.
        """
        if overwrite or (self.folder / FINISHED).is_file():
            return
        for file in (self.output, self.errors):
            if file.exists():
                raise UsageError(f"{file} exists: choose another --output, or give --overwrite")

    def require_same(self, manifest: dict[str, Any], overwrite: bool) -> None:
        """Refuse to go on from parts that were made of something else, or in another way.

        Raises:
            UsageError: Says what has changed and how to begin anew.
        """
        found = self._manifest()
        # A stream that has been read is gone, and cannot be gone on from.
        if overwrite or not found or not found.get("input"):
            return
        changed = [_change(key, found.get(key), now) for key, now in manifest.items() if found.get(key) != now]
        if changed:
            raise UsageError(
                f"{self.folder} holds the parts of a scoring that was stopped, and since then {', '.join(changed)}: "
                "go on as it was begun, or give --overwrite to begin anew"
            )

    def begin(self, manifest: dict[str, Any]) -> None:
        """Make the folder, or keep what is in it if it was made in the same way."""
        shutil.rmtree(self.discarded, ignore_errors=True)
        if not manifest["input"] or self._manifest() != manifest:
            self.discard()
        self.folder.mkdir(exist_ok=True)
        for unfinished in self.folder.glob(".*"):
            unfinished.unlink()
        write_json(self.folder / MANIFEST, manifest)
        flush(self.folder)

    def require_shared(self, manifest: dict[str, Any]) -> None:
        """Refuse to add to a folder that another process began and that cannot be seen here.

        Raises:
            UsageError: It must be on a file system that all machines share.
        """
        if self._manifest() != manifest:
            raise UsageError(f"{self.output} must be the same file on every machine: a shared file system")

    def done(self) -> list[Part]:
        """Return the parts that are there, in order."""
        names = (file.name.split(".") for file in self.folder.glob("*.part"))
        return sorted(Part(*map(int, numbers)) for *numbers, _ in names)

    def add(self, part: Part, rows: bytes, malformed: Iterable[tuple[int, str]]) -> None:
        """Keep a window's rows, and before them those that were skipped."""
        if part.skipped:
            lines = (json.dumps({"line": line, "error": error}, ensure_ascii=False) + "\n" for line, error in malformed)
            self._write(f"{part.number:09d}.errors", lambda file: file.write("".join(lines).encode("utf-8")))
        self._write(part.file_name(), lambda file: file.write(rows))

    def finish(self, join: Callable[[Iterable[Path], IO[bytes]], Any]) -> None:
        """Make the output of the parts, which then are gone.

        Args:
            join: Writes a file that is made of the files it is given.
        """
        parts = [self.folder / part.file_name() for part in self.done()]
        self._write("whole", lambda file: join(parts, file))
        skipped = sorted(self.folder.glob("*.errors"))
        self._write("skipped", lambda file: _concatenate(skipped, file))
        (self.folder / FINISHED).touch()
        flush(self.folder)
        self.errors.unlink(missing_ok=True)
        if skipped:
            (self.folder / "skipped").replace(self.errors)
        (self.folder / "whole").replace(self.output)
        flush(self.output.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the folder: all at once, so that no half of it is ever gone on from."""
        if self.folder.exists():
            self.folder.replace(self.discarded)
            shutil.rmtree(self.discarded)

    def size(self) -> int:
        """Return the bytes of the parts that are there."""
        return sum(file.stat().st_size for file in self.folder.glob("*.part"))

    def _manifest(self) -> dict[str, Any]:
        """Return what the parts were made of, empty if nothing says so."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def _write(self, name: str, write: Callable[[IO[bytes]], Any]) -> None:
        """Give a file its name when it is whole and on the disk."""
        temporary = self.folder / f".{name}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _change(key: str, then: object, now: object) -> str:
    """Return in words how an entry of the manifest has changed."""
    is_digest = isinstance(now, str) and len(now) == 64
    return f"the {key} has changed" if is_digest or not now else f"the {key} has changed from {then} to {now}"


def _concatenate(files: Iterable[Path], target: IO[bytes]) -> None:
    """Write files one after another."""
    for file in files:
        target.write(file.read_bytes())

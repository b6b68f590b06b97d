"""Keep the windows of an output that is not complete yet, each in a file that is whole or missing at any moment."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from recipe.errors import UsageError
from recipe.files.atomic import file_state, flush, read_json, replacing, write_json
from recipe.files.lock import holding
from recipe.files.writers import compressed
from recipe.scoring.parts import changed


class WindowRecord(NamedTuple):
    """What is known of a scored window.

    Attributes:
        number: From 0.
        rows, truncated, wordless: Numbers of scored rows, and of those that were truncated or hold no known word.
        tokens, unknown: Numbers of tokens that the model has read, and of those that its vocabulary lacks.
        malformed: Line and reason of each row that was skipped.
    """

    number: int
    rows: int
    truncated: int
    wordless: int
    tokens: int
    unknown: int
    malformed: list[tuple[int, str]]

    @property
    def read(self) -> int:
        """Return the number of rows that were read, scored or skipped."""
        return self.rows + len(self.malformed)

    def error_lines(self) -> Iterator[str]:
        """Yield a line of JSON for each row that was skipped."""
        for line, error in self.malformed:
            yield json.dumps({"line": line, "error": error}, ensure_ascii=False) + "\n"


class Journal:
    """The folder beside an output that is being written.

    manifest.json   everything the output's bytes depend on
    published.json  what tells that the output has taken its place
    N.window        window N: its record as a line of JSON, then its encoded rows
    output, errors  the complete files, just before they are moved to their places
    """

    def __init__(self, output: Path, errors_name: str = "", place: Path | None = None) -> None:
        """Name the output; the journal of a link is beside the file it points to.

        Args:
            errors_name: Of the file of skipped rows; its own ending follows the output's name without one.
            place: What messages say keeps the windows; without one, the journal's folder.
        """
        self.output = output.resolve() if output.is_symlink() else output
        self.errors = self.output.with_name(errors_name or f"{self.output.name}.errors.jsonl")
        self.folder = self.output.with_name(f".{self.output.name}.parts")
        self.place = place or self.folder

    def hold(self) -> AbstractContextManager[None]:
        """Keep other launches from scoring into the output until the block ends; else raise `UsageError`.

        The lock lies beside the folder, which comes and goes.
        """
        lock = self.output.with_name(f".{self.output.name}.lock")
        return holding(lock, f"{self.output} is being scored", "--output")

    def require_free(self) -> None:
        """Raise `UsageError` if a file would be replaced, but not if this journal was about to replace it itself."""
        for file in (self.output, self.errors):
            if file.exists() and not (self.folder / "output").exists():
                raise UsageError(f"{file} exists: choose another --output, or give --overwrite")

    def require_same(self, manifest: dict[str, Any]) -> None:
        """Raise `UsageError` if there is a journal of another input, model or settings; says what has changed."""
        found = self.read_manifest()
        # The journal of a stream cannot be continued, and is not worth a refusal.
        if found.get("input") and (changes := changed(found, manifest)):
            raise UsageError(
                f"{self.folder} holds the parts of a scoring that was stopped, and since then {', '.join(changes)}: "
                "undo the change, or give --overwrite to start over"
            )

    def begin(self, manifest: dict[str, Any]) -> None:
        """Make the folder; keep its windows if they have the same manifest and their input can be read again."""
        if not manifest["input"] or self.read_manifest() != manifest:
            self.remove()
        self.folder.mkdir(exist_ok=True)
        for unfinished in self.folder.glob(".*"):
            unfinished.unlink()
        write_json(self.folder / "manifest.json", manifest)
        flush(self.folder)

    def records(self) -> Iterator[WindowRecord]:
        """Yield the record of each window that is there, in order."""
        for file in self._windows():
            yield WindowRecord(**json.loads(file.readline()))

    def add(self, record: WindowRecord, rows: bytes) -> None:
        """Write a window with its encoded rows."""
        with replacing(self.folder / f"{record.number:09d}.window") as file:
            file.write(json.dumps(record._asdict()).encode() + b"\n" + rows)

    def publish(self, join: Callable[[Iterable[IO[bytes]], IO[bytes]], Any], compression: str) -> None:
        """Let `join` write the output from the windows' rows, report the skipped rows, and remove the journal."""
        output, errors = self.folder / "output", self.folder / "errors"
        with replacing(errors) as file:
            for record in self.records():
                file.write("".join(record.error_lines()).encode("utf-8"))
        with replacing(output) as file, compressed(file, compression) as stream:
            join((window for window in self._windows() if window.readline()), stream)
        write_json(self.folder / "published.json", {"state": file_state(output)})
        flush(self.folder)
        # The output comes last: where it stands, everything is done.
        if errors.stat().st_size:
            errors.replace(self.errors)
        else:
            self.errors.unlink(missing_ok=True)
        output.replace(self.output)
        flush(self.output.parent)
        self.remove()

    def remove(self) -> None:
        """Remove the folder; a kill midway leaves one that is not gone on from."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def remove_if_published(self) -> None:
        """Remove the folder that a kill has left after the output had taken its place."""
        with suppress(FileNotFoundError, ValueError, KeyError):
            if read_json(self.folder / "published.json")["state"] == file_state(self.output):
                self.remove()

    def size(self) -> int:
        """Return the bytes of the windows that are there."""
        return sum(path.stat().st_size for path in self.folder.glob("*.window"))

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest, empty if there is none that can be read."""
        try:
            return dict(read_json(self.folder / "manifest.json"))
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def _windows(self) -> Iterator[IO[bytes]]:
        """Yield the windows' files, opened one after another."""
        for path in sorted(self.folder.glob("*.window")):
            with path.open("rb") as file:
                yield file

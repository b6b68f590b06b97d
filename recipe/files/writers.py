"""Write scored rows as csv, tsv, jsonl or parquet: each row as it was spelled, and the added columns after it."""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet

from recipe.errors import UsageError
from recipe.files.text_rows import DELIMITERS

# The columns that scoring adds, and their names where the file has any of these already. The last one is added only
# where the run's decision leaves reviews to people.
ADDED = ("label", "probability", "truncated", "doubtful")
PREDICTED = tuple(f"predicted_{name}" for name in ADDED)
# A row group ends at one of these: large enough to be read fast, small enough to be held in memory.
GROUP_BYTES = 32 * 2**20
GROUP_ROWS = 128 * 1024


class ScoredRows(NamedTuple):
    """The added columns of some rows.

    Attributes:
        labels, probabilities: Label names, and float (rows,).
        truncated: bool (rows,), whether the review was longer than the model reads.
        doubtful: bool (rows,), whether a person should decide; `None` where none is left to people.
    """

    labels: list[str]
    probabilities: np.ndarray
    truncated: np.ndarray
    doubtful: np.ndarray | None = None

    def spelled(self) -> Iterator[tuple[str, ...]]:
        """Yield the values of each row as text."""
        facts = [column for column in (self.truncated, self.doubtful) if column is not None]
        columns = [["true" if value else "false" for value in column] for column in facts]
        return zip(self.labels, (f"{value:.6f}" for value in self.probabilities), *columns, strict=True)


def added_names(present: Collection[str], where: str, with_doubtful: bool) -> tuple[str, ...]:
    """Return names for the added columns that none of the columns `present` has.

    Raises:
        UsageError: Both the plain and the `predicted_` names clash; `where` names the file.
    """
    count = len(ADDED) if with_doubtful else len(ADDED) - 1
    for names in (ADDED[:count], PREDICTED[:count]):
        if not set(names) & set(present):
            return names
    clash = sorted({*ADDED, *PREDICTED} & set(present))
    raise UsageError(f"{where} has the columns {', '.join(clash)}, which scoring adds: rename or remove {clash[-1]!r}")


@dataclass
class TextEncoder:
    """Encodes a format in which a file is a head and its windows, one after another.

    Attributes:
        head: The line that names the columns, if the format has one.
        line: Spells a row, as `Window.source` has it, with the added values after its own.
    """

    head: str
    line: Callable[[Any, Iterable[str]], str]

    def encode(self, source: list[Any], scored: ScoredRows) -> bytes:
        """Return a window's rows with the added columns."""
        rows = zip(source, scored.spelled(), strict=True)
        return "".join(self.line(row, added) for row, added in rows).encode("utf-8")

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Copy the head and the windows."""
        file.write(self.head.encode("utf-8"))
        for window in windows:
            shutil.copyfileobj(window, file)


def delimited_line(delimiter: str, special: re.Pattern[str], fields: Iterable[str], added: Iterable[str]) -> str:
    """Return a record, with quotes only around the fields that have one of the `special` characters."""
    quoted = ('"' + field.replace('"', '""') + '"' if special.search(field) else field for field in (*fields, *added))
    return delimiter.join(quoted) + "\n"


def json_line(names: list[str], line: str, added: Iterable[str]) -> str:
    """Return an object as it was spelled, with further members, whose `names` are spelled as JSON already."""
    label, *values = added
    spelled = (json.dumps(label, ensure_ascii=False), *values)
    members = ", ".join(f"{name}: {value}" for name, value in zip(names, spelled, strict=True))
    # Re-encoding the object would turn 1.10 into 1.1, and round a number of many digits.
    opened = line.rstrip().removesuffix("}").rstrip()
    return f"{opened}{'' if opened.lstrip() == '{' else ', '}{members}}}\n"


class ParquetEncoder:
    """Encodes a table with its own types and metadata, and further columns."""

    def __init__(self, schema: pyarrow.Schema, names: tuple[str, ...]) -> None:
        """Extend the table's schema by columns of these names."""
        types = (pyarrow.string(), pyarrow.float32(), pyarrow.bool_(), pyarrow.bool_())
        self.added = list(map(pyarrow.field, names, types))
        self.schema = pyarrow.schema([*schema, *self.added], metadata=schema.metadata)

    def encode(self, source: pyarrow.Table, scored: ScoredRows) -> bytes:
        """Return a window's rows with the added columns, as a small parquet file."""
        for field, values in zip(self.added, scored, strict=False):
            source = source.append_column(field, pyarrow.array(values, field.type))
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(source.cast(self.schema), buffer, compression="zstd", store_schema=True)
        return bytes(buffer.getvalue())

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes]) -> None:
        """Write row groups of several windows each, holding one row group at a time."""
        held: list[pyarrow.Table] = []
        with pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd", store_schema=True) as writer:
            for window in windows:
                held.append(pyarrow.parquet.ParquetFile(pyarrow.BufferReader(window.read())).read())
                if sum(table.nbytes for table in held) >= GROUP_BYTES or sum(map(len, held)) >= GROUP_ROWS:
                    writer.write_table(pyarrow.concat_tables(held), row_group_size=GROUP_ROWS)
                    held.clear()
            if held:
                writer.write_table(pyarrow.concat_tables(held), row_group_size=GROUP_ROWS)


Encoder = TextEncoder | ParquetEncoder


def encoder(
    extension: str, columns: Iterable[str], names: tuple[str, ...], schema: pyarrow.Schema | None, delimiter: str = ""
) -> Encoder:
    """Return the encoder of a format, which adds columns of these names to its input's; for parquet, to a schema.

    Args:
        delimiter: Of csv and tsv; without one, the extension's own.
    """
    if extension == ".parquet":
        return ParquetEncoder(schema, names)
    if extension not in DELIMITERS:
        return TextEncoder("", partial(json_line, [json.dumps(name) for name in names]))
    # Python's own writer leaves a lone carriage return unquoted, and its reader ends the row there.
    delimiter = delimiter or DELIMITERS[extension]
    special = re.compile(f'[{re.escape(delimiter)}"\r\n]')
    line = partial(delimited_line, delimiter, special)
    return TextEncoder(line(columns, names), line)


@contextmanager
def compressed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """Open a stream that compresses into a file, with no time or name in it; nothing named, it is the file itself."""
    if compression == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as stream:
            yield stream  # type: ignore[misc]
    elif compression == ".zst":
        # Arrow closes the file it writes to.
        with open(file.fileno(), "wb", closefd=False) as copy, pyarrow.CompressedOutputStream(copy, "zstd") as stream:
            yield stream
    else:
        yield file

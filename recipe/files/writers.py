"""Write scored rows as csv, tsv, jsonl or parquet: each row as it was spelled, and the added columns after it."""

import gzip
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from recipe.files.text_rows import DELIMITERS

# A row group ends at one of these: large enough to be read fast, small enough to be held in memory.
GROUP_BYTES = 32 * 2**20
GROUP_ROWS = 128 * 1024


# Added values, a column after another, each by its name: texts, or a bool or float array.
Added = Mapping[str, Any]
ARROW_TYPES = {str: pyarrow.string(), float: pyarrow.float32(), bool: pyarrow.bool_()}


def spelled_rows(added: Added) -> Iterator[tuple[str, ...]]:
    """Yield the added values of each row as text."""
    return zip(*map(_spelled, added.values()), strict=True)


def _spelled(values: Any) -> list[str]:
    if isinstance(values, list):
        return values
    return ["true" if value else "false" for value in values] if values.dtype == bool else [f"{v:.6f}" for v in values]


@dataclass
class TextEncoder:
    """Encodes a format in which a file is a head and its windows, one after another.

    Attributes:
        head: The line that names the columns, if the format has one.
        line: Spells a row, as `Window.source` has it, with the added values after its own.
    """

    head: str
    line: Callable[[Any, Iterable[str]], str]

    def encode(self, source: list[Any], added: Added) -> bytes:
        """Return a window's rows with the added columns."""
        rows = zip(source, spelled_rows(added), strict=True)
        return "".join(self.line(row, values) for row, values in rows).encode("utf-8")

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes], before: IO[bytes] | None = None) -> None:
        """Copy the head, or a scored file that was there before, and the windows."""
        if before:
            _copy_lines(before, file)
        else:
            file.write(self.head.encode("utf-8"))
        for window in windows:
            shutil.copyfileobj(window, file)


def _copy_lines(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a file, and end its last line."""
    last = b"\n"
    while block := source.read(1 << 20):
        target.write(block)
        last = block[-1:]
    if last != b"\n":
        target.write(b"\n")


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

    def __init__(self, schema: pyarrow.Schema, kinds: Mapping[str, type]) -> None:
        """Extend the table's schema by columns of these names and types."""
        self.added = [pyarrow.field(name, ARROW_TYPES[kind]) for name, kind in kinds.items()]
        self.schema = pyarrow.schema([*schema, *self.added], metadata=schema.metadata)

    def encode(self, source: pyarrow.Table, added: Added) -> bytes:
        """Return a window's rows with the added columns, as a small parquet file."""
        for field, values in zip(self.added, added.values(), strict=True):
            source = source.append_column(field, pyarrow.array(values, field.type))
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(source.cast(self.schema), buffer, compression="zstd", store_schema=True)
        return bytes(buffer.getvalue())

    def join(self, windows: Iterable[IO[bytes]], file: IO[bytes], before: IO[bytes] | None = None) -> None:
        """Write row groups of several windows each, and first those of a scored file that was there before.

        One row group is held at a time.
        """
        held: list[pyarrow.Table] = []
        tables = (pyarrow.parquet.ParquetFile(pyarrow.BufferReader(window.read())).read() for window in windows)
        with pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd", store_schema=True) as writer:
            for table in itertools.chain(_row_groups(before) if before else [], tables):
                held.append(table)
                if sum(table.nbytes for table in held) >= GROUP_BYTES or sum(map(len, held)) >= GROUP_ROWS:
                    writer.write_table(pyarrow.concat_tables(held), row_group_size=GROUP_ROWS)
                    held.clear()
            if held:
                writer.write_table(pyarrow.concat_tables(held), row_group_size=GROUP_ROWS)


def _row_groups(file: IO[bytes]) -> Iterator[pyarrow.Table]:
    with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as parquet:
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, use_threads=False)


Encoder = TextEncoder | ParquetEncoder


def encoder(
    extension: str,
    columns: Iterable[str],
    kinds: Mapping[str, type],
    schema: pyarrow.Schema | None,
    delimiter: str = "",
) -> Encoder:
    """Return the encoder of a format, which adds columns to its input's; for parquet, to a schema.

    Args:
        kinds: The added columns' names, each with `str`, `float` or `bool`.
        delimiter: Of csv and tsv; without one, the extension's own.
    """
    if extension == ".parquet":
        return ParquetEncoder(schema, kinds)
    if extension not in DELIMITERS:
        return TextEncoder("", partial(json_line, [json.dumps(name) for name in kinds]))
    # Python's own writer leaves a lone carriage return unquoted, and its reader ends the row there.
    delimiter = delimiter or DELIMITERS[extension]
    special = re.compile(f'[{re.escape(delimiter)}"\r\n]')
    line = partial(delimited_line, delimiter, special)
    return TextEncoder(line(columns, kinds), line)


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

"""Spell the rows of one format in another: what is scored need not be written as it was read."""

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow

from recipe.errors import UsageError
from recipe.files.readers import python_values
from recipe.files.text_rows import DELIMITERS, replace_lone_surrogates

# From a window's rows, as `Window.source` has them in one format, to those that a writer of another format takes.
Convert = Callable[[Any], Any]


def converter(source: str, target: str, columns: list[str], where: str) -> Convert:
    """Return what turns rows of the format `source` into rows of the format `target`.

    csv and tsv have the same rows. Parquet gets strings, and null where a row has no value. In csv, tsv and parquet's
    strings a number is spelled as in JSON, a list or a struct is JSON, and other values are what `str` makes of them;
    csv and tsv leave null empty.

    Args:
        source, target: Extensions, without that of a compression.
        columns: All columns, in order.
        where: Names the input for a message.

    Raises:
        UsageError: Two columns have the same name.
    """
    # Each of them holds an object per row.
    source, target = (".jsonl" if kind in (".json", ".ndjson") else kind for kind in (source, target))
    if source == target or {source, target} <= DELIMITERS.keys():
        return _unchanged
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise UsageError(f"{where} has several columns {twice!r}, which only parquet can have: rename them")
    reads: dict[str, Convert] = {".parquet": _table_values, ".jsonl": partial(_json_values, columns)}
    writes: dict[str, Convert] = {".parquet": partial(_as_table, columns), ".jsonl": partial(_as_json, columns)}
    read, write = reads.get(source, iter), writes.get(target, _as_fields)
    return lambda rows: write(read(rows))


def strings_schema(columns: Iterable[str]) -> pyarrow.Schema:
    """Return the schema of a table whose columns are strings."""
    return pyarrow.schema([(column, pyarrow.string()) for column in columns])


def _unchanged(rows: Any) -> Any:
    return rows


def _json_values(columns: list[str], lines: list[str]) -> Iterator[list[Any]]:
    """Yield the values of each line, numbers with all of their digits."""
    for line in lines:
        row = json.loads(line, parse_float=Decimal)
        yield [row.get(column) for column in columns]


def _table_values(table: pyarrow.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*map(python_values, table.columns), strict=True)


def _as_table(columns: list[str], rows: Iterable[Iterable[Any]]) -> pyarrow.Table:
    rows_spelled = [[None if value is None else spelled(value) for value in row] for row in rows]
    schema = strings_schema(columns)
    if not rows_spelled:
        return schema.empty_table()
    return pyarrow.table(list(map(list, zip(*rows_spelled, strict=True))), schema=schema)


def _as_fields(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    return [["" if value is None else spelled(value) for value in row] for row in rows]


def _as_json(columns: list[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    names = [json.dumps(column, ensure_ascii=False) for column in columns]
    return ["{" + ", ".join(map("{}: {}".format, names, map(_json, row))) + "}" for row in rows]


def spelled(value: Any) -> str:
    """Return a value as text: a text as it is, NaN and infinity as Python says them, anything else as JSON."""
    if isinstance(value, str):
        return replace_lone_surrogates(value)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return str(value)
    as_json = _json(value)
    # What JSON lacks, such as times, is a string there.
    return str(json.loads(as_json)) if as_json.startswith('"') else as_json


def _json(value: Any) -> str:
    """Return a value as JSON; a decimal number keeps its digits, unless a list or a struct holds it."""
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a value made of what JSON has; NaN is null, infinity a string, bytes base64."""
    if isinstance(value, str):
        return replace_lone_surrogates(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

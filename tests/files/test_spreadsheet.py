"""A csv for a spreadsheet holds no formula, keeps each text, and is read as UTF-8."""

import csv
import io
from pathlib import Path

import pytest

from recipe.data.own_files import read_files
from recipe.files.spreadsheet import cell, sheet, text_of
from recipe.files.text_rows import Dialect

TEXTS = [
    *("=1+1", "+1", "-5 stars", "@home", "\tindented", "\rreturn", "'=quoted", "''-twice", "'tis fine", "", "'"),
    *(
        "two\nlines",
        'a "quote", and a comma',
        "a\rb",
        "Café – 很好",
        "=HYPERLINK(x)\n- and lines, that, look, like rows",
    ),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_is_no_formula_and_gives_its_text_back(text: str) -> None:
    assert cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert text_of(cell(text)) == text


def test_an_ordinary_text_is_its_own_cell() -> None:
    assert [cell(text) for text in ("'tis fine", "a-b", "5 = five", "")] == ["'tis fine", "a-b", "5 = five", ""]


def test_a_sheet_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = sheet({"number": list(range(len(TEXTS))), "text": TEXTS, "mark": ["x"] * len(TEXTS)})
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(content.removeprefix("\ufeff"), newline="")))
    assert [text_of(row["text"]) for row in rows] == TEXTS and rows[3]["number"] == "3"
    (tmp_path / "sheet.csv").write_bytes(content.encode())
    found = read_files([str(tmp_path / "sheet.csv")], ["text"], "mark", Dialect(quoting="trusted")).rows
    assert [text_of(text or "") for text in found["text"]] == TEXTS

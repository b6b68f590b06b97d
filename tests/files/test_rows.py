"""Rows of text files: each with its line, and those that cannot be read do not hide the ones after them."""

import csv
import io
import json

import pytest

from recipe.files import text_rows as module
from recipe.files.text_rows import NOT_UTF8, DelimitedRows, Dialect, Malformed, text_rows


def read(extension: str, content: bytes, needed: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str] | Malformed]]:
    return [(record.line, record.row) for record in text_rows(extension, io.BytesIO(content), needed=needed)]


def test_a_malformed_row_does_not_hide_the_rows_after_it() -> None:
    rows = read(".csv", b'a,b\n1,"x\ny"\n1\n2,"q"r\n3,caf\xe9\n\n4,d\n')
    assert [line for line, _ in rows] == [2, 4, 5, 6, 8]
    assert rows[0][1] == {"a": "1", "b": "x\ny"} and rows[-1][1] == {"a": "4", "b": "d"}
    assert rows[1][1] == Malformed("1 fields, but the header has 2") and rows[3][1] == NOT_UTF8
    assert isinstance(rows[2][1], Malformed) and "',' expected after '\"'" in rows[2][1].message


def test_bytes_that_are_not_utf8_are_named_by_their_own_line() -> None:
    assert read(".csv", b'a,b\n1,"x\ncaf\xe9"\n2,y\n') == [(3, NOT_UTF8), (4, {"a": "2", "b": "y"})]


def test_a_quote_that_is_never_closed_says_how_far_it_reaches() -> None:
    ((line, row),) = read(".csv", b'a,b\n1,"x\n2,y\n3,z\n')
    assert line == 2 and isinstance(row, Malformed) and not row.fatal
    assert "unexpected end of data; is a quote never closed? (all up to line 4 was taken for one row)" in row.message


@pytest.mark.parametrize("content", [b"a,a\n1,2\n", b'a,"b"c\n1,2\n', b"a,caf\xe9\n1,2\n"])
def test_after_a_malformed_header_no_row_means_anything(content: bytes) -> None:
    row = read(".csv", content, ("a",))[0][1]
    assert isinstance(row, Malformed) and row.fatal


def test_a_header_is_known_without_a_row() -> None:
    rows = DelimitedRows(io.BytesIO(b"\xef\xbb\xbfa,b\n"), Dialect())
    assert not list(rows) and rows.header == ["a", "b"]


def test_json_lines_go_on_after_a_malformed_one() -> None:
    rows = read(".jsonl", b'{"a": 1}\n{"a":\n[1]\n\n{"a": "\xff"}\n{"a": 2}\r\n')
    assert [line for line, _ in rows] == [1, 2, 3, 5, 6]
    assert [isinstance(row, Malformed) for _, row in rows] == [False, True, True, True, False]


# What other readers take for fewer rows than were written: a quote opens in one line and is closed in a later one.
HIDING = [
    (".tsv", 'pos\t"Great\nneg\treally bad\npos\tawful"\n', 2, 4),
    (".tsv", '1\tgood\n1\t"Great film\n0\tbad\n1\tgood, really\n0\tawful"\n1\tgood\n', 3, 6),
    (".tsv", 'pos\tgood\npos\t"Great film\nneg\tit\'s bad\npos\tawful"\n', 3, 5),
    (".csv", '1,"Great film\n0,bad\n1,awful"\n', 2, 4),
    (".csv", '"Great film,1\nbad film,0\nawful",0\n', 2, 4),
    (".csv", 'A fine title,"Great film\nThe next title,bad film\nThe last title,awful"\n', 2, 4),
]


@pytest.mark.parametrize(("extension", "rows", "opened", "closed"), HIDING)
def test_a_quote_that_hides_rows_is_named_by_its_lines(extension: str, rows: str, opened: int, closed: int) -> None:
    header = "a\tb" if extension == ".tsv" else "a,b"
    ((line, row),) = [one for one in read(extension, f"{header}\n{rows}".encode()) if isinstance(one[1], Malformed)]
    assert isinstance(row, Malformed) and not row.fatal and line == opened
    assert f"closed in line {closed}, but each of these lines looks like a row" in row.message
    assert "--quoting none" in row.message and "--quoting trusted" in row.message


REVIEWS = [
    "It was great.\nReally great, and more.",
    "First, the plot\nThen, the cast",
    "Great\n\nReally, great\n\nA film",
    "Pros: sound\nCons: price, weight\n",
    "windows\r\nlines, and more",
    "lone\rreturn, too",
    'He said "good"\nand "bad", too',
    "- good\n- bad\n- awful",
    "one, two\nthree, four\nfive, six",
    "Ich zahlte\n3,50 Euro",
    "Ich gebe 3,5\nvon 5",
    "tabs\tin it\nand\there",
    "semi; colon\nand; more",
    "1\n2\n3",
]


@pytest.mark.parametrize("columns", ["label content", "content label", "content", "id title content"])
@pytest.mark.parametrize("label", ["1", "pos"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_reviews_with_line_breaks_hide_no_rows(columns: str, label: str, delimiter: str) -> None:
    values = {"label": label, "id": "17", "title": "A film, at last"}
    rows = [{name: values.get(name, review) for name in columns.split()} for review in REVIEWS]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns.split(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    found = text_rows(".csv", io.BytesIO(file.getvalue().encode()), Dialect(delimiter))
    assert [record.row for record in found] == rows


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_an_array_is_read_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": '"\\é🎧]},\n' * n, "b": [n, -1.5e10, None, True, {"c": "\ud83d"}]} for n in range(40)]
    monkeypatch.setattr(module, "BLOCK", block)
    for spelled in (json.dumps(rows), json.dumps(rows, indent=1), " [] \n"):
        found = read(".json", b"\xef\xbb\xbf" + spelled.encode())
        assert [row for _, row in found] == json.loads(spelled)


def test_elements_of_an_array_keep_their_spelling_in_one_line() -> None:
    content = b'[\n{"a": 1.10,\r\n  "b": "x\\ny"},\n{"a": 12345678901234567890.123}, 5\n]\n'
    records = list(text_rows(".json", io.BytesIO(content)))
    assert [(record.line, record.source) for record in records] == [
        (2, '{"a": 1.10, "b": "x\\ny"}'),
        (4, '{"a": 12345678901234567890.123}'),
        (4, "5"),
    ]
    assert records[2].row == Malformed("a int, where an object is needed")


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b'[{"a": 1},\n{"a": ', 2, "Expecting value"),
        (b'[{"a": 1}\n{"a": 2}]', 2, "Expecting ',' or ']'"),
        (b'[{"a": 1}', 1, "Expecting ',' or ']'"),
        (b'[{"a": 1}]\nx', 2, "Extra data behind the array"),
        (b"[\n", 2, "Expecting value"),
    ],
)
def test_a_broken_array_ends_at_its_mistake(content: bytes, line: int, reason: str) -> None:
    assert read(".json", content)[-1] == (line, Malformed(f"not JSON ({reason})", fatal=True))


def test_in_an_array_bytes_that_are_not_utf8_hide_no_other_row() -> None:
    assert read(".json", b'[{"a": "\xff"},\n{"a": 1}]') == [(1, NOT_UTF8), (2, {"a": 1})]

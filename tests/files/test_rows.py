"""Rows of text files: each with its line, and those that cannot be read do not hide the ones after them."""

import io

import pytest

from recipe.files.text_rows import NOT_UTF8, ROWS, DelimitedRows, Malformed


def read(extension: str, content: bytes) -> list[tuple[int, dict[str, str] | Malformed]]:
    return [(record.line, record.row) for record in ROWS[extension](io.BytesIO(content))]


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
    row = read(".csv", content)[0][1]
    assert isinstance(row, Malformed) and row.fatal


def test_a_header_is_known_without_a_row() -> None:
    rows = DelimitedRows(io.BytesIO(b"\xef\xbb\xbfa,b\n"), ",")
    assert not list(rows) and rows.header == ["a", "b"]


def test_json_lines_go_on_after_a_malformed_one() -> None:
    rows = read(".jsonl", b'{"a": 1}\n{"a":\n[1]\n\n{"a": "\xff"}\n{"a": 2}\r\n')
    assert [line for line, _ in rows] == [1, 2, 3, 5, 6]
    assert [isinstance(row, Malformed) for _, row in rows] == [False, True, True, True, False]

"""Tables for the screen and for pages. The model card's are written in its template."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines for the screen, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def span(ends: Sequence[float]) -> str:
    """Return an interval in four decimals."""
    return "{:.4f} to {:.4f}".format(*ends)


def markdown(rows: Sequence[Sequence[str]], marks: Sequence[str]) -> list[str]:
    """Return a table's lines as Markdown, the head of `rows` first; `marks` align columns: `---` left, `--:` right."""
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in (head, marks, *body)]

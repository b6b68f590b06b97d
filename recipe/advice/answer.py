"""One answer of the advice: what the screen says, which file holds the rest, and the figures behind it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of a person, to judge or to label one review.
SECONDS_PER_REVIEW = 10


@dataclass(frozen=True)
class Advice:
    """An answer to one question about a finished run.

    Attributes:
        title: The question's name, as "Labels to check".
        lines: What the screen says: the answer, how sure it is, and what it would cost.
        file: Where the rows are, if the answer has such.
        figures: The same in numbers, for `advice.json`.
    """

    title: str
    lines: list[str]
    file: Path | None
    figures: dict[str, Any]


def in_words(seconds: float) -> str:
    """Return a time in words, in minutes from two of them on."""
    if seconds < 1.5:
        return "a second"
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"

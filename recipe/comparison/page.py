"""A comparison on the screen, as a page of Markdown, and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from recipe.comparison.comparison import Comparison, verdict
from recipe.comparison.runs import COMPARISON
from recipe.evaluation.model_card import plain
from recipe.files.atomic import write_json, write_whole
from recipe.pictures.fonts import one_line, shorten
from recipe.pictures.style import GRID, REFERENCE, SLICE_COLOUR, save_pictures
from recipe.text_table import columns, markdown, span

PICTURE = "f1.png"
# In Latin letters.
LONGEST_NAME, LONGEST_VALUE = 40, 40


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write `comparison.json`, `README.md` and the picture of a comparison into a folder, which is made if needed."""
    # First, so that a folder which the rest did not get into is known by it, and can be written again.
    write_json(folder / COMPARISON, comparison.to_json())
    write_whole(folder / "README.md", page(comparison))
    names = (one_line(run.run) for run in comparison.runs)
    save_pictures({folder / PICTURE: lambda: draw_runs(comparison)}, names)


def summary(comparison: Comparison) -> str:
    """Return runs beside each other, their differences from the best one, settings that differ, and notes."""
    blocks = [
        [_head(comparison), *columns(figure_rows(comparison))],
        [*columns(difference_rows(comparison)), *_explanation(comparison)],
        ["Settings that differ:", *columns(setting_rows(comparison))] if comparison.settings else [],
        [f"Note: {note}" for note in comparison.notes],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def page(comparison: Comparison) -> str:
    """Return the same as Markdown, with the picture."""
    settings = _markdown(setting_rows(comparison)) if comparison.settings else ["The settings are the same."]
    lines = [f"# {len(comparison.runs)} runs compared", "", plain(_head(comparison)), ""]
    lines += [*_markdown(figure_rows(comparison)), "", f"![F1 of each run with its 95 % interval]({PICTURE})", ""]
    lines += [*_markdown(difference_rows(comparison)), "", *map(plain, _explanation(comparison)), ""]
    lines += ["## Settings that differ", "", *settings, "", "## Notes", ""]
    lines += [f"- {plain(note)}" for note in comparison.notes]
    return "\n".join(lines) + f"\n\nIn full: [{COMPARISON}]({COMPARISON}).\n"


def figure_rows(comparison: Comparison) -> list[list[str]]:
    """Return the table of the runs, its head first."""
    rows = [["run", "served", "F1", "95 % interval", "accuracy", "reviews/s", "MB", "training s"]]
    for run in comparison.runs:
        size = "–" if run.bytes is None else f"{run.bytes / 1e6:,.1f}"
        figures = [f"{run.f1:.4f}", span(run.f1_interval), f"{run.accuracy:.4f}"]
        rows.append([run.run, run.served, *figures, f"{run.reviews_per_second:,.1f}", size, f"{run.seconds:,.0f}"])
    return rows


def difference_rows(comparison: Comparison) -> list[list[str]]:
    """Return the table of each run against the best, its head first."""
    best = comparison.runs[0].run
    rows = [[f"against {best}", "F1 gain", "95 % interval", "only best right", "only it right", "p (Holm)", "verdict"]]
    for found, test in zip(comparison.differences, comparison.tests, strict=False):
        low, high = found.f1_interval
        # Adding 0 makes of -0.0, which would be printed with its sign, a 0.
        gains = [f"{round(-found.f1, 4) + 0:+.4f}", f"{-high:+.4f} to {-low:+.4f}"]
        counts = [f"{test.only_first_right:,}", f"{test.only_second_right:,}"]
        rows.append([found.second, *gains, *counts, f"{test.corrected:.2g}", verdict(test)])
    return rows


def setting_rows(comparison: Comparison) -> list[list[str]]:
    """Return the table of the settings that differ, a column per run, its head first."""
    rows = [["", *(run.run for run in comparison.runs)]]
    return rows + [[key, *(shorten(value, LONGEST_VALUE) for value in row)] for key, row in comparison.settings.items()]


def draw_runs(comparison: Comparison) -> Figure:
    """Draw F1 of each run with its 95 % interval, the best on top, whose F1 is a line through all of them."""
    runs = comparison.runs
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(runs)), layout="constrained")
    axes, places = figure.subplots(), [-place for place in range(len(runs))]
    axes.hlines(places, *zip(*(run.f1_interval for run in runs), strict=True), color=SLICE_COLOUR, linewidth=2)
    axes.plot([run.f1 for run in runs], places, color=SLICE_COLOUR, marker="o", markersize=7, linestyle="")
    axes.axvline(runs[0].f1, **REFERENCE)
    axes.set_yticks(places, [shorten(one_line(run.run), LONGEST_NAME) for run in runs])
    said = ["best", *map(verdict, comparison.tests[: len(runs) - 1])]
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [f"{run.f1:.4f}, {words}" for run, words in zip(runs, said, strict=True)])
    axes.set(xlabel="F1 with its 95 % interval", ylim=(0.6 - len(runs), 0.6))
    axes.set_title(f"Served answers to the same {comparison.reviews:,} test rows", fontsize="medium")
    axes.grid(axis="x", **GRID)
    return figure


def _head(comparison: Comparison) -> str:
    average = "" if len(comparison.labels) == 2 else "; F1 is the macro average"
    runs, rows = len(comparison.runs), f"{comparison.reviews:,} test rows"
    return f"{runs} runs on the same {rows}, by the answers that they serve{average}:"


def _explanation(comparison: Comparison) -> list[str]:
    """Return how many comparisons were made, and how they were corrected."""
    pairs, runs = len(comparison.tests), len(comparison.runs)
    if pairs == 1:
        return ["1 comparison, an exact McNemar test."]
    return [
        f"{pairs:,} comparisons, exact McNemar tests of each pair of the {runs} runs, as any could have been the best.",
        "The p-values are corrected for all of them (Holm); each interval is 95 % by itself.",
    ]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines, the first column flush left."""
    marks = ["---", *["--:"] * (len(rows[0]) - 1)]
    return markdown([[plain(cell) for cell in row] for row in rows], marks)

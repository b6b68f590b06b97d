"""Pictures of the report, drawn without a screen and legible in print and to colour-blind readers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from sklearn.metrics import precision_recall_curve

from recipe.evaluation.sentences import describe_decision
from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.types import Report, VariantFigures
from recipe.metrics.calibration import BINS, Calibration
from recipe.metrics.intervals import VariantIntervals
from recipe.pictures.fonts import Fonts, fonts_for, one_line, shorten, width
from recipe.pictures.style import GRID, REFERENCE, SLICE_COLOUR, STYLES, save_picture
from recipe.run_folder import Epoch, RunRecord

# By the pictures' titles, in the order of the card.
FILES = {
    "Learning curve": "learning_curve.png",
    "Confusion matrices": "confusion.png",
    "Precision and recall": "precision_recall.png",
    "Reliability before and after the temperature": "reliability.png",
    "F1 by slice": "slices.png",
    "Accuracy against throughput": "trade_off.png",
}
# In Latin letters, of which an inch holds about 11.
LONGEST_NAME = 20
LETTER = 0.09
# With more labels than these there is room for one matrix, for no counts in it, and for no names beside it.
MOST_COMPARED_LABELS, MOST_COUNTED_LABELS, MOST_NAMED_LABELS = 12, 30, 120
# Inches of a widest picture, so that a page does not shrink it until it cannot be read.
WIDEST = 11
# Intervals of fewer rows are so wide that on their scale the others would look alike.
ROWS_THAT_SET_THE_SCALE = 30


def draw_report(
    report: Report, record: RunRecord, labels: np.ndarray, positive: Mapping[str, np.ndarray], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """Draw every picture of a report into a folder; one that cannot be drawn is left out, whatever the reason.

    Args:
        labels: Of the test rows, int64 (reviews,).
        positive: By variant, the probabilities of label 1, float64 (reviews,); the served variant's after the
            temperature. They are drawn if there are two labels.
        folder: For the png files; created if it is missing.

    Returns:
        Each file's name, by its title; and a sentence for each picture left out and for names drawn as numbers.
    """
    of_slices = [part for row in report.slices for part in (row.slice, row.value)]
    fonts = fonts_for(map(one_line, [*report.labels, *of_slices]))
    names, notes = names_of_labels(report.labels, fonts)
    rows, more = names_of_slices(report.slices, fonts)
    notes += more
    served = f"{report.served}, {describe_decision(report.decision, names, '‘{}’'.format)}"
    pictures: dict[str, Callable[[], Figure]] = {
        "Learning curve": lambda: draw_learning_curve(record.epochs, record.best.epoch),
        "Confusion matrices": lambda: draw_confusions(confusions_of(report, served), names),
        "Precision and recall": lambda: draw_precision_recall(report, labels, positive, served, names[1]),
        "Reliability before and after the temperature": lambda: draw_reliability(report.calibration, report.served),
        "F1 by slice": lambda: draw_slices(report.slices, rows, report.answers.f1.value, served),
        "Accuracy against throughput": lambda: draw_trade_off(
            report.variants, report.intervals.variants, report.served if report.decision.threshold is None else None
        ),
    }
    if len(names) > 2:
        del pictures["Precision and recall"]
    if all(row.f1 is None for row in report.slices):
        del pictures["F1 by slice"]
    drawn = {}
    for title, draw in pictures.items():
        path = folder / FILES[title]
        try:
            with fonts.in_use():
                save_picture(draw(), path)
            drawn[title] = path.name
        # No picture may cost the report.
        except Exception as error:
            notes.append(f"The picture '{title}' could not be drawn: {one_line(str(error)) or type(error).__name__}.")
    return drawn, notes


def names_of_labels(labels: Sequence[str], fonts: Fonts) -> tuple[list[str], list[str]]:
    """Return each label's name as it is drawn, all as numbers if one could not be read, and then a note."""
    names = [shorten(one_line(label), LONGEST_NAME) for label in labels]
    found = {label: why for label in labels if (why := fonts.why_not(one_line(label)))}
    if len(set(names)) < len(names) and not found:
        alike = (label for label, name in zip(labels, names, strict=True) if names.count(name) > 1)
        found = dict.fromkeys(alike, "shortened, it is another label's name too")
    if not found:
        return names, []
    numbers = [str(number) for number in range(len(names))]
    return numbers, _note("The pictures show the labels as numbers from 0, in their order", found)


def names_of_slices(slices: Sequence[SliceFigures], fonts: Fonts) -> tuple[list[str], list[str]]:
    """Return each slice's name as it is drawn, or its row in the report if it could not be read, and then a note."""
    names: list[str] = []
    found: dict[str, str] = {}
    for number, row in enumerate(slices, 1):
        name = f"{shorten(one_line(row.slice), LONGEST_NAME)}: {shorten(one_line(row.value), LONGEST_NAME)}"
        why = fonts.why_not(one_line(row.slice + row.value))
        names.append(f"row {number}" if why else name)
        if why:
            found[f"{row.slice}: {row.value}"] = why
    return names, _note("The picture of the slices names some by their row in the table of slices", found)


def confusions_of(report: Report, served: str) -> dict[str, list[list[int]]]:
    """Return the matrix of the served answers and then those of the variants, by title; the same matrix stands once."""
    alike: list[tuple[list[list[int]], list[str]]] = [(report.answers.confusion, [])]
    for name, found in report.variants.items():
        names = next((names for matrix, names in alike if matrix == found.confusion), None)
        if names is None:
            alike.append((found.confusion, names := []))
        names.append(name)
    (first, same), *others = alike
    same = [name for name in same if name != report.served or report.decision.threshold is not None]
    variant, decision = served.split(", ", 1)
    title = f"served: {variant},\n{decision}" + (f"\nsame counts: {', '.join(same)}" if same else "")
    compared = others if len(report.labels) <= MOST_COMPARED_LABELS else []
    return {title: first} | {f"{', '.join(names)},\nthe most probable label": matrix for matrix, names in compared}


def draw_learning_curve(epochs: Sequence[Epoch], best_epoch: float) -> Figure:
    """Draw train and validation loss, and validation F1, by epoch; a line marks the epoch whose weights were kept."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    curves = {"Loss": {"validation": "loss", "train": "train_loss"}, "F1": {"validation": "f1"}}
    looks = {"validation": STYLES["pytorch"], "train": STYLES["pytorch"] | {"marker": "x", "linestyle": "--"}}
    for axes, (title, lines) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        axes.axvline(best_epoch, **REFERENCE, label="the epoch kept")
        for rows, name in lines.items():
            values = [getattr(epoch, name) for epoch in epochs]
            axes.plot([epoch.epoch for epoch in epochs], values, **looks[rows], label=rows)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(**GRID)
        axes.legend()
    return figure


def draw_confusions(confusions: Mapping[str, Sequence[Sequence[int]]], label_names: Sequence[str]) -> Figure:
    """Draw confusion matrices by their titles, rows true: counts, coloured by the share of the true label."""
    labels, longest = len(label_names), max(map(width, label_names)) * LETTER
    # Inches of a cell, in which a count or a name beside it can be read; few short names stand side by side.
    readable = 0.45 if labels <= MOST_COMPARED_LABELS else 0.3 if labels <= MOST_COUNTED_LABELS else 0.13
    cell = max(2.1 / labels, readable, 1.1 * longest if 1.1 * longest * labels <= 4 else 0)
    side, upright = min(labels, MOST_NAMED_LABELS) * cell, longest > cell
    columns = max(1, min(3, len(confusions), int((WIDEST - longest - 1.5) / (side + 0.4))))
    # Four matrices make a square.
    columns = 2 if len(confusions) == 4 and columns == 3 else columns
    rows, titles = -(-len(confusions) // columns), 0.2 * max(title.count("\n") + 1 for title in confusions)
    height = rows * (side + 0.8 + titles + (longest if upright else 0.2))
    figure = Figure(figsize=(columns * (side + 0.4) + longest + 1.5, height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(confusions) :]:
        axes.set_axis_off()
    for axes, (title, matrix) in zip(grid.flat, confusions.items(), strict=False):
        image = _draw_matrix(axes, np.asarray(matrix))
        if labels <= MOST_NAMED_LABELS:
            font = "medium" if labels <= MOST_COMPARED_LABELS else "x-small"
            axes.set_xticks(range(labels), label_names, rotation=90 if upright else 0, fontsize=font)
            axes.set_yticks(range(labels), label_names, fontsize=font)
        axes.set_title(title, fontsize="medium")
        numbered = ", labels by number" if labels > MOST_NAMED_LABELS else ""
        axes.set(ylabel=f"true{numbered}" if axes in grid[:, 0] else "", xlabel=f"predicted{numbered}")
    figure.colorbar(image, ax=grid, label="share of the true label", shrink=min(1, 2.5 / height), aspect=15)
    return figure


def draw_precision_recall(
    report: Report, labels: np.ndarray, positive: Mapping[str, np.ndarray], served: str, name: str
) -> Figure:
    """Draw precision and recall of label 1 at every threshold; mark the served answers and what is left to people.

    Args:
        labels, positive: As `draw_report` takes them.
        served: The served variant and its decision, in words.
        name: Of label 1.
    """
    figure = Figure(figsize=(7.5, 5.8), layout="constrained")
    axes = figure.subplots()
    for variant, probabilities in positive.items():
        precision, recall, thresholds = precision_recall_curve(labels, probabilities)
        style = STYLES[variant] | {"marker": ""}
        axes.plot(recall[:-1], precision[:-1], **style, label=variant)
        if variant == report.served and report.decision.certain_from is not None and report.answers.doubtful:
            of_0, of_1 = report.decision.certain_from
            doubtful = (1 - of_0 < thresholds) & (thresholds < of_1)
            band = {"color": style["color"], "linewidth": 9, "alpha": 0.25, "solid_capstyle": "butt"}
            label = f"left to people: {report.answers.doubtful.reviews:,} reviews"
            axes.plot(recall[:-1][doubtful], precision[:-1][doubtful], label=label, **band)
    # Where no review is answered with label 1 there is no precision.
    if sum(row[1] for row in report.answers.confusion):
        star: dict[str, Any] = {"marker": "*", "markersize": 15, "markerfacecolor": "#F0E442", "clip_on": False}
        at = report.answers.recall.value, report.answers.precision.value
        axes.plot(*at, color="black", linestyle="", label=f"served: {served}", **star)
    axes.axhline(labels.mean(), **REFERENCE, label=f"every review called ‘{name}’")
    axes.set(xlabel=f"recall of ‘{name}’", ylabel=f"precision of ‘{name}’", xlim=(0, 1.02))
    axes.set_title("Precision and recall on the test rows, at every threshold", fontsize="medium")
    axes.grid(**GRID)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_reliability(calibration: Calibration, served: str) -> Figure:
    """Draw a variant's accuracy by its confidence, and the number of reviews, before and after the temperature."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    figure.suptitle(f"{served}, the most probable label", fontsize="medium")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    sides = (calibration.before, "as trained"), (calibration.after, f"temperature {calibration.temperature:.2f}")
    # Three bins at least, however sure the model is.
    start = np.floor(min(1 - 3 / BINS, *(side.bins[0].confidence for side, _ in sides)) * BINS) / BINS
    colour, marker = STYLES[served]["color"], STYLES[served]["marker"]
    for (above, below), (side, title) in zip(grid.T, sides, strict=True):
        confidence = [found.confidence for found in side.bins]
        above.plot([start, 1], [start, 1], **REFERENCE, label="confidence equals accuracy")
        accuracy = [found.accuracy for found in side.bins]
        above.plot(confidence, accuracy, color=colour, marker=marker, label=served)
        above.set_title(f"{title}: calibration error {side.calibration_error:.3f}", fontsize="medium")
        below.bar(confidence, [found.rows for found in side.bins], width=0.6 / BINS, color=colour, label="rows")
        below.set(xlabel="probability of the predicted label", xlim=(start - 0.02, 1.02))
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("reviews")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_slices(slices: Sequence[SliceFigures], names: Sequence[str], overall: float, served: str) -> Figure:
    """Draw F1 of each slice that has one, with its 95 % interval and its rows; a line is F1 of all rows.

    Slices with few rows do not set the scale: an arrow marks an interval that goes on beyond it.
    """
    shown = [(row, name, row.f1) for row, name in zip(slices, names, strict=True) if row.f1 is not None]
    kinds = list(dict.fromkeys(row.slice for row, _, _ in shown))
    # A gap before each slice's first value.
    places = [-(at + kinds.index(row.slice) * 0.7) for at, (row, _, _) in enumerate(shown)]
    figure = Figure(figsize=(8, 1.5 + 0.28 * (len(shown) + 0.7 * len(kinds))), layout="constrained")
    axes = figure.subplots()
    spans = [row.f1_interval or [f1, f1] for row, _, f1 in shown]
    large = [span for span, (row, _, _) in zip(spans, shown, strict=True) if row.rows >= ROWS_THAT_SET_THE_SCALE]
    ends = [overall, *np.ravel(large or spans)]
    margin = 0.05 * max(0.1, max(ends) - min(ends))
    low, high = min(ends) - margin, max(ends) + margin
    for place, (start, end), (_, _, f1) in zip(places, spans, shown, strict=True):
        axes.plot([start, end], [place, place], color=SLICE_COLOUR, linewidth=2)
        axes.plot(f1, place, color=SLICE_COLOUR, marker="o", markersize=7)
        for at, arrow, beyond in ((low, "<", start < low), (high, ">", end > high)):
            if beyond:
                axes.plot(at, place, color=SLICE_COLOUR, marker=arrow, markersize=7, clip_on=False, label="_goes on")
    axes.axvline(overall, **REFERENCE)
    axes.set(xlim=(low, high), ylim=(min(places, default=0) - 0.7, 0.7))
    axes.set_yticks(places, [name for _, name, _ in shown])
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(places, [f"{f1:.3f}, {row.rows:,} rows" for row, _, f1 in shown])
    cut = any(start < low or end > high for start, end in spans)
    axes.set_xlabel("F1 with its 95 % interval" + ("; an arrow: it goes on" if cut else ""))
    axes.set_title(f"F1 by slice; the vertical line is all rows, {overall:.3f}\n{served}", fontsize="medium")
    axes.grid(axis="x", **GRID)
    return figure


def draw_trade_off(
    variants: Mapping[str, VariantFigures], intervals: Mapping[str, VariantIntervals], served: str | None
) -> Figure:
    """Draw the accuracy of each variant's most probable labels, with its 95 % interval, by its speed.

    Args:
        served: The variant to mark; `None` where a threshold gives other answers than are drawn.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, found in variants.items():
        speed, accuracy = found.reviews_per_second, found.accuracy
        colour, marker = STYLES[name]["color"], STYLES[name]["marker"]
        axes.plot([speed, speed], intervals[name].accuracy, color=colour, linewidth=1.5, label=f"_interval of {name}")
        # Hollow, because the variants of one model may lie on each other.
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 2, "markersize": 9, "linestyle": ""}
        label = f"{name}{' (served)' * (name == served)}\n{accuracy:.4f}, {speed:,.1f} reviews/s"
        axes.plot(speed, accuracy, color=colour, marker=marker, label=label, **hollow)
    speeds = [found.reviews_per_second for found in variants.values()]
    decades = np.log10(max(speeds) / min(speeds)) + 0.6
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 2, max(speeds) * 2)
    # So many numbers as have room beside each other.
    steps = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.12)
    axes.set(xlabel="reviews per second", ylabel="accuracy with its 95 % interval")
    axes.set_title("Accuracy of the most probable label against throughput", fontsize="medium")
    axes.grid(**GRID)
    figure.legend(loc="outside right center", frameon=False, labelspacing=1)
    return figure


def _draw_matrix(axes: Axes, counts: np.ndarray) -> Any:
    """Draw one matrix with its counts, int64 (labels, labels), and return the image that a colour bar explains."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    many = len(counts) > MOST_COMPARED_LABELS
    # Among many labels a mistake is a small share of the true label, which would be too pale to see.
    norm = PowerNorm(0.5 if many else 1, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap="Blues", norm=norm)
    for (row, column), count in np.ndenumerate(counts) if len(counts) <= MOST_COUNTED_LABELS else ():
        if count or not many:
            colour = "white" if norm(shares[row, column]) > 0.5 else "black"
            font = "x-small" if many else "small"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=font)
    return image


def _note(done: str, reasons: Mapping[str, str]) -> list[str]:
    """Return what was done, if anything, about names that are not drawn, with the first of them and how many more."""
    for name, why in reasons.items():
        more = f" (and {len(reasons) - 1:,} more)" if len(reasons) > 1 else ""
        return [f"{done}, because ‘{one_line(name)}’{more} cannot be read there: {why}."]
    return []

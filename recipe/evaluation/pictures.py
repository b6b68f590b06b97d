"""Pictures of the report, drawn without a screen and legible in print and to colour-blind readers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from sklearn.metrics import precision_recall_curve

from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.types import Report, VariantFigures
from recipe.files.atomic import write_whole
from recipe.metrics.calibration import BINS, Calibration
from recipe.metrics.intervals import VariantIntervals
from recipe.run_folder import Epoch, RunRecord

# Okabe and Ito, *Color Universal Design*, 2008; dark ones first, because yellow is faint on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
REFERENCE: dict[str, Any] = {"color": "#666666", "linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 0}
GRID: dict[str, Any] = {"color": "#dddddd", "linewidth": 0.5}
DPI = 150
LONGEST_NAME = 20
# With more labels than this the counts would be too small to read.
MOST_COUNTED_LABELS = 12


def draw_report(
    report: Report, record: RunRecord, labels: np.ndarray, positive: Mapping[str, np.ndarray], folder: Path
) -> dict[str, str]:
    """Draw every picture of a report into a folder, and return each file's name, by its title.

    Args:
        labels: Of the test rows, int64 (reviews,).
        positive: By variant, the probabilities of label 1, float64 (reviews,); the served variant's after the
            temperature. They are drawn if the report has a threshold.
        folder: For the png files; created if it is missing.
    """
    confusions = {name: found.confusion for name, found in report.variants.items()}
    pictures = {
        "Learning curve": ("learning_curve.png", draw_learning_curve(record.epochs, record.best.epoch)),
        "Confusion matrices": ("confusion.png", draw_confusions(confusions, report.labels)),
    }
    if chosen := report.thresholds.chosen:
        curve = draw_precision_recall(labels, positive, report.served, chosen.threshold)
        pictures["Precision and recall"] = ("precision_recall.png", curve)
    pictures |= {
        "Reliability before and after the temperature": ("reliability.png", draw_reliability(report.calibration)),
        "F1 by slice": ("slices.png", draw_slices(report.slices, report.variants[report.served].f1)),
        "Accuracy against throughput": ("trade_off.png", draw_trade_off(report.variants, report.intervals.variants)),
    }
    for file, figure in pictures.values():
        save_picture(figure, folder / file)
    return {title: file for title, (file, _) in pictures.items()}


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as png, whole or not at all; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(path, content.getvalue())


def draw_learning_curve(epochs: Sequence[Epoch], best_epoch: float) -> Figure:
    """Draw train and validation loss, and validation F1, by epoch; a line marks the epoch whose weights were kept."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    curves = {"Loss": {"validation": "loss", "train": "train_loss"}, "F1": {"validation": "f1"}}
    for axes, (title, lines) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        axes.set_prop_cycle(color=COLOURS, marker=MARKERS, linestyle=LINES)
        axes.axvline(best_epoch, **REFERENCE, label="the epoch kept")
        for label, figures in lines.items():
            axes.plot([epoch.epoch for epoch in epochs], [getattr(epoch, figures) for epoch in epochs], label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(**GRID)
        axes.legend()
    return figure


def draw_confusions(confusions: Mapping[str, Sequence[Sequence[int]]], label_names: Sequence[str]) -> Figure:
    """Draw each variant's confusion matrix, rows true: counts, coloured by the share of the true label."""
    shown, many = [_short(name) for name in label_names], len(label_names) > MOST_COUNTED_LABELS
    longest = max(map(len, shown))
    # Names that are too long to stand beside each other below a matrix.
    upright = longest * len(shown) > 24
    # Four matrices make a square.
    columns = 2 if len(confusions) == 4 else min(3, len(confusions))
    rows, side = -(-len(confusions) // columns), max(2.1, 0.45 * min(len(shown), MOST_COUNTED_LABELS))
    # An inch holds about 11 letters.
    size = columns * (side + 0.2) + 0.09 * longest + 1.5, rows * (side + 0.8 + (0.09 * longest if upright else 0.2))
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(confusions) :]:
        axes.set_axis_off()
    for axes, (name, matrix) in zip(grid.flat, confusions.items(), strict=False):
        counts = np.asarray(matrix)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in () if many else np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize="small")
        font = "x-small" if many else "medium"
        axes.set_xticks(range(len(shown)), shown, rotation=90 if upright else 0, fontsize=font)
        axes.set_yticks(range(len(shown)), shown, fontsize=font)
        axes.set(title=name, ylabel="true" if axes in grid[:, 0] else "", xlabel="predicted")
    figure.colorbar(image, ax=grid, label="share of the\ntrue label", shrink=0.9)
    return figure


def draw_precision_recall(
    labels: np.ndarray, positive: Mapping[str, np.ndarray], chosen: str, threshold: float
) -> Figure:
    """Draw precision and recall of label 1 at every threshold; mark 0.5 and the chosen variant's threshold.

    Labels are int64 (reviews,), the `positive` probabilities of each variant float64 (reviews,).
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLOURS, linestyle=LINES)
    for name, probabilities in positive.items():
        precision, recall, _ = precision_recall_curve(labels, probabilities)
        axes.plot(recall[:-1], precision[:-1], label=name)
    circle: dict[str, Any] = {"marker": "o", "markersize": 8, "markerfacecolor": "white"}
    star: dict[str, Any] = {"marker": "*", "markersize": 15, "markerfacecolor": COLOURS[5]}
    for style, value, word in ((circle, 0.5, "0.5"), (star, threshold, f"{threshold:.3f}, the chosen one")):
        predicted = positive[chosen] >= value
        if hits := labels[predicted].sum():
            at, label = (hits / labels.sum(), hits / predicted.sum()), f"{chosen} at a threshold of {word}"
            axes.plot(*at, color="black", linestyle="", label=label, **style)
    axes.axhline(labels.mean(), **REFERENCE, label="every review labelled 1")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), title="Precision and recall on the test rows")
    axes.legend(loc="lower left", framealpha=1)
    axes.grid(**GRID)
    return figure


def draw_reliability(calibration: Calibration) -> Figure:
    """Draw a model's accuracy by its confidence, and the number of reviews, before and after the temperature."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    sides = (calibration.before, "as trained"), (calibration.after, f"temperature {calibration.temperature:.2f}")
    start = np.floor(min(side.bins[0].confidence for side, _ in sides) * BINS) / BINS
    for (above, below), colour, marker, (side, title) in zip(grid.T, COLOURS, MARKERS, sides, strict=False):
        confidence = [found.confidence for found in side.bins]
        above.plot([start, 1], [start, 1], **REFERENCE, label="confidence equals accuracy")
        accuracy = [found.accuracy for found in side.bins]
        above.plot(confidence, accuracy, color=colour, marker=marker, label="this model")
        above.set_title(f"{title}: calibration error {side.calibration_error:.3f}", fontsize="medium")
        above.legend(loc="upper left", frameon=False)
        below.bar(confidence, [found.rows for found in side.bins], width=0.6 / BINS, color=colour, label="rows")
        below.set(xlabel="probability of the predicted label", xlim=(start - 0.02, 1.02))
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("reviews")
    return figure


def draw_slices(slices: Sequence[SliceFigures], overall: float) -> Figure:
    """Draw F1 of each slice that has one, with its 95 % interval and its rows; a line is F1 of all rows."""
    shown = [(row, row.f1) for row in slices if row.f1 is not None]
    names = list(dict.fromkeys(row.slice for row, _ in shown))
    # A gap before each slice's first value, so that slices can be told apart without colour.
    places = [-(at + names.index(row.slice) * 0.7) for at, (row, _) in enumerate(shown)]
    figure = Figure(figsize=(7.5, 1.2 + 0.3 * (len(shown) + 0.7 * len(names))), layout="constrained")
    axes = figure.subplots()
    for place, (row, f1) in zip(places, shown, strict=True):
        number = names.index(row.slice) % len(COLOURS)
        axes.plot(row.f1_interval or [f1, f1], [place, place], color=COLOURS[number], linewidth=2)
        axes.plot(f1, place, color=COLOURS[number], marker=MARKERS[number], markersize=7)
    axes.axvline(overall, **REFERENCE)
    axes.set_ylim(min(places, default=0) - 0.7, 0.7)
    axes.set_yticks(places, [f"{row.slice}: {_short(row.value, 24)}" for row, _ in shown])
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(places, [f"{row.rows:,}" for row, _ in shown])
    counts.set_ylabel("rows")
    axes.set(xlabel="F1 with its 95 % interval", title=f"F1 by slice; the vertical line is all rows, {overall:.3f}")
    axes.grid(axis="x", **GRID)
    return figure


def draw_trade_off(variants: Mapping[str, VariantFigures], intervals: Mapping[str, VariantIntervals]) -> Figure:
    """Draw each variant's accuracy, with its 95 % interval, by its speed."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for (name, found), colour, marker in zip(variants.items(), COLOURS, MARKERS, strict=False):
        speed, accuracy = found.reviews_per_second, found.accuracy
        axes.plot([speed, speed], intervals[name].accuracy, color=colour, linewidth=1.5, label=f"_interval of {name}")
        # Hollow, because the variants of one model lie on each other.
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 2, "markersize": 9, "linestyle": ""}
        label = f"{name}: {accuracy:.4f}, {speed:,.0f} reviews/s"
        axes.plot(speed, accuracy, color=colour, marker=marker, label=label, **hollow)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="reviews per second", ylabel="accuracy with its 95 % interval", title="Accuracy against throughput")
    axes.grid(which="both", **GRID)
    axes.legend(framealpha=1)
    return figure


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that leaves room for the picture, shortened in its middle because names often differ at the end."""
    end = longest // 3
    return name if len(name) <= longest else f"{name[: longest - end - 1]}…{name[-end:]}"

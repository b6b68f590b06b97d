"""The report's pictures, drawn without a screen, for print and for eyes that do not tell red from green."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from sklearn.metrics import precision_recall_curve

from recipe.files.atomic import write_whole
from recipe.metrics.calibration import BINS
from recipe.run_folder import RunRecord

# Okabe and Ito, *Color Universal Design*, 2008; dark ones first, as yellow is lost on white paper.
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
    report: Mapping[str, Any],
    record: RunRecord,
    labels: np.ndarray,
    positive: Mapping[str, np.ndarray] | None,
    folder: Path,
) -> dict[str, str]:
    """Draw every picture of a report into a folder.

    Args:
        report: As `recipe.model_card.make_card` takes it.
        record: The run's `run.json`.
        labels: Of the test rows, int64 (reviews,).
        positive: By variant, their probabilities of label 1, float64 (reviews,), the served one's after the
            temperature; `None` with more than two classes.
        folder: For the png files; made where it is not there.

    Returns:
        Each file's name, by what it shows.
    """
    files = {"Learning curve": "learning_curve.png", "Confusion matrices": "confusion.png"}
    variants, served = report["variants"], report["served"]
    draw_learning_curve([vars(epoch) for epoch in record.epochs], record.best.epoch, folder / "learning_curve.png")
    confusions = {name: figures["confusion"] for name, figures in variants.items()}
    draw_confusions(confusions, report["labels"], folder / "confusion.png")
    if positive is not None:
        files["Precision and recall"] = "precision_recall.png"
        threshold = report["thresholds"]["chosen"]["threshold"]
        draw_precision_recall(labels, positive, served, threshold, folder / "precision_recall.png")
    draw_reliability(report["calibration"], folder / "reliability.png")
    draw_slices(report["slices"], variants[served]["f1"], folder / "slices.png")
    draw_trade_off(variants, report["intervals"]["variants"], folder / "trade_off.png")
    return files | {
        "Reliability before and after the temperature": "reliability.png",
        "F1 by slice": "slices.png",
        "Accuracy against throughput": "trade_off.png",
    }


def draw_learning_curve(epochs: Sequence[Mapping[str, float]], best_epoch: float, path: Path) -> None:
    """Draw train and validation loss, and validation F1, by epoch.

    Args:
        epochs: As `run.json` has them: `epoch`, `train_loss`, `loss` and `f1` of each validation.
        best_epoch: The one whose weights were kept; it is marked.
        path: Of the picture, a png.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    _draw_lines(losses, epochs, {"loss": "validation", "train_loss": "train"})
    _draw_lines(scores, epochs, {"f1": "validation"})
    for axes, name in ((losses, "Loss"), (scores, "F1")):
        axes.axvline(best_epoch, **REFERENCE)
        axes.set_title(f"{name} (the vertical line: the epoch kept)", fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _save(figure, path)


def draw_confusions(confusions: Mapping[str, Sequence[Sequence[int]]], label_names: Sequence[str], path: Path) -> None:
    """Draw each variant's confusion matrix: counts, coloured by the share of the true label.

    Args:
        confusions: By variant, rows true and columns predicted.
        label_names: Of labels 0, 1, ….
        path: Of the picture, a png.
    """
    # Four stand better in a square.
    columns = 2 if len(confusions) == 4 else min(3, len(confusions))
    rows, side = -(-len(confusions) // columns), max(2.1, 0.45 * min(len(label_names), MOST_COUNTED_LABELS))
    shown = [_short(name) for name in label_names]
    # An inch holds about 11 letters.
    beside = 0.09 * max(map(len, shown))
    below = 0.8 + (beside if _are_upright(shown) else 0.2)
    figure = Figure(figsize=(columns * (side + 0.2) + beside + 1.5, rows * (side + below)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(confusions) :]:
        axes.set_axis_off()
    for axes, (name, counts) in zip(grid.flat, confusions.items(), strict=False):
        image = _draw_confusion(axes, np.asarray(counts), shown)
        axes.set(title=name, ylabel="true" if axes in grid[:, 0] else "", xlabel="predicted")
    figure.colorbar(image, ax=grid, label="share of the\ntrue label", shrink=0.9)
    _save(figure, path)


def draw_precision_recall(
    labels: np.ndarray, positive: Mapping[str, np.ndarray], chosen: str, threshold: float, path: Path
) -> None:
    """Draw variants' precision and recall of label 1 at every threshold, with 0.5 and the chosen one marked.

    Args:
        labels: 0 or 1, int64 (reviews,).
        positive: By variant, the probability of label 1, float64 (reviews,).
        chosen: The variant that the threshold is for.
        threshold: As the decision has it.
        path: Of the picture, a png.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for number, (name, probabilities) in enumerate(positive.items()):
        precision, recall, _ = precision_recall_curve(labels, probabilities)
        axes.plot(recall[:-1], precision[:-1], color=COLOURS[number], linestyle=LINES[number], label=name)
    for marker, value, word in (("o", 0.5, "0.5"), ("*", threshold, f"{threshold:.3f}, the chosen one")):
        taken = positive[chosen] >= value
        hits = labels[taken].sum()
        if hits:
            axes.plot(
                hits / labels.sum(),
                hits / taken.sum(),
                marker,
                color="black",
                markersize=8 if marker == "o" else 15,
                markerfacecolor="white" if marker == "o" else COLOURS[5],
                label=f"{chosen} at a threshold of {word}",
            )
    axes.axhline(labels.mean(), **REFERENCE, label="every review taken for label 1")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), title="Precision and recall on the test rows")
    axes.legend(loc="lower left", framealpha=1)
    axes.grid(**GRID)
    _save(figure, path)


def draw_reliability(calibration: Mapping[str, Any], path: Path) -> None:
    """Draw how often a model is right against how sure it is, before and after the temperature.

    Args:
        calibration: As `recipe.metrics.calibration.describe_calibration` returns it.
        path: Of the picture, a png.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    titles = {"before": "as trained", "after": f"with a temperature of {calibration['temperature']:.2f}"}
    lowest = min(row["confidence"] for side in titles for row in calibration[side]["bins"])
    start = np.floor(lowest * BINS) / BINS
    for (above, below), colour, (side, title) in zip(grid.T, COLOURS, titles.items(), strict=False):
        bins = {key: [row[key] for row in calibration[side]["bins"]] for key in ("confidence", "accuracy", "rows")}
        above.plot([start, 1], [start, 1], **REFERENCE, label="as sure as right")
        marker = MARKERS[COLOURS.index(colour)]
        above.plot(bins["confidence"], bins["accuracy"], color=colour, marker=marker, label="this model")
        above.set_title(f"{title}: calibration error {calibration[side]['calibration_error']:.3f}", fontsize="medium")
        below.bar(bins["confidence"], bins["rows"], width=0.6 / BINS, color=colour)
        below.set(xlabel="probability of the label it gives", xlim=(start - 0.02, 1.02))
        above.legend(loc="upper left", frameon=False)
    grid[0, 0].set_ylabel("share that is right")
    grid[1, 0].set_ylabel("reviews")
    _save(figure, path)


def draw_slices(slices: Sequence[Mapping[str, Any]], overall: float, path: Path) -> None:
    """Draw F1 of each slice that has one, with its 95 % interval and its rows.

    Args:
        slices: As `recipe.evaluation.slices.describe_slices` returns them.
        overall: F1 of all rows, a line.
        path: Of the picture, a png.
    """
    shown = [row for row in slices if "f1" in row]
    names = list(dict.fromkeys(row["slice"] for row in shown))
    # A gap before each slice's first value, so that they can be told apart without colour.
    places = [-(at + names.index(row["slice"]) * 0.7) for at, row in enumerate(shown)]
    figure = Figure(figsize=(7.5, 1.2 + 0.3 * (len(shown) + 0.7 * len(names))), layout="constrained")
    axes = figure.subplots()
    for place, row in zip(places, shown, strict=False):
        number = names.index(row["slice"]) % len(COLOURS)
        low, high = row.get("f1_interval", (row["f1"], row["f1"]))
        axes.plot([low, high], [place, place], color=COLOURS[number], linewidth=2)
        axes.plot(row["f1"], place, marker=MARKERS[number], color=COLOURS[number], markersize=7)
    axes.axvline(overall, **REFERENCE)
    axes.set_ylim(min(places, default=0) - 0.7, 0.7)
    axes.set_yticks(places, [f"{row['slice']}: {_short(row['value'], 24)}" for row in shown])
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(places, [f"{row['rows']:,}" for row in shown])
    counts.set_ylabel("rows")
    axes.set(xlabel="F1 with its 95 % interval", title=f"F1 by slice; the vertical line is all rows, {overall:.3f}")
    axes.grid(axis="x", **GRID)
    _save(figure, path)


def draw_trade_off(variants: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Any], path: Path) -> None:
    """Draw what accuracy each variant gives at what speed.

    Args:
        variants: By name, with `accuracy` and `reviews_per_second`.
        intervals: By name, with `accuracy`, `[low, high]`.
        path: Of the picture, a png.
    """
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, figures) in enumerate(variants.items()):
        speed, accuracy = figures["reviews_per_second"], figures["accuracy"]
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        axes.plot([speed, speed], intervals[name]["accuracy"], color=style["color"], linewidth=1.5)
        # Hollow, because the variants of one model lie on each other.
        style |= {"markerfacecolor": "none", "markeredgewidth": 2, "markersize": 9, "linestyle": ""}
        axes.plot(speed, accuracy, **style, label=f"{name}: {accuracy:.4f}, {speed:,.0f} reviews/s")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="reviews per second", ylabel="accuracy with its 95 % interval", title="Accuracy against throughput")
    axes.grid(which="both", **GRID)
    axes.legend(framealpha=1)
    _save(figure, path)


def draw_throughput(speeds: Mapping[str, Mapping[str, tuple[float, float]]], path: Path) -> None:
    """Draw how many reviews each way answers in a second, with the multiple of the first way's beside it.

    Args:
        speeds: By name of the reviews, and then of the way, reviews per second and that multiple.
        path: Of the picture, a png.
    """
    ways = max(map(len, speeds.values()))
    figure = Figure(figsize=(7.5, len(speeds) * (0.9 + 0.33 * ways)), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(len(speeds), squeeze=False).flat, speeds.items(), strict=False):
        for place, (way, (speed, ratio)) in enumerate(found.items()):
            # Ours by hatching too, for eyes and printers that do not tell colours apart.
            style: dict[str, Any] = {"color": COLOURS[1], "hatch": "//"} if "ours" in way else {"color": COLOURS[0]}
            axes.barh(place, speed, height=0.7, edgecolor="white", **style)
            at, words = (speed, place), f"{speed:,.0f}  (× {ratio:.1f})"
            # On white, so that no line of the grid runs through a number.
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.annotate(words, at, (6, 0), textcoords="offset points", va="center", fontsize="small", bbox=ground)
        axes.set_yticks(range(len(found)), list(found))
        axes.invert_yaxis()
        # Room for the words beside the longest bar.
        fastest = max(speed for speed, _ in found.values())
        axes.set(xlabel="reviews per second (× the first)", xlim=(0, 1.4 * fastest), title=name)
        axes.grid(axis="x", **GRID)
        axes.set_axisbelow(True)
    _save(figure, path)


def _draw_lines(axes: Axes, rows: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> None:
    """Draw columns of rows by epoch, each with its name at its end."""
    ends = {}
    for number, (key, name) in enumerate(names.items()):
        values = [row[key] for row in rows]
        style: Any = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": LINES[number]}
        axes.plot([row["epoch"] for row in rows], values, **style)
        ends[name] = (values[-1], COLOURS[number])
    first, last = axes.get_xlim()
    axes.set_xlim(first, last + 0.4 * (last - first))
    low, high = axes.get_ylim()
    least_gap, previous = (high - low) * 0.06, -np.inf
    for name, (value, colour) in sorted(ends.items(), key=lambda item: item[1][0]):
        previous = max(value, previous + least_gap)
        at = (rows[-1]["epoch"], previous)
        axes.annotate(name, at, (8, 0), textcoords="offset points", va="center", color=colour)
    axes.grid(**GRID)


def _draw_confusion(axes: Axes, counts: np.ndarray, label_names: Sequence[str]) -> Any:
    """Draw one matrix and return its image, which a colour bar is drawn from."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= MOST_COUNTED_LABELS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize="small")
    many = len(label_names) > MOST_COUNTED_LABELS
    size = "x-small" if many else "medium"
    turned = 90 if _are_upright(label_names) else 0
    axes.set_xticks(range(len(label_names)), label_names, rotation=turned, fontsize=size)
    axes.set_yticks(range(len(label_names)), label_names, fontsize=size)
    return image


def _are_upright(label_names: Sequence[str]) -> bool:
    """Return whether names are too long to stand beside each other below a matrix."""
    return max(map(len, label_names)) * len(label_names) > 24


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that leaves room for the picture; cut in its middle, as names often differ at their end."""
    end = longest // 3
    return name if len(name) <= longest else f"{name[: longest - end - 1]}…{name[-end:]}"


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as png, whole or not at all; the same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(path, content.getvalue())

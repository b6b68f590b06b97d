"""What the pictures show against the figures they were given, and that nothing is cut off or overlaps."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from oracles import run_record
from sklearn.metrics import precision_score, recall_score

from recipe.evaluation import pictures
from recipe.evaluation.report import make_report
from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.thresholds import choose_decision
from recipe.evaluation.types import Costs, Latency, Report
from recipe.metrics.calibration import Calibration, calibration_of
from recipe.metrics.softmax import softmax

EPOCHS = run_record().epochs
LONG_NAMES = ["extremely dissatisfied", "dissatisfied", "neither one nor the other", "satisfied", "extremely satisfied"]
SLICES = [
    SliceFigures("length", "up to 32", 175, 0.85, [0.79, 0.9], 0.85, [0.79, 0.9]),
    SliceFigures("length", "33 to 64", 1627, 0.86, [0.83, 0.88], 0.86, [0.83, 0.88]),
    SliceFigures("source", "a shop with a very long name", 3, 1.0, [0.4, 1.0], 1.0),
    SliceFigures("source", "one label only", 3, 1.0, [0.4, 1.0]),
]


def scored(rows: int = 400, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that have something to do with them, float32 (rows, classes)."""
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=rows)
    return labels, (generator.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]).astype(np.float32)


def confusions(classes: int, variants: int) -> dict[str, list[list[int]]]:
    """A matrix of different counts for each variant."""
    counts = np.random.default_rng(0).integers(1000, 2000, size=(variants, classes, classes))
    return {f"variant{number}": matrix.tolist() for number, matrix in enumerate(counts)}


def calibration() -> Calibration:
    labels, logits = scored()
    return calibration_of(logits, labels, 1.5)


def report_of(classes: int = 2) -> Report:
    """A report of three variants, fp32 in the middle of the speeds."""
    labels, logits = scored(classes=classes)
    probabilities = {"pytorch": softmax(logits), "fp32": softmax(logits), "tfidf": softmax(-logits)}
    costs = {
        name: Costs(reviews_per_second=speed, latency_ms=Latency(1.0, 2.0))
        for name, speed in (("pytorch", 69.0), ("fp32", 98.0), ("tfidf", 23892.0))
    }
    record = run_record(labels=[f"label{number}" for number in range(classes)])
    decision, slices = choose_decision(logits, labels), {"length": ["a"] * 400}
    return make_report(record, probabilities, costs, labels, "fp32", logits, decision, slices)


def figures_of_every_kind() -> dict[str, Figure]:
    """Each picture there is, and the confusions of few, many and long labels."""
    labels, logits = scored()
    positive = {"int8": softmax(logits)[:, 1], "tfidf": np.random.default_rng(1).random(400)}
    report = report_of()
    return {
        "learning_curve": pictures.draw_learning_curve(EPOCHS, 2.0),
        "one_epoch": pictures.draw_learning_curve(EPOCHS[:1], 1.0),
        "confusions": pictures.draw_confusions(confusions(2, 5), ["negative", "positive"]),
        "long_names": pictures.draw_confusions(confusions(5, 3), LONG_NAMES),
        "many": pictures.draw_confusions(confusions(30, 1), [f"intent {n}" for n in range(30)]),
        "precision_recall": pictures.draw_precision_recall(labels, positive, "int8", 0.8),
        "reliability": pictures.draw_reliability(calibration()),
        "slices": pictures.draw_slices(SLICES, 0.86),
        "trade_off": pictures.draw_trade_off(report.variants, report.intervals.variants),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """Every picture by its name, drawn but not written."""
    figures = figures_of_every_kind()
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
    return figures


def lines_of(axes: Axes, label: str) -> list[list[tuple[float, float]]]:
    """The points of each line whose label starts so."""
    found = [line for line in axes.lines if str(line.get_label()).startswith(label)]
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in found]


def titled(figure: Figure, start: str) -> Axes:
    """The axes whose title starts so."""
    (found,) = (axes for axes in figure.axes if axes.get_title().startswith(start))
    return found


def bars_below(figure: Figure, above: Axes) -> Iterator[tuple[float, float]]:
    """Middle and height of the bars that stand below other axes."""
    (below,) = (axes for axes in figure.axes if axes.bbox.x0 == above.bbox.x0 and axes.bbox.y0 < above.bbox.y0)
    (bars,) = (container for container in below.containers if isinstance(container, BarContainer))
    return ((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars)


def texts(figure: Figure) -> list[Text]:
    """Every text of a figure that can be seen, so no number of an axis beyond its ends."""
    beyond = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in shown if text not in beyond]


@pytest.mark.slow
def test_every_picture_is_a_png_and_nothing_else_is_left(tmp_path: Path) -> None:
    for name, figure in figures_of_every_kind().items():
        pictures.save_picture(figure, tmp_path / f"{name}.png")
    assert len(list(tmp_path.iterdir())) == 9
    for path in tmp_path.iterdir():
        assert path.suffix == ".png" and path.read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "slices.png").read_bytes()
    pictures.save_picture(pictures.draw_slices(SLICES, 0.86), tmp_path / "slices.png")
    assert (tmp_path / "slices.png").read_bytes() == first


@pytest.mark.parametrize("classes", [2, 3])
def test_a_report_has_exactly_these_pictures(classes: int, tmp_path: Path) -> None:
    labels, logits = scored(classes=classes)
    positive = dict.fromkeys(("pytorch", "fp32"), softmax(logits)[:, 1])
    drawn = pictures.draw_report(report_of(classes), run_record(), labels, positive, tmp_path / "report")
    names = {"learning_curve.png", "confusion.png", "reliability.png", "slices.png", "trade_off.png"}
    assert set(drawn.values()) == {path.name for path in (tmp_path / "report").iterdir()}
    assert set(drawn.values()) == names | ({"precision_recall.png"} if classes == 2 else set())


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "slices.png"
    old.write_bytes(b"old")

    def refuse(handle: int) -> None:
        """Find the disk full when the bytes are to reach it."""
        raise OSError

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError):
        pictures.save_picture(pictures.draw_slices(SLICES, 0.86), old)
    assert list(tmp_path.iterdir()) == [old] and old.read_bytes() == b"old"


def test_nothing_is_cut_off_at_the_edge(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        width, height = figure.canvas.get_width_height()
        for text in texts(figure):
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{name}: {text.get_text()!r}"


def test_no_text_lies_on_another(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        # Boxes of neighbouring lines of text may touch; letters have air around them.
        boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts(figure)]
        for (first, one), (second, other) in combinations(boxes, 2):
            assert not one.overlaps(other), f"{name}: {first!r} and {second!r}"


def test_the_learning_curve_shows_both_losses_f1_and_the_epoch_kept(drawn: dict[str, Figure]) -> None:
    losses, scores = (titled(drawn["learning_curve"], title) for title in ("Loss", "F1"))
    assert lines_of(losses, "validation") == [[(1.0, 0.43), (2.0, 0.41), (3.0, 0.40)]]
    assert lines_of(losses, "train") == [[(1.0, 0.52), (2.0, 0.42), (3.0, 0.401)]]
    assert lines_of(scores, "validation") == [[(1.0, 0.80), (2.0, 0.82), (3.0, 0.81)]]
    for axes in (losses, scores):
        ((lower, upper),) = lines_of(axes, "the epoch kept")
        assert lower[0] == upper[0] == 2.0
        styles = [(line.get_marker(), line.get_linestyle()) for line in axes.get_legend().get_lines()]
        assert len(set(styles)) == len(styles), "told apart without colour"


def test_a_confusion_shows_the_true_label_by_row(drawn: dict[str, Figure]) -> None:
    axes, first = (titled(drawn["long_names"], name) for name in ("variant1", "variant0"))
    counts = confusions(5, 3)["variant1"]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(column, row): f"{counts[row][column]:,}" for row in range(5) for column in range(5)}
    assert axes.get_xlabel() == "predicted" and first.get_ylabel() == "true"
    assert not titled(drawn["many"], "variant0").texts


def test_the_thresholds_are_marked_where_scikit_learn_has_them(drawn: dict[str, Figure]) -> None:
    labels, logits = scored()
    axes = titled(drawn["precision_recall"], "Precision and recall")
    for threshold, label in ((0.5, "0.5"), (0.8, "0.800, the chosen one")):
        predicted = softmax(logits)[:, 1] >= threshold
        expected = recall_score(labels, predicted), precision_score(labels, predicted)
        ((mark,),) = lines_of(axes, f"int8 at a threshold of {label}")
        assert mark == pytest.approx(expected)


def test_reliability_shows_the_bins_of_either_side(drawn: dict[str, Figure]) -> None:
    figure, found = drawn["reliability"], calibration()
    for title, side in (("as trained", found.before), ("temperature 1.50", found.after)):
        axes = titled(figure, title)
        assert lines_of(axes, "this model") == [[(some.confidence, some.accuracy) for some in side.bins]]
        expected = [(some.confidence, some.rows) for some in side.bins]
        np.testing.assert_allclose(list(bars_below(figure, axes)), expected)


def test_slices_show_f1_its_interval_and_the_rows(drawn: dict[str, Figure]) -> None:
    axes = titled(drawn["slices"], "F1 by slice")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["length: up to 32", "length: 33 to 64"]
    assert len(names) == 3, "a slice without F1 is left out"
    places = dict(zip(axes.get_yticks(), SLICES, strict=False))
    shown = {}
    for line in axes.lines:
        if len(set(line.get_ydata())) == 1:
            shown.setdefault(places[line.get_ydata()[0]].value, []).append(list(line.get_xdata()))
    assert shown == {
        "up to 32": [[0.79, 0.9], [0.85]],
        "33 to 64": [[0.83, 0.88], [0.86]],
        "a shop with a very long name": [[1.0, 1.0], [1.0]],
    }
    assert "1,627" in [text.get_text() for text in texts(drawn["slices"])]


def test_the_trade_off_shows_each_variant_with_a_marker_of_its_own(drawn: dict[str, Figure]) -> None:
    report, axes = report_of(), titled(drawn["trade_off"], "Accuracy against throughput")
    for name, found in report.variants.items():
        speed = found.reviews_per_second
        assert lines_of(axes, f"{name}: ") == [[(speed, found.accuracy)]]
        low, high = report.intervals.variants[name].accuracy
        assert lines_of(axes, f"_interval of {name}") == [[(speed, low), (speed, high)]]
    points = axes.get_legend().get_lines()
    assert len({line.get_marker() for line in points}) == len({line.get_color() for line in points}) == 3


def test_names_that_differ_at_their_end_stay_apart() -> None:
    names = ["positive", *(f"a category with a long name, number {number}" for number in range(9))]
    figure = pictures.draw_confusions(confusions(10, 1), names)
    first, *others = (label.get_text() for label in titled(figure, "variant0").get_xticklabels())
    assert first == "positive", "a short name is left whole"
    assert len(set(others)) == 9 and {len(name) for name in others} == {pictures.LONGEST_NAME}


@pytest.mark.slow
def test_no_screen_is_asked_for() -> None:
    program = "import sys, recipe.evaluation.pictures; print('matplotlib.pyplot' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

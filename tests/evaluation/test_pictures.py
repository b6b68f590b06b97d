"""What the pictures show against the figures they were given, and that nothing of it is cut off or overlaps."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import precision_score, recall_score

from recipe.evaluation import pictures
from recipe.metrics.calibration import describe_calibration

EPOCHS = [
    {"epoch": 1.0, "train_loss": 0.52, "loss": 0.43, "f1": 0.80},
    {"epoch": 2.0, "train_loss": 0.42, "loss": 0.41, "f1": 0.82},
    {"epoch": 3.0, "train_loss": 0.401, "loss": 0.40, "f1": 0.81},
]
LONG_NAMES = ["extremely dissatisfied", "dissatisfied", "neither one nor the other", "satisfied", "extremely satisfied"]
VARIANTS = {
    "pytorch": {"accuracy": 0.92, "reviews_per_second": 69.0},
    "fp32": {"accuracy": 0.92, "reviews_per_second": 98.0},
    "tfidf": {"accuracy": 0.86, "reviews_per_second": 23892.0},
}
SPEEDS = {
    "256 the run's test rows": {"original recipe": (43.2, 1.0), "ONNX Runtime's dynamic int8": (163.0, 3.8)},
    "256 of reviews": {"original recipe": (43.2, 1.0), "OpenVINO int8": (203.0, 4.7), "ours, int8": (1255, 29)},
}
SLICES: list[dict[str, Any]] = [
    {"slice": "length", "value": "up to 32", "rows": 175, "f1": 0.85, "f1_interval": [0.79, 0.9]},
    {"slice": "length", "value": "33 to 64", "rows": 1627, "f1": 0.86, "f1_interval": [0.83, 0.88]},
    {"slice": "source", "value": "a shop with a very long name", "rows": 3, "f1": 1.0},
    {"slice": "source", "value": "one label only", "rows": 3, "accuracy": 1.0},
]


def scored(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that have something to do with them, float32 (rows, 2)."""
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=rows)
    margin = 2 * draw.normal(size=rows) + 3 * labels - 1.5
    return labels, np.stack([-margin, margin], axis=1).astype(np.float32)


def confusions(classes: int, variants: int) -> dict[str, list[list[int]]]:
    """A matrix of different counts for each variant."""
    counts = np.random.default_rng(0).integers(1000, 2000, size=(variants, classes, classes))
    return {f"variant{number}": matrix.tolist() for number, matrix in enumerate(counts)}


def calibration() -> dict[str, Any]:
    labels, logits = scored()
    return describe_calibration(logits, labels, 1.5)


def draw_every(folder: Path) -> None:
    """Draw each picture there is, and the confusions of few, many and long labels."""
    labels, logits = scored()
    positive = {"int8": 1 / (1 + np.exp(-logits[:, 1])), "tfidf": np.random.default_rng(1).random(400)}
    pictures.draw_learning_curve(EPOCHS, 2.0, folder / "learning_curve.png")
    pictures.draw_learning_curve(EPOCHS[:1], 1.0, folder / "one_epoch.png")
    pictures.draw_confusions(confusions(2, 5), ["negative", "positive"], folder / "confusions.png")
    pictures.draw_confusions(confusions(5, 3), LONG_NAMES, folder / "long_names.png")
    pictures.draw_confusions(confusions(30, 1), [f"intent {n}" for n in range(30)], folder / "many.png")
    pictures.draw_precision_recall(labels, positive, "int8", 0.8, folder / "precision_recall.png")
    pictures.draw_reliability(calibration(), folder / "reliability.png")
    pictures.draw_slices(SLICES, 0.86, folder / "slices.png")
    intervals = {name: {"accuracy": [row["accuracy"] - 0.01, row["accuracy"] + 0.01]} for name, row in VARIANTS.items()}
    pictures.draw_trade_off(VARIANTS, intervals, folder / "trade_off.png")
    pictures.draw_throughput(SPEEDS, folder / "throughput.png")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """Every picture by its name, drawn but not written."""
    figures: dict[str, Figure] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_save", lambda figure, path: figures.update({path.stem: figure}))
        draw_every(Path())
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
    return figures


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


def test_every_picture_is_a_png_and_nothing_else_is_left(tmp_path: Path) -> None:
    draw_every(tmp_path)
    assert len(list(tmp_path.iterdir())) == 10
    for path in tmp_path.iterdir():
        assert path.suffix == ".png" and path.read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "slices.png").read_bytes()
    pictures.draw_slices(SLICES, 0.86, tmp_path / "slices.png")
    assert (tmp_path / "slices.png").read_bytes() == first


@pytest.mark.parametrize("classes", [2, 3])
def test_a_report_has_exactly_these_pictures(classes: int, tmp_path: Path) -> None:
    counts = confusions(classes, 2)
    report = {
        "labels": [f"label{number}" for number in range(classes)],
        "served": "variant1",
        "variants": {
            name: {"confusion": matrix, "f1": 0.8, "accuracy": 0.8, "reviews_per_second": 9.0}
            for name, matrix in counts.items()
        },
        "intervals": {"variants": {name: {"accuracy": [0.7, 0.9]} for name in counts}},
        "thresholds": {"chosen": {"threshold": 0.4}},
        "calibration": calibration(),
        "slices": SLICES[3:],
    }
    labels, logits = scored()
    positive = dict.fromkeys(counts, 1 / (1 + np.exp(-logits[:, 1]))) if classes == 2 else None
    record = {"epochs": EPOCHS, "best": EPOCHS[1]}
    drawn = pictures.draw_report(report, record, labels, positive, tmp_path / "report")
    names = {"learning_curve.png", "confusion.png", "reliability.png", "slices.png", "trade_off.png"}
    assert set(drawn.values()) == {path.name for path in (tmp_path / "report").iterdir()}
    assert set(drawn.values()) == names | ({"precision_recall.png"} if classes == 2 else set())


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "slices.png"
    old.write_bytes(b"old")

    def fail_half_way(self: Path, content: bytes) -> None:
        """Write half of it, and find the disk full."""
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError

    monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    with pytest.raises(OSError):
        pictures.draw_slices(SLICES, 0.86, old)
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
    losses, scores = drawn["learning_curve"].axes
    lines = [list(line.get_ydata()) for line in losses.lines]
    assert lines[:2] == [[0.43, 0.41, 0.40], [0.52, 0.42, 0.401]]
    assert list(scores.lines[0].get_ydata()) == [0.80, 0.82, 0.81]
    assert {line.get_linestyle() for line in losses.lines[:2]} == {"-", "--"}, "told apart without colour"
    assert list(losses.lines[2].get_xdata()) == [2.0, 2.0]
    for axes in (losses, scores):
        assert all(name.get_window_extent().x1 < axes.bbox.x1 for name in axes.texts), "no name lies on the frame"


def test_a_confusion_shows_the_true_label_by_row(drawn: dict[str, Figure]) -> None:
    axes = drawn["long_names"].axes[1]
    counts = confusions(5, 3)["variant1"]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(column, row): f"{counts[row][column]:,}" for row in range(5) for column in range(5)}
    assert axes.get_xlabel() == "predicted" and drawn["long_names"].axes[0].get_ylabel() == "true"
    assert not drawn["many"].axes[0].texts


def test_the_thresholds_are_marked_where_scikit_learn_has_them(drawn: dict[str, Figure]) -> None:
    labels, logits = scored()
    positive = 1 / (1 + np.exp(-logits[:, 1]))
    marks = [line for line in drawn["precision_recall"].axes[0].lines if len(line.get_xdata()) == 1]
    for mark, threshold in zip(marks, (0.5, 0.8), strict=True):
        taken = positive >= threshold
        expected = recall_score(labels, taken), precision_score(labels, taken)
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(expected)


def test_reliability_shows_the_bins_of_either_side(drawn: dict[str, Figure]) -> None:
    for number, side in enumerate(("before", "after")):
        bins = calibration()[side]["bins"]
        line = drawn["reliability"].axes[number].lines[1]
        assert list(line.get_xdata()) == [row["confidence"] for row in bins]
        assert list(line.get_ydata()) == [row["accuracy"] for row in bins]
        assert [bar.get_height() for bar in drawn["reliability"].axes[2 + number].patches] == [r["rows"] for r in bins]


def test_slices_show_f1_its_interval_and_the_rows(drawn: dict[str, Figure]) -> None:
    axes = drawn["slices"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["length: up to 32", "length: 33 to 64"]
    assert len(axes.get_yticks()) == 3, "a slice without F1 is left out"
    spans = [list(line.get_xdata()) for line in axes.lines[:6]]
    assert spans == [[0.79, 0.9], [0.85], [0.83, 0.88], [0.86], [1.0, 1.0], [1.0]]
    assert "1,627" in [text.get_text() for text in texts(drawn["slices"])]


def test_the_trade_off_shows_each_variant_with_a_marker_of_its_own(drawn: dict[str, Figure]) -> None:
    lines = drawn["trade_off"].axes[0].lines
    points = [line for line in lines if len(line.get_xdata()) == 1]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [
        (row["reviews_per_second"], row["accuracy"]) for row in VARIANTS.values()
    ]
    assert len({line.get_marker() for line in points}) == len({line.get_color() for line in points}) == 3
    assert list(lines[0].get_ydata()) == pytest.approx([0.91, 0.93])


def test_throughput_shows_each_way_with_its_multiple_the_first_on_top(drawn: dict[str, Figure]) -> None:
    for axes, (name, found) in zip(drawn["throughput"].axes, SPEEDS.items(), strict=True):
        assert axes.get_title() == name and axes.yaxis_inverted()
        assert [bar.get_width() for bar in axes.patches] == [speed for speed, _ in found.values()]
        assert [label.get_text() for label in axes.get_yticklabels()] == list(found)
        words = [f"{speed:,.0f}  (× {ratio:.1f})" for speed, ratio in found.values()]
        assert [text.get_text() for text in axes.texts] == words
        assert all(text.get_window_extent().x1 < axes.bbox.x1 for text in axes.texts), "no number lies on the frame"
        hatched = [bar.get_hatch() is not None for bar in axes.patches]
        assert hatched == ["ours" in way for way in found], "ours is told apart without colour"


def test_names_that_differ_at_their_end_stay_apart() -> None:
    names = [f"a category with a long name, number {number}" for number in range(10)]
    short = {pictures._short(name) for name in names}
    assert len(short) == 10 and {len(name) for name in short} == {pictures.LONGEST_NAME}
    assert pictures._short("positive") == "positive"


def test_no_screen_is_asked_for() -> None:
    program = "import sys, recipe.evaluation.pictures; print('matplotlib.pyplot' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

"""What the pictures show against the figures they were given, and that nothing is cut off or overlaps."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from oracles import run_record
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from recipe.evaluation import pictures
from recipe.evaluation.measurement import ModelAnswers
from recipe.evaluation.report import make_report
from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.types import Costs, Latency, Report
from recipe.inference.decision import Decision
from recipe.metrics.calibration import Calibration, calibration_of
from recipe.metrics.softmax import softmax
from recipe.pictures import fonts, style

EPOCHS = run_record().epochs
LONG_NAMES = ["extremely dissatisfied", "dissatisfied", "neither one nor the other", "satisfied", "extremely satisfied"]
SPEEDS = {"pytorch": 69.0, "fp32": 98.0, "int8": 240.0, "fp16": 110.0, "tfidf": 23892.0}
SERVED = "int8, the most probable label"
SLICES = [
    SliceFigures("length", "up to 32", 175, 0.85, [0.79, 0.9], 0.85, [0.79, 0.9]),
    SliceFigures("length", "33 to 64", 1627, 0.86, [0.83, 0.88], 0.86, [0.83, 0.88]),
    SliceFigures("source", "a shop with a very long name", 3, 1.0, [0.4, 1.0], 1.0),
    SliceFigures("source", "a small shop", 9, 0.5, [0.3, 0.7], 0.5, [0.2, 0.95]),
    SliceFigures("source", "one label only", 3, 1.0, [0.4, 1.0]),
]
NAMES = [f"{row.slice}: {row.value}" for row in SLICES]
PLAIN = fonts.Fonts([fonts.OWN], frozenset())


def scored(rows: int = 400, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that have something to do with them, float32 (rows, classes)."""
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=rows)
    return labels, (generator.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]).astype(np.float32)


def confusions(classes: int, variants: int) -> dict[str, list[list[int]]]:
    """A matrix of different counts for each variant."""
    counts = np.random.default_rng(0).integers(1000, 2000, size=(variants, classes, classes))
    return {f"variant{number},\nlabels": matrix.tolist() for number, matrix in enumerate(counts)}


def calibration() -> Calibration:
    labels, logits = scored()
    return calibration_of(logits, labels, 1.5)


def report_of(
    labels: Sequence[str] = ("negative", "positive"),
    decision: Decision | None = None,
    variants: Sequence[str] = ("pytorch", "int8", "tfidf"),
    values: Sequence[str] = ("cheap", "dear"),
) -> Report:
    """A report that serves int8; PyTorch gives the same labels, and TF-IDF others."""
    true, logits = scored(classes=len(labels))
    probabilities = {name: softmax(-logits if name == "tfidf" else logits) for name in variants}
    costs = {name: Costs(reviews_per_second=SPEEDS[name], latency_ms=Latency(1.0, 2.0)) for name in variants}
    slices = {"price": [values[row % len(values)] for row in range(400)]}
    record = run_record(labels=list(labels))
    tested = ModelAnswers(true, probabilities, costs, "int8", logits, np.zeros(len(true), dtype=bool))
    return make_report(record, tested, decision or Decision(1.5), [], slices)


def draw(report: Report, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Draw a report of two labels."""
    labels, logits = scored(classes=len(report.labels))
    positive = {name: softmax(logits)[:, 1] for name in report.variants}
    return pictures.draw_report(report, run_record(), labels, positive, folder)


def precision_recall(decision: Decision) -> Figure:
    """The curves of int8, which is served, and of chance."""
    labels, logits = scored()
    positive = {"int8": softmax(logits, 1.5)[:, 1], "tfidf": np.random.default_rng(1).random(400)}
    return pictures.draw_precision_recall(report_of(decision=decision), labels, positive, SERVED, "positive")


def figures_of_every_kind() -> dict[str, Figure]:
    """Each picture there is, and the confusions of few, many and long labels."""
    report = report_of()
    full = report_of(variants=list(SPEEDS))
    many = [SliceFigures(f"column {n // 10}", f"value {n}", 90, 0.8, [0.7, 0.9], 0.8, [0.7, 0.9]) for n in range(40)]
    return {
        "learning_curve": pictures.draw_learning_curve(EPOCHS, 2.0),
        "one_epoch": pictures.draw_learning_curve(EPOCHS[:1], 1.0),
        "confusions": pictures.draw_confusions(confusions(2, 5), ["$$", "$20-$30"]),
        "stars": pictures.draw_confusions(confusions(5, 4), [f"{n} stars" for n in range(5)]),
        "long_names": pictures.draw_confusions(confusions(5, 3), LONG_NAMES),
        "twenty": pictures.draw_confusions(confusions(20, 1), [f"intent {n}" for n in range(20)]),
        "many": pictures.draw_confusions(confusions(77, 1), [f"intent {n}" for n in range(77)]),
        "precision_recall": precision_recall(Decision(1.5, certain_from=[0.8, 0.9])),
        "reliability": pictures.draw_reliability(calibration(), "int8"),
        "slices": pictures.draw_slices(SLICES, NAMES, 0.86, SERVED),
        "forty_slices": pictures.draw_slices(many, [row.value for row in many], 0.8, SERVED),
        "trade_off": pictures.draw_trade_off(report.variants, report.intervals.variants, "int8"),
        "five_variants": pictures.draw_trade_off(full.variants, full.intervals.variants, "int8"),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """Every picture by its name, drawn but not written."""
    with PLAIN.in_use():
        figures = figures_of_every_kind()
        for figure in figures.values():
            FigureCanvasAgg(figure).draw()
    return figures


@pytest.fixture
def own_font_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font is installed but those that come with matplotlib."""
    own = [font for font in fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "findSystemFonts", list)


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
    with PLAIN.in_use():
        for name, figure in figures_of_every_kind().items():
            style.save_picture(figure, tmp_path / f"{name}.png")
        first = (tmp_path / "slices.png").read_bytes()
        style.save_picture(pictures.draw_slices(SLICES, NAMES, 0.86, SERVED), tmp_path / "slices.png")
    assert (tmp_path / "slices.png").read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 13
    for path in tmp_path.iterdir():
        assert path.suffix == ".png" and path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("labels", [["negative", "positive"], ["1", "2", "3"]])
def test_a_report_has_exactly_these_pictures(labels: list[str], tmp_path: Path) -> None:
    files, notes = draw(report_of(labels), tmp_path / "report")
    names = {"learning_curve.png", "confusion.png", "reliability.png", "slices.png", "trade_off.png"}
    assert set(files.values()) == {path.name for path in (tmp_path / "report").iterdir()}
    assert set(files.values()) == names | ({"precision_recall.png"} if len(labels) == 2 else set())
    assert not notes


def test_a_picture_that_cannot_be_drawn_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Figure:
        """Fail as a library may, over two lines."""
        raise ValueError("no such\ncolour")

    monkeypatch.setattr(pictures, "draw_slices", fail)
    files, notes = draw(report_of(), tmp_path)
    assert notes == ["The picture 'F1 by slice' could not be drawn: no such colour."]
    assert len(files) == 5 and set(files.values()) == {path.name for path in tmp_path.iterdir()}


def test_no_warning_of_a_library_reaches_the_screen(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object) -> Figure:
        """Draw nothing, and complain."""
        warnings.warn("a glyph is missing", stacklevel=1)
        return Figure()

    monkeypatch.setattr(pictures, "draw_slices", warn)
    files, notes = draw(report_of(), tmp_path)
    assert "F1 by slice" in files and not notes and not recwarn.list


def test_a_full_disk_costs_the_pictures_and_not_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        """Find the disk full."""
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(style, "write_whole", refuse)
    files, notes = draw(report_of(), tmp_path)
    assert not files and len(notes) == 6 and all("No space left on device" in note for note in notes)


@pytest.mark.parametrize(
    "labels",
    [["$$", "$20-$30"], ["a_b^c", "\\alpha{"], ["two\nlines", "bell \a"], ["x" * 300, "y" * 300], ["ممتاز", "מצוין"]],
    ids=["dollars", "formulas", "control", "long", "right_to_left"],
)
def test_any_name_is_drawn_without_a_note_or_a_warning(
    labels: list[str], tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "SHAPES", True)
    files, notes = draw(report_of(labels, values=labels), tmp_path)
    assert len(files) == 6 and not notes and not recwarn.list


def test_a_name_is_no_formula(drawn: dict[str, Figure]) -> None:
    shown = [text for text in texts(drawn["confusions"]) if "$" in text.get_text()]
    assert {text.get_text() for text in shown} == {"$$", "$20-$30"}
    assert not any(text.get_parse_math() for text in texts(drawn["confusions"]))


@pytest.mark.slow
def test_settings_of_the_user_change_no_picture(tmp_path: Path) -> None:
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "black"}):
        draw(report_of(), tmp_path / "theirs")
    draw(report_of(), tmp_path / "ours")
    for path in (tmp_path / "ours").iterdir():
        assert path.read_bytes() == (tmp_path / "theirs" / path.name).read_bytes()


@pytest.mark.usefixtures("own_font_alone")
def test_names_without_a_font_are_numbers_and_a_note_says_so(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    files, notes = draw(report_of(["差评", "good"], values=["中文", "English"]), tmp_path)
    assert len(files) == 6 and not recwarn.list
    assert notes == [
        "The pictures show the labels as numbers from 0, in their order, because ‘差评’ cannot be read there: no "
        "installed font has its characters.",
        "The picture of the slices names some by their row in the table of slices, because ‘price: 中文’ cannot be "
        "read there: no installed font has its characters.",
    ]
    chosen = fonts.fonts_for(["差评"])
    assert pictures.names_of_labels(["差评", "good"], chosen)[0] == ["0", "1"]
    rows = [SliceFigures("price", value, 9, 1.0, [0.7, 1.0]) for value in ("x", "差评")]
    assert pictures.names_of_slices(rows, chosen)[0] == ["price: x", "row 2"]


def font_with(characters: str, path: Path) -> None:
    """Write a font whose characters are all the same triangle."""
    names = {ord(character): f"glyph{ord(character)}" for character in characters}
    pen = TTGlyphPen(None)
    for draw_to, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (500, 0)), (pen.lineTo, (250, 700))):
        draw_to(point)
    pen.closePath()
    triangle = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], triangle))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.mark.usefixtures("own_font_alone")
def test_an_installed_font_that_has_the_characters_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font_with("差", tmp_path / "Half.ttf")
    font_with("差评好", tmp_path / "Whole.ttf")
    (tmp_path / "Damaged.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(path) for path in tmp_path.glob("*.ttf")])
    assert fonts.fonts_for(["差评", "好评"]) == fonts.Fonts([fonts.OWN, "Whole"], frozenset())
    files, notes = draw(report_of(["差评", "好评"]), tmp_path / "report")
    assert len(files) == 6 and not notes
    assert fonts.fonts_for(["差x天"]).missing == {"天"}


@pytest.mark.parametrize(
    ("name", "shaped"), [("ممتاز", True), ("מצוין", True), ("ที่", True), ("good", False), ("e\u0301cole", False)]
)
def test_a_script_that_must_be_shaped_needs_a_matplotlib_that_does(
    name: str, shaped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "SHAPES", False)
    why = PLAIN.why_not(fonts.one_line(name))
    assert why == ("its script needs matplotlib 3.11" if shaped else None)
    monkeypatch.setattr(fonts, "SHAPES", True)
    assert PLAIN.why_not(fonts.one_line(name)) is None


def test_a_chinese_letter_takes_the_room_of_two() -> None:
    assert fonts.width("差评 x") == 6
    assert fonts.shorten("评" * 30, 20) == "评" * 6 + "…" + "评" * 3


def test_labels_that_look_the_same_shortened_are_numbers() -> None:
    labels = [f"a name that differs {n} in the middle of it" for n in range(2)]
    names, (note,) = pictures.names_of_labels([*labels, "x"], PLAIN)
    assert names == ["0", "1", "2"] and "(and 1 more)" in note


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "slices.png"
    old.write_bytes(b"old")

    def refuse(handle: int) -> None:
        """Find the disk full when the bytes are to reach it."""
        raise OSError

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError):
        style.save_picture(pictures.draw_slices(SLICES, NAMES, 0.86, SERVED), old)
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
    counts = confusions(5, 3)["variant1,\nlabels"]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(column, row): f"{counts[row][column]:,}" for row in range(5) for column in range(5)}
    assert axes.get_xlabel() == "predicted" and first.get_ylabel() == "true"
    assert not titled(drawn["many"], "variant0").texts
    assert len(titled(drawn["twenty"], "variant0").texts) == 400


def test_the_first_confusion_is_that_of_the_served_answers() -> None:
    labels, logits = scored()
    matrix = confusion_matrix(labels, softmax(logits, 1.5)[:, 1] >= 0.8).tolist()
    most_probable = confusion_matrix(labels, logits.argmax(axis=1)).tolist()
    served = "int8, ‘positive’ from 0.8000 on"
    found = pictures.confusions_of(report_of(decision=Decision(1.5, 0.8)), served)
    first, second, third = found.items()
    assert first == ("served: int8,\n‘positive’ from 0.8000 on", matrix)
    assert second == ("pytorch, int8,\nthe most probable label", most_probable)
    assert third[0] == "tfidf,\nthe most probable label"


def test_a_matrix_that_several_variants_share_stands_once() -> None:
    found = pictures.confusions_of(report_of(), SERVED)
    assert list(found) == [
        "served: int8,\nthe most probable label\nsame counts: pytorch",
        "tfidf,\nthe most probable label",
    ]
    many = report_of([str(label) for label in range(13)])
    assert len(pictures.confusions_of(many, SERVED)) == 1, "room for one matrix alone"


@pytest.mark.parametrize("threshold", [None, 0.8])
def test_the_served_answers_are_marked_where_scikit_learn_has_them(threshold: float | None) -> None:
    labels, logits = scored()
    axes = titled(precision_recall(Decision(1.5, threshold)), "Precision and recall")
    predicted = softmax(logits, 1.5)[:, 1] >= (threshold or 0.5)
    expected = recall_score(labels, predicted), precision_score(labels, predicted)
    ((mark,),) = lines_of(axes, f"served: {SERVED}")
    assert mark == pytest.approx(expected)
    assert not lines_of(axes, "left to people")


def test_what_is_left_to_people_is_marked_along_the_served_curve() -> None:
    labels, logits = scored()
    axes = titled(precision_recall(Decision(1.5, certain_from=[0.7, 0.9])), "Precision and recall")
    positive = softmax(logits, 1.5)[:, 1]
    doubtful = (positive > 0.3) & (positive < 0.9)
    (band,) = lines_of(axes, f"left to people: {doubtful.sum()} reviews")
    ends = [positive >= positive[doubtful].min(), positive >= positive[doubtful].max()]
    expected = [(recall_score(labels, predicted), precision_score(labels, predicted)) for predicted in ends]
    np.testing.assert_allclose([band[0], band[-1]], expected)


def test_where_label_1_is_never_answered_no_point_is_marked() -> None:
    axes = titled(precision_recall(Decision(1.5, 0.999999)), "Precision and recall")
    assert not lines_of(axes, "served")


def test_reliability_shows_the_bins_of_either_side(drawn: dict[str, Figure]) -> None:
    figure, found = drawn["reliability"], calibration()
    for title, side in (("as trained", found.before), ("temperature 1.50", found.after)):
        axes = titled(figure, title)
        assert lines_of(axes, "int8") == [[(some.confidence, some.accuracy) for some in side.bins]]
        expected = [(some.confidence, some.rows) for some in side.bins]
        np.testing.assert_allclose(list(bars_below(figure, axes)), expected)


def test_slices_show_f1_its_interval_and_the_rows(drawn: dict[str, Figure]) -> None:
    axes = titled(drawn["slices"], "F1 by slice")
    assert axes.get_title().endswith(f"\n{SERVED}")
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES[:4], "a slice without F1 is left out"
    places = dict(zip(axes.get_yticks(), SLICES, strict=False))
    shown: dict[str, list[Any]] = {}
    for line in axes.lines:
        if len(set(line.get_ydata())) == 1 and not line.get_label().startswith("_goes on"):
            shown.setdefault(places[line.get_ydata()[0]].value, []).append(list(line.get_xdata()))
    assert shown == {
        "up to 32": [[0.79, 0.9], [0.85]],
        "33 to 64": [[0.83, 0.88], [0.86]],
        "a shop with a very long name": [[1.0, 1.0], [1.0]],
        "a small shop": [[0.2, 0.95], [0.5]],
    }
    assert {"0.860, 1,627 rows", "0.500, 9 rows"} <= {text.get_text() for text in texts(drawn["slices"])}


def test_slices_with_few_rows_do_not_set_the_scale_and_arrows_say_so(drawn: dict[str, Figure]) -> None:
    axes = titled(drawn["slices"], "F1 by slice")
    low, high = axes.get_xlim()
    assert 0.77 < low < 0.79 and 0.9 < high < 0.92
    places = dict(zip(axes.get_yticks(), SLICES, strict=False))
    arrows = [line for line in axes.lines if line.get_label() == "_goes on"]
    found = {(places[arrow.get_ydata()[0]].value, arrow.get_marker()) for arrow in arrows}
    assert found == {("a shop with a very long name", ">"), ("a small shop", "<"), ("a small shop", ">")}
    assert "an arrow" in axes.get_xlabel()
    assert "an arrow" not in titled(drawn["forty_slices"], "F1 by slice").get_xlabel()


def test_the_trade_off_shows_each_variant_with_its_interval(drawn: dict[str, Figure]) -> None:
    report, axes = report_of(), titled(drawn["trade_off"], "Accuracy of the most probable label")
    for name, found in report.variants.items():
        speed, word = found.reviews_per_second, " (served)" if name == "int8" else ""
        assert lines_of(axes, f"{name}{word}\n{found.accuracy:.4f}") == [[(speed, found.accuracy)]]
        low, high = report.intervals.variants[name].accuracy
        assert lines_of(axes, f"_interval of {name}") == [[(speed, low), (speed, high)]]


@pytest.mark.parametrize(("threshold", "marked"), [(None, "int8"), (0.8, None)])
def test_no_accuracy_is_called_served_where_a_threshold_gives_other_answers(
    threshold: float | None, marked: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, draw_trade_off = [], pictures.draw_trade_off
    monkeypatch.setattr(pictures, "draw_trade_off", lambda *given: figures.append(draw_trade_off(*given)) or figures[0])
    draw(report_of(decision=Decision(1.5, threshold)), tmp_path)
    axes = titled(figures[0], "Accuracy of the most probable label")
    names = [str(line.get_label()).split("\n")[0] for line in axes.lines]
    assert [name for name in names if "served" in name] == ([f"{marked} (served)"] if marked else [])


@pytest.mark.parametrize("speeds", [(100.0, 100.0), (210.0, 790.0), (69.0, 23892.0), (0.3, 90000.0)])
def test_speeds_are_plain_numbers_with_room_beside_each_other(speeds: tuple[float, float]) -> None:
    report = report_of(variants=["pytorch", "int8", "tfidf"])
    variants = {
        name: type(found)(**vars(found) | {"reviews_per_second": speed})
        for (name, found), speed in zip(report.variants.items(), (*speeds, speeds[1]), strict=True)
    }
    with PLAIN.in_use():
        figure = pictures.draw_trade_off(variants, report.intervals.variants, "int8")
        FigureCanvasAgg(figure).draw()
        axes = titled(figure, "Accuracy")
        low, high = axes.get_xlim()
        labels = [
            label for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if low <= at <= high
        ]
        assert 2 <= len(labels) <= 9
        assert [float(label.get_text().replace(",", "")) for label in labels]
        for one, other in combinations(labels, 2):
            assert not one.get_window_extent().overlaps(other.get_window_extent())


def test_a_variant_looks_the_same_in_every_picture(drawn: dict[str, Figure]) -> None:
    looks: dict[str, set[str]] = {}
    for figure in (drawn["five_variants"], drawn["trade_off"], drawn["precision_recall"], drawn["reliability"]):
        for line in [line for axes in figure.axes for line in axes.lines]:
            if (name := str(line.get_label()).split("\n")[0].split(" ")[0]) in SPEEDS:
                looks.setdefault(name, set()).add(to_hex(line.get_color()))
    assert looks.keys() == SPEEDS.keys() and all(len(colours) == 1 for colours in looks.values())
    lines = titled(drawn["five_variants"], "Accuracy").lines
    markers = {line.get_marker() for line in lines if not str(line.get_label()).startswith("_")}
    assert len(markers) == len({colour for colours in looks.values() for colour in colours}) == 5
    of_slices = {to_hex(line.get_color()) for line in titled(drawn["slices"], "F1 by slice").lines}
    assert of_slices.isdisjoint(set().union(*looks.values()))


def test_names_that_differ_at_their_end_stay_apart() -> None:
    labels = ["positive", *(f"a category with a long name, number {number}" for number in range(9))]
    (first, *others), notes = pictures.names_of_labels(labels, PLAIN)
    assert first == "positive" and not notes, "a short name is left whole"
    assert len(set(others)) == 9 and {len(name) for name in others} == {pictures.LONGEST_NAME}


@pytest.mark.slow
def test_no_screen_is_asked_for() -> None:
    program = "import sys, recipe.evaluation.pictures; print('matplotlib.pyplot' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

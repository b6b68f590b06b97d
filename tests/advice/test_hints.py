"""Would longer reviews, another column or a larger encoder help: what a finished run knows of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_of
from datasets import Dataset

from recipe.advice.hints import hints, unread_columns
from recipe.data import Reviews, reviews_of
from recipe.errors import UsageError
from recipe.run_folder import RunFolder


@pytest.fixture
def run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of a run, which a test may change."""
    return copy_of(tiny_run, tmp_path)


@pytest.fixture
def reviews(tiny_run: RunFolder) -> Reviews:
    """The run's reviews without test rows."""
    found = reviews_of(tiny_run)
    del found.splits["test"]
    return found


def cut(run: RunFolder, share: float) -> None:
    """Let a share of the reviews be cut."""
    data = json.loads(run.data.read_text())
    run.data.write_text(json.dumps(data | {"truncated": share}))


def report(run: RunFolder, of_cut: float, of_whole: float, rows: int) -> None:
    """Write the slices of an evaluation: the accuracy of cut and of whole reviews, of so many rows each."""
    slices = [
        {"slice": "truncated", "value": value, "rows": rows, "accuracy": accuracy}
        for value, accuracy in (("truncated", of_cut), ("whole", of_whole))
    ]
    run.report.write_text(json.dumps({"slices": slices}))


def test_where_no_review_is_cut_longer_ones_are_no_help(run: RunFolder, reviews: Reviews) -> None:
    assert hints(run, reviews).lines[0] == "Longer reviews: no, 0.0% of them are cut at 32 tokens."


@pytest.mark.parametrize(
    ("of_cut", "of_whole", "rows", "said"),
    [
        (0.8, 0.9, 1000, "so probably."),
        (0.8, 0.9, 20, "chance, so probably not."),
        (0.9, 0.8, 1000, "so no."),
    ],
)
def test_cut_reviews_are_compared_with_whole_ones(
    run: RunFolder, reviews: Reviews, of_cut: float, of_whole: float, rows: int, said: str
) -> None:
    cut(run, 0.25)
    report(run, of_cut, of_whole, rows)
    line = hints(run, reviews).lines[0]
    assert said in line and "25% are cut at 32 tokens" in line and "--max_length 64 would cost" in line


def test_without_an_evaluation_nothing_is_known_of_cut_reviews(run: RunFolder, reviews: Reviews) -> None:
    cut(run, 0.25)
    assert "not known before an evaluation" in hints(run, reviews).lines[0]


def test_a_damaged_look_at_the_data_is_one_line(run: RunFolder, reviews: Reviews) -> None:
    run.data.write_text("{}")
    with pytest.raises(UsageError, match=r"data\.json is missing or damaged"):
        hints(run, reviews)


def test_ids_categories_and_numbers_are_no_columns_to_read() -> None:
    columns = {
        "content": ["a b", "c d", "e f", "g h"],
        "title": ["so good", "too bad", "a plot", None],
        "id": ["x1", "x2", "x3", "x4"],
        "shop": ["the shop", "the shop", "a shop", "a shop"],
        "price": [1, 2, 3, 4],
        "label": ["very good", "quite bad", "b c", "d e"],
    }
    assert unread_columns(Dataset.from_dict(columns), ["content", "label"]) == ["title"]


def test_a_column_that_tells_the_label_helps_and_one_that_does_not_is_noise(run: RunFolder, reviews: Reviews) -> None:
    draw = np.random.default_rng(0)
    for name in ("train", "validation"):
        split, size = reviews.splits[name], len(reviews.splits[name])
        blurred = [f"the plot {row}" for row in range(size)]
        telling = [f"{('sad', 'glad')[label]} {row}" for row, label in enumerate(split.labels)]
        rows = Dataset.from_dict({"content": blurred, "label": split.labels.tolist(), "noise": blurred[::-1]})
        rows = rows.add_column("telling", telling) if name else rows
        reviews.splits[name] = type(split)(rows, ["content"], split.labels, split.keys)
    line = hints(run, reviews).lines[1]
    assert "Column 'telling': yes" in line and "--text_columns telling content" in line
    for name, split in reviews.splits.items():
        rows = split.rows.remove_columns(["telling", "noise"])
        words = [f"{word} {row}" for row, word in enumerate(draw.choice(["up", "down"], len(split)))]
        reviews.splits[name] = type(split)(rows.add_column("noise", words), ["content"], split.labels, split.keys)
    assert "Noise" in hints(run, reviews).lines[1]


def test_a_larger_encoder_is_named_with_its_cost(run: RunFolder, reviews: Reviews) -> None:
    # 12 layers of 768 units against 2 of 32: 12 x 768^2 / (2 x 32^2) is 3,456.
    assert "3,456 × the multiplications" in hints(run, reviews).lines[2]
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 12, "hidden_size": 768}))
    assert "Another encoder: not known" in hints(run, reviews).lines[2]

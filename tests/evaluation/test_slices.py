"""Slices against rows counted by hand, and the mistakes that a person should look at."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from recipe.evaluation.slices import figures_by_slice, most_confident_mistakes, most_frequent, slice_values
from recipe.files.text_rows import Text


def values_of(name: str, *texts: Text, tokens: Sequence[int] = (1,), max_length: int = 128) -> list[str]:
    """The values of one slice, for reviews of so many tokens."""
    return slice_values(texts or ["a film"] * len(tokens), np.array(tokens), max_length)[name]


def test_a_bucket_includes_its_longest_review() -> None:
    found = values_of("tokens", tokens=[3, 32, 33, 64, 128, 129, 512, 513])
    assert found == ["up to 32"] * 2 + ["33 to 64"] * 2 + ["65 to 128", "129 to 256", "257 to 512", "over 512"]


def test_a_review_as_long_as_the_model_reads_is_whole() -> None:
    assert values_of("truncated", tokens=[127, 128, 129]) == ["whole", "whole", "truncated"]


def test_a_title_of_white_space_is_missing() -> None:
    assert values_of("title", ("Great", "a"), ("", "b"), (" \t", "c")) == ["present", "missing", "missing"]


@pytest.mark.parametrize("text", ["not bad", "I can't", "I CANNOT", "it isn’t", "No plot", "dont buy", "hardly used"])
def test_a_negation_is_found(text: str) -> None:
    assert values_of("negation", text) == values_of("negation", (text, "a film")) == ["present"]


@pytest.mark.parametrize("text", ["a knot", "nowadays", "notable", "I want it", "an innocent plant", "nonetheless"])
def test_a_word_that_only_looks_like_a_negation_is_none(text: str) -> None:
    assert values_of("negation", text) == ["none"]


def test_a_column_keeps_its_ten_most_frequent_values() -> None:
    values = [f"v{number}" for number in range(15) for _ in range(20 - number)] + [None, ""]
    found = most_frequent(values)
    assert set(found) == {*(f"v{number}" for number in range(10)), "other"}
    assert found.count("other") == sum(20 - number for number in range(10, 15)) + 2
    assert most_frequent([1999, None, ""]) == ["1999", "(empty)", "(empty)"]


def test_a_slice_has_the_figures_of_its_own_rows() -> None:
    labels = np.array([0, 1, 1, 1, 0, 0, 1, 0, 0])
    predicted = np.array([0, 1, 0, 1, 1, 0, 1, 0, 0])
    (first, second, third), _ = figures_by_slice({"title": list("aaaaabbcc")}, labels, predicted, 2)
    assert (first.slice, first.value, first.rows, first.accuracy) == ("title", "a", 5, 0.6)
    assert first.f1 == pytest.approx(f1_score(labels[:5], predicted[:5])) == pytest.approx(2 / 3)
    exact = binomtest(3, 5).proportion_ci(method="exact")
    assert first.accuracy_interval == pytest.approx([exact.low, exact.high])
    assert first.f1_interval and first.f1_interval[0] < first.f1 < first.f1_interval[1]
    assert (second.value, second.f1) == ("b", 1.0) and second.f1_interval and second.f1_interval[0] < 0.6
    assert third.f1 is third.f1_interval is None and third.accuracy == 1.0, "one label"
    assert third.accuracy_interval[0] < 0.2 and third.accuracy_interval[1] == 1.0, "two reviews say next to nothing"


def test_a_slice_with_one_label_has_no_f1() -> None:
    columns, labels = {"title": list("aaaabb")}, np.array([1, 1, 1, 1, 0, 1])
    (found, _), _ = figures_by_slice(columns, labels, np.array([1, 1, 0, 1, 0, 1]), 2)
    assert found.f1 is found.f1_interval is None and found.accuracy == 0.75


def test_with_more_classes_a_slice_has_the_macro_average() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=200)
    predicted = np.where(draw.random(200) < 0.8, labels, draw.integers(3, size=200))
    predicted[150:] = labels[150:]
    (found, right), _ = figures_by_slice({"source": ["a"] * 150 + ["b"] * 50}, labels, predicted, 3)
    assert found.f1 == pytest.approx(f1_score(labels[:150], predicted[:150], average="macro"))
    assert found.f1_interval and found.f1_interval[0] < found.f1 < found.f1_interval[1]
    assert right.f1 == 1.0 and right.f1_interval and right.f1_interval[0] < 1, "no error among 50 is no certainty"


def test_lengths_stand_in_order_and_other_values_by_rows() -> None:
    labels = np.tile([0, 1], 6)
    by_length = values_of("tokens", tokens=[200, 5, 200, 5, 200, 40, 40, 600, 600, 600, 5, 5])
    columns = {"length": by_length, "source": ["other"] * 5 + ["imdb"] * 2 + ["yelp"] * 3 + ["a"] * 2}
    found = [(row.slice, row.value) for row in figures_by_slice(columns, labels, labels, 2)[0]]
    assert [value for name, value in found if name == "length"] == ["up to 32", "33 to 64", "129 to 256", "over 512"]
    assert [value for name, value in found if name == "source"] == ["yelp", "a", "imdb", "other"]


def test_a_slice_that_compares_nothing_is_left_out_with_a_line() -> None:
    columns = {
        "truncated": ["whole"] * 6,
        "length": ["up to 32"] * 5 + ["over 512"],
        "id": list("abcdef"),
        "shop": ["x", "y", *["other"] * 4],
        "source": list("uuvvw") + ["z"],
    }
    found, notes = figures_by_slice(columns, np.tile([0, 1], 3), np.tile([0, 1], 3), 2)
    assert [(row.slice, row.value) for row in found] == [("source", "u"), ("source", "v")]
    compared, single = notes
    assert compared.startswith("Slices left out") and single.startswith("Slice values left out, of one row each")
    assert "truncated (whole), length (up to 32), id (different in each row), shop (different in each row)" in compared
    assert single.endswith(": source (w), source (z).")


def test_slices_that_all_compare_something_need_no_line() -> None:
    assert figures_by_slice({"source": list("uuvv")}, np.tile([0, 1], 2), np.tile([0, 1], 2), 2)[1] == []


def test_the_most_confident_mistakes_come_first_and_right_answers_never() -> None:
    labels, positive = np.array([0, 1, 1, 0, 1]), np.array([0.7, 0.99, 0.05, 0.9, 0.4])
    predicted, probabilities = (positive > 0.5).astype(np.int64), np.maximum(positive, 1 - positive)
    names, texts = ["negative", "positive"], {"title": list("abcde"), "content": list("vwxyz")}
    first, *others = rows_of(most_confident_mistakes(labels, predicted, probabilities, names, texts, count=3))
    expected = {"row": "3", "label": "positive", "predicted": "negative", "probability": "0.95"}
    assert first == expected | {"title": "c", "content": "x"}
    assert [other["row"] for other in others] == ["4", "1"]
    assert len(rows_of(most_confident_mistakes(labels, predicted, probabilities, names, texts))) == 4


def test_a_mistake_is_one_of_the_answers_given_and_not_of_the_most_probable_labels() -> None:
    # Under a threshold of 0.8, 0.7 is a negative, and right; 0.75 is one, and wrong.
    labels, predicted, probabilities = np.array([0, 1]), np.array([0, 0]), np.array([0.3, 0.25])
    (row,) = rows_of(most_confident_mistakes(labels, predicted, probabilities, ["no", "yes"], {"content": ["a", "b"]}))
    assert row == {"row": "2", "label": "yes", "predicted": "no", "probability": "0.25", "content": "b"}


def test_mistakes_survive_csv_whatever_their_texts_hold() -> None:
    text, names, positive = 'He said "no",\nand left; ünïcode\r\n', ["negative", "positive"], np.array([1])
    answer = positive, np.array([0.9]), names, {"content": [text]}
    (row,) = rows_of(most_confident_mistakes(np.array([0]), *answer))
    assert row == {"row": "1", "label": "negative", "predicted": "positive", "probability": "0.9", "content": text}
    assert most_confident_mistakes(positive, *answer) == "row,label,predicted,probability,content\n"


def rows_of(content: str) -> list[dict[str, str]]:
    """The rows of a csv file."""
    return list(csv.DictReader(io.StringIO(content, newline="")))

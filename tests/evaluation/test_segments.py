"""Slices against rows counted by hand, and the mistakes that an annotator is handed."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from recipe.errors import UsageError
from recipe.evaluation.slices import (
    column_values,
    describe_slices,
    length_buckets,
    most_confident_mistakes,
    negation_presence,
    title_presence,
    truncation,
    write_mistakes,
)


def test_a_bucket_includes_its_longest_review() -> None:
    found = length_buckets(np.array([3, 32, 33, 64, 128, 129, 512, 513]))
    assert found == ["up to 32"] * 2 + ["33 to 64"] * 2 + ["65 to 128", "129 to 256", "257 to 512", "over 512"]


def test_a_review_as_long_as_the_model_reads_is_whole() -> None:
    assert truncation(np.array([127, 128, 129]), 128) == ["whole", "whole", "truncated"]


def test_a_title_of_white_space_is_missing() -> None:
    assert title_presence(["Great", "", " \t"]) == ["present", "missing", "missing"]


@pytest.mark.parametrize("text", ["not bad", "I can't", "I CANNOT", "it isn’t", "No plot", "dont buy", "hardly used"])
def test_a_negation_is_found(text: str) -> None:
    assert negation_presence([text]) == ["present"]


@pytest.mark.parametrize("text", ["a knot", "nowadays", "notable", "I want it", "an innocent plant", "nonetheless"])
def test_a_word_that_only_looks_like_a_negation_is_none(text: str) -> None:
    assert negation_presence([text]) == ["none"]


def test_a_column_keeps_its_ten_most_frequent_values() -> None:
    values = [f"v{number}" for number in range(15) for _ in range(20 - number)] + [None, ""]
    found = column_values({"source": values}, "source")
    assert set(found) == {*(f"v{number}" for number in range(10)), "other"}
    assert found.count("other") == sum(20 - number for number in range(10, 15)) + 2
    assert column_values({"year": [1999, None, ""]}, "year") == ["1999", "(empty)", "(empty)"]


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="--slice_by sauce: .* they have source, title"):
        column_values({"source": [], "title": []}, "sauce")


def test_a_slice_has_the_figures_of_its_own_rows() -> None:
    labels = np.array([0, 1, 1, 1, 0, 0, 1, 0])
    predicted = np.array([0, 1, 0, 1, 1, 0, 1, 0])
    first, second, third = describe_slices({"title": list("aaaaabbc")}, labels, predicted, 2)
    assert (first["slice"], first["value"], first["rows"], first["accuracy"]) == ("title", "a", 5, 0.6)
    assert first["f1"] == pytest.approx(f1_score(labels[:5], predicted[:5])) == pytest.approx(2 / 3)
    wilson = binomtest(3, 5).proportion_ci(method="wilson")
    assert first["accuracy_interval"] == pytest.approx([wilson.low, wilson.high])
    assert first["f1_interval"][0] < first["f1"] < first["f1_interval"][1]
    assert (second["value"], second["f1"]) == ("b", 1.0) and second["f1_interval"][0] < 0.6
    assert set(third) == {"slice", "value", "rows", "accuracy", "accuracy_interval"} and third["accuracy"] == 1.0
    assert third["accuracy_interval"] == pytest.approx([0.2065, 1.0], abs=1e-4), "one review says next to nothing"


def test_a_slice_with_one_label_has_no_f1() -> None:
    (found,) = describe_slices({"title": ["a"] * 4}, np.ones(4, dtype=np.int64), np.array([1, 1, 0, 1]), 2)
    assert set(found) == {"slice", "value", "rows", "accuracy", "accuracy_interval"}


def test_with_more_classes_a_slice_has_the_macro_average() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=200)
    predicted = np.where(draw.random(200) < 0.8, labels, draw.integers(3, size=200))
    predicted[150:] = labels[150:]
    found, right = describe_slices({"source": ["a"] * 150 + ["b"] * 50}, labels, predicted, 3)
    assert found["f1"] == pytest.approx(f1_score(labels[:150], predicted[:150], average="macro"))
    assert found["f1_interval"][0] < found["f1"] < found["f1_interval"][1]
    assert right["f1"] == 1.0 and "f1_interval" not in right


def test_lengths_stand_in_order_and_other_values_by_rows() -> None:
    labels = np.tile([0, 1], 5)
    by_length = length_buckets(np.array([200, 5, 200, 5, 200, 40, 200, 600, 600, 600]))
    columns = {"length": by_length, "source": ["other"] * 4 + ["imdb"] * 2 + ["yelp"] * 3 + ["a"]}
    found = [(row["slice"], row["value"]) for row in describe_slices(columns, labels, labels, 2)]
    assert [value for name, value in found if name == "length"] == ["up to 32", "33 to 64", "129 to 256", "over 512"]
    assert [value for name, value in found if name == "source"] == ["yelp", "imdb", "a", "other"]


def test_the_surest_mistakes_come_first_and_right_answers_never() -> None:
    labels, predicted = np.array([0, 1, 1, 0, 1]), np.array([1, 1, 0, 1, 0])
    probabilities = np.array([0.7, 0.99, 0.95, 0.9, 0.6])
    texts = {"title": list("abcde"), "content": list("vwxyz")}
    found = most_confident_mistakes(labels, predicted, probabilities, ["negative", "positive"], texts, count=3)
    expected = {"row": 3, "label": "positive", "predicted": "negative", "probability": 0.95}
    assert found[0] == expected | {"title": "c", "content": "x"}
    assert [mistake["row"] for mistake in found] == [3, 4, 1]
    assert len(most_confident_mistakes(labels, predicted, probabilities, ["n", "p"], texts)) == 4


def test_mistakes_survive_csv_whatever_their_texts_hold(tmp_path: Path) -> None:
    text = 'He said "no",\nand left; ünïcode\r\n'
    mistakes = most_confident_mistakes(
        np.array([0]), np.array([1]), np.array([0.9]), ["negative", "positive"], {"content": [text]}
    )
    write_mistakes(tmp_path / "mistakes.csv", mistakes, ["content"])
    with (tmp_path / "mistakes.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"row": "1", "label": "negative", "predicted": "positive", "probability": "0.9", "content": text}
    write_mistakes(tmp_path / "none.csv", [], ["content"])
    assert (tmp_path / "none.csv").read_text() == "row,label,predicted,probability,content\n"

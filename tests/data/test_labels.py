"""Which values of a label column are one label, and what it is called."""

from decimal import Decimal
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features

from recipe.data.labels import NO_LABEL, encode_labels
from recipe.errors import UsageError
from recipe.files.parts import Place

WHERE = {name: Place(f"{name}.csv", [(f"{name}.csv", 100)]) for name in ("train", "test")}


def column(values: list[Any], names: list[str] | None = None) -> Dataset:
    return Dataset.from_dict(
        {"label": values}, features=Features({"label": ClassLabel(names=names)}) if names else None
    )


def encoded(train: Dataset | list[Any], *test: Any) -> tuple[list[str], list[int]]:
    """The names of train's labels, and the labels of test's rows, or of train's where there is no test."""
    splits = {"train": train if isinstance(train, Dataset) else column(train)}
    if test:
        splits["test"] = column(list(test))
    names, labels = encode_labels(splits, "label", WHERE)
    return names, labels["test" if test else "train"].tolist()


def test_codes_keep_their_zeros() -> None:
    names, labels = encoded(["10", "1.50", "01", "1", "1.5", "001"])
    assert names == ["001", "01", "1", "1.5", "1.50", "10"] and labels == [5, 4, 1, 2, 3, 0]
    assert encoded(["01", "02"])[0] == ["01", "02"], "codes, not negative and positive"
    assert encoded(["1.00", "1", "+1", "-1"])[0] == ["-1", "+1", "1", "1.00"]
    assert encoded(["01.0", "1.0", "01", "v1.0"])[0] == ["01", "01.0", "1", "v1.0"]
    with pytest.raises(UsageError, match="row 2 of test.csv has the label '1', which no train row has: 01, 02"):
        encoded(["01", "02"], "02", "1")


def test_numbers_and_names_beside_each_other_are_two_labels() -> None:
    binary = ["negative", "positive"]
    assert encoded(["0", "1", "negative", "positive"]) == (binary, [0, 1, 0, 1])
    assert encoded(["1", "negative", "1.0"], "0", "positive", "1") == (binary, [0, 1, 1])
    assert encoded(["positive", "negative"]) == (binary, [1, 0])
    assert len(encoded(["0", "1", "negative", "good"])[0]) == 4
    assert len(encoded(["0", "1", "2", "negative"])[0]) == 4
    with pytest.raises(UsageError, match="every train row has the same label in 'label' .negative.: two are needed"):
        encoded(["0", "negative"])


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.0", " 1 ", Decimal("1.00")])
@pytest.mark.parametrize("other", [1, 1.0, "1", "1.0"])
def test_a_number_is_one_label_however_it_is_stored(one: Any, other: Any) -> None:
    two, three = (type(one)(number) for number in (2, 3))
    assert encoded([one, two, three, one], other, None) == (["1", "2", "3"], [0, NO_LABEL])


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0.0"])
def test_zero_and_one_or_one_and_two_are_negative_and_positive(zero: Any) -> None:
    one, two = (type(zero)(number) for number in (1, 2))
    assert encoded([zero, one, None], "positive", "0", "1.0") == (["negative", "positive"], [1, 0, 1])
    assert encoded([one, two], "positive", "1", "2.0") == (["negative", "positive"], [1, 0, 1])


def test_true_and_false_are_one_label_in_any_spelling() -> None:
    for yes, no in ((True, False), ("True", "False"), ("TRUE", "FALSE"), ("true", "false")):
        assert encoded([yes, no, yes], "True", "true", "TRUE", " False")[1] == [1, 1, 1, 0]
        assert encoded([yes, no, yes], True, False)[1] == [1, 0]
    assert encoded([True, False])[0] == ["false", "true"]
    assert encoded(["True", "False"])[0] == ["False", "True"], "as it is spelled, and as it was called before"
    assert encoded(["True", "true", "TRUE", "False", "maybe"])[0] == ["False", "maybe", "true"]
    assert encoded(["True", "maybe"])[0] == ["True", "maybe"], "sorted as it is spelled"


def test_other_words_that_differ_by_case_are_two_labels() -> None:
    assert encoded(["Positive", "positive", "negative"])[0] == ["Positive", "negative", "positive"]
    assert encoded(["Yes", "yes", "YES"])[1] == [1, 2, 0]


def test_a_class_label_keeps_its_names_and_is_found_by_any_spelling() -> None:
    assert encoded(column([0, 1], ["True", "False"]), "true", "FALSE", "True") == (["True", "False"], [0, 1, 0])
    assert encoded(column([0, 1], ["1.0", "2.0"]), "1", "2.0") == (["1.0", "2.0"], [0, 1])
    assert encoded(column([0, 1], ["01", "1"]), "1", "01") == (["01", "1"], [1, 0])
    assert encoded(column([0, 1], ["bad", "good"]), "0", "good") == (["bad", "good"], [0, 1]), "by number too"

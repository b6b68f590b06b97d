"""From logits to answers, against scipy and against what was decided by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from recipe.errors import UsageError
from recipe.inference.decision import Decision
from recipe.inference.onnx import read_decision

LOGITS = np.random.default_rng(0).normal(scale=3, size=(200, 2)).astype(np.float32)


def test_no_decision_is_the_most_probable_label_always() -> None:
    logits = np.array([[0.0, 3.0, 1.0], [2.0, -1.0, 1.9]], dtype=np.float32)
    answers = Decision()(logits)
    assert answers.labels.tolist() == [1, 0] and answers.certain.all()
    np.testing.assert_allclose(answers.probabilities, softmax(logits.astype(np.float64), axis=1).max(axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_divides_the_logits(temperature: float) -> None:
    expected = softmax(LOGITS.astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(Decision(temperature).probabilities(LOGITS), expected)


def test_logits_far_apart_are_still_probabilities() -> None:
    probabilities = Decision(0.1).probabilities(np.array([[500.0, -500.0], [-300.0, 400.0]], dtype=np.float32))
    assert probabilities.tolist() == [[1, 0], [0, 1]]


def test_the_label_is_1_from_the_threshold_on() -> None:
    positive = softmax(LOGITS.astype(np.float64), axis=1)[:, 1]
    threshold = float(np.sort(positive)[150])
    answers = Decision(threshold=threshold)(LOGITS)
    assert answers.labels.sum() == 50 and (answers.labels == (positive >= threshold)).all()
    np.testing.assert_allclose(answers.probabilities, np.where(answers.labels == 1, positive, 1 - positive))


def test_each_label_is_certain_from_its_own_probability_on() -> None:
    positive = np.array([0.05, 0.2, 0.4, 0.6, 0.7, 0.9])
    logits = np.stack([np.zeros(6), logit(positive)], axis=1)
    answers = Decision(certain_from=[0.9, 0.65])(logits)
    assert answers.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert answers.certain.tolist() == [True, False, False, False, True, True]
    # With a threshold, label 1 is the answer to the two in the middle too, and label 0 never.
    around = Decision(threshold=0.3, certain_from=[0.75, 0.5])(logits)
    assert around.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert around.certain.tolist() == [True, True, False, True, True, True]


def test_what_is_certain_follows_the_temperature() -> None:
    logits = np.array([[0.0, 4.0]])
    at_temperature = float(expit(2.0))
    assert Decision(2.0, certain_from=[0.5, at_temperature])(logits).certain.all()
    assert not Decision(2.0, certain_from=[0.5, at_temperature + 1e-9])(logits).certain.any()


def test_with_more_classes_each_has_a_bound_too() -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    assert Decision(certain_from=[0.59, 1.0, 0.59])(logits).certain.tolist() == [False, True, True]
    assert Decision(certain_from=[0.49, 0.0, 0.61])(logits).certain.tolist() == [True, True, False]
    with pytest.raises(UsageError, match="one for each label, and the model has 3"):
        Decision(certain_from=[0.5, 0.5])(logits)


def test_a_decision_survives_json() -> None:
    for decision in (Decision(1.25, 0.4), Decision(1.25, certain_from=[0.61, 0.7, 1.0])):
        assert Decision.from_json(json.loads(json.dumps(decision.to_json())), "decision.json") == decision
    whole = {"temperature": 1, "threshold": None, "certain_from": None}
    assert Decision.from_json(whole, "decision.json") == Decision()
    assert Decision.from_json(whole | {"certain_from": [0, 1]}, "decision.json") == Decision(certain_from=[0.0, 1.0])


def test_a_decision_of_an_earlier_version_asks_for_a_new_evaluation() -> None:
    old = {"temperature": 1.0, "threshold": 0.4, "abstain_below": 0.6}
    with pytest.raises(UsageError, match="decision.json is of an earlier version of this recipe"):
        Decision.from_json(old, "decision.json")


@pytest.mark.parametrize(
    "content, message",
    [
        ({"temperature": 0.0, "threshold": None, "certain_from": None}, "temperature of 0.0"),
        ({"temperature": float("nan"), "threshold": None, "certain_from": None}, "temperature of nan"),
        ({"temperature": 1.0, "threshold": 1.0, "certain_from": None}, "threshold of 1.0"),
        ({"temperature": 1.0, "threshold": None, "certain_from": [0.5, -0.1]}, r"certain_from \[0.5, -0.1\]"),
        ({"temperature": 1.0, "threshold": None, "certain_from": 0.5}, "'certain_from' has the wrong type"),
        (
            {"temperature": "1", "threshold": None, "certain_from": None},
            "decision.json is damaged: 'temperature' has the wrong type",
        ),
        (
            {"temperature": None, "threshold": None, "certain_from": None},
            "decision.json is damaged: 'temperature' has the wrong type",
        ),
        ({"temperature": True, "threshold": None, "certain_from": None}, "'temperature' has the wrong type"),
        (
            {"temperature": 1.0},
            "decision.json is damaged: a decision has .*, certain_from, not temperature",
        ),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(content: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decision.from_json(content, "decision.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[]", "it is damaged: it holds a list, not a decision"),
        ("{}", "it is damaged: a decision has temperature, threshold, certain_from, not nothing"),
        ('{"temperature": 0, "threshold": null, "certain_from": null}', "a temperature of 0.0"),
        (
            '{"temperature": 1, "threshold": null, "certain_from": [0.6]}',
            "certain_from .0.6.: it has one for each label",
        ),
        ('{"temperature": 1, "threshold": 0.4, "certain_from": null}', "a threshold of 0.4 needs two classes"),
        ('{"temperature": 1, "threshold": 0.4, "abstain_below": null}', "it is of an earlier version of this recipe"),
        ("\udcff", "'utf-8' codec can't decode"),
    ],
)
def test_a_damaged_decision_file_is_named_and_asks_for_a_new_evaluation(
    content: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "decision.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=rf"decision\.json: {message}.*; evaluate the run again$"):
        read_decision(file, 3)


def test_a_threshold_needs_two_classes() -> None:
    with pytest.raises(UsageError, match="needs two classes, and the model has 3"):
        Decision(threshold=0.4)(np.zeros((1, 3)))

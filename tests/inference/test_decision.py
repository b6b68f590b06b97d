"""From logits to answers, against scipy and against what was decided by hand."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from recipe.errors import UsageError
from recipe.inference.decision import Decision

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


def test_a_threshold_of_a_half_leaves_the_confidence_as_it_is() -> None:
    np.testing.assert_allclose(Decision(2.0, 0.5).confidence(LOGITS), Decision(2.0).confidence(LOGITS))


def test_doubt_lies_around_the_threshold() -> None:
    positive = np.array([0.5, 0.79, 0.81, 0.99])
    logits = np.stack([np.zeros(4), logit(positive)], axis=1)
    answers = Decision(threshold=0.8, abstain_below=0.6)(logits)
    assert answers.certain.tolist() == [True, False, False, True]
    assert answers.labels.tolist() == [0, 0, 1, 1]
    expected = expit(np.abs(logit(positive) - logit(0.8)))
    np.testing.assert_allclose(Decision(threshold=0.8).confidence(logits), expected)


def test_with_more_classes_doubt_is_a_low_highest_probability() -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    assert Decision(abstain_below=0.59)(logits).certain.tolist() == [False, True, True]


def test_a_decision_survives_json() -> None:
    decision = Decision(1.25, 0.4, 0.61)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json())), "decision.json") == decision
    whole = {"temperature": 1, "threshold": None, "abstain_below": None}
    assert Decision.from_json(whole, "decision.json") == Decision()


@pytest.mark.parametrize(
    "content, message",
    [
        ({"temperature": 0.0, "threshold": None, "abstain_below": None}, "temperature of 0.0"),
        ({"temperature": float("nan"), "threshold": None, "abstain_below": None}, "temperature of nan"),
        ({"temperature": 1.0, "threshold": 1.0, "abstain_below": None}, "threshold of 1.0"),
        ({"temperature": 1.0, "threshold": None, "abstain_below": -0.1}, "abstain_below -0.1"),
        (
            {"temperature": "1", "threshold": None, "abstain_below": None},
            "decision.json is damaged: 'temperature' has the wrong type",
        ),
        (
            {"temperature": None, "threshold": None, "abstain_below": None},
            "decision.json is damaged: 'temperature' has the wrong type",
        ),
        ({"temperature": True, "threshold": None, "abstain_below": None}, "'temperature' has the wrong type"),
        ({"temperature": 1.0}, "decision.json: a decision has temperature, threshold, abstain_below, not temperature"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(content: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decision.from_json(content, "decision.json")


def test_a_threshold_needs_two_classes() -> None:
    with pytest.raises(UsageError, match="needs two classes, and the model has 3"):
        Decision(threshold=0.4)(np.zeros((1, 3)))

"""The baseline is scikit-learn's, with the run's class weights, and gives a probability to every label of the run."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from recipe.model.baseline import ROWS_AT_A_TIME, fit_baseline, predict_probabilities

# One positive review of four; the word "film" stands in all of them.
TEXTS = ["awful film", "bad film", "poor film", "good film"] * 10
LABELS = np.array([0, 0, 0, 1] * 10)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_the_baseline_has_the_class_weights_of_the_run(class_weights: str) -> None:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    vectors = vectorizer.fit_transform(TEXTS)
    # Balanced by hand: rows / (2 * rows of the label).
    weights = np.where(LABELS == 1, 40 / (2 * 10), 40 / (2 * 30)) if class_weights == "balanced" else None
    expected = LogisticRegression(max_iter=1000).fit(vectors, LABELS, sample_weight=weights)
    baseline = fit_baseline(TEXTS, LABELS, class_weights)  # type: ignore[arg-type]
    unseen = ["film", "good plot", "awful"]
    found = predict_probabilities(baseline, unseen, 2)
    assert found == pytest.approx(expected.predict_proba(vectorizer.transform(unseen)), abs=1e-4)


def test_a_label_without_train_rows_has_probability_0() -> None:
    found = predict_probabilities(fit_baseline(TEXTS, np.where(LABELS, 3, 1)), ["good film", "awful film"], 4)
    assert found.shape == (2, 4) and not found[:, [0, 2]].any()
    assert found.sum(axis=1) == pytest.approx([1, 1]) and found.argmax(axis=1).tolist() == [3, 1]


def test_every_row_has_its_probabilities_however_many_rows_there_are() -> None:
    baseline = fit_baseline(TEXTS, LABELS)
    texts = ["awful film"] * ROWS_AT_A_TIME + ["good film"] * 2
    found = predict_probabilities(baseline, texts, 2)
    assert found[-2:] == pytest.approx(baseline.predict_proba(texts[-2:])) and len(found) == len(texts)

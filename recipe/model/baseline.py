"""The baseline: TF-IDF with logistic regression, which a fine-tuned model has to beat."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

# Rows whose TF-IDF vectors are held at a time.
ROWS_AT_A_TIME = 20_000


def fit_baseline(
    texts: Sequence[str], labels: np.ndarray, class_weights: Literal["none", "balanced"] = "none"
) -> Pipeline:
    """Return TF-IDF with logistic regression, fitted to words and word pairs.

    Sublinear term counts and pairs are the usual, stronger choice for sentiment (Wang and Manning, *Baselines and
    Bigrams*, 2012). All else is scikit-learn's default, because nothing is tuned for BERT either.

    Args:
        texts: A string for each review.
        labels: int64 (reviews,).
        class_weights: Those of the run that it is compared with.

    Raises:
        ValueError: The texts have no word of two letters, or all labels are the same.
    """
    regression = LogisticRegression(max_iter=1000, class_weight=None if class_weights == "none" else class_weights)
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), regression).fit(texts, labels)


def predict_probabilities(baseline: Pipeline, texts: Sequence[str], classes: int) -> np.ndarray:
    """Return a fitted baseline's probabilities, float64 (reviews, classes); 0 for a label that it was not fitted to."""
    probabilities = np.zeros((len(texts), classes))
    for start in range(0, len(texts), ROWS_AT_A_TIME):
        block = texts[start : start + ROWS_AT_A_TIME]
        probabilities[start : start + len(block), baseline.classes_] = baseline.predict_proba(block)
    return probabilities

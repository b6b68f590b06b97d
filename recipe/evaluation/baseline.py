"""TF-IDF with logistic regression: what a classifier without BERT makes of the same reviews."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from recipe.files.text_rows import Text


def fit_baseline(texts: Sequence[Text], labels: np.ndarray) -> Pipeline:
    """Return a classifier of words and word pairs, fitted; its `predict` takes what `flat` returns.

    Sublinear term counts and pairs are the usual, stronger choice for sentiment (Wang and Manning, *Baselines and
    Bigrams*, 2012); the rest are scikit-learn's defaults, so that nothing was tuned on either side.
    """
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    return model.fit(flat(texts), labels)


def flat(texts: Sequence[Text]) -> list[str]:
    """Return each text as one string; a title and its content are joined."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]

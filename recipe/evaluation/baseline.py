"""TF-IDF with logistic regression, the baseline without BERT."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from recipe.files.text_rows import Text


def fit_baseline(texts: Sequence[Text], labels: np.ndarray) -> Pipeline:
    """Return a fitted classifier of words and word pairs; its `predict` takes what `flat` returns.

    Sublinear term counts and pairs are the usual, stronger choice for sentiment (Wang and Manning, *Baselines and
    Bigrams*, 2012). All else is scikit-learn's default, because nothing is tuned for BERT either.
    """
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    return model.fit(flat(texts), labels)


def flat(texts: Sequence[Text]) -> list[str]:
    """Return each text as one string; a title and its content are joined."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]

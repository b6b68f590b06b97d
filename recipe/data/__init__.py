"""Labelled reviews: read, cleaned, split and turned into word pieces."""

from recipe.data.reviews import Reviews, Split, load_reviews
from recipe.data.tokens import texts_of, tokenize

__all__ = ["Reviews", "Split", "load_reviews", "texts_of", "tokenize"]

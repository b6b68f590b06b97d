"""Labelled reviews: read, cleaned, split and tokenized."""

from recipe.data.reviews import Reviews, load_reviews, reviews_of
from recipe.data.tokens import texts_of, tokenize

__all__ = ["Reviews", "load_reviews", "reviews_of", "texts_of", "tokenize"]

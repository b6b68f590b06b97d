"""Vectors of a run's reviews, above all from the weights that it started from, which have seen no label."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from recipe.arguments.data import data_arguments_of
from recipe.arguments.model import ModelArguments
from recipe.data.reviews import Reviews
from recipe.data.tokens import texts_of
from recipe.files.text_rows import Text
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import find_pretrained, load_tokenizer
from recipe.run_folder import RunFolder


def labelled_texts(reviews: Reviews) -> tuple[Text, ...]:
    """Return the texts of the train rows, and after them those of the validation rows."""
    return (*texts_of(reviews.splits["train"]), *texts_of(reviews.splits["validation"]))


# Several answers ask for those of the same reviews, which take a minute or more.
@lru_cache(maxsize=1)
def frozen_vectors(run: RunFolder, texts: tuple[Text, ...]) -> np.ndarray:
    """Return the mean vectors that the weights a run started from give its texts, float32 (texts, hidden)."""
    settings = run.read_config()
    weights = ModelArguments(settings["model_name_or_path"], run.read_record().weights.get("revision", "main"))
    return vectors_by(weights, run, texts, "reading the reviews")


def vectors_by(weights: ModelArguments, run: RunFolder, texts: Sequence[Text], description: str) -> np.ndarray:
    """Return the mean vectors that some weights give texts, cut as the run cuts them, float32 (texts, hidden)."""
    args = data_arguments_of(run.read_config())
    pretrained = find_pretrained(weights, args.max_length)
    tokenizer = load_tokenizer(pretrained, args.max_length, args.truncation_side)
    return encode(load_encoder(pretrained), tokenizer, texts, description)

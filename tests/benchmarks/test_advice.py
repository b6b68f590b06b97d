"""The benchmark of the advice: its tables and pictures."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import separable_reviews, write_dataset
from transformers import BertConfig, BertModel

from recipe.benchmarks.advice import LABELS, held, measure_advice, saved
from recipe.benchmarks.suspects import LOOKS, Found, table_of
from recipe.errors import UsageError


def test_labels_saved_are_those_that_random_order_needs_for_the_same_f1() -> None:
    at_random = np.linspace(0.70, 0.78, len(LABELS))
    # Two steps ahead of random order, as far as that goes.
    found = np.stack([np.stack([at_random, at_random + 0.02])] * 3) + np.array([0, 0.001, -0.001])[:, None, None]
    rows = [line.split() for line in saved(found)[1:]]
    assert [row[-1] for row in rows[:7]] == ["400", "500", "600", "700", "800", "900", "1,000"]
    assert rows[-1][-2:] == ["over", "1,000"] and rows[0][3] == "+0.0200"


def test_a_forecast_holds_what_lies_in_its_range() -> None:
    tries = np.array([[0.80, 0.82, 0.81, 0.83, 0.0, 0.01], [0.80, 0.82, 0.83, 0.84, 0.0, 0.03]])
    assert held({250: tries})[1].split()[-10:] == "1 of 2 +0.020 +0.000 to +0.020 1 of 2".split()[-10:]


def test_a_list_is_judged_by_its_first_rows() -> None:
    hits = np.array([True] * 40 + [False] * 20 + [True] * 60 + [False] * 160)
    tries = {name: [Found(hits, 200), Found(hits[:60], 200)] for name in LOOKS}
    assert re.split(" {2,}", table_of(tries)[1])[-4:] == ["80% (least 80%)", "35% (least 20%)", "170", "35%"]


@pytest.mark.slow
def test_a_small_dataset_is_measured_and_a_smaller_one_refused(tiny_bert: Path, tmp_path: Path) -> None:
    splits = {"train": separable_reviews(1300, seed=1), "test": separable_reviews(60, seed=2)}
    # The tiny BERT reads 64 tokens, and the benchmark gives 128.
    weights = str(shutil.copytree(tiny_bert, tmp_path / "weights"))
    BertModel(BertConfig.from_pretrained(tiny_bert, max_position_embeddings=128)).save_pretrained(weights)
    folder = write_dataset(tmp_path / "reviews", **splits)
    said = measure_advice(str(folder), weights, 2, 1, tmp_path)
    assert "as many in random order" in said and "250" in said
    assert {"suspects.png", "to_label.png", "forecasts.png"} <= {path.name for path in tmp_path.iterdir()}
    splits["train"] = splits["train"].select(range(500))
    with pytest.raises(UsageError, match="1,100 of two"):
        measure_advice(str(write_dataset(tmp_path / "few", **splits)), weights, 2, 1, tmp_path)

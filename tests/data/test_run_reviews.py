"""A finished run's reviews are the ones it was trained with, or whoever asks for them is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_of, separable_reviews, write_dataset

from recipe.benchmarks import inference
from recipe.data.reviews import reviews_of
from recipe.errors import UsageError
from recipe.evaluation import evaluate_run
from recipe.export import export
from recipe.run_folder import RunFolder


def test_an_unchanged_run_gets_the_rows_it_was_trained_with(exported_run: RunFolder) -> None:
    reviews = reviews_of(exported_run)
    assert {name: split.sha256 for name, split in reviews.splits.items()} == exported_run.read_record().rows_sha256


@pytest.mark.parametrize("changed", ["train", "test"])
@pytest.mark.parametrize(
    "asked_for_by",
    [export, evaluate_run, lambda run: inference.measure(run, None, 10, 1)],
    ids=["export", "evaluation", "benchmark"],
)
def test_rows_that_changed_since_the_run_are_refused(
    asked_for_by: Callable[[RunFolder], Any], changed: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    run = copy_of(exported_run, tmp_path)
    rows = {"train": separable_reviews(300, seed=1), "test": separable_reviews(60, seed=2)}
    # The last word of one review; its label, and with it every stratified split, stays.
    last = len(rows[changed]) - 1
    rows[changed] = rows[changed].map(
        lambda row, number: {"content": row["content"] + " again"} if number == last else row, with_indices=True
    )
    other = write_dataset(tmp_path / "other", **rows)
    run.write_config(run.read_config() | {"dataset_name": str(other)})
    before = run.certificate.read_bytes()
    # By the seed, the last train row is held out for validation or it is not.
    message = f"^the ({changed}|validation) rows of .*other have changed since the run: train it again$"
    with pytest.raises(UsageError, match=message) as refused:
        asked_for_by(run)
    assert "\n" not in str(refused.value)
    assert run.certificate.read_bytes() == before and not run.report.exists()

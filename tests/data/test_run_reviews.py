"""A finished run's reviews are the ones it was trained with, or whoever asks for them is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_of, separable_reviews, write_dataset

from recipe.arguments.data import data_arguments_of
from recipe.benchmarks import inference
from recipe.data.reviews import load_reviews, reviews_of
from recipe.errors import UsageError
from recipe.evaluation import evaluate_run
from recipe.export import export
from recipe.files.atomic import file_sha256
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


@pytest.fixture
def run_on_files(exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The same run as if its rows had been files: train in two parts, and test."""
    monkeypatch.chdir(tmp_path)
    run, old = copy_of(exported_run, tmp_path), tmp_path / "old"
    old.mkdir()
    train, files = separable_reviews(300, seed=1), [old / "train-0.parquet", old / "train-1.parquet"]
    train.select(range(200)).to_parquet(files[0])
    train.select(range(200, 300)).to_parquet(files[1])
    separable_reviews(60, seed=2).to_parquet(old / "test.parquet")
    settings = {"train_file": list(map(str, files)), "test_file": str(old / "test.parquet")}
    run.write_config({name: value for name, value in run.read_config().items() if name != "dataset_name"} | settings)
    train_files, (test,) = ([said(file) for file in some] for some in (files, [old / "test.parquet"]))
    dataset = {"name": "mine", "files": {"train": train_files, "test": test}}
    run.write_record(replace(run.read_record(), dataset=dataset))
    return run


def said(file: Path) -> dict[str, str]:
    """What a record says of a file."""
    return {"file": str(file), "sha256": file_sha256(file)}


def test_a_run_finds_its_files_where_they_have_moved_to(run_on_files: RunFolder) -> None:
    recorded = run_on_files.read_record().rows_sha256
    assert {name: split.sha256 for name, split in reviews_of(run_on_files).splits.items()} == recorded
    shutil.move("old", "new")
    train, test = ["new/train-*.parquet"], ["new/test.parquet"]
    with pytest.raises(UsageError, match=r"train file is no longer at .*train-0.parquet: give .* --train_file with"):
        reviews_of(run_on_files)
    with pytest.raises(
        UsageError, match=r"test file is no longer at .*old/test.parquet: give .* and advise.py --test_file with"
    ):
        reviews_of(run_on_files, {"train": train})
    found = reviews_of(run_on_files, {"train": train, "test": test})
    assert {name: split.sha256 for name, split in found.splits.items()} == recorded and not found.other_test
    with pytest.raises(UsageError, match="the train rows of .* have changed since the run"):
        reviews_of(run_on_files, {"train": ["new/train-0.parquet"], "test": test})
    with pytest.raises(UsageError, match="--validation_file a.csv: the run was trained without a file of this kind"):
        reviews_of(run_on_files, {"train": train, "validation": ["a.csv"]})
    with pytest.raises(UsageError, match="no file 'nowhere.csv' here"):
        reviews_of(run_on_files, {"train": train, "test": ["nowhere.csv"]})


def test_other_test_rows_take_the_place_of_the_run_s_own(run_on_files: RunFolder, exported_run: RunFolder) -> None:
    Path("other.csv").write_text("label,content\n1,a good plot\nnegative,an awful plot\n")
    for run in (run_on_files, exported_run):
        found, recorded = reviews_of(run, {"test": ["other.csv"]}), run.read_record().rows_sha256
        assert found.test.labels.tolist() == [1, 0] and found.test.texts["content"][:] == [
            "a good plot",
            "an awful plot",
        ]
        assert [found.splits[name].sha256 for name in ("train", "validation")] == [
            recorded[name] for name in ("train", "validation")
        ]
        assert found.other_test == [said(Path("other.csv"))] and found.label_names == ["negative", "positive"]
    Path("other.csv").write_text("label,content\n1,good\n2,fine\n")
    with pytest.raises(UsageError, match="row 2 of other.csv has the label '2', which no train row has: 0, 1"):
        reviews_of(run_on_files, {"test": ["other.csv"]})


def test_the_run_s_own_test_rows_in_another_file_are_its_own(run_on_files: RunFolder) -> None:
    separable_reviews(60, seed=2).to_csv("test.csv")
    assert not reviews_of(run_on_files, {"test": ["test.csv"]}).other_test


def test_a_run_without_test_rows_is_given_some(run_on_files: RunFolder) -> None:
    run_on_files.write_config(run_on_files.read_config() | {"test_file": None})
    record = run_on_files.read_record()
    splits = load_reviews(data_arguments_of(run_on_files.read_config()), record.seed).splits
    run_on_files.write_record(replace(record, rows_sha256={name: split.sha256 for name, split in splits.items()}))
    with pytest.raises(UsageError, match="has no test split"):
        _ = reviews_of(run_on_files).test
    assert len(reviews_of(run_on_files, {"test": ["old/test.parquet"]}).test) == 60


def test_train_rows_left_out_for_a_test_file_that_is_gone_are_explained(run_on_files: RunFolder) -> None:
    # A row of test that train had too.
    test, train = separable_reviews(60, seed=2), separable_reviews(300, seed=1)
    test = test.map(lambda row, number: {"content": train["content"][number]} if number < 9 else row, with_indices=True)
    test.to_parquet("old/test.parquet")
    args, record = data_arguments_of(run_on_files.read_config()), run_on_files.read_record()
    splits = load_reviews(args, record.seed).splits
    hashes = {name: split.sha256 for name, split in splits.items()}
    run_on_files.write_record(replace(record, rows_sha256=hashes))
    Path("other.csv").write_text("label,content\n1,good\n0,awful\n")
    assert reviews_of(run_on_files, {"test": ["other.csv"]}).splits["train"].sha256 == hashes["train"]
    Path("old/test.parquet").unlink()
    message = "the train rows of .* have changed since the run, or also stood in its test file, which is no longer at "
    with pytest.raises(UsageError, match=message):
        reviews_of(run_on_files, {"test": ["other.csv"]})

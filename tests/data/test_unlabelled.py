"""Unlabelled reviews are new texts, never test rows, and their labels are never read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copy_of, files_under, separable_reviews
from datasets import Dataset
from oracles import run_record

from recipe.arguments.data import DataArguments
from recipe.data.labels import NO_LABEL
from recipe.data.reviews import Reviews, load_reviews
from recipe.data.unlabelled import read_unlabelled
from recipe.data.unseen import require_unseen
from recipe.errors import RecipeWarning, UsageError
from recipe.evaluation import evaluate_run
from recipe.files.atomic import file_sha256
from recipe.run_folder import RunFolder, RunRecord


@pytest.fixture
def args(reviews_folder: Path) -> DataArguments:
    return DataArguments(dataset_name=str(reviews_folder), text_columns=["content"])


def write(rows: Dataset, file: Path) -> list[str]:
    """Write rows as the extension says, and return the file as a flag gives it."""
    {".parquet": rows.to_parquet, ".csv": rows.to_csv, ".jsonl": rows.to_json}[file.suffix](file)
    return [str(file)]


NEW = Dataset.from_dict({"content": ["a new film", "", "A  NEW film", "another", "   ", "another"]})


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_empty_and_repeated_texts_are_left_out_and_counted(name: str, args: DataArguments, tmp_path: Path) -> None:
    found = read_unlabelled(write(NEW, tmp_path / name), args, load_reviews(args, seed=1))
    assert found.texts["content"][:] == ["a new film", "another"]
    assert found.dropped == {"no_text": 2, "repeated": 2, "also_in_train_or_validation": 0}
    assert found.files[0]["file"] == str(tmp_path / name) and len(found.files[0]["sha256"]) == 64


def test_reviews_of_train_and_validation_are_left_out_and_counted(args: DataArguments, tmp_path: Path) -> None:
    reviews = load_reviews(args, seed=1)
    known = [reviews.splits[name].texts["content"][0] for name in ("train", "validation")]
    rows = Dataset.from_dict({"content": [known[0].upper(), "new", known[1], known[1]]})
    found = read_unlabelled(write(rows, tmp_path / "a.csv"), args, reviews)
    assert found.texts["content"][:] == ["new"]
    assert found.dropped == {"no_text": 0, "repeated": 1, "also_in_train_or_validation": 2}
    with pytest.raises(UsageError, match="none is new"):
        read_unlabelled(write(rows.select([0, 2]), tmp_path / "b.csv"), args, reviews)


def test_test_rows_are_refused_with_their_number(args: DataArguments, tmp_path: Path) -> None:
    reviews = load_reviews(args, seed=1)
    texts = ["new", *reviews.test.texts["content"][:2], f" {reviews.test.texts['content'][2].upper()}\t"]
    file = write(Dataset.from_dict({"content": texts}), tmp_path / "a.parquet")
    with pytest.raises(
        UsageError, match=r"^3 of the 4 reviews of .*a\.parquet stand in the test rows, .*: leave"
    ) as said:
        read_unlabelled(file, args, reviews)
    assert "\n" not in str(said.value)


def test_labels_are_never_read(args: DataArguments, tmp_path: Path) -> None:
    rows = separable_reviews(20, seed=5)
    # No label that train knows, and lists, which no label may be.
    strange = rows.remove_columns("label").add_column("label", [["?"]] * 20)
    reviews = load_reviews(args, seed=1)
    without, with_labels = (
        read_unlabelled(write(some, tmp_path / f"{name}.parquet"), args, reviews)
        for name, some in {"without": rows.remove_columns("label"), "with": strange}.items()
    )
    assert without.sha256 == with_labels.sha256 and "label" not in with_labels.rows.column_names
    assert np.array_equal(with_labels.labels, np.full(20, NO_LABEL))


def test_a_file_without_the_text_column_is_refused(args: DataArguments, tmp_path: Path) -> None:
    file = write(Dataset.from_dict({"title": ["new"]}), tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"a\.csv has no column 'content'; it has title \(--text_columns chooses"):
        read_unlabelled(file, args, load_reviews(args, seed=1))


@pytest.fixture
def other_test(reviews_folder: Path, tmp_path: Path) -> Reviews:
    """Reviews whose test rows are those of another file, which the run was not trained beside."""
    args = DataArguments(dataset_name=str(reviews_folder), text_columns=["content"])
    return load_reviews(args, seed=1, other_test=write(separable_reviews(20, seed=5), tmp_path / "other.parquet"))


def learned_from(file: str, sha256: str | None = None) -> tuple[RunRecord, dict[str, Any]]:
    """The record and the settings of a run that has learned from an unlabelled file."""
    files = [{"file": file, "sha256": sha256 or file_sha256(Path(file))}]
    return run_record(unlabelled={"files": files}), {"text_columns": ["content"], "unlabelled_file": file}


def test_other_test_rows_are_refused_where_the_run_learned_from_them(other_test: Reviews, tmp_path: Path) -> None:
    file = write(separable_reviews(25, seed=5).remove_columns("label"), tmp_path / "a.parquet")
    message = r"^20 of the 25 reviews of .*a\.parquet stand in the test rows, .*: leave them out of the test file, or"
    with pytest.raises(UsageError, match=message):
        require_unseen(other_test, *learned_from(file[0]))
    require_unseen(other_test, run_record(), {"text_columns": ["content"]})
    require_unseen(other_test, *learned_from(write(NEW, tmp_path / "new.csv")[0]))


def test_an_edited_unlabelled_file_does_not_lift_the_guard(other_test: Reviews, tmp_path: Path) -> None:
    file = write(separable_reviews(25, seed=5).remove_columns("label"), tmp_path / "a.parquet")
    record, settings = learned_from(file[0])
    write(separable_reviews(25, seed=6).remove_columns("label"), tmp_path / "a.parquet")
    with pytest.raises(
        UsageError, match=r"a\.parquet has changed since the run, .*: restore it, or train again$"
    ) as said:
        require_unseen(other_test, record, settings)
    assert "\n" not in str(said.value)


def test_an_evaluation_on_rows_that_were_learned_from_unlabelled_writes_nothing(
    exported_run: RunFolder, tmp_path: Path
) -> None:
    run, rows = copy_of(exported_run, tmp_path), separable_reviews(20, seed=5)
    record, settings = learned_from(write(rows, tmp_path / "a.parquet")[0])
    run.write_config(run.read_config() | {"unlabelled_file": settings["unlabelled_file"]})
    run.write_record(replace(run.read_record(), unlabelled=record.unlabelled))
    before = files_under(run.path)
    with pytest.raises(UsageError, match="^20 of the 20 reviews of .* stand in the test rows"):
        evaluate_run(run, files={"test": write(rows, tmp_path / "b.parquet")})
    assert files_under(run.path) == before


def test_unlabelled_reviews_that_are_gone_are_said_to_be_unknown(other_test: Reviews, tmp_path: Path) -> None:
    with pytest.warns(RecipeWarning, match=r"no longer at .*gone\.csv: whether test rows are among them is not known"):
        require_unseen(other_test, *learned_from(str(tmp_path / "gone.csv"), "0" * 64))

"""Labels that were changed on purpose are found, and what is noise is called noise."""

import csv
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copy_of, load_script, separable_reviews, write_dataset
from datasets import Dataset
from sklearn.metrics import f1_score

from recipe.advice.run import advise, summary, unedited
from recipe.advice.suspects import check_list, fold_numbers, learners, named_issues, out_of_fold
from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import load_reviews, reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.files.spreadsheet import text_of
from recipe.inference.pytorch import TorchClassifier
from recipe.run_folder import RunFolder

ROWS, FLIPPED = 300, range(7, 300, 25)


@pytest.fixture
def run_on(tiny_run: RunFolder, tmp_path: Path) -> Callable[[Dataset], RunFolder]:
    """A copy of the finished run as if it had been trained on these reviews."""

    def made(train: Dataset) -> RunFolder:
        run = copy_of(tiny_run, tmp_path)
        folder = write_dataset(tmp_path / "rows", train=train, test=separable_reviews(60, seed=2))
        run.write_config(run.read_config() | {"dataset_name": str(folder)})
        record = run.read_record()
        reviews = load_reviews(data_arguments_of(run.read_config()), record.seed)
        hashes = {name: split.sha256 for name, split in reviews.splits.items()}
        validation = reviews.splits["validation"]
        answers = TorchClassifier.from_run(run.path).logits(texts_of(validation)).argmax(axis=1)
        best = replace(record.best, f1=float(f1_score(validation.labels, answers, zero_division=0)))
        run.write_record(replace(record, rows_sha256=hashes, dataset=reviews.origin, best=best))
        return run

    return made


def with_labels(labels: list[int]) -> Dataset:
    """The separable reviews with other labels, and a number in each text, so that none repeats another."""
    rows = separable_reviews(ROWS, seed=1)
    texts = [f"{text} {number}" for number, text in enumerate(rows["content"])]
    return Dataset.from_dict({"label": labels, "title": rows["title"], "content": texts}, features=rows.features)


@pytest.fixture
def flipped_run(run_on: Callable[[Dataset], RunFolder]) -> RunFolder:
    """The run on reviews of which twelve have the wrong label."""
    return run_on(with_labels([row % 2 ^ (row in FLIPPED) for row in range(ROWS)]))


def suspects_of(run: RunFolder) -> list[dict[str, str]]:
    """The rows of suspects.csv."""
    with (run.path / "advice" / "suspects.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_that_were_changed_come_first_with_the_label_that_they_had(flipped_run: RunFolder) -> None:
    said, *_ = advise(flipped_run)
    rows, texts = suspects_of(flipped_run), with_labels([0] * ROWS)["content"][:]
    numbers = [texts.index(text_of(row["content"])) for row in rows]
    assert len(set(numbers) & set(FLIPPED)) >= len(FLIPPED) / 2 and set(numbers[:5]) <= set(FLIPPED)
    assert [row["likely_label"] for row in rows[:5]] == [("negative", "positive")[number % 2] for number in numbers[:5]]
    assert all(row["given_label"] != row["likely_label"] and not row["correct_label"] for row in rows)
    sure = [float(row["probability"]) for row in rows]
    assert sure == sorted(sure, reverse=True) and sure[0] > 0.5
    assert said.figures["suspects"] == len(rows) and not said.figures["is_noise"]
    assert said.lines[0].startswith(f"{len(rows)} of 300 labels")


def test_a_row_of_the_file_is_named_by_its_split_and_number(flipped_run: RunFolder) -> None:
    advise(flipped_run)
    splits = reviews_of(flipped_run).splits
    for row in suspects_of(flipped_run):
        assert splits[row["split"]].texts["content"][int(row["row"]) - 1] == text_of(row["content"])


def test_the_corrected_file_gives_the_labels_back(flipped_run: RunFolder) -> None:
    advise(flipped_run)
    file = flipped_run.path / "advice" / "suspects.csv"
    rows, texts = suspects_of(flipped_run), with_labels([0] * ROWS)["content"][:]
    true = [("negative", "positive")[texts.index(text_of(row["content"])) % 2] for row in rows]
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        # As a spreadsheet of some countries writes it.
        writer = csv.DictWriter(stream, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows([row | {"correct_label": label} for row, label in zip(rows, true, strict=True)])
    args = data_arguments_of(flipped_run.read_config())
    before = load_reviews(args, flipped_run.read_record().seed).splits
    args.corrections = [str(file)]
    after = load_reviews(args, flipped_run.read_record().seed)
    wrong = {name: 0 for name in after.origin["corrections"]["rows"]}
    for name in wrong:
        truth = np.array([texts.index(text) % 2 for text in after.splits[name].texts["content"]])
        wrong[name] = int((before[name].labels != truth).sum() - (after.splits[name].labels != truth).sum())
    assert after.origin["corrections"]["rows"] == wrong and sum(wrong.values()) >= len(FLIPPED) / 2
    with pytest.raises(UsageError, match=r"suspects.csv was edited since, and would be replaced: move it elsewhere"):
        advise(flipped_run)


def test_an_unedited_answer_is_replaced(flipped_run: RunFolder) -> None:
    advise(flipped_run)
    before = json.loads((flipped_run.path / "advice" / "advice.json").read_text())
    advise(flipped_run)
    assert json.loads((flipped_run.path / "advice" / "advice.json").read_text()) == before


def test_a_list_that_was_edited_after_an_interruption_is_kept(
    flipped_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recipe.advice.run.curve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        advise(flipped_run)
    folder = flipped_run.path / "advice"
    assert json.loads((folder / "advice.json").read_text())["files"] == {
        "suspects.csv": file_sha256(folder / "suspects.csv")
    }
    with pytest.raises(KeyboardInterrupt):
        advise(flipped_run)
    with (folder / "suspects.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match="suspects.csv was edited since"):
        advise(flipped_run)


@pytest.mark.parametrize("known", ['{"files": {}}', "[]", None])
def test_a_list_that_no_answer_is_known_to_have_written_is_kept(known: str | None, tmp_path: Path) -> None:
    (tmp_path / "to_label.csv").write_text("content,label\n")
    if known:
        (tmp_path / "advice.json").write_text(known)
    with pytest.raises(UsageError, match="to_label.csv was edited since"):
        unedited(tmp_path)


@pytest.mark.parametrize(
    ("settings", "unlabelled", "message"),
    [
        ({"label_column": "predicted"}, True, "to_label.csv has a column 'predicted' of its own, which the reviews"),
        ({"text_columns": ["title", "probability"]}, True, "suspects.csv has a column 'probability' of its own, which"),
        ({"text_columns": ["row"]}, False, "suspects.csv has a column 'row' of its own, .*: rename it in your files"),
        ({"label_column": "predicted"}, False, "'predicted'; it has label, title, content"),
    ],
)
def test_no_column_of_the_reviews_is_overwritten(
    settings: dict[str, Any], unlabelled: bool, message: str, tiny_run: RunFolder, tmp_path: Path
) -> None:
    run = copy_of(tiny_run, tmp_path)
    run.write_config(run.read_config() | settings)
    with pytest.raises(UsageError, match=message) as refused:
        advise(run, unlabelled_file=["new.csv"] if unlabelled else None)
    assert "\n" not in str(refused.value) and not (run.path / "advice").exists()


def test_labels_without_any_rule_are_called_noise(run_on: Callable[[Dataset], RunFolder]) -> None:
    draw = random.Random(5)
    said, *_ = advise(run_on(with_labels([draw.randrange(2) for _ in range(ROWS)])))
    assert said.figures["is_noise"] and said.lines[0].startswith("Noise, ") and "of 12 labels" in said.lines[0]


def test_where_no_label_is_wrong_nothing_stands_out(run_on: Callable[[Dataset], RunFolder]) -> None:
    said, *_ = advise(run_on(with_labels([row % 2 for row in range(ROWS)])))
    assert said.figures["suspects"] <= 3 and not said.figures["is_noise"]


def test_no_test_row_is_read_and_the_test_rows_may_be_gone(
    flipped_run: RunFolder, reads_of_test_rows: list[str], tmp_path: Path
) -> None:
    assert reviews_of(flipped_run).test.labels.size == 60 and reads_of_test_rows == ["labels"], "it counts"
    reads_of_test_rows.clear()
    more = separable_reviews(20, seed=7)["content"]
    Dataset.from_dict({"content": [f"{text} and more" for text in more]}).to_parquet(tmp_path / "more.parquet")
    assert len(advise(flipped_run, unlabelled_file=[str(tmp_path / "more.parquet")])) == 4
    found = summary(advise(flipped_run))
    assert not reads_of_test_rows
    record = flipped_run.read_record()
    parts = {name: str(tmp_path / "rows" / f"{name}-00000-of-00001.parquet") for name in ("train", "test")}
    files = {name: {"file": file, "sha256": ""} for name, file in parts.items()}
    settings = flipped_run.read_config() | {f"{name}_file": file for name, file in parts.items()}
    flipped_run.write_config(settings)
    flipped_run.write_record(replace(record, dataset={"name": "mine", "files": files}))
    Path(parts["test"]).unlink()
    assert summary(advise(flipped_run)) == found


def test_repetitions_of_a_text_are_in_one_fold_and_each_fold_has_each_label() -> None:
    keys = np.array([row // 2 for row in range(100)], dtype=np.uint64)
    labels = np.array([row // 2 % 2 for row in range(100)])
    folds = fold_numbers(keys, labels)
    assert (folds[::2] == folds[1::2]).all()
    assert [np.bincount(labels[folds == fold]).tolist() for fold in range(5)] == [[10, 10]] * 5


def test_a_label_says_nothing_about_the_probabilities_of_its_own_row() -> None:
    texts = with_labels([0] * ROWS)["content"][:100]
    labels = np.arange(100) % 2
    views = learners(texts, np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    folds = fold_numbers(np.arange(100, dtype=np.uint64), labels)
    changed = labels.copy()
    changed[3] = 1 - changed[3]
    before, after = (out_of_fold(views, some, folds, 2) for some in (labels, changed))
    same = folds == folds[3]
    assert np.array_equal(before[same], after[same]) and not np.array_equal(before[~same], after[~same])
    assert np.allclose(before.sum(axis=1), 1)


@pytest.mark.parametrize(
    "labels", [[0, 1], [0, 0, 1], [0, 1, 0, 1], [0, 1, 2], [0, 1, 2, 0, 1], [0, 0, 0, 0, 0, 1], [0, 1, 0]]
)
def test_few_rows_are_judged_all_the_same(labels: list[int]) -> None:
    given, rows = np.array(labels), len(labels)
    views = learners([f"film {row}" for row in range(rows)], np.eye(rows, dtype=np.float32))
    folds = fold_numbers(np.arange(rows, dtype=np.uint64), given)
    probabilities = out_of_fold(views, given, folds, max(labels) + 1)
    assert np.allclose(probabilities.sum(axis=1), 1)
    named_issues(given, probabilities)
    assert check_list(views, given, folds, max(labels) + 1).is_noise


def test_where_all_others_have_one_label_a_row_should_have_it_too() -> None:
    views = learners(["good film", "bad film", "a film"], np.eye(3, dtype=np.float32))
    labels = np.array([0, 1, 1])
    assert out_of_fold(views, labels, np.arange(3), 2)[0].tolist() == [0, 1]


def test_reviews_without_words_are_judged_by_what_there_is() -> None:
    views = learners([("", "!!!"), ("", "???"), ("", "!!"), ("", "??")], np.eye(4, dtype=np.float32))
    assert [view.features.shape[0] for view in views] == [4] * len(views) and len(views) == 2


def test_what_the_script_says_fits_on_a_screen(
    flipped_run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script("advise")
    script.main(["--run", str(flipped_run.path)])
    printed = capsys.readouterr()
    assert printed.err == "" and re.search(r"^Labels to check$", printed.out, re.M)
    assert len(printed.out.splitlines()) <= 16 and f"--corrections {flipped_run.path}" in printed.out
    monkeypatch.setattr("recipe.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"cleanlab is not installed: run pip install -e '.\[advise\]'"):
        script.main(["--run", str(flipped_run.path)])

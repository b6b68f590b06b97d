"""A finished run answers the reviews without labels, if it can, and if no test row has taught it."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import change_weights, copy_of, files_under, separable_reviews, weights_of
from datasets import Dataset
from safetensors.torch import save_file

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.data import load_reviews, texts_of
from recipe.data.unseen import require_unseen, require_unseen_by
from recipe.errors import RecipeWarning, UsageError
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.softmax import softmax
from recipe.publishing.contents import _numbers_and_columns
from recipe.run_folder import RunFolder
from recipe.training import refit
from recipe.training.job import header, prepare, read_material
from recipe.training.run import inspect_only, train
from recipe.training.teacher import Teacher, find_teacher, open_teacher

FLAGS = "--max_train_samples 60 --num_train_epochs 2 --refit".split()


@pytest.fixture
def new_reviews(tmp_path: Path) -> Path:
    """100 reviews that neither train nor test has, without labels, the shortest last."""
    file, rows = tmp_path / "new.parquet", separable_reviews(100, seed=9).remove_columns("label")
    rows.select(sorted(range(100), key=lambda row: -len(rows[row]["content"]))).to_parquet(file)
    return file


@pytest.fixture
def taught(tiny_arguments: Callable[..., Arguments], tiny_run: RunFolder, new_reviews: Path) -> Arguments:
    return tiny_arguments(*FLAGS, "--unlabelled_file", str(new_reviews), "--teacher", str(tiny_run))


def test_the_last_training_learns_from_the_answers_of_the_teacher(
    taught: Arguments, tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    inner = refit.with_answers
    monkeypatch.setattr(refit, "with_answers", lambda *args: given.append(args) or inner(*args))
    trained, watched = [], refit.UnsavedCallback.train
    monkeypatch.setattr(
        refit.UnsavedCallback, "train", lambda self: (trained.append(self.description), watched(self))[1]
    )
    run = train(taught)
    assert trained == ["with unlabelled"]
    unlabelled = read_material(taught).unlabelled
    assert unlabelled is not None
    texts = texts_of(unlabelled)
    (_, rows, answers, _, _) = given[0]
    expected = softmax(TorchClassifier.from_run(tiny_run.path).logits(texts))
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    # The rows that were answered are those that are learned from, in the same order.
    assert rows["length"][:] == [len(TorchClassifier(run.path).tokenizer.encode(text).ids) for text in texts]
    record = run.read_record()
    assert record.unlabelled is not None and record.refit is not None and record.refit.rows == 60
    teacher = record.unlabelled["teacher"]
    assert teacher["weights"] == Path(tiny_run.read_record().weights["name"]).name
    assert teacher["name"] == tiny_run.path.name and teacher["parameters"] == record.weights["parameters"]
    assert run.read_config()["teacher"] == str(tiny_run.path.resolve())


def test_the_header_names_the_teacher(taught: Arguments, tiny_run: RunFolder) -> None:
    lines = header(prepare(taught)).splitlines()
    assert any(f"learned from in the end, as {tiny_run} (0.0 M parameters) answers them" in line for line in lines)


def test_a_run_is_not_resumed_with_another_teacher(
    taught: Arguments, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(refit, "with_answers", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(taught)
    other = copy_of(tiny_run, tmp_path / "other")
    change_weights(other, "classifier.bias", 1.0)
    taught.training.resume, taught.data.teacher = True, str(other)
    with pytest.raises(UsageError, match=r"is of another run: teacher \(.*, now .*\) changed since"):
        train(taught)


def test_a_teacher_without_a_pupil_is_refused() -> None:
    with pytest.raises(UsageError, match="^--teacher answers the reviews of --unlabelled_file: give that too$"):
        parse_arguments(["--teacher", "runs/large"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("unfinished", r"^\S+ holds no finished run: run.json is missing from it. Train it first$"),
        ("overwritten", r"^--teacher \S+ is in --output_dir, or has learned from what is there: choose another --out"),
        ("a seed", r"^--teacher \S+ is in --output_dir, or has learned from what is there: choose another --out"),
        ("its teacher", r"^--teacher \S+ is in --output_dir, or has learned from what is there: choose another --out"),
        ("columns", r"^the teacher \S+ reads title, content, and this run content: give --text_columns as the t"),
        ("labels", r"^the teacher \S+ knows the labels bad, good, and the reviews have negative, positive, in this"),
        ("rows", r"^the teacher \S+: the train rows of .* have changed since the run"),
        ("damaged", r"^the model in \S+ cannot be loaded"),
        ("broken", r"^the teacher \S+ answers with what is not a number: its weights are broken, train it again$"),
    ],
)
def test_a_teacher_that_cannot_answer_is_refused_before_anything_is_written(
    change: str, message: str, taught: Arguments, tiny_run: RunFolder, tmp_path: Path
) -> None:
    teacher = copy_of(tiny_run, tmp_path / "teacher")
    taught.data.teacher = str(teacher)
    record = json.loads(teacher.record.read_text())
    if change == "unfinished":
        teacher.record.unlink()
    elif change == "overwritten":
        taught.training.output_dir, taught.training.overwrite_output_dir = str(teacher), True
    elif change == "a seed":
        taught.training.output_dir, taught.training.overwrite_output_dir = str(tmp_path / "many"), True
        teacher = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "many" / "seeds" / "42"))
        taught.data.teacher = str(teacher)
    elif change == "its teacher":
        above = copy_of(tiny_run, tmp_path / "above")
        teacher.write_config(teacher.read_config() | {"teacher": str(above)})
        # As it is after a run was renamed: what is above ends somewhere all the same.
        above.write_config(above.read_config() | {"teacher": str(above)})
        taught.training.output_dir, taught.training.overwrite_output_dir = str(above), True
    elif change == "columns":
        teacher.write_config(teacher.read_config() | {"text_columns": ["title", "content"]})
    elif change == "labels":
        teacher.record.write_text(json.dumps(record | {"labels": ["bad", "good"]}))
    elif change == "damaged":
        teacher.weights.write_bytes(teacher.weights.read_bytes()[:-100])
    elif change == "broken":
        change_weights(teacher, "classifier.bias", float("nan"))
    else:
        digests = record["rows_sha256"] | {"train": "0" * 64}
        teacher.record.write_text(json.dumps(record | {"rows_sha256": digests}))
    before = files_under(teacher.path) | {".lock"}
    with pytest.raises(UsageError, match=message) as refused:
        train(taught)
    assert "\n" not in str(refused.value) and files_under(teacher.path) | {".lock"} == before
    assert change in ("overwritten", "its teacher", "a seed") or files_under(tmp_path / "run") <= {".lock"}


def test_an_inspection_refuses_a_teacher_that_cannot_answer(taught: Arguments, tiny_run: RunFolder) -> None:
    taught.data.text_columns = ["title", "content"]
    with pytest.raises(UsageError, match=rf"^the teacher {tiny_run} reads content, and this run title, content"):
        inspect_only(taught)


def test_a_teacher_answers_on_the_device_of_the_run(taught: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    material, device = read_material(taught), taught.training.device
    assert material.unlabelled is not None
    # As with --use_cpu on a machine that has a GPU.
    monkeypatch.setattr("torch.cuda.is_available", lambda: device.type == "cpu")
    found = find_teacher(open_teacher(taught), taught, material.reviews, material.unlabelled.learned)
    assert found.device == device


def test_a_teacher_that_knows_test_rows_is_refused(
    tiny_run: RunFolder, reviews_folder: Path, new_reviews: Path, tmp_path: Path
) -> None:
    known = load_reviews(parse_arguments(["--dataset_name", str(reviews_folder)]).data, seed=42).splits["train"]
    texts = [*known.texts["content"][:7], *separable_reviews(5, seed=8)["content"]]
    Dataset.from_dict({"content": texts, "label": [0, 1] * 6}).to_parquet(tmp_path / "test.parquet")
    separable_reviews(60, seed=7).to_parquet(tmp_path / "train.parquet")
    flags = f"--train_file {tmp_path}/train.parquet --test_file {tmp_path}/test.parquet --output_dir {tmp_path}/run "
    flags += f"--unlabelled_file {new_reviews} --teacher {tiny_run} --model_name_or_path {tiny_run} --max_length 32"
    message = r"^7 of the 300 reviews of the teacher \S+ stand in the test rows, .*, or take another teacher$"
    with pytest.raises(UsageError, match=message) as refused:
        train(parse_arguments(flags.split()))
    assert "\n" not in str(refused.value) and files_under(tmp_path / "run") <= {".lock"}


def test_an_evaluation_on_rows_that_the_teacher_has_learned_from_is_refused(
    taught: Arguments, tiny_run: RunFolder, tmp_path: Path
) -> None:
    teacher = copy_of(tiny_run, tmp_path / "teacher")
    taught.data.teacher = taught.resolved["teacher"] = str(teacher)
    run = train(taught)
    record, settings = run.read_record(), run.read_config()
    known = load_reviews(taught.data, seed=42, other_test=None).splits["train"]
    rows = Dataset.from_dict({"content": known.texts["content"][:5], "label": known.labels[:5]})
    rows.to_parquet(tmp_path / "other.parquet")
    seen = load_reviews(taught.data, seed=42, other_test=[str(tmp_path / "other.parquet")])
    with pytest.raises(
        UsageError, match=r"^5 of the 300 reviews of the teacher .* the test file, or train again without"
    ):
        require_unseen(seen, record, settings)
    separable_reviews(20, seed=5).to_parquet(tmp_path / "unseen.parquet")
    unseen = load_reviews(taught.data, seed=42, other_test=[str(tmp_path / "unseen.parquet")])
    require_unseen(unseen, record, settings)
    change_weights(teacher, "classifier.bias", 1.0)
    with pytest.raises(UsageError, match=r"^the teacher \S+ has changed since the run: restore it, or train again$"):
        require_unseen(unseen, record, settings)
    teacher.weights.unlink()
    with pytest.warns(
        RecipeWarning, match=r"^the run's teacher is no longer at \S+: whether test rows are among them is n"
    ):
        require_unseen(seen, record, settings)


def test_what_the_teacher_itself_was_taught_by_counts_too(
    taught: Arguments, tiny_run: RunFolder, new_reviews: Path, tmp_path: Path
) -> None:
    # The teacher has learned from unlabelled reviews that are now test rows.
    run = train(taught)
    rows = Dataset.from_parquet(str(new_reviews)).select(range(4)).add_column("label", [0, 1, 0, 1])
    rows.to_parquet(tmp_path / "test.parquet")
    reviews = load_reviews(taught.data, seed=42, other_test=[str(tmp_path / "test.parquet")])
    with pytest.raises(UsageError, match=r"^4 of the 100 reviews of .*new\.parquet stand in the test rows"):
        require_unseen_by(run, reviews)
    # Where it cannot be known, nothing is learned from it.
    new_reviews.rename(tmp_path / "elsewhere.parquet")
    with pytest.raises(
        UsageError, match=r"^the teacher \S+'s unlabelled reviews are no longer at .*: whether test rows"
    ):
        require_unseen_by(run, reviews)


def test_a_teacher_whose_unlabelled_reviews_were_labelled_since_can_teach(
    taught: Arguments, new_reviews: Path, tmp_path: Path
) -> None:
    run = train(taught)
    rows = Dataset.from_parquet(str(new_reviews)).add_column("label", [0, 1] * 50)
    rows.to_parquet(tmp_path / "labelled.parquet")
    separable_reviews(20, seed=6).to_parquet(tmp_path / "test.parquet")
    flags = f"--train_file {tmp_path}/labelled.parquet --test_file {tmp_path}/test.parquet".split()
    require_unseen_by(run, load_reviews(parse_arguments(flags).data, seed=42))


@pytest.mark.parametrize(("theirs", "own"), [(["title", "content"], ["content", "title"]), (["title"], ["content"])])
def test_other_columns_of_the_same_dataset_are_refused(
    theirs: list[str], own: list[str], taught: Arguments, tiny_run: RunFolder, tmp_path: Path
) -> None:
    teacher = copy_of(tiny_run, tmp_path / "teacher")
    teacher.write_config(teacher.read_config() | {"text_columns": theirs})
    material = read_material(taught)
    taught.data.text_columns = own
    assert material.unlabelled is not None
    message = rf"^the teacher \S+ reads {', '.join(theirs)}, and this run {', '.join(own)}: give --text_columns as"
    with pytest.raises(UsageError, match=message):
        find_teacher(teacher, taught, material.reviews, material.unlabelled.learned)


@pytest.mark.parametrize(
    ("theirs", "own", "there", "accepted"),
    [
        (["content"], ["content"], ["content"], True),
        (["text"], ["content"], ["content", "title"], True),
        (["title"], ["content"], ["content", "title"], False),
        (["title", "content"], ["body", "title"], ["body", "title"], False),
        (["title", "content"], ["headline", "body"], ["headline", "body"], True),
        (["content"], ["content", "title"], ["content", "title"], False),
    ],
)
def test_a_column_of_the_same_name_stands_in_the_same_place(
    theirs: list[str],
    own: list[str],
    there: list[str],
    accepted: bool,
    taught: Arguments,
    tiny_run: RunFolder,
    tmp_path: Path,
) -> None:
    teacher, rows = copy_of(tiny_run, tmp_path / "teacher"), separable_reviews(60, seed=7)
    teacher.write_config(teacher.read_config() | {"text_columns": theirs})
    taught.data.text_columns = own
    Dataset.from_dict({name: rows["content"] for name in there} | {"label": rows["label"]}).to_csv(
        tmp_path / "mine.csv"
    )
    flags = ["--train_file", str(tmp_path / "mine.csv"), "--text_columns", *own]
    reviews = load_reviews(parse_arguments(flags).data, seed=42)
    asked = reviews.splits["validation"]
    if accepted:
        find_teacher(teacher, taught, reviews, asked)
        return
    with pytest.raises(
        UsageError, match=r"^the teacher \S+ reads .*, and this run .*: give --text_columns as the teach"
    ):
        find_teacher(teacher, taught, reviews, asked)


def test_a_teacher_answers_before_anything_is_trained(taught: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(self: Teacher) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Teacher, "answers", property(press))
        with pytest.raises(KeyboardInterrupt):
            train(taught)
    assert files_under(Path(str(taught.training.output_dir))) <= {".lock"}, "nothing to resume, and nothing in the way"
    assert train(taught).is_finished


def test_an_earlier_run_outlives_a_teacher_whose_later_answers_are_broken(
    taught: Arguments, tiny_run: RunFolder, tmp_path: Path
) -> None:
    teacher = copy_of(tiny_run, tmp_path / "teacher")
    first, *others = read_material(taught).tokens["unlabelled"]["input_ids"][:]
    weights = weights_of(teacher.path)
    # Of a token that the first review, which tells whether it answers at all, does not have.
    unseen = next(token for row in others for token in row if token not in first)
    weights["bert.embeddings.word_embeddings.weight"][unseen] = math.nan
    save_file(weights, teacher.weights, metadata={"format": "pt"})
    taught.data.teacher = str(teacher)
    earlier = copy_of(tiny_run, tmp_path)
    before = {file: (earlier.path / file).read_bytes() for file in files_under(earlier.path)}
    taught.training.overwrite_output_dir = True
    with pytest.raises(UsageError, match=r"^the teacher \S+ answers with what is not a number"):
        train(taught)
    assert {file: (earlier.path / file).read_bytes() for file in before} == before


def test_a_published_run_is_no_teacher_where_there_are_test_rows(
    taught: Arguments, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = copy_of(tiny_run, tmp_path / "published")
    published.write_config(_numbers_and_columns(published.read_config()))
    taught.data.teacher = str(published)
    monkeypatch.setattr("recipe.data.unseen.reviews_of", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(UsageError, match=r"^the teacher \S+ does not say where its reviews are: whether test rows"):
        train(taught)


def test_a_teacher_is_looked_at_before_the_reviews(taught: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    taught.data.teacher = "nowhere"
    monkeypatch.setattr("recipe.training.job.load_reviews", lambda *args: 1 / 0)
    with pytest.raises(UsageError, match=r"^no run at nowhere .* or say where with --teacher$"):
        train(taught)


def test_what_is_gone_of_a_teacher_is_refused_in_training_and_told_at_evaluation(
    taught: Arguments, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copy_of(tiny_run, tmp_path / "first")
    taught.data.teacher = taught.resolved["teacher"] = str(first)
    run = train(taught)
    separable_reviews(20, seed=5).to_parquet(tmp_path / "unseen.parquet")
    unseen = load_reviews(taught.data, seed=42, other_test=[str(tmp_path / "unseen.parquet")])
    first.write_config(first.read_config() | {"train_file": "gone.csv"})
    with pytest.warns(RecipeWarning, match=r"^the teacher \S+'s reviews are no longer at gone\.csv: whether test rows"):
        require_unseen(unseen, run.read_record(), run.read_config())
    first.weights.unlink()
    with pytest.raises(UsageError, match=r"^the teacher \S+'s teacher is no longer at \S+: whether .*; put them back"):
        require_unseen_by(run, unseen)
    # As a publication is, whose config names no file.
    monkeypatch.chdir(tmp_path)
    assert RunFolder("run").is_finished, "another run has the teacher's name here"
    bare = {name: value for name, value in run.read_config().items() if name not in ("unlabelled_file", "teacher")}
    with (
        pytest.warns(RecipeWarning, match=r"^the run does not say where its unlabelled reviews are: whether test"),
        pytest.warns(RecipeWarning, match=r"^the run's teacher is no longer at run: whether test rows"),
    ):
        require_unseen(unseen, run.read_record(), bare)

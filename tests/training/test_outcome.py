"""A training that reached nothing says so and what to try, which then helps; one that learned says nothing."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import FEATURES, run_script, separable_reviews, write_dataset
from datasets import Dataset
from scipy.stats import fisher_exact
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from transformers.trainer_utils import EvalLoopOutput

from recipe.arguments.parser import Arguments
from recipe.run_folder import RunFolder, RunRecord, Validation
from recipe.training import outcome
from recipe.training.job import TrainingJob, prepare
from recipe.training.outcome import advice, beats_one_label, validation_of
from recipe.training.run import train

# 80 train and 20 validation rows: ten steps.
SHORT = "--max_train_samples 100 --num_train_epochs 1".split()


def rows_of(**counts: int) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted labels: `tn=3` gives three rows with 0 that are predicted 0."""
    kinds = {"tn": (0, 0), "fp": (0, 1), "fn": (1, 0), "tp": (1, 1)}
    labels, predicted = np.repeat([kinds[name] for name in counts], list(counts.values()), axis=0).T
    return labels, predicted


def validated(job: TrainingJob) -> Validation:
    """What the untrained model reaches."""
    job.trainer.evaluate()
    return validation_of(job)


def test_a_run_that_learned_says_nothing(tiny_run: RunFolder) -> None:
    found = tiny_run.read_record().to_json()["validation"]
    # One word tells, and TF-IDF overlooks it once among 60 rows, half of them negative.
    assert found == {"majority": "negative", "majority_share": 0.5, "baseline_f1": pytest.approx(60 / 61), "notes": []}


@pytest.mark.slow
def test_a_model_with_one_label_for_everything_says_so_and_its_advice_helps(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    short = train(tiny_arguments(*SHORT)).read_record().validation
    assert short is not None
    one_label, last = short.notes
    assert re.fullmatch("The model gives '(negative|positive)' to every review.", one_label)
    assert "accuracy 0.5000 is no better, beyond noise, than 'negative' for every review (0.5000)" in last
    assert f"than TF-IDF's {short.baseline_f1:.4f}" in last
    tried = re.search(r"Too few steps \(10\): try (--num_train_epochs 20)\.$", last)
    assert tried, last
    longer = train(tiny_arguments(*SHORT, *tried[1].split(), "--output_dir", str(tmp_path / "longer"))).read_record()
    assert longer.epochs[-1].step == 200 and longer.validation and longer.validation.notes == []


@pytest.mark.slow
def test_two_processes_say_it_once(tiny_flags: list[str], tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    result = run_script("train", *tiny_flags, *SHORT, "--output_dir", "run", cwd=tmp_path, launcher=launcher)
    assert result.returncode == 0, result.stderr
    best, one_label, last, following = result.stdout.splitlines()[-4:]
    assert best.startswith("best epoch 1: ") and following.startswith("Next: ")
    assert one_label.startswith("warning    The model gives ") and last.startswith("warning    Validation accuracy ")
    assert result.stdout.count("warning") == 2


def test_answers_by_chance_do_not_beat_one_label() -> None:
    generator = np.random.default_rng(0)
    for positives, answered in ((0.5, 0.5), (0.2, 0.2), (0.8, 0.5)):
        for rows in (60, 1000):
            draws = [(generator.random((2, rows)) < [[positives], [answered]]).astype(int) for _ in range(500)]
            beaten = [beats_one_label(*draw, majority=int(positives > 0.5), classes=2) for draw in draws]
            # At most 5 % of them, and four standard errors.
            assert np.mean(beaten) < 0.09, (positives, answered, rows)


def test_a_rare_label_that_is_found_counts_where_accuracy_cannot_tell() -> None:
    labels, predicted = rows_of(tn=57, fp=1, fn=2, tp=4)
    # Three rows more are right than with one label: 4 against 1 is a coin's work, but such a table is not.
    assert fisher_exact([[57, 1], [2, 4]], alternative="greater").pvalue < 0.001
    assert beats_one_label(labels, predicted, majority=0, classes=2)


def test_an_f1_below_that_of_one_label_is_seen_unless_class_weights_ask_for_it() -> None:
    labels, predicted = rows_of(tn=60, fp=90, fn=95, tp=755)
    # By hand: F1 is 1510 / 1695 = 0.891, and 1700 / 1850 = 0.919 with label 1 for everything.
    assert not beats_one_label(labels, predicted, majority=1, classes=2)
    assert beats_one_label(labels, predicted, majority=1, classes=2, weighted=True)


def test_more_right_answers_than_with_one_label_beat_it() -> None:
    labels, predicted = rows_of(tn=240, fp=160, fn=150, tp=450)
    # By hand: 690 are right and not 600, although F1 is 900 / 1210 = 0.744 and not 1200 / 1600 = 0.75.
    assert beats_one_label(labels, predicted, majority=1, classes=2)
    assert not beats_one_label(labels, np.ones_like(labels), majority=1, classes=2)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_tf_idf_has_the_class_weights_of_the_run(
    class_weights: str, tmp_path: Path, tiny_arguments: Callable[..., Arguments]
) -> None:
    reviews = separable_reviews(400, seed=3)
    # One of four is positive, and one label of five is wrong, so that the weights matter.
    kept = reviews.select([row for row in range(400) if row % 2 == 0 or row % 6 == 1])
    labels = [1 - label if row % 5 == 0 else label for row, label in enumerate(kept["label"])]
    columns = {**kept.to_dict(), "label": labels}
    folder = write_dataset(tmp_path / "reviews", train=Dataset.from_dict(columns, features=FEATURES))
    job = prepare(tiny_arguments("--dataset_name", str(folder), "--class_weights", class_weights))
    train_rows, held_out = (job.reviews.splits[name] for name in ("train", "validation"))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    regression = LogisticRegression(max_iter=1000, class_weight=class_weights if class_weights == "balanced" else None)
    regression.fit(vectorizer.fit_transform(train_rows.rows["content"][:]), train_rows.labels)
    predicted = regression.predict(vectorizer.transform(held_out.rows["content"][:]))
    assert validated(job).baseline_f1 == pytest.approx(f1_score(held_out.labels, predicted))


def test_tf_idf_sees_a_sample_of_the_train_rows_and_not_the_first(
    tmp_path: Path, tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_dataset(tmp_path / "reviews", train=separable_reviews(300, seed=3).sort("label"))
    job = prepare(tiny_arguments("--dataset_name", str(folder)))
    monkeypatch.setattr(outcome, "BASELINE_ROWS", 60)
    # The first 60 have one label, to which nothing can be fitted.
    assert validated(job).baseline_f1 is not None


def test_tf_idf_is_named_unless_the_model_is_better_or_without_a_mistake(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(tiny_arguments())
    labels = np.array([0, 1] * 50)
    # One mistake more has an F1 of 98 / 99.
    one_wrong = np.array([0, 1] * 49 + [0, 0])
    for predicted, of_tf_idf, behind in (labels, 1.0, False), (one_wrong, 98 / 99, True), (one_wrong, 0.98, False):
        job.trainer.validated = EvalLoopOutput(np.eye(2)[predicted], labels, None, 100)
        monkeypatch.setattr(outcome, "baseline_f1_of", lambda _, f1=of_tf_idf: f1)
        notes = validation_of(job).notes
        assert [note[:55] for note in notes] == ["Validation F1 0.9899 is no better than TF-IDF's 0.9899."] * behind


def test_texts_without_words_have_no_tf_idf(tmp_path: Path, tiny_arguments: Callable[..., Arguments]) -> None:
    letters = [f"{'a' if row % 2 else 'b'} {row % 10}" for row in range(60)]
    columns = {"label": [row % 2 for row in range(60)], "title": letters, "content": letters}
    folder = write_dataset(tmp_path / "reviews", train=Dataset.from_dict(columns, features=FEATURES))
    found = validated(prepare(tiny_arguments("--dataset_name", str(folder))))
    assert found.baseline_f1 is None and "TF-IDF" not in "".join(found.notes)


@pytest.mark.parametrize(
    ("more", "steps", "expected"),
    [
        ("--global_batch_size 16", 40, "Too few steps (40): try --global_batch_size 8 --num_train_epochs 7."),
        ("--global_batch_size 4", 199, "Too few steps (199): try --num_train_epochs 4."),
        ("--max_steps 30", 30, "Too few steps (30): try --max_steps 200."),
        ("", 200, "Try --learning_rate 2e-05 or more reviews, and look at them with --inspect_data."),
        (
            "--learning_rate 1e-6",
            200,
            "Try --learning_rate 5e-05 or more reviews, and look at them with --inspect_data.",
        ),
        ("--learning_rate 3e-5", 200, "Try more reviews, and look at them with --inspect_data."),
        (
            "--learning_rate 3e-5 --max_length 8",
            200,
            "Try --max_length 16 or more reviews, and look at them with --inspect_data.",
        ),
    ],
)
def test_the_advice_follows_from_the_run(
    more: str, steps: int, expected: str, tiny_arguments: Callable[..., Arguments]
) -> None:
    # 240 train rows.
    job = prepare(tiny_arguments(*more.split()))
    job.trainer.state.max_steps = steps
    assert advice(job, 0.5) == expected


@pytest.mark.parametrize("steps", [100, 1000])
def test_labels_that_are_uneven_are_advised_class_weights_once(
    steps: int, tiny_arguments: Callable[..., Arguments]
) -> None:
    flags = ["--learning_rate", "3e-5"]
    for more, expected in ([], True), (["--class_weights", "balanced"], False):
        job = prepare(tiny_arguments(*flags, *more))
        job.trainer.state.max_steps = steps
        assert ("--class_weights balanced" in advice(job, 0.8)) == expected


def test_a_record_from_before_is_read(tiny_run: RunFolder) -> None:
    content = tiny_run.read_record().to_json()
    del content["validation"]
    assert RunRecord.from_json(content, "run.json").validation is None

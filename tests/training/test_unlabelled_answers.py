"""A run learns from its own answers to reviews without labels, in the end, and says so."""

import hashlib
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import files_under, same_weights, separable_reviews, weights_of
from datasets import Dataset
from scipy.special import softmax

from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.commands import train as command
from recipe.errors import Interrupted, UsageError
from recipe.run_folder import RunFolder
from recipe.training import refit
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import header, prepare, read_material, review_loss
from recipe.training.run import train
from recipe.training.trainer import ReviewTrainer

FLAGS = "--max_train_samples 60 --num_train_epochs 2 --refit".split()


@pytest.fixture
def new_reviews(tmp_path: Path) -> Path:
    """100 reviews that neither train nor test has, without labels."""
    file = tmp_path / "new.parquet"
    separable_reviews(100, seed=9).remove_columns("label").to_parquet(file)
    return file


def test_labelled_rows_come_as_often_as_in_the_first_training_and_the_others_up_to_three_times() -> None:
    labelled = Dataset.from_dict({"length": [1, 2, 3], "labels": [0, 1, 1]})
    unlabelled = Dataset.from_dict({"length": [7, 8], "labels": [-1, -1]})
    answers = np.array([[0.25, 0.75], [1.0, 0.0]])
    found = refit.with_answers(labelled, unlabelled, answers, reviews=7, seed=1)
    lengths = found["length"][:]
    assert (sorted(lengths[:3]), lengths[3:6], lengths[6]) == ([1, 2, 3], lengths[:3], lengths[0])
    assert sorted(lengths[7:]) == [7, 7, 7, 8, 8, 8]
    known = {1: [1, 0], 2: [0, 1], 3: [0, 1], 7: [0.25, 0.75], 8: [1, 0]}
    assert found["labels"][:] == [known[length] for length in lengths]
    fewer = refit.with_answers(labelled, unlabelled, answers, reviews=1, seed=1)
    assert fewer["length"][0] == lengths[0] and sorted(fewer["length"][1:]) == [7, 8]
    some = refit.with_answers(labelled, unlabelled, answers, reviews=5, seed=1)
    assert sorted(Counter(some["length"][5:]).values()) == [2, 3]


@pytest.mark.parametrize("flags", [[], ["--contrast_labels"]])
def test_the_kept_model_has_learned_from_the_answers_of_the_one_before(
    flags: list[str], tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = train(tiny_arguments(*FLAGS, *flags))
    given: dict[str, Any] = {}
    inner = refit.with_answers

    def spy(*args: Any) -> Dataset:
        given["rows"], given["answers"], given["reviews"], _ = args[1:]
        given["learned"] = inner(*args)
        return given["learned"]

    monkeypatch.setattr(refit, "with_answers", spy)
    trained, watch = [], UnsavedCallback.train

    def keep(self: UnsavedCallback) -> None:
        trained.append(self.trainer.train_dataset["labels"][:])
        watch(self)

    monkeypatch.setattr(UnsavedCallback, "train", keep)
    folder = f"{without.path}_with"
    run = train(tiny_arguments(*FLAGS, *flags, "--unlabelled_file", str(new_reviews), "--output_dir", folder))
    assert not same_weights(run, without)
    names = ("input_ids", "attention_mask")
    model = prepare(tiny_arguments(*FLAGS)).model.eval()
    model.load_state_dict(weights_of(without.path))
    with torch.inference_mode():
        logits = [model(**{name: torch.tensor([row[name]]) for name in names}).logits[0] for row in given["rows"]]
    # Without unlabelled reviews it is the model before that is kept.
    np.testing.assert_allclose(given["answers"], softmax(torch.stack(logits).numpy(), axis=1), atol=1e-5)
    job = prepare(tiny_arguments(*FLAGS))
    assert trained[-1] == given["learned"]["labels"][:]
    assert len(given["answers"]) == 100 and given["reviews"] == job.steps * job.trainer.args.global_batch_size


@pytest.mark.parametrize("flags", [[], ["--class_weights", "balanced"], ["--label_smoothing_factor", "0.1"]])
def test_the_loss_of_sure_soft_labels_is_that_of_the_labels(
    flags: list[str], tiny_arguments: Callable[..., Arguments]
) -> None:
    job = prepare(tiny_arguments(*FLAGS, *flags))
    job.reviews.splits["train"].labels[:12] = 0
    loss = review_loss(job.reviews, job.trainer.args)
    outputs = {"logits": torch.tensor([[0.5, -1.0], [2.0, 0.3], [0.1, 0.2]])}
    labels = torch.tensor([0, 1, 1])
    hard, soft = loss(outputs, labels), loss(outputs, torch.eye(2)[labels])
    assert soft.item() == pytest.approx(hard.item())
    smoothing = job.trainer.args.label_smoothing_factor
    plain = torch.nn.functional.cross_entropy(outputs["logits"], labels, label_smoothing=smoothing).item()
    assert (hard.item() == pytest.approx(plain)) is (job.trainer.args.class_weights == "none")
    unsure = loss(outputs, torch.full((3, 2), 0.5))
    assert unsure.item() == pytest.approx((loss(outputs, labels).item() + loss(outputs, 1 - labels).item()) / 2)


@pytest.mark.parametrize("contrast", ["false", "true"])
def test_a_step_of_soft_labels_counts_each_review_once(
    contrast: str,
    bert_without_dropout: Path,
    tiny_arguments: Callable[..., Arguments],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = [*FLAGS, "--model_name_or_path", str(bert_without_dropout), "--contrast_labels", contrast]
    trainer = prepare(tiny_arguments(*flags)).trainer
    batch = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model.train(), dict(batch)).item()
    soft = dict(batch) | {"labels": torch.eye(2)[batch["labels"]]}
    trainer.compute_loss_func = review_loss(prepare(tiny_arguments(*FLAGS)).reviews, trainer.args)
    # As Trainer counts them.
    items = soft["labels"].ne(-100).sum()
    found = trainer.compute_loss(trainer.model.train(), dict(soft), False, items).item()
    assert found == pytest.approx(expected, abs=1e-6)
    # As on two devices whose items are counted together; their gradients are averaged.
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    trainer.args.average_tokens_across_devices = True
    found = trainer.compute_loss(trainer.model.train(), dict(soft), False, 2 * items).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_head_is_fitted_to_the_labelled_reviews_alone(
    tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr("recipe.training.contrast.fit_head", lambda model, vectors, labels: fitted.append(labels))
    train(tiny_arguments(*FLAGS, "--contrast_labels", "--unlabelled_file", str(new_reviews)))
    first, second, third = fitted
    assert (len(first), len(second)) == (48, 60) and sorted(third) == sorted(second)


def test_a_run_that_was_stopped_in_its_last_training_ends_as_if_it_had_not(
    tiny_arguments: Callable[..., Arguments], new_reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*FLAGS, "--unlabelled_file", str(new_reviews)]
    whole = train(tiny_arguments(*flags))
    stopped = [*flags, "--output_dir", str(tmp_path / "stopped")]
    with monkeypatch.context() as patched:
        inner = UnsavedCallback.on_step_end

        def stop(self: UnsavedCallback, *args: Any, **kwargs: Any) -> None:
            if self.description == "with unlabelled":
                raise KeyboardInterrupt
            inner(self, *args, **kwargs)

        patched.setattr(UnsavedCallback, "on_step_end", stop)
        with pytest.raises(Interrupted, match=r"^stopped. The same command with --resume goes on from .*/checkpoint-"):
            train(tiny_arguments(*stopped))
    assert not (tmp_path / "stopped" / "run.json").exists()
    with pytest.raises(UsageError, match=r"is of another run: unlabelled rows \(.*now the default\) changed since"):
        train(tiny_arguments(*FLAGS, "--output_dir", str(tmp_path / "stopped"), "--resume"))
    resumed = train(tiny_arguments(*stopped, "--resume"))
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rows", [12, 100])
def test_a_signal_while_a_model_answers_validation_rows_or_unlabelled_ones_says_how_to_go_on(
    rows: int, number: int, tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, inner = [*FLAGS, "--unlabelled_file", str(new_reviews)], ReviewTrainer.evaluation_loop
    sent: list[int] = []

    def stopped(self: ReviewTrainer, loader: Any, *args: Any, **kwargs: Any) -> Any:
        if len(loader.dataset) == rows and kwargs["metric_key_prefix"] == "all" and not sent:
            sent.append(number)
            signal.raise_signal(number)
        return inner(self, loader, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(ReviewTrainer, "evaluation_loop", stopped)
        with pytest.raises(Interrupted, match=r"The same command with --resume goes on from") as ended:
            train(tiny_arguments(*flags))
    assert ended.value.code == 128 + number
    with monkeypatch.context() as patched:
        sent.clear()
        patched.setattr(ReviewTrainer, "evaluation_loop", stopped)
        with pytest.raises(Interrupted, match=r"with --resume in place of --overwrite_output_dir goes on from"):
            train(tiny_arguments(*flags, "--overwrite_output_dir"))
    assert train(tiny_arguments(*flags, "--resume")).is_finished


def test_the_run_says_what_it_learned_from(
    tiny_arguments: Callable[..., Arguments],
    new_reviews: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = tiny_arguments(*FLAGS, "--unlabelled_file", str(new_reviews))
    line = f"unlabelled {new_reviews}: 100 new reviews (0 left out), 100 of which are learned from in the end, as the"
    assert any(shown.startswith(line) for shown in header(prepare(arguments)).splitlines())
    monkeypatch.setattr("recipe.arguments.parser.parse_arguments", lambda argv, description: arguments)
    command.main([])
    assert "a model trained again, on all 60 rows and 100 unlabelled reviews; " in capsys.readouterr().out
    run = RunFolder(str(arguments.training.output_dir))
    digest = hashlib.sha256(new_reviews.read_bytes()).hexdigest()
    assert run.read_record().unlabelled == {
        "files": [{"file": str(new_reviews), "sha256": digest}],
        "rows": 100,
        "learned": 100,
        "dropped": {"no_text": 0, "repeated": 0, "also_in_train_or_validation": 0},
    }
    assert run.read_config()["unlabelled_file"] == str(new_reviews)


def test_of_many_reviews_as_many_as_are_labelled_or_two_thousand_are_learned_from_evenly_spread(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    # The first half are short.
    texts = [("good " if row < 1_250 else "good good good ") + f"review {row}" for row in range(2_500)]
    Dataset.from_dict({"content": texts}).to_parquet(tmp_path / "new.parquet")
    flags = [*FLAGS, "--text_columns", "content", "--unlabelled_file", str(tmp_path / "new.parquet")]
    material = read_material(tiny_arguments(*flags))
    assert material.unlabelled is not None and len(material.tokens["unlabelled"]) == 2_000
    lengths = material.tokens["unlabelled"]["length"][:]
    assert abs(sum(length == lengths[0] for length in lengths) - 1_000) <= 10
    assert material.unlabelled.origin["rows"] == 2_500 and material.unlabelled.origin["learned"] == 2_000
    separable_reviews(2_600, seed=3).to_parquet(tmp_path / "more.parquet")
    flags += ["--train_file", str(tmp_path / "more.parquet"), "--max_train_samples", "-1"]
    more = read_material(tiny_arguments(*flags)).unlabelled
    assert more is not None and len(more.learned) == 2_500


@pytest.mark.parametrize("flags", [["--refit", "false"], ["--validation_file", "{other}"]])
def test_without_a_refit_nothing_is_learned_from_and_nothing_written(
    flags: list[str], new_reviews: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate(("mine", "other")):
        separable_reviews(40, seed=seed).to_csv(tmp_path / f"{name}.csv")
    run = ["--train_file", str(tmp_path / "mine.csv"), "--output_dir", str(tmp_path / "run"), "--max_length", "16"]
    run += ["--model_name_or_path", str(tiny_bert), "--unlabelled_file", str(new_reviews)]
    given = [flag.format(other=tmp_path / "other.csv") for flag in flags]
    with pytest.raises(UsageError, match="^--unlabelled_file is learned from after --refit, which") as refused:
        train(parse_arguments([*run, *given]))
    assert "\n" not in str(refused.value) and files_under(tmp_path / "run") <= {".lock"}


@pytest.mark.parametrize("config", [[], ["--config", "amazon_polarity"], ["--train_file", "mine.csv"]])
def test_unlabelled_reviews_turn_the_refit_on(config: list[str], new_reviews: Path) -> None:
    assert scheduled(parse_arguments([*config, "--unlabelled_file", str(new_reviews)]), 5_000).training.refit
    assert not scheduled(parse_arguments(config), 5_000).training.refit


def test_several_seeds_each_learn_from_their_own_answers(
    tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, inner = [], refit.with_answers
    monkeypatch.setattr(refit, "with_answers", lambda *args: given.append(args[2]) or inner(*args))
    record = train(tiny_arguments(*FLAGS, "--seeds", "2", "--unlabelled_file", str(new_reviews))).read_record()
    assert record.refit and record.unlabelled and len(record.seeds) == len(given) == 2
    assert not np.allclose(*given)


@pytest.mark.parametrize(("contrast", "rows", "steps"), [("true", 160, 160), ("false", 101, 101)])
def test_the_head_sees_each_labelled_row_and_else_few_steps_stay_few(
    contrast: str,
    rows: int,
    steps: int,
    tiny_arguments: Callable[..., Arguments],
    new_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, inner = [], refit._train
    monkeypatch.setattr(refit, "_train", lambda *args: given.append(args[2:4]) or inner(*args))
    few = f"--max_steps 1 --global_batch_size 1 --contrast_labels {contrast}".split()
    assert train(tiny_arguments(*FLAGS, *few, "--unlabelled_file", str(new_reviews))).read_record().refit
    together, taken = given[-1]
    assert (len(together), taken) == (rows, steps)


def test_three_labels_are_learned_from_answers_too(
    tiny_bert: Path, new_reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = separable_reviews(60, seed=1).remove_columns("label").add_column("label", ["good", "bad", "so so"] * 20)
    rows.to_csv(tmp_path / "mine.csv")
    given, inner = [], refit.with_answers
    monkeypatch.setattr(refit, "with_answers", lambda *args: given.append(args[2]) or inner(*args))
    flags = f"--train_file {tmp_path}/mine.csv --unlabelled_file {new_reviews} --model_name_or_path {tiny_bert}"
    flags += f" --output_dir {tmp_path}/run --max_length 16 --num_train_epochs 1 --contrast_labels"
    record = train(parse_arguments(flags.split())).read_record()
    assert given[0].shape == (100, 3) and given[0].sum(axis=1) == pytest.approx(np.ones(100))
    assert record.labels == ["bad", "good", "so so"] and record.unlabelled is not None

"""A run learns from its own answers to reviews without labels, in the end, and says so."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import files_under, separable_reviews
from datasets import Dataset
from safetensors.torch import load_file
from scipy.special import softmax

from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.commands import train as command
from recipe.errors import UsageError
from recipe.run_folder import RunFolder
from recipe.training import refit
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import header, prepare, read_material, review_loss
from recipe.training.run import train

FLAGS = "--max_train_samples 60 --num_train_epochs 2 --refit".split()


@pytest.fixture
def new_reviews(tmp_path: Path) -> Path:
    """100 reviews that neither train nor test has, without labels."""
    file = tmp_path / "new.parquet"
    separable_reviews(100, seed=9).remove_columns("label").to_parquet(file)
    return file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def the_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_labelled_rows_stand_as_often_as_in_the_first_training_and_the_others_once() -> None:
    labelled = Dataset.from_dict({"length": [1, 2, 3], "labels": [0, 1, 1]})
    unlabelled = Dataset.from_dict({"length": [7, 8], "labels": [-1, -1]})
    found = refit.with_answers(labelled, unlabelled, np.array([[0.25, 0.75], [1.0, 0.0]]), reviews=7)
    assert found["length"][:] == [1, 2, 3, 7, 8, 1, 2, 3, 1]
    assert found["labels"][:5] == [[1, 0], [0, 1], [0, 1], [0.25, 0.75], [1, 0]]
    fewer = refit.with_answers(labelled, unlabelled, np.eye(2), reviews=2)
    assert fewer["length"][:] == [1, 2, 3, 7, 8], "none of them is left out"


@pytest.mark.parametrize("flags", [[], ["--contrast_labels"]])
def test_the_kept_model_has_learned_from_the_answers_of_the_one_before(
    flags: list[str], tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = train(tiny_arguments(*FLAGS, *flags))
    given: dict[str, Any] = {}
    inner = refit.with_answers

    def spy(*args: Any) -> Dataset:
        given["rows"], given["answers"], given["reviews"] = args[1:]
        return inner(*args)

    monkeypatch.setattr(refit, "with_answers", spy)
    folder = f"{without.path}_with"
    run = train(tiny_arguments(*FLAGS, *flags, "--unlabelled_file", str(new_reviews), "--output_dir", folder))
    assert not the_same(weights(run.path), weights(without.path))
    names = ("input_ids", "attention_mask")
    model = prepare(tiny_arguments(*FLAGS)).model.eval()
    model.load_state_dict(weights(without.path))
    with torch.inference_mode():
        logits = [model(**{name: torch.tensor([row[name]]) for name in names}).logits[0] for row in given["rows"]]
    # Without unlabelled reviews it is the model before that is kept.
    np.testing.assert_allclose(given["answers"], softmax(torch.stack(logits).numpy(), axis=1), atol=1e-5)
    job = prepare(tiny_arguments(*FLAGS))
    assert len(given["answers"]) == 100 and given["reviews"] == job.steps * job.trainer.args.global_batch_size


@pytest.mark.parametrize("flags", [[], ["--class_weights", "balanced"], ["--label_smoothing_factor", "0.1"]])
def test_the_loss_of_sure_soft_labels_is_that_of_the_labels(
    flags: list[str], tiny_arguments: Callable[..., Arguments]
) -> None:
    job = prepare(tiny_arguments(*FLAGS, *flags))
    loss = review_loss(job.reviews, job.trainer.args)
    outputs = {"logits": torch.tensor([[0.5, -1.0], [2.0, 0.3], [0.1, 0.2]])}
    labels = torch.tensor([0, 1, 1])
    hard, soft = loss(outputs, labels), loss(outputs, torch.eye(2)[labels])
    assert soft.item() == pytest.approx(hard.item())
    smoothing = job.trainer.args.label_smoothing_factor
    expected = torch.nn.functional.cross_entropy(outputs["logits"], labels, label_smoothing=smoothing)
    assert hard.item() == pytest.approx(expected.item()), "the train rows have as many of each label"
    unsure = loss(outputs, torch.full((3, 2), 0.5))
    assert unsure.item() == pytest.approx((loss(outputs, labels).item() + loss(outputs, 1 - labels).item()) / 2)


@pytest.mark.parametrize("contrast", ["false", "true"])
def test_a_step_of_soft_labels_counts_each_review_once(
    contrast: str, bert_without_dropout: Path, tiny_arguments: Callable[..., Arguments]
) -> None:
    flags = [*FLAGS, "--model_name_or_path", str(bert_without_dropout), "--contrast_labels", contrast]
    trainer = prepare(tiny_arguments(*flags)).trainer
    batch = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model.train(), dict(batch)).item()
    soft = dict(batch) | {"labels": torch.eye(2)[batch["labels"]]}
    trainer.compute_loss_func = review_loss(prepare(tiny_arguments(*FLAGS)).reviews, trainer.args)
    # As Trainer counts them.
    items = soft["labels"].ne(-100).sum()
    assert trainer.compute_loss(trainer.model.train(), soft, False, items).item() == pytest.approx(expected, abs=1e-6)


def test_the_head_is_fitted_to_the_labelled_reviews_alone(
    tiny_arguments: Callable[..., Arguments], new_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr("recipe.training.contrast.fit_head", lambda model, vectors, labels: fitted.append(labels))
    train(tiny_arguments(*FLAGS, "--contrast_labels", "--unlabelled_file", str(new_reviews)))
    first, second, third = fitted
    assert (len(first), len(second)) == (48, 60) and third.tolist() == second.tolist()


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
        with pytest.raises(KeyboardInterrupt):
            train(tiny_arguments(*stopped))
    assert not (tmp_path / "stopped" / "run.json").exists()
    with pytest.raises(UsageError, match=r"is of another run: unlabelled rows \(.*now the default\) changed since"):
        train(tiny_arguments(*FLAGS, "--output_dir", str(tmp_path / "stopped"), "--resume"))
    resumed = train(tiny_arguments(*stopped, "--resume"))
    assert the_same(weights(resumed.path), weights(whole.path))


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


def test_of_many_reviews_two_thousand_are_learned_from(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"review {row}" for row in range(2_500)]
    Dataset.from_dict({"content": texts}).to_parquet(tmp_path / "new.parquet")
    flags = [*FLAGS, "--text_columns", "content", "--unlabelled_file", str(tmp_path / "new.parquet")]
    material = read_material(tiny_arguments(*flags))
    assert material.unlabelled is not None and len(material.tokens["unlabelled"]) == 2_000
    assert material.unlabelled.origin["rows"] == 2_500 and material.unlabelled.origin["learned"] == 2_000


@pytest.mark.parametrize("flags", [["--refit", "false"], ["--validation_file", "{other}"]])
def test_without_a_refit_nothing_is_learned_from_and_nothing_written(
    flags: list[str], new_reviews: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate(("mine", "other")):
        separable_reviews(40, seed=seed).to_csv(tmp_path / f"{name}.csv")
    run = ["--train_file", str(tmp_path / "mine.csv"), "--output_dir", str(tmp_path / "run"), "--max_length", "16"]
    run += ["--model_name_or_path", str(tiny_bert), "--unlabelled_file", str(new_reviews)]
    given = [flag.format(other=tmp_path / "other.csv") for flag in flags]
    with pytest.raises(UsageError, match="--unlabelled_file is learned from after --refit") as refused:
        train(parse_arguments([*run, *given]))
    assert "\n" not in str(refused.value) and files_under(tmp_path / "run") <= {".lock"}


def test_unlabelled_reviews_turn_the_refit_on(new_reviews: Path) -> None:
    mine = ["--train_file", "mine.csv"]
    assert scheduled(parse_arguments([*mine, "--unlabelled_file", str(new_reviews)]), 5_000).training.refit
    assert not scheduled(parse_arguments(mine), 5_000).training.refit

"""With few labels a run ends with a training on all of them, and what is known of it comes from the one before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import same_weights, separable_reviews, weights_of

from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.errors import Interrupted, UsageError
from recipe.evaluation import evaluate_run
from recipe.evaluation.report import NO_WISHES
from recipe.evaluation.thresholds import choose_decision
from recipe.export.variants import export
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.scores import score_labels
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import prepare
from recipe.training.run import train

FLAGS = "--max_train_samples 60 --num_train_epochs 2 --refit".split()
MINE = ["--train_file", "mine.csv"]


def test_the_kept_model_has_learned_from_all_rows_and_its_figures_are_of_one_that_had_not(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    arguments = tiny_arguments(*FLAGS)
    run = train(arguments)
    record, validation = run.read_record(), load_reviews(arguments.data, 42).splits["validation"]
    assert record.seed_note().startswith("The model has learned from the validation rows too")
    assert record.refit and record.refit.rows == 60 == sum(record.rows[name] for name in ("train", "validation"))
    best = run.path / record.best.checkpoint
    assert not torch.equal(weights_of(best)["classifier.weight"], weights_of(run.path)["classifier.weight"])
    before = TorchClassifier(best).logits(texts_of(validation))
    np.testing.assert_allclose(record.refit.logits, before, atol=1e-5)
    assert score_labels(validation.labels, before.argmax(axis=1), 2)["f1"] == pytest.approx(record.best.f1)
    after = TorchClassifier(run.path).logits(texts_of(validation))
    assert score_labels(validation.labels, after.argmax(axis=1), 2)["f1"] == pytest.approx(record.refit.f1)


def test_every_row_is_answered_also_where_incomplete_batches_are_dropped(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    record = train(tiny_arguments(*FLAGS, "--dataloader_drop_last", "true")).read_record()
    assert record.refit and len(record.refit.logits) == record.rows["validation"] == 12


def test_a_run_that_was_stopped_on_all_rows_begins_them_again(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_arguments(*FLAGS))
    flags = [*FLAGS, "--output_dir", str(tmp_path / "stopped")]
    with monkeypatch.context() as patched:

        def stop(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(UnsavedCallback, "on_step_end", stop)
        with pytest.raises(Interrupted, match=r"^stopped. The same command with --resume goes on from \S+/checkpoint-"):
            train(tiny_arguments(*flags))
    assert not (tmp_path / "stopped" / "run.json").exists()
    resumed = train(tiny_arguments(*flags, "--resume"))
    assert same_weights(resumed, whole)


@pytest.mark.slow
def test_a_decision_is_fitted_to_answers_on_rows_that_were_new(tiny_arguments: Callable[..., Arguments]) -> None:
    arguments = tiny_arguments(*FLAGS)
    run = train(arguments)
    export(run, ["fp32"])
    report = evaluate_run(run)
    record, labels = run.read_record(), load_reviews(arguments.data, 42).splits["validation"].labels
    assert record.refit
    expected, _ = choose_decision(np.array(record.refit.logits), labels, NO_WISHES, record.labels)
    assert report.decision.temperature == expected.temperature


@pytest.mark.parametrize(
    ("rows", "flags", "expected"),
    [
        (51, [], True),
        (5_000, [], False),
        (51, ["--validation_file", "other.csv"], False),
        (51, ["--refit", "false"], 0),
    ],
)
def test_few_rows_of_ones_own_are_all_learned_from(rows: int, flags: list[str], expected: bool) -> None:
    assert scheduled(parse_arguments([*MINE, *flags]), rows).training.refit == expected
    assert not scheduled(parse_arguments([]), rows).training.refit, "the recipe's own configs have enough"


def test_validation_rows_that_were_set_apart_stay_apart(tmp_path: Path, tiny_bert: Path) -> None:
    for seed, name in enumerate(("mine", "other")):
        separable_reviews(40, seed=seed).to_csv(tmp_path / f"{name}.csv")
    flags = ["--train_file", str(tmp_path / "mine.csv"), "--validation_file", str(tmp_path / "other.csv"), "--refit"]
    flags += ["--model_name_or_path", str(tiny_bert), "--max_length", "16", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(UsageError, match="--refit learns from the validation rows too"):
        prepare(parse_arguments(flags))

"""Few labels are contrasted: from the rows alone, and with a BERT alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.errors import UsageError
from recipe.training.contrast import label_contrast
from recipe.training.job import prepare
from recipe.training.run import train
from recipe.training.sampler import StratifiedSampler

FLAGS = "--max_train_samples 60 --num_train_epochs 2 --contrast_labels".split()


def test_the_contrast_is_the_mean_square_of_each_kind_of_pair() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    # Cosines: first with second 0, each with third the root of a half.
    half = 0.5**0.5
    within, between = (half - 1) ** 2, (0 + half**2) / 2
    found = label_contrast(vectors, torch.tensor([0, 1, 0]))
    assert found.item() == pytest.approx((within + between) / 2)


def test_a_pair_of_soft_labels_is_of_either_kind_as_likely_as_they_are_the_same() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    sure = torch.tensor([0, 1, 0])
    assert label_contrast(vectors, torch.eye(2)[sure]).item() == pytest.approx(label_contrast(vectors, sure).item())
    # Their cosine is the root of a half.
    found = label_contrast(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.25, 0.75], [0.9, 0.1]]))
    same, half = 0.25 * 0.9 + 0.75 * 0.1, 0.5**0.5
    # The pair counts in both orders.
    within, between = 2 * same * (half - 1) ** 2, 2 * (1 - same) * half**2
    assert found.item() == pytest.approx((within / max(2 * same, 1) + between / max(2 * (1 - same), 1)) / 2)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 2]])
def test_a_batch_with_one_kind_of_pair_has_a_finite_contrast(labels: list[int]) -> None:
    vectors = torch.eye(3, requires_grad=True)
    found = label_contrast(vectors, torch.tensor(labels))
    found.backward()
    assert found.item() == (0.5 if labels[0] == labels[1] else 0.0) and torch.isfinite(vectors.grad).all()


@pytest.mark.parametrize(("rows", "bert", "expected"), [(51, True, True), (51, False, False), (5_000, True, False)])
def test_few_labels_are_contrasted_where_the_weights_can(rows: int, bert: bool, expected: bool) -> None:
    args = scheduled(parse_arguments(["--train_file", "mine.csv"]), rows, bert).training
    assert args.contrast_labels is expected


def test_the_recipes_own_configs_and_a_flag_decide_for_themselves() -> None:
    assert not scheduled(parse_arguments([]), 51, True).training.contrast_labels
    chosen = scheduled(parse_arguments(["--train_file", "mine.csv", "--contrast_labels", "false"]), 51, True)
    assert not chosen.training.contrast_labels and chosen.training.global_batch_size == 8


def test_the_head_begins_as_logistic_regression_of_the_train_rows(tiny_arguments: Callable[..., Arguments]) -> None:
    job = prepare(tiny_arguments(*FLAGS, "--max_steps", "1", "--learning_rate", "1e-9", "--eval_delay", "0"))
    rows, model = job.trainer.train_dataset, job.model.eval()
    given = [{name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")} for row in rows]
    with torch.no_grad():
        vectors = torch.cat([model.bert(**one).pooler_output for one in given]).numpy()
        expected = LogisticRegression(max_iter=2000).fit(vectors, rows["labels"][:]).decision_function(vectors)
        with torch.enable_grad():
            job.trainer.train()
        model.eval()
        logits = torch.cat([model(**one).logits for one in given]).numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-4)


def test_the_contrast_is_added_to_the_loss_while_training_alone(
    bert_without_dropout: Path, tiny_arguments: Callable[..., Arguments]
) -> None:
    trainer = prepare(tiny_arguments(*FLAGS, "--model_name_or_path", str(bert_without_dropout))).trainer
    batch = next(iter(trainer.get_train_dataloader()))
    output = trainer.model(**batch)
    vectors = trainer.model.bert(**{name: batch[name] for name in ("input_ids", "attention_mask")}).pooler_output
    cross_entropy = output.loss.item()
    expected = {True: cross_entropy + label_contrast(vectors, batch["labels"]).item(), False: cross_entropy}
    for training, loss in expected.items():
        found = trainer.compute_loss(trainer.model.train(training), dict(batch))
        assert found.item() == pytest.approx(loss, abs=1e-6)
    assert expected[True] - cross_entropy > 0.01


def test_each_batch_has_the_labels_in_their_shares_and_another_order_each_epoch() -> None:
    labels = np.array([0] * 24 + [1] * 12 + [2] * 12)
    sampler = StratifiedSampler(8, labels, seed=3)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(epochs[-1]) == list(range(48))
        for batch in np.array(epochs[-1]).reshape(-1, 8):
            counts = np.bincount(labels[batch], minlength=3)
            assert (abs(counts - [4, 2, 2]) <= 1).all()
    assert epochs[0] != epochs[1] != epochs[2]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]


def test_weights_with_a_head_for_these_labels_are_refused(tiny_arguments: Callable[..., Arguments]) -> None:
    first = train(tiny_arguments(*FLAGS))
    again = tiny_arguments(*FLAGS, "--model_name_or_path", str(first.path), "--output_dir", f"{first.path}_again")
    with pytest.raises(UsageError, match="--contrast_labels begins with a new head"):
        prepare(again)

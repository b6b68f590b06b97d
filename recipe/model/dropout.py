"""Dropout with masks that are cheap on a CPU."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertSdpaSelfAttention, BertSelfAttention

# PyTorch's generator runs on one core and makes a number for each element. Here 64 random bits decide on four elements.
LEVELS = 2**16


class FastDropout(nn.Dropout):
    """A `Dropout` that decides on four elements at a time in training on a CPU, and a plain `Dropout` elsewhere.

    The probability is rounded to 1/65,536ths (0.1 becomes 0.100006), and kept elements are scaled by exactly that. The
    bits come from PyTorch's default generator, so that a seed, or the state in a checkpoint, decides them.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `input`, of any shape, with random elements zeroed and the others scaled up."""
        dropped = round(self.p * LEVELS)
        if not self.training or input.device.type != "cpu" or not 0 < dropped < LEVELS or torch.compiler.is_compiling():
            return super().forward(input)
        return _Masked.apply(input, dropped)


class _Masked(torch.autograd.Function):
    """Multiply by a mask of one byte per element, forward and backward; autograd's own would keep four."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, dropped: int) -> torch.Tensor:
        bits = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        lanes = bits.view(torch.int16)[: input.numel()].view(input.shape)
        ctx.mask = lanes >= dropped - LEVELS // 2
        ctx.scale = LEVELS / (LEVELS - dropped)
        return (input * ctx.mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (gradient * ctx.mask).mul_(ctx.scale), None


class FastDropoutAttention(BertSdpaSelfAttention):
    """BERT's attention without PyTorch's fused kernel while it drops out on a CPU: that has a dropout of its own."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        """Return the output of a `BertSelfAttention`."""
        plain = self.training and self.dropout.p > 0 and hidden_states.device.type == "cpu"
        return (BertSelfAttention if plain else BertSdpaSelfAttention).forward(self, hidden_states, *args, **kwargs)


def draw_masks_faster(model: PreTrainedModel) -> None:
    """Replace a model's dropout by `FastDropout`; its weights, config and evaluation do not change."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(module) is BertSdpaSelfAttention:
            module.__class__ = FastDropoutAttention

"""Dropout whose masks cost a CPU little."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertSdpaSelfAttention, BertSelfAttention

# PyTorch's generator draws on one core, and for each element anew. One draw of 64 bits decides on four elements here.
LEVELS = 2**16


class FastDropout(nn.Dropout):
    """A `Dropout` that draws four elements' fate at a time when it trains on a CPU; elsewhere it is a `Dropout`.

    The probability is the nearest of 1/65,536ths (0.1 becomes 0.100006), and what is kept is scaled by exactly that.
    The draws come from PyTorch's default generator, so that a seed, or the state in a checkpoint, decides them.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `input`, of any shape, with each element zeroed by chance and the others scaled up."""
        dropped = round(self.p * LEVELS)
        if not self.training or input.device.type != "cpu" or not 0 < dropped < LEVELS or torch.compiler.is_compiling():
            return super().forward(input)
        return _Masked.apply(input, dropped)


class _Masked(torch.autograd.Function):
    """Multiplies by a mask of one byte an element, forward and backward; autograd's own would keep four."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, dropped: int) -> torch.Tensor:
        draws = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        lanes = draws.view(torch.int16)[: input.numel()].view(input.shape)
        ctx.mask = lanes >= dropped - LEVELS // 2
        ctx.scale = LEVELS / (LEVELS - dropped)
        return (input * ctx.mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (gradient * ctx.mask).mul_(ctx.scale), None


class FastDropoutAttention(BertSdpaSelfAttention):
    """BERT's attention, in its plain form while dropout is drawn, as PyTorch's fused one on a CPU draws its own."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        """Return what a `BertSelfAttention` does."""
        plain = self.training and self.dropout.p > 0 and hidden_states.device.type == "cpu"
        return (BertSelfAttention if plain else BertSdpaSelfAttention).forward(self, hidden_states, *args, **kwargs)


def draw_masks_faster(model: PreTrainedModel) -> None:
    """Let a model's dropout be `FastDropout`. Its weights, its config and what it computes in evaluation stay."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(module) is BertSdpaSelfAttention:
            module.__class__ = FastDropoutAttention

"""BERT's layers with the tokens before the reviews, a form in which ONNX Runtime computes attention without copies.

Attention multiplies the heads of each review. Where the reviews come first, queries, keys and values must be copied for
it, head by head. Where the tokens come first, ONNX Runtime's own `MatmulTransposeFusion` takes each head in its place,
and `MatMulScaleFusion` the constant scale. Only the exported graph changes, not what it computes.
"""

import math
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertEncoder, BertSelfAttention

from recipe.model.last_layer import ClsLayer


class SequenceFirstAttention(BertSelfAttention):
    """A `BertSelfAttention` of (tokens, reviews, hidden), without dropout."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        head_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        *_: Any,
        **unused: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the heads' outputs, float (queries, reviews, hidden), and the attention.

        Args:
            hidden_states: float (queries, reviews, hidden).
            attention_mask: Added to the scores, (reviews, 1, queries, tokens).
            head_mask: Not read.
            encoder_hidden_states: What keys and values come from, float (tokens, reviews, hidden); `None` is
                `hidden_states`.
        """
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        given = (self.query, hidden_states), (self.key, read), (self.value, read)
        heads = self.num_attention_heads, self.attention_head_size
        query, key, value = (
            layer(states).view(states.shape[0], -1, *heads).permute(1, 2, 0, 3) for layer, states in given
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self.attention_head_size)
        attention = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
        outputs = (attention @ value).permute(2, 0, 1, 3)
        return outputs.reshape(outputs.shape[0], -1, self.all_head_size), attention


class SequenceFirstEncoder(BertEncoder):
    """A `BertEncoder` whose layers are given the tokens first."""

    def forward(self, hidden_states: torch.Tensor, *given: Any, **more: Any) -> Any:
        """Return what `BertEncoder` does, from and with states of (reviews, tokens, hidden)."""
        output: Any = super().forward(hidden_states.transpose(0, 1), *given, **more)
        output.last_hidden_state = output.last_hidden_state.transpose(0, 1)
        return output


def put_sequence_first(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model whose last layer is a `ClsLayer` compute its layers tokens first; return any other as it is."""
    encoder = getattr(getattr(model, "bert", None), "encoder", None)
    if encoder and isinstance(encoder.layer[-1], ClsLayer):
        encoder.__class__ = SequenceFirstEncoder
        for layer in encoder.layer:
            layer.seq_len_dim, layer.attention.self.__class__ = 0, SequenceFirstAttention
    return model

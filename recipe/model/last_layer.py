"""BERT's last layer, computed for `[CLS]` alone: all that a classifier reads of it."""

from typing import Any

import torch
from transformers import BertForSequenceClassification, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer
from transformers.pytorch_utils import apply_chunking_to_forward


class ClsLayer(BertLayer):
    """A `BertLayer` that gives the first position's output alone; keys and values still see every position.

    Exact: the classifier's pooler reads no other position, so the others' query, attention output and feed-forward are
    computed for nothing. Its parameters are a `BertLayer`'s, and so are a checkpoint's.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        head_mask: torch.Tensor | None = None,
        *_: Any,
        output_attentions: bool = False,
        **unused: Any,
    ) -> tuple[torch.Tensor, ...]:
        """Return the first position, float (reviews, 1, hidden), and where asked for its attention.

        Args:
            hidden_states: float (reviews, word pieces, hidden).
            attention_mask: Added to the scores, (reviews, 1, word pieces or 1, word pieces).
            head_mask: As `BertLayer`'s.
            output_attentions: Whether to return the attention, (reviews, heads, 1, word pieces), as well.
        """
        attended, *attention = self.attention(
            hidden_states[:, :1],
            attention_mask=None if attention_mask is None else attention_mask[:, :, :1],
            head_mask=head_mask,
            # As in cross-attention: the queries come from the one, keys and values from the other.
            encoder_hidden_states=hidden_states,
            output_attentions=output_attentions,
        )
        forward, size = self.feed_forward_chunk, self.chunk_size_feed_forward
        return apply_chunking_to_forward(forward, size, self.seq_len_dim, attended), *attention


def read_only_cls(model: PreTrainedModel) -> None:
    """Let a `BertForSequenceClassification` compute its last layer for `[CLS]` alone; leave any other model as it is.

    Only the layer's class changes: the model's own class, its weights and its config stay what they were.
    """
    config = model.config
    if (
        type(model) is BertForSequenceClassification
        # Relative positions are counted from the number of queries, which is one here.
        and config.position_embedding_type == "absolute"
        and not (config.is_decoder or config.add_cross_attention)
    ):
        model.bert.encoder.layer[-1].__class__ = ClsLayer

"""BERT's last layer, computed only for `[CLS]`, the one position that a classifier reads."""

from typing import Any

import torch
from transformers import BertForSequenceClassification, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer
from transformers.pytorch_utils import apply_chunking_to_forward


class ClsLayer(BertLayer):
    """A `BertLayer` that returns only the first position's output; keys and values still see every position.

    The result is exact, because the classifier's pooler reads no other position. The parameters are a `BertLayer`'s.
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
        """Return the first position, float (reviews, 1, hidden), and its attention if asked for.

        Args:
            hidden_states: float (reviews, tokens, hidden), or with the tokens first if `seq_len_dim` is 0.
            attention_mask: Added to the scores, (reviews, 1, tokens or 1, tokens).
            head_mask: As `BertLayer`'s.
            output_attentions: Whether to return the attention, (reviews, heads, 1, tokens), as well.
        """
        attended, *attention = self.attention(
            hidden_states.narrow(self.seq_len_dim, 0, 1),
            attention_mask=None if attention_mask is None else attention_mask[:, :, :1],
            head_mask=head_mask,
            # As in cross-attention: queries come from the first position, keys and values from all.
            encoder_hidden_states=hidden_states,
            output_attentions=output_attentions,
        )
        forward, size = self.feed_forward_chunk, self.chunk_size_feed_forward
        return apply_chunking_to_forward(forward, size, self.seq_len_dim, attended), *attention


def read_only_cls(model: PreTrainedModel) -> None:
    """Compute the last layer of a `BertForSequenceClassification` only for `[CLS]`; leave any other model as it is.

    Only the layer's class changes; the model's own class, weights and config do not.
    """
    config = model.config
    if (
        type(model) is BertForSequenceClassification
        # Relative positions are counted from the number of queries, which is one here.
        and config.position_embedding_type == "absolute"
        and not (config.is_decoder or config.add_cross_attention)
    ):
        model.bert.encoder.layer[-1].__class__ = ClsLayer

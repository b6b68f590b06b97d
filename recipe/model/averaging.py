"""Let a BERT classifier begin with the mean of its tokens, as sentence encoders are trained to be read."""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import BertForSequenceClassification

# Of the mean, beside `[CLS]`'s own vector, which the residual connection adds.
MEAN_WEIGHT = 4.0
# Of the pooler, small enough that its tanh is nearly a straight line.
POOLER_SLOPE = 0.3
# Of queries and keys: so small that at first every token has the same attention, yet not 0, which could not learn.
FIRST_WEIGHTS = 0.002


@torch.no_grad()
def begin_with_mean(model: BertForSequenceClassification) -> None:
    """Re-initialise the last layer and the pooler, which then gives the mean of the tokens.

    They are the tokens of the layer before. `[CLS]` attends to all of them alike and hands on their mean; the
    feed-forward part adds nothing at first. The model keeps its class and its shape. The weights that are drawn come
    from torch's generator.
    """
    bert: Any = model.bert
    layer, pooler = bert.encoder.layer[-1], bert.pooler.dense
    attention, output = layer.attention, layer.output
    for linear in (attention.self.query, attention.self.key):
        nn.init.normal_(linear.weight, std=FIRST_WEIGHTS)
    nn.init.normal_(layer.intermediate.dense.weight, std=model.config.initializer_range)
    nn.init.zeros_(output.dense.weight)
    for linear, factor in ((attention.self.value, 1.0), (attention.output.dense, MEAN_WEIGHT), (pooler, POOLER_SLOPE)):
        nn.init.eye_(linear.weight).mul_(factor)
    for module in (*layer.modules(), pooler):
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def fit_head(model: BertForSequenceClassification, vectors: np.ndarray, labels: np.ndarray) -> None:
    """Fit the head alone, by logistic regression, so that fine-tuning does not begin with a random one.

    That is LP-FT (Kumar et al., *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*,
    2022).

    Args:
        model: Its `classifier` is replaced in place.
        vectors: Of the pooler, float32 (reviews, hidden).
        labels: int64 (reviews,), from 0 on; each of them is there.
    """
    regression = LogisticRegression(max_iter=2000).fit(vectors, labels)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        # Of two labels scikit-learn has one logit, which is the difference of theirs.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    model.classifier.weight.copy_(torch.from_numpy(weight))
    model.classifier.bias.copy_(torch.from_numpy(bias))

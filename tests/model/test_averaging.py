"""A BERT classifier begins with the mean of its tokens, and with a head that is scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertForSequenceClassification

from recipe.model.averaging import begin_with_mean, fit_head

RNG = np.random.default_rng(3)


def bert(labels: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=labels, **sizes)).eval()


def test_the_pooler_begins_as_the_mean_of_the_layer_befores_tokens_without_padding() -> None:
    model = bert()
    before = model(torch.tensor([[2, 7, 8, 9, 3]]), output_hidden_states=True).hidden_states[-2]
    begin_with_mean(model)
    padded = {"input_ids": torch.tensor([[2, 7, 8, 9, 3, 0, 0]]), "attention_mask": torch.tensor([[1] * 5 + [0] * 2])}
    found = model.bert(**padded).pooler_output[0]
    tokens = before[0].detach().numpy()
    mixed = tokens[0] + 4 * tokens.mean(axis=0)
    # Twice normalised is once.
    expected = np.tanh(0.3 * (mixed - mixed.mean()) / mixed.std())
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-3)


def test_every_weight_of_the_last_layer_can_learn() -> None:
    model = bert()
    begin_with_mean(model)
    fit_head(model, RNG.normal(size=(20, 16)).astype(np.float32), np.arange(20) % 2)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        model(input_ids=torch.tensor([[2, 7, 8, 3], [2, 9, 5, 3]]), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    unread = ("embeddings.word", "embeddings.position", "embeddings.token_type")
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    # A bias of the keys adds the same to every score, which the softmax takes away again.
    assert [name for name in still if not name.endswith("key.bias") and not any(part in name for part in unread)] == []


@pytest.mark.parametrize("labels", [2, 3])
def test_the_head_gives_the_probabilities_of_scikit_learns_logistic_regression(labels: int) -> None:
    model, gold = bert(labels), np.arange(60) % labels
    vectors = (RNG.normal(size=(60, 16)) + gold[:, None] * RNG.normal(size=16)).astype(np.float32)
    fit_head(model, vectors, gold)
    found = model.classifier(torch.from_numpy(vectors)).softmax(dim=-1).detach().numpy()
    expected = LogisticRegression(max_iter=2000).fit(vectors, gold).predict_proba(vectors)
    np.testing.assert_allclose(found, expected, atol=1e-5)

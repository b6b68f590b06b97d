"""int8 is the same model but for rounding, and its scores do not depend on what else is in the batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import separable_reviews
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from recipe.errors import UsageError
from recipe.export import quantization
from recipe.export.quantization import kind_of_cpu, write_int8

CHANNELS, OUTPUTS = 64, 32


def linear_model(folder: Path, weights: np.ndarray, bias: np.ndarray) -> Path:
    """A model of one linear layer, from float32 (reviews, word pieces, channels) to (…, outputs)."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["reviews", "pieces", CHANNELS])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["reviews", "pieces", OUTPUTS])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["b", "product"], ["logits"])]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "linear", [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def activations(seed: int, wide: float) -> np.ndarray:
    """Activations, float32 (4, 8, channels), with one channel `wide` times as far as the others."""
    values = np.random.default_rng(seed).normal(size=(4, 8, CHANNELS)).astype(np.float32)
    values[..., 5] *= wide
    return values


def quantized_error(folder: Path, wide: float, cpu: str = "vnni") -> float:
    """The int8 layer's root mean square error on the activations it was calibrated on, relative to its output's."""
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(CHANNELS, OUTPUTS)).astype(np.float32)
    bias, x = draw.normal(size=OUTPUTS).astype(np.float32), activations(1, wide)
    batch = {"x": x, "attention_mask": np.ones(x.shape[:2], dtype=np.int64)}
    write_int8(linear_model(folder, weights, bias), folder / "int8.onnx", cpu, [batch])
    (found,) = InferenceSession(folder / "int8.onnx").run(None, {"x": x})
    narrow = np.delete(x, 5, axis=-1) @ np.delete(weights, 5, axis=0)
    return float(np.sqrt(np.mean((found - (x @ weights + bias)) ** 2)) / np.sqrt(np.mean(narrow**2)))


def test_a_layer_gives_what_its_float_form_gives_to_within_rounding(tmp_path: Path) -> None:
    # Eight bits over some eight standard deviations are 8 / 255 / sqrt(12), about 0.009 of one; weights add half of it.
    assert 0.002 < quantized_error(tmp_path, wide=1) < 0.015


def test_a_wide_channel_does_not_cost_the_others_their_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quantized_error(tmp_path, wide=50) < 0.015
    monkeypatch.setattr(quantization, "WIDE", 1e9)
    smoothed = quantized_error(tmp_path, wide=50)
    monkeypatch.setattr(quantization, "SMOOTHING", 0.0)
    assert 0.015 < smoothed < quantized_error(tmp_path, wide=50), "smoothing alone helps, but not enough"


def test_padding_does_not_widen_a_range() -> None:
    ranges: dict[str, quantization.Range] = {}
    values = np.array([[[1.0, -2.0], [99.0, -99.0]], [[0.5, 3.0], [4.0, 1.0]]], dtype=np.float32)
    quantization._widen(ranges, "x", values, np.array([[True, False], [True, True]]))
    assert ranges["x"].low.tolist() == [0, -2] and ranges["x"].high.tolist() == [4, 3]


@pytest.mark.parametrize(("cpu", "largest"), [("vnni", 127), ("avx2", 63), ("arm", 127)])
def test_weights_are_as_large_as_the_kind_of_cpu_can_add(cpu: str, largest: int, tmp_path: Path) -> None:
    quantized_error(tmp_path, wide=1, cpu=cpu)
    written = onnx.load(tmp_path / "int8.onnx").graph.initializer
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in written}
    assert np.abs(tensors["w_quantized"].astype(int)).max() == largest
    assert "w" not in tensors, "the float weights are gone"


@pytest.mark.parametrize(
    ("machine", "described", "kind"),
    [
        ("x86_64", "flags : sse avx2 avx512f avx512_vnni", "vnni"),
        ("AMD64", "flags : avx2 avx_vnni", "vnni"),
        ("x86_64", "flags : sse avx2", "avx2"),
        ("x86_64", "", "avx2"),
        ("aarch64", "Features : asimd", "arm"),
        ("arm64", "", "arm"),
    ],
)
def test_the_scheme_follows_the_cpus_own_flags(machine: str, described: str, kind: str) -> None:
    assert kind_of_cpu(machine, described) == kind


def test_a_large_table_is_kept_as_bytes_and_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = np.random.default_rng(3).normal(size=(50, CHANNELS)).astype(np.float32)
    weights = np.eye(CHANNELS, OUTPUTS, dtype=np.float32)
    nodes = [helper.make_node("Gather", ["t", "ids"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["logits"])]
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["reviews", "pieces"])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["reviews", "pieces", OUTPUTS])
    constants = [numpy_helper.from_array(table, "t"), numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph(nodes, "table", [given], [result], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx"
    )
    monkeypatch.setattr(quantization, "LARGE_TABLE", 1000)
    ids = np.arange(50).reshape(5, 10)
    batch = {"ids": ids, "attention_mask": np.ones((5, 10), dtype=np.int64)}
    write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", "vnni", [batch])
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert kinds["t_quantized"] == TensorProto.INT8 and "t" not in kinds
    (found,) = InferenceSession(tmp_path / "int8.onnx").run(None, {"ids": ids})
    assert 0 < np.abs(found - table[ids][..., :OUTPUTS]).max() < 0.06


def test_an_architecture_without_weights_to_multiply_by_is_refused(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["reviews", 2])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["reviews", 2])
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["logits"])], "none", [given], [result])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx"
    )
    with pytest.raises(UsageError, match="no matrix multiplication by weights"):
        write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", "vnni", [])


def test_what_is_computed_for_cls_alone_stays_in_float(tmp_path: Path, tiny_run: object) -> None:
    from recipe.export.variants import write_onnx
    from recipe.inference.onnx import OnnxClassifier

    write_onnx(tiny_run.path, tmp_path / "onnx")  # type: ignore[attr-defined]
    batches = OnnxClassifier(tmp_path / "onnx").batches(separable_reviews(40, seed=4)["content"][:])
    write_int8(tmp_path / "onnx" / "model.onnx", tmp_path / "int8.onnx", "vnni", batches)
    floats = [node.input[1] for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "MatMul"]
    weights = {tensor.name for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    # Of the last layer: the query, the attention's output and the two of the feed-forward.
    assert len([name for name in floats if name in weights and not name.endswith("_wide")]) == 4

"""int8 is the same model but for rounding, and its scores do not depend on what else is in the batch.

Errors are measured in exact integer arithmetic, so that no bound depends on the CPU at hand: the kernels of a CPU with
AVX2 and no VNNI saturate on a file that was made for VNNI.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import separable_reviews
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime import InferenceSession

from recipe.export import quantization
from recipe.export.quantization import write_int8
from recipe.export.variants import write_onnx
from recipe.inference.onnx import OnnxClassifier
from recipe.machine import kind_of_cpu, this_cpu
from recipe.run_folder import RunFolder

CHANNELS, OUTPUTS = 64, 32
SHAPE = ["reviews", "tokens"]
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of uint8 (…, channels) and int8 (channels, outputs) values, given as int64."""
    return np.asarray(a @ b)


def saturating(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same on AVX2 without VNNI, which adds the products of two neighbouring channels in 16 bits."""
    pairs = a[..., ::2, None] * b[::2] + a[..., 1::2, None] * b[1::2]
    return np.asarray(np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=-2))


def computed(file: Path, given: dict[str, np.ndarray], product: Product = exact) -> np.ndarray:
    """A model's logits as ONNX defines its operators, with a given product of integers."""

    class MatMulIntegerToFloat(OpRun):  # type: ignore[misc]
        op_domain = "com.microsoft"

        def _run(self, a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero: Any, b_zero: Any, bias: Any = 0) -> Any:
            assert not b_zero.any()
            a, b = a.astype(np.int64), b.astype(np.int64)
            sums = product(a, b) - a_zero * b.sum(axis=0)
            return ((sums * a_scale * b_scale + bias).astype(np.float32),)

    (logits,) = ReferenceEvaluator(onnx.load(file), new_ops=[MatMulIntegerToFloat]).run(None, given)
    return np.asarray(logits)


def save_model(
    folder: Path, nodes: list[NodeProto], given: ValueInfoProto, constants: dict[str, np.ndarray] | None = None
) -> Path:
    """Write a model that gives `logits`, float32 (reviews, tokens, outputs)."""
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*SHAPE, "outputs"])
    tensors = [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()]
    graph = helper.make_graph(nodes, "model", [given], [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def activations(wide: float) -> np.ndarray:
    """Activations, float32 (4, 8, channels), with one channel `wide` times as far as the others."""
    values = np.random.default_rng(1).normal(size=(4, 8, CHANNELS)).astype(np.float32)
    values[..., 5] *= wide
    return values


def write_layer(
    folder: Path, x: np.ndarray, cpu: str, mask: np.ndarray | None = None, outputs: int = OUTPUTS
) -> tuple[Path, dict[str, Any]]:
    """Write a linear layer as int8, calibrated on activations; also return its float weights and bias."""
    draw = np.random.default_rng(0)
    constants = {
        "w": draw.normal(size=(CHANNELS, outputs)).astype(np.float32),
        "b": draw.normal(size=outputs).astype(np.float32),
    }
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["b", "product"], ["logits"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*SHAPE, CHANNELS])
    batch = {"x": x, "attention_mask": np.ones(x.shape[:2], dtype=np.int64) if mask is None else mask}
    write_int8(save_model(folder, nodes, given, constants), folder / "int8.onnx", cpu, [batch])
    return folder / "int8.onnx", constants


def quantized_error(
    folder: Path, wide: float = 1, cpu: str = "vnni", product: Product = exact, outputs: int = OUTPUTS
) -> float:
    """The int8 layer's root mean square error on the activations it was calibrated on, relative to its output's."""
    x = activations(wide)
    file, layer = write_layer(folder, x, cpu, outputs=outputs)
    errors = computed(file, {"x": x}, product) - (x @ layer["w"] + layer["b"])
    narrow = np.delete(x, 5, axis=-1) @ np.delete(layer["w"], 5, axis=0)
    return float(np.sqrt(np.mean(errors**2)) / np.sqrt(np.mean(narrow**2)))


def test_a_layer_gives_what_its_float_form_gives_to_within_rounding(tmp_path: Path) -> None:
    # Eight bits over some eight standard deviations are 8 / 255 / sqrt(12), about 0.009 of one; weights add half of it.
    assert 0.002 < quantized_error(tmp_path) < 0.015


def test_only_a_file_for_avx2_survives_sums_of_two_products_in_16_bits(tmp_path: Path) -> None:
    assert quantized_error(tmp_path, cpu="avx2", product=saturating) == quantized_error(tmp_path, cpu="avx2") < 0.02
    assert quantized_error(tmp_path, cpu="vnni", product=saturating) > 0.03


@pytest.mark.parametrize("cpu", sorted({"avx2", this_cpu()}))
def test_the_kernels_of_this_cpu_give_what_onnx_defines(cpu: str, tmp_path: Path) -> None:
    # A file for AVX2 runs right on every CPU.
    file, _ = write_layer(tmp_path, x := activations(wide=50), cpu)
    (found,) = InferenceSession(file).run(None, {"x": x})
    np.testing.assert_allclose(found, computed(file, {"x": x}), atol=1e-3, rtol=0)


def test_a_wide_channel_does_not_cost_the_others_their_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_float, smoothed = quantized_error(tmp_path, wide=50), quantized_error(tmp_path, wide=50, outputs=CHANNELS)
    assert in_float < 0.015 and smoothed < 0.06
    monkeypatch.setattr(quantization, "WIDE", 1e9)
    monkeypatch.setattr(quantization, "SMOOTHING", 0.0)
    assert quantized_error(tmp_path, wide=50) > 10 * in_float
    assert quantized_error(tmp_path, wide=50, outputs=CHANNELS) > 3 * smoothed


@pytest.mark.parametrize(("outputs", "way", "other"), [(CHANNELS, "Mul", "Gather"), (OUTPUTS, "Gather", "Mul")])
def test_channels_are_smoothed_or_the_widest_are_in_float(outputs: int, way: str, other: str, tmp_path: Path) -> None:
    file, _ = write_layer(tmp_path, activations(wide=50), "vnni", outputs=outputs)
    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert kinds.count(way) == 1 and other not in kinds


def test_tokens_may_come_before_reviews(tmp_path: Path) -> None:
    x, mask = activations(wide=1), np.ones((4, 8), dtype=np.int64)
    mask[1:, 5:], x[1:, 5:] = 0, 99
    file, _ = write_layer(tmp_path, x, "vnni", mask)
    reviews_first = file.rename(tmp_path / "reviews_first.onnx")
    file, _ = write_layer(tmp_path, x.transpose(1, 0, 2), "vnni", mask)
    assert file.read_bytes() == reviews_first.read_bytes()


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]], ids=["reviews first", "tokens first"])
def test_padding_is_told_from_tokens_in_a_batch_of_as_many_tokens_as_reviews(order: list[int], tmp_path: Path) -> None:
    # The last row is that of padding.
    table = np.random.default_rng(3).normal(size=(50, CHANNELS)).astype(np.float32)
    table[-1] = 99
    nodes = [
        helper.make_node("Gather", ["t", "ids"], ["x"]),
        helper.make_node("Transpose", ["x"], ["ordered"], perm=order),
        helper.make_node("MatMul", ["ordered", "w"], ["product"]),
        helper.make_node("Transpose", ["product"], ["logits"], perm=order),
    ]
    constants = {"t": table, "w": np.random.default_rng(0).normal(size=(CHANNELS, OUTPUTS)).astype(np.float32)}
    source = save_model(tmp_path, nodes, helper.make_tensor_value_info("ids", TensorProto.INT64, SHAPE), constants)
    ids, mask = np.arange(16).reshape(4, 4), np.tril(np.ones((4, 4), dtype=np.int64))
    files = []
    for width in (4, 6):
        wider = ((0, 0), (0, width - 4))
        batch = {"ids": np.pad(np.where(mask == 1, ids, 49), wider, constant_values=49)}
        files.append(tmp_path / f"{width}.onnx")
        write_int8(source, files[-1], "vnni", [batch | {"attention_mask": np.pad(mask, wider)}])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_padding_does_not_widen_a_range(tmp_path: Path) -> None:
    x, mask = activations(wide=1), np.ones((4, 8), dtype=np.int64)
    mask[1:, 5:] = 0
    # 0 belongs to every range, so that padding with it cannot widen one.
    x[mask == 0] = 0
    expected = write_layer(tmp_path, x, "vnni")[0].read_bytes()
    x[mask == 0] = 99
    assert write_layer(tmp_path, x, "vnni", mask)[0].read_bytes() == expected
    assert write_layer(tmp_path, x, "vnni")[0].read_bytes() != expected


@pytest.mark.parametrize(("cpu", "largest"), [("vnni", 127), ("avx2", 63), ("arm", 127)])
def test_weights_are_as_large_as_the_kind_of_cpu_can_add(cpu: str, largest: int, tmp_path: Path) -> None:
    file, _ = write_layer(tmp_path, activations(wide=1), cpu)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
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
    nodes = [helper.make_node("Gather", ["t", "ids"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["logits"])]
    constants = {"t": table, "w": np.eye(CHANNELS, OUTPUTS, dtype=np.float32)}
    source = save_model(tmp_path, nodes, helper.make_tensor_value_info("ids", TensorProto.INT64, SHAPE), constants)
    monkeypatch.setattr(quantization, "LARGE_TABLE", 1000)
    ids = np.arange(50).reshape(5, 10)
    batch = {"ids": ids, "attention_mask": np.ones((5, 10), dtype=np.int64)}
    write_int8(source, tmp_path / "int8.onnx", "vnni", [batch])
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert kinds["t_quantized"] == TensorProto.INT8 and "t" not in kinds
    found = computed(tmp_path / "int8.onnx", {"ids": ids})
    assert 0 < np.abs(found - table[ids][..., :OUTPUTS]).max() < 0.06


def test_an_architecture_without_products_by_weights_gets_no_file(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*SHAPE, OUTPUTS])
    save_model(tmp_path, [helper.make_node("Tanh", ["x"], ["logits"])], given)
    assert write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", "vnni", []) == 0
    assert not (tmp_path / "int8.onnx").exists()


def write_shared_layers(folder: Path, cpu: str) -> tuple[Path, float, np.ndarray, np.ndarray]:
    """Two layers that share their weights behind an `Identity` each, as ALBERT's, and a third product as `Gemm`."""
    draw = np.random.default_rng(0)
    w = draw.normal(size=(CHANNELS, CHANNELS)).astype(np.float32) / 8
    last = draw.normal(size=(CHANNELS, OUTPUTS)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["w"], ["w1"]),
        helper.make_node("Identity", ["w1"], ["w2"]),
        helper.make_node("MatMul", ["x", "w1"], ["first"]),
        helper.make_node("Tanh", ["first"], ["between"]),
        helper.make_node("MatMul", ["between", "w2"], ["second"]),
        helper.make_node("Reshape", ["second", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "last"], ["product"]),
        helper.make_node("Reshape", ["product", "shape"], ["logits"]),
    ]
    shapes = {"flat": np.array([-1, CHANNELS]), "shape": np.array([4, 8, OUTPUTS])}
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*SHAPE, CHANNELS])
    source = save_model(folder, nodes, given, {"w": w, "last": last} | shapes)
    x = activations(wide=1)
    batch = {"x": x, "attention_mask": np.ones((4, 8), dtype=np.int64)}
    share = write_int8(source, folder / "int8.onnx", cpu, [batch])
    return folder / "int8.onnx", share, x, np.tanh(x @ w) @ w @ last


def test_layers_that_share_weights_share_their_8_bit_form(tmp_path: Path) -> None:
    file, share, x, expected = write_shared_layers(tmp_path, "vnni")
    graph = onnx.load(file).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 2 and "Identity" not in kinds and "Gemm" in kinds
    matrices = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT8]
    assert len([name for name in matrices if name.endswith("_quantized")]) == 1, "one form for both layers"
    assert file.stat().st_size < (tmp_path / "model.onnx").stat().st_size
    errors = computed(file, {"x": x}) - expected
    assert 0 < np.sqrt(np.mean(errors**2)) < 0.03 * np.sqrt(np.mean(expected**2))
    # Of each token: twice 64 x 64 on integers, once 64 x 32 in float.
    assert share == 2 * CHANNELS * CHANNELS / (2 * CHANNELS * CHANNELS + CHANNELS * OUTPUTS)


def test_what_is_computed_for_cls_alone_stays_in_float(tmp_path: Path, tiny_run: RunFolder) -> None:
    write_onnx(tiny_run.path, tmp_path / "onnx")
    batches = OnnxClassifier(tmp_path / "onnx").batches(separable_reviews(40, seed=4)["content"][:])
    write_int8(tmp_path / "onnx" / "model.onnx", tmp_path / "int8.onnx", "vnni", batches)
    floats = [node.input[1] for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "MatMul"]
    weights = {tensor.name for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    # Of the last layer: the query, the attention's output and the two of the feed-forward.
    assert len([name for name in floats if name in weights and not name.endswith("_wide")]) == 4

"""Write an exported model with 8-bit weights and activations (int8), calibrated on train reviews.

Every `MatMul` by weights is computed on 8-bit integers. ONNX Runtime's dynamic quantisation takes an activation's range
from the batch at hand, so that a review's score depends on the other reviews (onnxruntime#10111). Here the range is
fixed: a review scores the same alone and in any batch, and no time is spent on finding the range.

Some channels of BERT's activations are wider than the rest, and 256 levels over the widest leave few for the others.
Where a product has at least as many outputs as channels, each channel is divided by a factor, and its row of the
weights multiplied by it, which changes nothing but the rounding (Xiao et al., *SmoothQuant: Accurate and Efficient
Post-Training Quantization for Large Language Models*, 2023). In the feed-forward's second product, with four times as
many channels as outputs, that would take more time than to multiply the very widest, a few, in float beside the
others (Dettmers et al., *LLM.int8()*, 2022), and leave a larger error.

Two kinds of `MatMul` stay in float: those computed for `[CLS]` alone, which are cheap and decide the label directly,
and those of two activations in the attention.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession

from recipe.inference.onnx import session_options

# The largest 8-bit weight by kind of CPU. Without VNNI, AVX2 adds products of an activation and a weight in pairs in 16
# bits, which two full ones overflow (onnxruntime#5644, #11286): there one bit less.
LARGEST_WEIGHT = {"vnni": 127, "avx2": 63, "arm": 127}
# SmoothQuant's alpha: how much of a channel's width goes to its weights. Among 0.5 to 1, 0.8 left about the smallest
# differences in the logits of a fine-tuned MiniLM.
SMOOTHING = 0.8
# A channel this many times as wide as the median one is multiplied in float, where channels are not smoothed. In a
# fine-tuned MiniLM those were a few of 1,536, and more than half of the error.
WIDE = 3
# With less than this share of the multiplications on integers, int8 is not worth a file.
MIN_SHARE = 0.1
# Smallest embedding table, in numbers, that is quantised; a smaller one is not worth another operator.
LARGE_TABLE = 1 << 20


@dataclass
class Range:
    """An activation's extremes by channel, float32 (channels,) with 0 included.

    Attributes:
        for_each_token: Whether each token has a vector, as the `MatMul` on integers needs.
        multiplications: By weights, in all batches.
    """

    low: np.ndarray
    high: np.ndarray
    for_each_token: bool = True
    multiplications: int = 0

    @property
    def width(self) -> np.ndarray:
        """Return each channel's largest magnitude, float32 (channels,)."""
        return np.maximum(np.maximum(-self.low, self.high), 1e-5)

    def add(self, values: np.ndarray, real: np.ndarray) -> None:
        """Add a batch without padding.

        Args:
            values: float32 (reviews, tokens, channels), or with the tokens first, or of `[CLS]` alone.
            real: bool (reviews, tokens), with not as many reviews as tokens.
        """
        real = real.T if values.shape[:2] == real.T.shape else real
        everywhere = values.ndim == 3 and values.shape[:2] == real.shape
        seen = values[real] if everywhere else values.reshape(-1, values.shape[-1])
        self.low, self.high = np.minimum(self.low, seen.min(axis=0)), np.maximum(self.high, seen.max(axis=0))
        # `[CLS]` alone has the shape of every token in a batch whose longest review is one token.
        self.for_each_token &= everywhere


def write_int8(source: Path, target: Path, cpu: str, batches: Iterable[dict[str, np.ndarray]]) -> float:
    """Write the int8 variant of an exported model, unless less than `MIN_SHARE` of it can be computed on integers.

    Args:
        cpu: The kind of CPU that will run it, a key of `LARGEST_WEIGHT`.
        batches: The model's inputs for train reviews, int64 (reviews, tokens) by name.

    Returns:
        The share of the multiplications by weights, in these batches, that are 8-bit; 0 if no file was written.
    """
    model = onnx.load(source)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    _read_shared_weights(model.graph, weights)
    # The products by weights, under the activation that they multiply.
    products: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv") and node.input[1] in weights and weights[node.input[1]].ndim > 1:
            products.setdefault(node.input[0], []).append(node)
    ranges = _calibrate(model, products, weights, batches)
    groups = _shared_ranges(products, ranges)
    replaced: dict[str, list[NodeProto]] = {}
    for name, found in groups.items():
        replaced |= _quantize_group(model.graph, products[name], found, weights, LARGEST_WEIGHT[cpu])
    total = sum(found.multiplications for found in ranges.values())
    share = sum(found.multiplications for found in groups.values()) / max(total, 1)
    if share < MIN_SHARE:
        return 0.0
    _replace_nodes(model.graph, replaced | _quantize_tables(model.graph, weights))
    # MatMulIntegerToFloat is ONNX Runtime's own, in every build of it.
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)
    return share


def _read_shared_weights(graph: GraphProto, weights: dict[str, np.ndarray]) -> None:
    """Let each node read shared weights themselves, in place: ALBERT's layers have them behind an `Identity` each."""
    shared: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Identity" and (name := shared.get(node.input[0], node.input[0])) in weights:
            shared[node.output[0]] = name
    for node in graph.node:
        node.input[:] = [shared.get(name, name) for name in node.input]
    if shared:
        _replace_nodes(graph, {name: [] for name in shared})


def _calibrate(
    model: ModelProto,
    products: dict[str, list[NodeProto]],
    weights: dict[str, np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
) -> dict[str, Range]:
    """Return the range of each multiplied activation over all tokens but padding."""
    watched = copy.deepcopy(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in products)
    options = session_options()
    # Fusions would remove some of the activations.
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    session = InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]
    ranges: dict[str, Range] = {}
    for batch in map(_not_square, batches):
        values = session.run(list(products), {key: batch[key] for key in inputs})
        for (name, nodes), found in zip(products.items(), values, strict=True):
            zeros = np.zeros(found.shape[-1], dtype=np.float32)
            total = ranges.setdefault(name, Range(zeros, zeros))
            # Convolutions have their channels before the tokens.
            channels = found.shape[1 if nodes[0].op_type == "Conv" else -1]
            total.multiplications += found.size // channels * sum(weights[node.input[1]].size for node in nodes)
            if all(node.op_type == "MatMul" for node in nodes):
                total.add(found, batch["attention_mask"] == 1)
            else:
                total.for_each_token = False
    return ranges


def _not_square(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a batch that has not as many tokens as reviews, so that a shape tells which of them comes first."""
    reviews, tokens = batch["attention_mask"].shape
    if reviews != tokens:
        return batch
    # One token more, which the mask hides.
    return {name: np.pad(values, ((0, 0), (0, 1))) for name, values in batch.items()}


def _shared_ranges(products: dict[str, list[NodeProto]], ranges: dict[str, Range]) -> dict[str, Range]:
    """Return the range of each activation to quantise; activations that meet the same weights have one in common.

    Weights that other products share only in part stay in float, as each set has smoothing factors of its own.
    """
    sets = {name: tuple(node.input[1] for node in products[name]) for name in ranges}
    chosen = {name: found for name, found in ranges.items() if found.for_each_token}
    for name in list(chosen):
        alike = [ranges[other] for other in sets if sets[other] == sets[name]]
        overlap = any(set(sets[name]) & set(other) for other in sets.values() if other != sets[name])
        if overlap or not all(found.for_each_token for found in alike):
            del chosen[name]
        else:
            low = np.min([found.low for found in alike], axis=0)
            high = np.max([found.high for found in alike], axis=0)
            chosen[name] = Range(low, high, multiplications=ranges[name].multiplications)
    return chosen


def _quantize_group(
    graph: GraphProto, nodes: list[NodeProto], found: Range, weights: dict[str, np.ndarray], largest: int
) -> dict[str, list[NodeProto]]:
    """Return the nodes that replace the `MatMul`s of one activation, by the output of the node they replace."""
    name, replaced = nodes[0].input[0], dict[str, list[NodeProto]]()
    shared, factors, wide = _quantize_activation(graph, name, found, [weights[node.input[1]] for node in nodes])
    for number, node in enumerate(nodes):
        bias = _bias(graph, node.output[0], weights)
        if bias:
            replaced[bias.output[0]] = []
        product = _quantize_product(graph, node, bias, weights, largest, factors, wide)
        # What the first product's nodes compute, the others read too.
        replaced[node.output[0]] = product if number else shared + product
    return replaced


def _quantize_activation(
    graph: GraphProto, name: str, found: Range, matrices: list[np.ndarray]
) -> tuple[list[NodeProto], np.ndarray, np.ndarray]:
    """Return the nodes that quantize an activation, each channel's divisor, float32 (channels,), and its wide channels.

    It is smoothed, or its wide channels, int64 (channels,), stay in float, where a matrix has fewer outputs than it.
    """
    nodes, source, factors, wide = [], name, np.ones_like(found.width), np.array([], dtype=np.int64)
    if factors.size <= max(matrix.shape[1] for matrix in matrices):
        source, factors = f"{name}_smooth", _smoothing(found, matrices)
        _add_constants(graph, name, {"factors": 1 / factors})
        nodes.append(helper.make_node("Mul", [name, f"{name}_factors"], [source]))
    else:
        wide = np.flatnonzero(found.width > WIDE * np.median(found.width))
    _add_constants(graph, name, _activation_scale(found, factors, exclude=wide))
    nodes.append(helper.make_node("QuantizeLinear", [source, f"{name}_scale", f"{name}_zero"], [f"{name}_quantized"]))
    if wide.size:
        _add_constants(graph, name, {"wide_channels": wide})
        nodes.append(helper.make_node("Gather", [name, f"{name}_wide_channels"], [f"{name}_wide"], axis=-1))
    return nodes, factors, wide


def _quantize_product(
    graph: GraphProto,
    node: NodeProto,
    bias: NodeProto | None,
    weights: dict[str, np.ndarray],
    largest: int,
    factors: np.ndarray,
    wide: np.ndarray,
) -> list[NodeProto]:
    """Return the nodes that multiply a quantized activation by one matrix and add the bias, if there is one.

    `factors` and `wide` are those of `_quantize_activation`.
    """
    name, matrix = node.input
    smoothed = weights[matrix] * factors[:, None]
    smoothed[wide] = 0
    _add_constants(graph, matrix, _quantized_matrix(smoothed, largest))
    inputs = [f"{factor}_{part}" for part in ("quantized", "scale", "zero") for factor in (name, matrix)]
    inputs += [key for key in bias.input if key in weights] if bias else []
    output = bias.output[0] if bias else node.output[0]
    narrow = f"{output}_narrow" if wide.size else output
    nodes = [helper.make_node("MatMulIntegerToFloat", inputs, [narrow], domain="com.microsoft")]
    if wide.size:
        _add_constants(graph, matrix, {"wide": weights[matrix][wide]})
        nodes.append(helper.make_node("MatMul", [f"{name}_wide", f"{matrix}_wide"], [f"{output}_wide"]))
        nodes.append(helper.make_node("Add", [narrow, f"{output}_wide"], [output]))
    return nodes


def _add_constants(graph: GraphProto, name: str, values: dict[str, np.ndarray]) -> None:
    """Add constants to the graph, each named `<name>_<key>`, unless another product by the same weights has."""
    known = {tensor.name for tensor in graph.initializer}
    tensors = [numpy_helper.from_array(value, f"{name}_{key}") for key, value in values.items()]
    graph.initializer.extend(tensor for tensor in tensors if tensor.name not in known)


def _bias(graph: GraphProto, product: str, weights: dict[str, np.ndarray]) -> NodeProto | None:
    """Return the node that adds a bias to a product and is its only reader; `None` if there is none."""
    readers = [node for node in graph.node if product in node.input]
    if len(readers) == 1 and readers[0].op_type == "Add":
        if any(name in weights and weights[name].ndim == 1 for name in readers[0].input):
            return readers[0]
    return None


def _smoothing(found: Range, matrices: list[np.ndarray]) -> np.ndarray:
    """Return each channel's divisor, float32 (channels,): its width ** alpha / its weights' width ** (1 - alpha)."""
    weights_width = np.maximum(np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), 1e-5)
    factors = found.width**SMOOTHING / weights_width ** (1 - SMOOTHING)
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float32)


def _activation_scale(found: Range, factors: np.ndarray, exclude: np.ndarray) -> dict[str, np.ndarray]:
    """Return `scale`, float32 (), and `zero`, uint8 (), that map a smoothed activation's range onto 0 to 255.

    The channels in `exclude` are left out of the range and may saturate.
    """
    low, high = np.delete(found.low / factors, exclude).min(), np.delete(found.high / factors, exclude).max()
    scale = np.float32(max(high - low, 1e-5) / 255)
    return {"scale": np.array(scale), "zero": np.array(np.clip(np.rint(-low / scale), 0, 255), dtype=np.uint8)}


def _quantized_matrix(matrix: np.ndarray, largest: int) -> dict[str, np.ndarray]:
    """Return a matrix (channels, outputs) as int8, with a `scale`, float32 (outputs,), and a `zero` for each output."""
    scale = np.maximum(np.abs(matrix).max(axis=0) / largest, 1e-12).astype(np.float32)
    rounded = np.rint(matrix / scale).astype(np.int8)
    return {"quantized": rounded, "scale": scale, "zero": np.zeros(scale.shape, dtype=np.int8)}


def _quantize_tables(graph: GraphProto, weights: dict[str, np.ndarray]) -> dict[str, list[NodeProto]]:
    """Return the nodes that replace each `Gather` from a large table by one from int8 rows, each with its scale."""
    replaced = {}
    for node in graph.node:
        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.ndim != 2 or table.size < LARGE_TABLE:
            continue
        name, rows = node.input[0], _quantized_matrix(table.T, 127)
        _add_constants(graph, name, {"quantized": rows["quantized"].T.copy(), "scale": rows["scale"][:, None]})
        row, scale, real = (f"{node.output[0]}_row_{part}" for part in ("bytes", "scale", "float"))
        replaced[node.output[0]] = [
            helper.make_node("Gather", [f"{name}_quantized", node.input[1]], [row]),
            helper.make_node("Gather", [f"{name}_scale", node.input[1]], [scale]),
            helper.make_node("Cast", [row], [real], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [real, scale], node.output),
        ]
    return replaced


def _replace_nodes(graph: GraphProto, replaced: dict[str, list[NodeProto]]) -> None:
    """Replace nodes, keyed by their output, and drop the constants that no node reads any more."""
    nodes = [new for node in graph.node for new in replaced.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)

"""The most that the machine multiplies in a second, in float and in 8-bit integers, in ONNX Runtime on every core."""

import time
from collections.abc import Generator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from recipe.machine import usable_cores

MATRIX, REPEATS = 2048, 10


def serve() -> Generator[Any, Any, None]:
    """Be the process that measures them.

    Yields:
        Nothing; then for each wish the operations per second by precision, `fp32` and `int8`.
    """
    draw = np.random.default_rng(0)
    given: dict[str, np.ndarray] = {
        "fp32": draw.standard_normal((MATRIX, MATRIX), dtype=np.float32),
        "int8": draw.integers(0, 256, (MATRIX, MATRIX), dtype=np.uint8),
    }
    weights = {"fp32": given["fp32"].T.copy(), "int8": draw.integers(-127, 128, (MATRIX, MATRIX), dtype=np.int8)}
    sessions = {name: _product(weights[name], given[name].dtype) for name in given}
    yield None
    while True:
        yield {name: _operations_per_second(session, given[name]) for name, session in sessions.items()}


def _product(weights: np.ndarray, given: np.dtype[Any]) -> InferenceSession:
    """Return a session that multiplies by weights, float32 or int8 (channels, outputs)."""
    operator, output = ("MatMul", "FLOAT") if weights.dtype == np.float32 else ("MatMulInteger", "INT32")
    shape = [MATRIX, MATRIX]
    graph = helper.make_graph(
        [helper.make_node(operator, ["given", "weights"], ["product"])],
        "limit",
        [helper.make_tensor_value_info("given", helper.np_dtype_to_tensor_dtype(given), shape)],
        [helper.make_tensor_value_info("product", getattr(TensorProto, output), shape)],
        # A constant, as a model's weights are, so that they are packed once.
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _operations_per_second(session: InferenceSession, given: np.ndarray) -> float:
    """Return those of the best of some products."""
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        session.run(None, {"given": given})
        best = min(best, time.perf_counter() - begun)
    return 2 * MATRIX**3 / best

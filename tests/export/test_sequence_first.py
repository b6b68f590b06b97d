"""Tokens before reviews: ONNX Runtime computes attention without copies, and nothing else changes."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import InferenceSession
from transformers import AutoModelForSequenceClassification, BertTokenizerFast

from recipe.export.variants import write_onnx
from recipe.inference.onnx import session_options
from recipe.run_folder import RunFolder

REVIEWS = ["a lovely film", "the plot was " + "poor " * 30, "great"]


def optimised(file: Path, folder: Path) -> Counter[str]:
    """How many operators of each kind ONNX Runtime makes of a file."""
    options = session_options()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_attention_takes_each_head_in_its_place(tiny_run: RunFolder, tmp_path: Path) -> None:
    write_onnx(tiny_run.path, tmp_path / "ours")
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_run.path).eval()
    write_onnx(tiny_run.path, tmp_path / "plain", plain)
    ours, theirs = (optimised(tmp_path / name / "model.onnx", tmp_path) for name in ("ours", "plain"))
    layers = plain.config.num_hidden_layers
    # Of the plain class's, one in four: queries, keys and values are read where they are.
    assert theirs["Transpose"] == 4 * layers and ours["Transpose"] <= layers + 2
    assert ours["FusedMatMul"] == 2 * layers, "queries by keys, with the scale, and attention by values"
    batch = dict(BertTokenizerFast.from_pretrained(tiny_run.path)(REVIEWS, padding=True, return_tensors="np"))
    found, expected = (
        InferenceSession(tmp_path / name / "model.onnx").run(["logits"], batch)[0] for name in ("ours", "plain")
    )
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)

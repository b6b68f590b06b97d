"""The benchmarks measure every way there is on the same rows, and what they say of it is so."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import files_under, load_script, run_script, separable_reviews, write_dataset
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from recipe.benchmarks import limits, ways
from recipe.benchmarks.cost import operations, operations_of
from recipe.benchmarks.turns import Worker
from recipe.errors import UsageError
from recipe.export.variants import export
from recipe.model.last_layer import read_only_cls
from recipe.run_folder import RunFolder

OWN, OTHER = "the run's test rows", "separable's test rows"


@pytest.fixture(scope="module")
def exported(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The finished run, exported; not to be changed but for its benchmark."""
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("exported") / "run"))
    export(run, max_f1_drop=0.2)
    return run


@pytest.fixture(scope="module")
def inference(exported: RunFolder, reviews_folder: Path) -> dict[str, Any]:
    """What one round of a few reviews has shown, and what was printed."""
    flags = ["--run", exported.path, "--dataset_name", reviews_folder, "--reviews", "20", "--rounds", "1"]
    result = run_script("benchmark", "inference", *flags, cwd=exported.path.parent)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "libraries are quiet"
    written = json.loads((exported.path / "benchmark" / "inference.json").read_text(encoding="utf-8"))
    return written | {"printed": result.stdout}


def test_every_way_answers_the_same_reviews(inference: dict[str, Any]) -> None:
    assert list(inference["reviews"]) == [OWN, OTHER] and inference["rounds"] == 1
    for part in inference["reviews"].values():
        assert part["rows"] == 20
        assert list(part["ways"]) == [name for name in ways.WAYS if name not in inference["left_out"]]
        assert part["ways"][ways.ORIGINAL]["ratio"] == 1
        for way in part["ways"].values():
            assert way["reviews_per_second"] > 0 and 0 < way["p50_ms"] <= way["p95_ms"]
            assert 0 < way["share_of_limit"] < 1 and way["logit_difference"]["mean"] < 0.5
            assert ("f1" in way) == (part is inference["reviews"][OWN]), "labels are known for the run's rows alone"
    assert inference["limits"]["fp32_giga_per_second"] > 1 and inference["limits"]["int8_giga_per_second"] > 1


def test_what_is_computed_in_float_flips_no_label(inference: dict[str, Any]) -> None:
    for part in inference["reviews"].values():
        for name, way in part["ways"].items():
            difference = way["logit_difference"]["largest"]
            if way["precision"] == "fp32":
                assert way["labels_flipped"] == 0 and difference < 1e-4, name
            else:
                assert difference > 1e-4, name
        assert part["ways"][ways.PYTORCH]["logit_difference"]["largest"] == 0


def test_the_original_pads_to_the_trained_length_and_a_pipeline_not_at_all(inference: dict[str, Any]) -> None:
    found = {name: way["padding"] for name, way in inference["reviews"][OWN]["ways"].items()}
    # Some 14 word pieces of 32.
    assert found[ways.ORIGINAL] > 0.4 > found[ways.PYTORCH] > found["ours, fp32"] > 0 == found["Optimum's pipeline"]
    assert found["ours, int8"] == found["ours, fp32"] == found["ONNX Runtime's dynamic int8"]


def test_the_memory_of_a_way_is_that_of_its_own_libraries(inference: dict[str, Any]) -> None:
    found = {name: way["peak_mib"] for name, way in inference["reviews"][OWN]["ways"].items()}
    # Whoever starts it has imported torch, transformers and datasets.
    assert 30 < found["ours, int8"] < 250 < found[ways.PYTORCH]


def test_the_figures_are_printed_and_drawn(inference: dict[str, Any], exported: RunFolder) -> None:
    assert files_under(exported.path / "benchmark") == {"inference.json", "inference.png"}
    assert (exported.path / "benchmark" / "inference.png").read_bytes().startswith(b"\x89PNG")
    lines = inference["printed"].splitlines()
    for name, way in inference["reviews"][OTHER]["ways"].items():
        assert any(name in line and f"{way['reviews_per_second']:.1f}" in line for line in lines)
    assert lines[-1].startswith("In full: ") and "inference.json" in lines[-1]


def test_openvino_lies_near_pytorch(inference: dict[str, Any]) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    way = inference["reviews"][OWN]["ways"][ways.OPENVINO]
    assert way["precision"] == "int8" and 1e-4 < way["logit_difference"]["largest"] < 1
    assert inference["versions"].keys() >= {"openvino", "nncf"}


def test_openvino_is_left_out_with_the_reason_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "find_spec", lambda name: None)
    assert ways.left_out() == {ways.OPENVINO: "openvino and nncf not installed: pip install -e '.[benchmark]'"}
    assert ways.versions_of_extra() == {}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run", "nowhere"], "no run at nowhere"),
        (["--run", "{trained}"], "run python scripts/export_onnx.py --run"),
        (["--run", "{exported}", "--reviews", "15"], "--reviews 15 must be 16 at least"),
        (["--run", "{exported}", "--rounds", "0"], "--rounds 0"),
        (["--run", "{exported}", "--dataset_name", "./nowhere"], "no folder './nowhere' here"),
        (["--run", "{exported}", "--dataset_name", "{other}"], "has no column 'content'; it has label, body"),
        (["--run", "{exported}", "--dataset_name", "{train_only}"], "test"),
    ],
)
def test_a_mistake_is_said_before_anything_is_measured(
    flags: list[str], message: str, exported: RunFolder, tiny_run: RunFolder, tmp_path: Path
) -> None:
    other = Dataset.from_dict({"label": [0, 1], "body": ["bad", "good"]})
    write_dataset(tmp_path / "other", train=other, test=other)
    write_dataset(tmp_path / "train_only", train=separable_reviews(20, seed=1))
    places = {"trained": tiny_run, "exported": exported, "other": tmp_path / "other"}
    places["train_only"] = tmp_path / "train_only"
    argv = [flag.format(**places) for flag in flags]
    with pytest.raises(UsageError) as caught:
        load_script("benchmark").main(["inference", *argv])
    assert message in str(caught.value)


@pytest.mark.parametrize("only_cls", [False, True])
def test_operations_are_those_counted_by_hand(only_cls: bool) -> None:
    hidden, inner, layers = 32, 64, 2
    config = BertConfig(
        vocab_size=9, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=2
    )
    model = BertForSequenceClassification(config).eval()
    if only_cls:
        read_only_cls(model)
    with torch.no_grad():
        cost = operations(lambda batch: model(input_ids=batch, attention_mask=batch), torch.device("cpu"))

    def by_hand(length: int) -> int:
        """Query, key, value and output; scores and values; feed-forward; then pooler and classifier."""
        layer = {queries: 2 * (2 * (length + queries) * hidden**2) for queries in (length, 1)}
        for queries in layer:
            layer[queries] += 2 * 2 * queries * length * hidden + 2 * 2 * queries * hidden * inner
        return (layers - 1) * layer[length] + layer[1 if only_cls else length] + 2 * hidden**2 + 2 * hidden * 2

    sizes = np.array([[3, 20, 50], [1, 7, 7]])
    assert operations_of(sizes, cost) == pytest.approx(3 * by_hand(20) + by_hand(7))


def test_the_limits_are_measured_on_true_products() -> None:
    given = np.arange(limits.MATRIX**2, dtype=np.int64).reshape(limits.MATRIX, -1) % 251
    weights = (given.T % 13 - 6).astype(np.int8)
    for kind in ("float32", "uint8"):
        matrix = weights.astype(np.float32) if kind == "float32" else weights
        session = limits._product(matrix, np.dtype(kind))
        (product,) = session.run(None, {"given": given.astype(kind)})
        assert product[:3].tolist() == (given[:3] @ weights.astype(np.int64)).tolist()


def test_a_mistake_that_a_process_finds_is_raised_where_it_was_asked(tmp_path: Path) -> None:
    folders = ways.Folders(tmp_path / "nowhere", tmp_path, tmp_path)
    with pytest.raises(UsageError, match="no run at"):
        Worker(ways.serve, "ours, int8", folders, {})


def test_the_data_step_of_many_rows_is_measured_and_stays_small(tmp_path: Path) -> None:
    separable_reviews(1000, seed=1).to_parquet(tmp_path / "reviews" / "train.parquet")
    result = run_script("benchmark", "data", "--dataset_name", "reviews", "--rows", "60500", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["rows"]["validation"] == 12_100 and 48_000 < measured["rows"]["train"] <= 48_400, "but for repeats"
    assert measured["tokenized_rows_per_second"] > 0 and 0 < measured["peak_gib_before"] < measured["peak_gib"] < 2


def test_training_is_measured_beside_the_original_and_learns_the_same(tiny_bert: Path, tmp_path: Path) -> None:
    # As the original's loop pads to 128 word pieces.
    BertModel(BertConfig.from_pretrained(tiny_bert, max_position_embeddings=128)).save_pretrained(tmp_path / "bert")
    BertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(tmp_path / "bert")
    write_dataset(tmp_path / "reviews", train=separable_reviews(200, seed=1), test=separable_reviews(40, seed=2))
    flags = "--dataset_name reviews --model_name_or_path bert --rows 80 --rounds 1".split()
    result = run_script("benchmark", "training", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["rows"] == 80 and measured["limit_gflops"] > 1
    assert measured["profile"]["aten::mm"] > 0.01 and sum(measured["profile"].values()) <= 1
    ways = measured["ways"]
    assert list(ways) == ["original loop", "run_classification.py", "ours"] and ways["original loop"]["ratio"] == 1
    for way in ways.values():
        assert way["reviews_per_second"] > 0 and 0 <= way["share_of_limit"] < 1 and way["peak_gib"] > 0.1
        assert all(0.3 < loss < 1.2 for loss in way["losses"])
    missing = run_script("benchmark", "training", "--dataset_name", "./nowhere", cwd=tmp_path)
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert "benchmark.py: error: no folder './nowhere' here" in missing.stderr
    # Some 14 word pieces of 128 at most.
    assert ways["ours"]["padding"] < 0.5 < 0.8 < ways["original loop"]["padding"]

"""The benchmarks measure every backend and every loop on the same rows, each as its authors run it."""

import json
import os
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import onnxruntime
import pytest
from conftest import ONNX_FILES, copy_of, files_under, load_script, run_script, separable_reviews, write_dataset
from datasets import Dataset
from transformers import BertConfig, BertModel, BertTokenizerFast

from recipe.benchmarks import backends
from recipe.errors import UsageError
from recipe.run_folder import RunFolder

OWN, OTHER = "the run's test rows", "separable's test rows"
LIBRARIES = ["original recipe", "PyTorch, batches of 16", "Optimum's pipeline"]
BACKENDS = [*LIBRARIES, "dynamic int8", "ours, fp32", "ours, int8"]


@pytest.fixture(scope="module")
def inference(
    exported_run: RunFolder, reviews_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What one round of a few reviews has shown, what was printed, and the run's folder."""
    run = copy_of(exported_run, tmp_path_factory.mktemp("benchmark"))
    flags = ["--run", run.path, "--dataset_name", reviews_folder, "--reviews", "20", "--rounds", "1"]
    result = run_script("benchmark", "inference", *flags, cwd=run.path.parent)
    assert (result.returncode, result.stderr) == (0, ""), "libraries are quiet"
    written = json.loads((run.path / "benchmark" / "inference.json").read_text(encoding="utf-8"))
    return written | {"printed": result.stdout, "folder": run.path}


@pytest.mark.slow
def test_every_backend_answers_the_same_reviews(inference: dict[str, Any]) -> None:
    assert list(inference["reviews"]) == [OWN, OTHER] and inference["rounds"] == 1
    for part in inference["reviews"].values():
        assert part["rows"] == 20 and list(part["ways"]) == BACKENDS
        assert part["ways"]["original recipe"]["ratio"] == 1
        for figures in part["ways"].values():
            assert figures["reviews_per_second"] > 0 and 0 < figures["p50_ms"] <= figures["p95_ms"]


@pytest.mark.slow
def test_fp32_flips_no_label_and_int8_computes_something_else(inference: dict[str, Any]) -> None:
    for part in inference["reviews"].values():
        for name, figures in part["ways"].items():
            largest, mean = figures["largest_difference"], figures["mean_difference"]
            if name.endswith("int8"):
                assert 1e-4 < largest and mean < 0.5
            else:
                assert figures["labels_flipped"] == 0 and largest < 1e-4, name
        assert part["ways"]["PyTorch, batches of 16"]["largest_difference"] == 0


@pytest.mark.slow
def test_a_backend_holds_its_own_libraries_and_no_others(inference: dict[str, Any]) -> None:
    peaks = {name: figures["peak_mib"] for name, figures in inference["reviews"][OWN]["ways"].items()}
    # Whoever starts them has imported torch, transformers and datasets.
    assert max(peaks["ours, int8"], peaks["ours, fp32"]) < min(peaks[name] for name in LIBRARIES)


@pytest.mark.slow
def test_the_figures_are_printed_and_written(inference: dict[str, Any]) -> None:
    assert files_under(inference["folder"] / "benchmark") == {"inference.json"}
    lines = inference["printed"].splitlines()
    for part in inference["reviews"].values():
        for name, figures in part["ways"].items():
            assert any(name in line and f"{figures['reviews_per_second']}" in line for line in lines)
    assert inference["machine"] in inference["printed"]
    assert lines[-1].startswith("In full: ") and "inference.json" in lines[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("inference --run nowhere", "no run at nowhere"),
        ("inference --run {trained}", "run python scripts/export_onnx.py --run"),
        ("inference --run {exported} --reviews 15", "--reviews 15 must be 16 at least"),
        ("inference --run {exported} --rounds 0", "--rounds 0 must be 1 at least"),
        ("inference --run {exported} --dataset_name ./nowhere", "no folder './nowhere' here"),
        ("inference --run {exported} --dataset_name {other}", "has no column 'content'; it has label, body"),
        ("inference --run {exported} --dataset_name {train_only}", "test"),
        ("data --dataset_name ./nowhere", "no folder './nowhere' here"),
        ("data --dataset_name {other}", "has no column 'content'; it has label, body"),
        ("data --dataset_name {other} --rows 99", "--rows 99 must be 100 at least"),
        ("training --dataset_name ./nowhere", "no folder './nowhere' here"),
        ("training --dataset_name {other} --rows 79", "--rows 79 must be 80 at least"),
    ],
)
def test_a_mistake_is_said_before_anything_is_measured(
    flags: str,
    message: str,
    exported_run: RunFolder,
    tiny_run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Which `data` sets.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)
    other = Dataset.from_dict({"label": [0, 1], "body": ["bad", "good"]})
    places = {
        "trained": tiny_run,
        "exported": exported_run,
        "other": write_dataset(tmp_path / "o", train=other, test=other),
    }
    places["train_only"] = write_dataset(tmp_path / "train_only", train=separable_reviews(20, seed=1))
    with pytest.raises(UsageError) as caught:
        load_script("benchmark").main(flags.format(**places).split())
    assert message in str(caught.value) and not (exported_run.path / "benchmark").exists()


def test_the_original_runs_one_review_at_a_time_padded_to_the_trained_length(
    exported_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    class Recording(onnxruntime.InferenceSession):  # type: ignore[misc]
        """A session that notes what it is given."""

        def run(self, names: Any, given: dict[str, np.ndarray]) -> Any:
            shapes.append(given["input_ids"].shape)
            return super().run(names, given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recording)
    logits = backends.load_original(exported_run.path, exported_run.onnx)(["a good film", "bad", "the end"])
    assert shapes == [(1, 32)] * 3 and logits.shape == (3, 2)


def test_the_fp32_file_is_what_the_original_and_the_pipeline_are_given(exported_run: RunFolder) -> None:
    assert "model.onnx" in ONNX_FILES
    texts = ["a good film", "bad", "the end was awful and very poor"]
    expected = backends.load_ours("fp32", exported_run.path, exported_run.onnx)(texts)
    for load in (backends.load_original, backends.load_pipeline):
        np.testing.assert_allclose(load(exported_run.path, exported_run.onnx)(texts), expected, atol=1e-5)


def test_each_way_has_a_process_of_its_own_that_stays() -> None:
    # `eval` answers with a way's value; a function of this module would import all of conftest.
    ways = ["__import__('os').getpid()", "0 or __import__('os').getpid()"]
    first, second = backends.take_turns(ways, eval, [(), ()])
    assert first == second and list(first) == ways and len({*first.values(), os.getpid()}) == 3


def test_a_mistake_that_a_process_finds_is_raised_where_it_was_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^no run at"):
        backends.take_turns(["ours, int8"], backends.pass_over, [(tmp_path / "nowhere", tmp_path, [], [])])


def test_the_machine_is_named_with_the_instructions_that_decide(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu avx2 avx512f avx512_vnni rdpid\n\n"
    )
    assert backends.describe_machine(tmp_path / "cpuinfo").endswith(
        "CPU cores, Some CPU @ 2.00GHz (avx2, avx512f, avx512_vnni)"
    )
    elsewhere = backends.describe_machine(tmp_path / "nowhere")
    assert (platform.processor() or platform.machine()) in elsewhere and elsewhere.endswith("(instructions unknown)")


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    rounds = [(2.0, 1.0), (9.0, 3.0), (2.0, 0.5)]
    turns = [{way: SimpleNamespace(seconds=one) for way, one in zip("ab", both, strict=True)} for both in rounds]
    # Of the medians it would be 2 / 1; a round in which the machine was slow counts once.
    assert backends.compare_speed(turns, "b", 10) == {"reviews_per_second": 10.0, "ratio": 3.0}
    assert backends.compare_speed(turns, "a", 10) == {"reviews_per_second": 5.0, "ratio": 1.0}


@pytest.mark.slow
def test_the_data_step_of_many_rows_is_measured_and_stays_small(tmp_path: Path) -> None:
    separable_reviews(1000, seed=1).to_parquet(tmp_path / "reviews" / "train.parquet")
    result = run_script("benchmark", "data", "--dataset_name", "reviews", "--rows", "60500", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["rows"]["validation"] == 12_100 and 48_000 < measured["rows"]["train"] <= 48_400, "but for repeats"
    assert measured["tokenized_rows_per_second"] > 0 and 0 < measured["peak_gib"] < 2


@pytest.mark.slow
def test_training_is_measured_beside_the_original_on_the_same_rows(tiny_bert: Path, tmp_path: Path) -> None:
    # As the original's loop pads to 128 tokens.
    BertModel(BertConfig.from_pretrained(tiny_bert, max_position_embeddings=128)).save_pretrained(tmp_path / "bert")
    BertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(tmp_path / "bert")
    write_dataset(tmp_path / "reviews", train=separable_reviews(200, seed=1), test=separable_reviews(40, seed=2))
    flags = "--dataset_name reviews --model_name_or_path bert --rows 80 --rounds 1".split()
    result = run_script("benchmark", "training", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["rows"] == 80 and measured["rounds"] == 1 and "CPU cores" in measured["machine"]
    loops = measured["ways"]
    assert list(loops) == ["original loop", "run_classification.py", "ours"] and loops["original loop"]["ratio"] == 1
    for loop in loops.values():
        assert loop["reviews_per_second"] > 0 and loop["peak_gib"] > 0
    # Some 14 tokens of 128 at most: the two pad to the maximum, ours to the longest of a batch.
    assert loops["ours"]["padding"] < 0.5 < 0.8 < loops["original loop"]["padding"]
    assert loops["run_classification.py"]["padding"] == pytest.approx(loops["original loop"]["padding"], abs=0.02)

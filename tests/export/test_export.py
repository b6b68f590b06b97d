"""Each variant of the ONNX model is certified to be the PyTorch one, or it is not there."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ONNX_FILES, change_weights, copy_of, files_under, load_script, separable_reviews
from onnx import numpy_helper
from optimum.onnxruntime import ORTModelForSequenceClassification
from optimum.onnxruntime import pipeline as optimum_pipeline
from transformers import AutoTokenizer, pipeline

from recipe.arguments.data import DataArguments
from recipe.data.reviews import load_reviews
from recipe.errors import CheckFailed, UsageError
from recipe.export import certificate
from recipe.export import variants as exporting
from recipe.export.certificate import MAX_LOGIT_DIFFERENCE, as_table, describe_rejected
from recipe.export.variants import export, reviews_for_checks
from recipe.inference.onnx import OnnxClassifier
from recipe.machine import this_cpu
from recipe.run_folder import VARIANT_FILES, RunFolder

# The tiny run has 60 validation reviews, too few to tell a small loss of F1 from none.
LENIENT = 0.2
INT8 = VARIANT_FILES["int8"]


@pytest.fixture
def run(exported_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the exported run that a test may change."""
    return copy_of(exported_run, tmp_path)


def test_an_export_agrees_with_pytorch_on_validation_reviews(exported_run: RunFolder) -> None:
    content = exported_run.read_certificate()
    assert content.reviews == 60 and not content.refused
    fp32, int8 = content.variants["fp32"], content.variants["int8"]
    assert fp32.logit_difference.largest <= MAX_LOGIT_DIFFERENCE and fp32.labels_flipped == 0
    assert 1e-4 < int8.logit_difference.largest < 0.5 and int8.quantized_nodes == 6 + 2
    assert fp32.objection is None and min(fp32.reviews_per_second, int8.reviews_per_second) > 0
    assert files_under(exported_run.onnx) == ONNX_FILES
    assert not list(exported_run.path.glob(".onnx-*")), "nothing temporary is left"


def test_text_embeddings_inference_finds_the_trained_length(exported_run: RunFolder) -> None:
    found = json.loads((exported_run.path / "sentence_bert_config.json").read_text())
    assert found == {"max_seq_length": 32, "do_lower_case": False}


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("subfolder", ["", "onnx"])
def test_an_export_loads_where_people_will_load_it(variant: str, subfolder: str, exported_run: RunFolder) -> None:
    folder = exported_run.path if subfolder else exported_run.onnx
    model = ORTModelForSequenceClassification.from_pretrained(
        folder, subfolder=subfolder, file_name=VARIANT_FILES[variant]
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "negative", 1: "positive"} and tokenizer.model_max_length == 32
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert [answer["label"] for answer in classify(["a lovely film", "a poor film"])] == ["positive", "negative"]
    by_optimum = optimum_pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert by_optimum("a lovely film") == classify("a lovely film")


def test_validation_reviews_are_the_runs_own_and_those_of_calibration_are_not(
    exported_run: RunFolder, reviews_folder: Path
) -> None:
    reviews = load_reviews(DataArguments(dataset_name=str(reviews_folder), max_train_samples=-1), 42)
    checked, calibration = reviews_for_checks(exported_run, 1000)
    validation = reviews.splits["validation"]
    assert checked.texts == validation.texts["content"][:] and (checked.labels == validation.labels).all()
    assert set(calibration) <= set(reviews.splits["train"].texts["content"][:]) and len(calibration) == 240


def test_few_reviews_cannot_buy_a_pass_and_the_other_variants_are_written(run: RunFolder) -> None:
    content = export(run)
    assert content == run.read_certificate()
    assert set(content.variants) == {"fp32"} and set(content.refused) == {"int8"}
    int8 = content.refused["int8"]
    assert int8.verdict == "undecided" and int8.f1_drop <= 0.01 < int8.f1_drop_interval[1]
    assert int8.reviews_needed and 60 < int8.reviews_needed < 3000
    low, high = int8.f1_drop_interval
    assert describe_rejected(content) == (
        f"int8 is undecided: on 60 validation reviews it may cost {high:.4f} of F1 "
        f"(95 % interval {low:.4f} to {high:.4f}, allowed 0.01); some {int8.reviews_needed:,} would decide"
    )
    assert content.notes[-1] == run.read_record().seed_note() == as_table(content).splitlines()[-1]
    assert "undecided" in as_table(content).splitlines()[2] and files_under(run.onnx) == ONNX_FILES - {INT8}
    with pytest.raises(UsageError, match="no certified variant 'int8', only fp32: int8 is undecided: on 60 validation"):
        OnnxClassifier.from_run(run.path, variant="int8")
    assert OnnxClassifier.from_run(run.path).variant == "fp32"


def test_an_undecided_variant_alone_is_not_written_and_an_earlier_export_stays(run: RunFolder) -> None:
    message = "int8 is undecided: on 60 .* would decide. Nothing was written; the earlier export in .*onnx is as it was"
    with pytest.raises(CheckFailed, match=message):
        export(run, ["int8"])
    assert files_under(run.onnx) == ONNX_FILES


@pytest.mark.parametrize(
    ("max_f1_drop", "verdict", "reviews"),
    [(0.3, "certified", [20]), (0.15, "certified", range(21, 60)), (0.01, "undecided", [60])],
)
def test_a_variant_is_undecided_only_once_all_validation_reviews_were_measured(
    max_f1_drop: float, verdict: str, reviews: Sequence[int], run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHECKED_REVIEWS", 20)
    content = export(run, max_f1_drop=max_f1_drop)
    assert (content.variants | content.refused)["int8"].verdict == verdict and content.reviews in reviews


def test_a_variant_that_was_not_asked_for_is_not_written(run: RunFolder) -> None:
    export(run, ["int8"], max_f1_drop=LENIENT)
    assert files_under(run.onnx) == ONNX_FILES - {"model.onnx"}


def test_fp16_without_a_gpu_is_refused_before_anything_is_done(run: RunFolder) -> None:
    before = run.certificate.read_bytes()
    with pytest.raises(UsageError, match="fp16 is for a GPU"):
        export(run, ["fp32", "fp16"])
    assert run.certificate.read_bytes() == before


def test_fp16_is_the_same_model_at_half_the_size(run: RunFolder) -> None:
    exporting.write_variants(run.onnx, ["fp16"], this_cpu(), [])
    texts = separable_reviews(20, seed=3)["content"][:]
    whole, half = (OnnxClassifier(run.onnx, variant).logits(texts) for variant in ("fp32", "fp16"))
    assert 0 < np.abs(whole - half).max() < 0.02
    sizes = [(run.onnx / VARIANT_FILES[variant]).stat().st_size for variant in ("fp32", "fp16")]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.slow
def test_a_model_over_its_limit_leaves_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "MAX_LOGIT_DIFFERENCE", 0.0)
    shutil.rmtree(run.onnx)
    with pytest.raises(CheckFailed, match="fp32 is not the trained model: largest .* Nothing was written$"):
        export(run)
    assert not run.onnx.exists() and not list(run.path.glob(".onnx-*"))


def test_weights_that_cannot_be_read_are_named_and_an_earlier_export_stays(run: RunFolder) -> None:
    weights = run.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match="the model in .* cannot be loaded, a file is missing or damaged"):
        export(run)
    assert files_under(run.onnx) == ONNX_FILES


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
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
    shutil.rmtree(run.onnx)
    with pytest.raises(CheckFailed, match="fp32 gives NaN or infinite logits"):
        export(run)
    assert not run.onnx.exists()


def write_int8_with(bias: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have int8 written with another bias for its two labels."""
    write_int8 = exporting.write_int8

    def broken(source: Path, target: Path, *args: Any) -> float:
        share = write_int8(source, target, *args)
        model = onnx.load(target)
        found = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
        found.CopyFrom(numpy_helper.from_array(np.array(bias, dtype=np.float32), "classifier.bias"))
        onnx.save(model, target)
        return share

    monkeypatch.setattr(exporting, "write_int8", broken)


def test_a_variant_that_gives_no_numbers_is_refused_and_the_others_stay(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_int8_with([np.nan, np.nan], monkeypatch)
    int8 = export(run, max_f1_drop=LENIENT).refused["int8"]
    assert (int8.verdict, int8.objection) == ("worse", "gives NaN or infinite logits")
    assert files_under(run.onnx) == ONNX_FILES - {INT8}


def test_a_variant_that_is_worse_is_said_with_exit_code_1_and_the_others_stay(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # It calls every review negative, and the F1 of the other label is 0.
    write_int8_with([99.0, -99.0], monkeypatch)
    with pytest.raises(CheckFailed) as raised:
        load_script("export_onnx").main(["--run", str(run.path)])
    assert raised.value.code == 1
    said = str(raised.value)
    assert said.startswith("int8 is worse: on 60 validation reviews it costs 1.0000 of F1 (95 % interval 0.")
    assert said.endswith(f", allowed 0.01). Written to {run.onnx}: fp32")
    assert files_under(run.onnx) == ONNX_FILES - {INT8} and "would decide" not in capsys.readouterr().out


def test_a_planted_wrong_weight_is_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx = exporting.write_onnx

    def wrong(trained: Path, folder: Path) -> None:
        write_onnx(trained, folder)
        model = onnx.load(folder / "model.onnx")
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(2e-4), "classifier.bias"))
        onnx.save(model, folder / "model.onnx")

    monkeypatch.setattr(exporting, "write_onnx", wrong)
    shutil.rmtree(run.onnx)
    with pytest.raises(CheckFailed, match="largest logit difference 2.0e-04 and 0 label"):
        # int8 would pass, but is made from it.
        export(run, max_f1_drop=LENIENT)
    assert not run.onnx.exists()


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at .*nowhere.*train one first"):
        export(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="holds no finished run: run.json is missing"):
        export(RunFolder(tmp_path))

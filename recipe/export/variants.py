"""The trained model as ONNX in several variants, each certified on real reviews to be the same model."""

import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoTokenizer, PreTrainedModel

from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import CheckFailed, UsageError
from recipe.export.certificate import Checked, certificate, measure, refusals, speeds
from recipe.export.quantization import this_cpu, write_int8
from recipe.files.atomic import write_json
from recipe.files.text_rows import Text
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.optimum import OptimumClassifier
from recipe.inference.pytorch import TorchClassifier
from recipe.model.pretrained import load_trained
from recipe.run_folder import VARIANT_FILES, RunFolder

MAX_F1_DROP = 0.01
# Validation reviews that each variant is held against PyTorch on: enough for an interval of the F1 it may cost that is
# narrower than the budget, few enough for a BERT-base on a CPU.
CHECKED_REVIEWS = 1000
# Train reviews that int8's ranges are taken from.
CALIBRATION_REVIEWS = 256


def export(
    run: RunFolder, variants: list[str] | None = None, target: str | None = None, max_f1_drop: float = MAX_F1_DROP
) -> dict[str, Any]:
    """Write `<run>/onnx/` and return its certificate.

    The folder appears whole, with the variants that are within their budget, or not at all; an earlier one stays until
    there is a verdict.

    Args:
        run: A finished run.
        variants: Of `fp32`, `int8`, `fp16`; `None` is fp32 and int8, and fp16 where there is a GPU.
        target: The kind of CPU that int8 is made for; `None` is this one.
        max_f1_drop: What int8 and fp16 may cost.

    Raises:
        UsageError: There is no finished run, its weights or reviews cannot be read any more, or fp16 has no GPU here.
        CheckFailed: No variant is within its budget, or fp32 is not, which the others are made from.
    """
    run.require_finished()
    chosen = variants or default_variants()
    if "fp16" in chosen and "cuda" not in installed_providers():
        raise UsageError("fp16 is for a GPU, and ONNX Runtime has none here: leave it out of --variants")
    checked, calibration = _reviews(run, TorchClassifier.from_run(run.path))
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=run.path) as temporary:
        folder = Path(temporary) / "onnx"
        write_onnx(run.path, folder)
        write_variants(folder, chosen, target or this_cpu(), calibration)
        content = certificate(checked, _measure_all(folder, chosen, checked), target or this_cpu(), max_f1_drop)
        for name in VARIANT_FILES.keys() - content["variants"].keys():
            (folder / VARIANT_FILES[name]).unlink(missing_ok=True)
        write_json(folder / run.certificate.name, content)
        # Whatever the checks say, an earlier export is no longer the one that was checked last.
        if run.onnx.exists():
            run.onnx.replace(Path(temporary) / "earlier")
        # The others are made from it.
        if not content["variants"] or "fp32" in content["refused"]:
            raise CheckFailed(f"{refusals(content)}. Nothing was kept")
        folder.replace(run.onnx)
    return content


def default_variants() -> list[str]:
    """Return the variants that this machine can certify."""
    # ONNX Runtime says what it was built with, torch what is there.
    has_gpu = "cuda" in installed_providers() and torch.cuda.is_available()
    return ["fp32", "int8", *(["fp16"] if has_gpu else [])]


def write_onnx(trained: Path, folder: Path, model: PreTrainedModel | None = None) -> None:
    """Export a trained model's folder into another, with label names, trained length and tokenizer.

    Args:
        trained: The folder.
        folder: The other.
        model: The model as it shall be exported; `None` is as `load_trained` loads it.
    """
    # What `ORTModelForSequenceClassification.from_pretrained(..., export=True)` calls with a model of its own loading,
    # whose last layer would be whole. `do_validation` would only warn; what is written is compared on real reviews.
    model = model or load_trained(trained)
    onnx_export_from_model(model, folder, task="text-classification", do_validation=False)
    AutoTokenizer.from_pretrained(trained, local_files_only=True).save_pretrained(folder)


def write_variants(folder: Path, chosen: list[str], target: str, calibration: list[Text]) -> None:
    """Write the other variants beside `model.onnx`."""
    source = folder / VARIANT_FILES["fp32"]
    if "int8" in chosen:
        write_int8(source, folder / VARIANT_FILES["int8"], target, OnnxClassifier(folder).batches(calibration))
    if "fp16" in chosen:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), folder / VARIANT_FILES["fp16"])


def _reviews(run: RunFolder, trained: TorchClassifier) -> tuple[Checked, list[Text]]:
    """Return the validation reviews that decide, with PyTorch's logits, and the train reviews for calibration.

    Raises:
        UsageError: The dataset cannot be read any more, or its rows have changed.
    """
    reviews = reviews_of(run)
    validation = reviews.validation.spread(CHECKED_REVIEWS)
    texts = texts_of(validation)
    checked = Checked(texts, validation.labels, reviews.label_names, trained.logits(texts, "PyTorch"))
    return checked, list(texts_of(reviews.train.spread(CALIBRATION_REVIEWS)))


def _measure_all(folder: Path, chosen: list[str], checked: Checked) -> dict[str, dict[str, Any]]:
    """Return the measurements of each variant, its speed among them."""
    providers = {name: "cuda" if name == "fp16" else "cpu" for name in chosen}
    served = {name: OnnxClassifier(folder, name, provider) for name, provider in providers.items()}
    measured = {}
    for name, provider in providers.items():
        optimum = OptimumClassifier(folder, name, provider, served[name].batch_size)
        measured[name] = measure(checked, served[name], folder / VARIANT_FILES[name], optimum, provider)
    fast = speeds(served, checked.texts)
    return {name: found | {"reviews_per_second": fast[name]} for name, found in measured.items()}

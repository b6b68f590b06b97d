"""Write the trained model as ONNX in several variants, each compared with PyTorch on validation reviews."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoTokenizer, PreTrainedModel

from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.errors import CheckFailed, UsageError
from recipe.export.certificate import CheckedReviews, certificate, describe_rejected
from recipe.export.quantization import write_int8
from recipe.export.sequence_first import put_sequence_first
from recipe.files.atomic import read_json, write_json
from recipe.files.text_rows import Text
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.inference.pytorch import CHECKED_REVIEWS, TorchClassifier
from recipe.machine import this_cpu
from recipe.model.pretrained import load_trained
from recipe.run_folder import VARIANT_FILES, Certificate, RunFolder

MAX_F1_DROP = 0.01
NO_INT8 = "hardly a layer of this architecture can be computed on 8-bit integers here"
# Train reviews that calibrate int8.
CALIBRATION_REVIEWS = 256


def export(
    run: RunFolder,
    variants: list[str] | None = None,
    target: str | None = None,
    max_f1_drop: float = MAX_F1_DROP,
    files: Mapping[str, list[str]] | None = None,
) -> Certificate:
    """Write `<run>/onnx/`, and the trained length for text-embeddings-inference; return the certificate.

    The folder is written whole, with the variants that are certified, or not at all. An earlier one stays until the new
    variants were measured. Where a variant is undecided and the run has more validation rows, all variants are measured
    again on as many as would decide.

    Args:
        run: A finished run.
        variants: Of `fp32`, `int8`, `fp16`; `None` is fp32 and int8, and fp16 where there is a GPU.
        target: The kind of CPU that int8 is made for; `None` is this one.
        max_f1_drop: F1 that int8 and fp16 may cost.
        files: Where the run's files are now, by split, if they have moved.

    Raises:
        UsageError: There is no finished run, its weights or reviews cannot be read or changed, or fp16 has no GPU.
        CheckFailed: No variant is certified, or fp32, which the others are made from, is not; or the trained model has
            not the F1 that it had in training.
    """
    run.require_finished()
    chosen, target = variants or default_variants(), target or this_cpu()
    if "fp16" in chosen and "cuda" not in installed_providers():
        raise UsageError("fp16 is for a GPU, and ONNX Runtime has none here: leave it out of --variants")
    checked, calibration = reviews_for_checks(run, CHECKED_REVIEWS, files)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=run.path) as temporary:
        folder = Path(temporary) / "onnx"
        write_onnx(run.path, folder)
        shares = write_variants(folder, chosen, target, calibration)
        if not shares.keys():
            raise UsageError(f"int8: {NO_INT8}, so only --variants fp32 can be written")
        content = certificate(checked, folder, shares, target, max_f1_drop)
        while more := reviews_to_add(content, run.read_record().rows["validation"]):
            checked, _ = reviews_for_checks(run, more, files)
            content = certificate(checked, folder, shares, target, max_f1_drop)
        if "int8" in set(chosen) - shares.keys():
            content.notes.append(f"int8: {NO_INT8}, so it was not written.")
        content.notes.append(run.read_record().seed_note())
        for name in VARIANT_FILES.keys() - content.variants.keys():
            (folder / VARIANT_FILES[name]).unlink(missing_ok=True)
        write_json(folder / run.certificate.name, content.to_json())
        if not content.variants or "fp32" in content.refused:
            earlier = f"; the earlier export in {run.onnx} is as it was" if run.onnx.exists() else ""
            raise CheckFailed(f"{describe_rejected(content)}. Nothing was written{earlier}")
        if run.onnx.exists():
            run.onnx.replace(Path(temporary) / "earlier")
        folder.replace(run.onnx)
    length = read_json(run.onnx / "tokenizer_config.json")["model_max_length"]
    # As sentence-transformers writes it. Without it text-embeddings-inference would read as far as the encoder can.
    write_json(run.trained_length, {"max_seq_length": length, "do_lower_case": False})
    return content


def default_variants() -> list[str]:
    """Return the variants that this machine can check."""
    # ONNX Runtime knows what it was built with, torch whether there is a GPU.
    has_gpu = "cuda" in installed_providers() and torch.cuda.is_available()
    return ["fp32", "int8", *(["fp16"] if has_gpu else [])]


def write_onnx(trained: Path, folder: Path, model: PreTrainedModel | None = None) -> None:
    """Export the model of the folder `trained` as fp32, with its label names, trained length and tokenizer.

    Args:
        model: The model to export; `None` loads it with `load_trained`.
    """
    # `ORTModelForSequenceClassification.from_pretrained(..., export=True)` calls the same function, but loads the model
    # itself, with a whole last layer. `do_validation` would only warn; the export is compared on real reviews.
    model = model or put_sequence_first(load_trained(trained))
    onnx_export_from_model(model, folder, task="text-classification", do_validation=False)
    AutoTokenizer.from_pretrained(trained, local_files_only=True, trust_remote_code=False).save_pretrained(folder)


def write_variants(folder: Path, chosen: list[str], target: str, calibration: list[Text]) -> dict[str, float]:
    """Write the other variants beside `model.onnx`.

    Returns:
        By variant, those that do not fit left out, the share of the multiplications by weights that are 8-bit.
    """
    source, shares = folder / VARIANT_FILES["fp32"], dict.fromkeys(chosen, 0.0)
    if "int8" in chosen:
        batches = OnnxClassifier(folder).batches(calibration)
        shares["int8"] = write_int8(source, folder / VARIANT_FILES["int8"], target, batches)
        if not shares["int8"]:
            del shares["int8"]
    if "fp16" in chosen:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), folder / VARIANT_FILES["fp16"])
    return shares


def reviews_to_add(content: Certificate, rows: int) -> int:
    """Return on how many of the run's validation rows to measure again, so that an undecided variant is decided.

    Returns:
        As many as would decide, or all `rows`; 0 if no variant is undecided, or all rows were measured.
    """
    undecided = [found for found in content.refused.values() if found.verdict == "undecided"]
    wanted = max((found.reviews_needed or rows for found in undecided), default=0)
    return min(wanted, rows) if content.reviews < rows else 0


def reviews_for_checks(
    run: RunFolder, most: int, files: Mapping[str, list[str]] | None = None
) -> tuple[CheckedReviews, list[Text]]:
    """Return up to `most` validation reviews with PyTorch's logits, and the train reviews that calibrate int8.

    Raises:
        UsageError: The weights or the dataset cannot be read any more, or its rows have changed.
        CheckFailed: The model no longer has the F1 that was measured in training.
    """
    trained, reviews = TorchClassifier.from_run(run.path), reviews_of(run, files)
    # The same batches: some architectures (ConvBERT, MobileBERT) read padding, which depends on them.
    trained.batch_tokens = OnnxClassifier.batch_tokens
    rows, logits = trained.require_recorded_f1(reviews.splits["validation"], run.read_record(), most)
    checked = CheckedReviews(texts_of(rows), rows.labels, reviews.label_names, logits)
    return checked, list(texts_of(reviews.splits["train"].spread(CALIBRATION_REVIEWS)))

"""What a publication holds: what is certified of a run, without a review's text and without a path of this machine."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from recipe.errors import UsageError
from recipe.evaluation.model_card import card_for_hub
from recipe.evaluation.types import Report
from recipe.files.atomic import as_json
from recipe.hub import one_line_errors
from recipe.inference.onnx import read_decision
from recipe.model.safety import require_safe
from recipe.run_folder import VARIANT_FILES, Certificate, RunFolder, RunRecord, without_folder

WEIGHTS = "model.safetensors"
# By `save_pretrained` of the fast tokenizers.
TOKENIZER = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
}
ROOT = {WEIGHTS, "config.json", "sentence_bert_config.json", "README.md", "report.json", "run.json", "config.yaml"}
# Of config.yaml what a reader of other reviews needs; numbers are sent as well.
COLUMNS = ("text_columns", "label_column", "truncation_side", "class_weights")


def contents(run: RunFolder, name: str) -> dict[str, Path | bytes]:
    """Return what is published: the path of a file as it is, or a file's new content, by its path in the repository.

    Certified variants alone; of the report the pictures alone. Texts of reviews are left out of the certificate, and
    folders out of each file's name.

    Args:
        name: The repository's, which stands in the card's examples.

    Raises:
        UsageError: The run was not trained, exported and evaluated, or a file is damaged or not the certified one.
    """
    certificate = run.read_certificate()
    _require_whole(run, certificate)
    variants = {VARIANT_FILES[variant] for variant in certificate.variants}
    found = {WEIGHTS, "config.json", *TOKENIZER, run.trained_length.name}
    names = [*found, *(f"onnx/{file}" for file in variants | TOKENIZER | {"config.json", "decision.json"})]
    names += [f"report/{picture.name}" for picture in run.report_folder.glob("*.png")]
    files: dict[str, Path | bytes] = {file: run.path / file for file in names if (run.path / file).is_file()}
    report = Report.from_json(run.read_report(), run.report)
    files |= {
        "README.md": card_for_hub(run.card.read_text(encoding="utf-8"), name).encode(),
        "onnx/certificate.json": as_json(without_reviews(certificate)),
        "report.json": as_json(without_folders(report.to_json())),
        "run.json": as_json(without_folders(_shared(run.read_record()).to_json())),
        "config.yaml": yaml.safe_dump(_numbers_and_columns(run.read_config()), allow_unicode=True).encode(),
    }
    return dict(sorted(files.items()))


def is_published(path: str) -> bool:
    """Return whether a publication may hold a file of this path, in the repository."""
    return path in ROOT | TOKENIZER or path.startswith(("onnx/", "report/"))


def without_reviews(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate's content without the texts of the reviews whose label changes."""
    content = certificate.to_json()
    for found in [*content["variants"].values(), *content["refused"].values()]:
        found["flipped"] = [{key: value for key, value in one.items() if key != "review"} for one in found["flipped"]]
    return content | {"command": shlex.join(Path(word).name for word in shlex.split(certificate.command))}


def without_folders(value: Any) -> Any:
    """Return JSON content in which each `file` is a name without its folders."""
    if isinstance(value, dict):
        return {
            key: Path(inner).name if key == "file" and isinstance(inner, str) else without_folders(inner)
            for key, inner in value.items()
        }
    return [without_folders(inner) for inner in value] if isinstance(value, list) else value


def _require_whole(run: RunFolder, certificate: Certificate) -> None:
    for variant, found in certificate.variants.items():
        run.require_certified(variant, found)
    for file in (run.decision, run.report, run.card):
        if not file.is_file():
            raise UsageError(
                f"{run} was not evaluated since its export, {file} is missing: "
                f"run python scripts/evaluate.py --run {run}"
            )
    read_decision(run.decision, len(run.read_record().labels))
    require_safe(run.path)
    # Its header says how long it is.
    with one_line_errors(str(run.path / WEIGHTS), None), safe_open(run.path / WEIGHTS, framework="np"):
        pass


def _shared(record: RunRecord) -> RunRecord:
    """Return a record without the answers to single reviews, and without this machine's folders."""
    refit = replace(record.refit, logits=[]) if record.refit else None
    return replace(record, weights=without_folder(record.weights), dataset=without_folder(record.dataset), refit=refit)


def _numbers_and_columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if isinstance(value, int | float) or name in COLUMNS}

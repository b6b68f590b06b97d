"""Paths of a run's files, and how they are read and written."""

import json
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from recipe.errors import RecipeWarning, UsageError
from recipe.files.atomic import file_sha256, remove, write_json, write_whole
from recipe.files.lock import holding
from recipe.run_folder.certificate import Certificate, VariantCertificate
from recipe.run_folder.record import RunRecord

PACKAGES = (
    "torch transformers datasets evaluate accelerate optimum optimum-onnx onnx onnxruntime onnxruntime-gpu "
    "scikit-learn numpy"
).split()
# Names as in `onnx/` folders on the Hub.
# An unfinished run that has one of these can go on: a checkpoint's manifest, which is written last, or a finished seed.
RESUMABLE = ("checkpoint-*/checkpoint.json", "seeds/*/checkpoint-*/checkpoint.json", "seeds/*/run.json")
VARIANT_FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx", "fp16": "model_fp16.onnx"}


class RunFolder:
    """One run's folder.

    checkpoint-N/       a checkpoint, N optimisation steps from the start
    seeds/              while several seeds are trained: a folder like this one for each, and what they have in common
    model.safetensors   the best epoch's weights, or a refit's; config.json and the tokenizer are beside it
    config.yaml         the resolved settings, as --config takes them
    data.json           what the reviews are like
    run.json            what was done; written last, so that a folder that has it is a finished run
    onnx/               the exported model's variants, and what certifies them
    sentence_bert_config.json  the trained length, where text-embeddings-inference looks for it
    report.json         the evaluation; README.md, a model card, and report/, its pictures, show it
    .lock               while a process writes to the folder: which
    """

    def __init__(self, path: str | Path) -> None:
        """Name the folder; it need not exist."""
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.record = self.path / "run.json"
        self.data = self.path / "data.json"
        self.weights = self.path / "model.safetensors"
        self.seeds = self.path / "seeds"
        self.begun = self.seeds / "begun.json"
        self.onnx = self.path / "onnx"
        self.trained_length = self.path / "sentence_bert_config.json"
        self.certificate = self.onnx / "certificate.json"
        self.decision = self.onnx / "decision.json"
        self.report = self.path / "report.json"
        self.report_folder = self.path / "report"
        self.answers = self.report_folder / "answers.csv"
        self.card = self.path / "README.md"

    def __str__(self) -> str:
        """Return the path as the user gave it."""
        return str(self.path)

    @property
    def is_finished(self) -> bool:
        """Return whether a finished run is there, with its weights."""
        return all(file.is_file() for file in (self.record, self.config, self.weights))

    def require_finished(self, flag: str = "--run") -> None:
        """Raise a `UsageError` if the folder holds no finished run; it says what is missing and how to get it.

        Args:
            flag: The one that names another folder.
        """
        self._require(self.record, self.config, self.weights, flag=flag)

    def require_onnx(self) -> None:
        """Raise a `UsageError` if the folder holds no run that was exported; it says how to get one.

        A copy that serves needs no trained weights beside `onnx/`.
        """
        self._require(self.record, self.config)
        if not self.certificate.is_file():
            raise UsageError(f"{self} has no {self.certificate}: run python scripts/export_onnx.py --run {self}")

    def read_certificate(self) -> Certificate:
        """Return `onnx/certificate.json`; if the run was not exported, or it is damaged, raise a `UsageError`."""
        self.require_onnx()
        certificate = Certificate.from_json(_mapping(self.certificate, json.loads), self.certificate)
        if not certificate.variants:
            raise UsageError(f"{self.certificate} is damaged: it has no variants")
        return certificate

    def choose_variant(self, name: str | None, providers: list[str]) -> tuple[str, VariantCertificate]:
        """Return a certified variant's name and certificate, after checking that its file is the certified one.

        Args:
            name: Which; `None` is the fastest of `Certificate.runnable`.
            providers: Those that ONNX Runtime has here: `cpu`, `cuda`.

        Raises:
            UsageError: There is none, its file is damaged, or it is int8 for another kind of CPU.
        """
        content = self.read_certificate()
        certified, runnable = content.variants, content.runnable(providers)
        if name in (None, "int8") and "int8" in certified and "cpu" in providers and "int8" not in runnable:
            message = (
                f"int8 of {self} was made for a CPU of the kind {content.target}, and this one would give other "
                f"labels: run python scripts/export_onnx.py --run {self} here, or anywhere with --target avx2"
            )
            if name or not runnable:
                raise UsageError(message)
            warnings.warn(f"{message}; now another variant is used", RecipeWarning, stacklevel=2)
        chosen = name or max(runnable, key=lambda key: certified[key].reviews_per_second, default="")
        if chosen not in certified:
            refused, what = content.refused.get(chosen), repr(chosen) if chosen else f"for {' or '.join(providers)}"
            raise UsageError(
                f"{self} has no certified variant {what}, only {', '.join(certified)}: "
                + (f"{chosen} {refused.objection}; " if refused else "")
                + f"see {self.certificate}, or export it with python scripts/export_onnx.py --run {self}"
            )
        self.require_certified(chosen, certified[chosen])
        return chosen, certified[chosen]

    def require_certified(self, name: str, found: VariantCertificate) -> None:
        """Raise a `UsageError` if a variant's file is not the one that its certificate describes."""
        file = self.onnx / VARIANT_FILES[name]
        if not file.is_file() or file_sha256(file) != found.sha256:
            raise UsageError(
                f"{file} is missing or damaged, it is not the file that was certified: "
                f"run python scripts/export_onnx.py --run {self}"
            )

    def hold(self, flag: str) -> AbstractContextManager[None]:
        """Make the folder, and keep other launches from writing to it until the block ends; reading is free.

        Args:
            flag: The one that names another folder.

        Raises:
            UsageError: Another launch writes to it, or it cannot be made or written.
        """
        return holding(self.path / ".lock", f"{self} is being written", flag)

    def require_free(self, overwrite: bool) -> None:
        """Raise a `UsageError` if the folder holds a run, finished or not, and `overwrite` is false."""
        found = [path.name for path in self._contents()]
        if found and not overwrite:
            finished = self.record.is_file()
            state = "a finished run" if finished else f"an unfinished run ({', '.join(sorted(found)[:3])})"
            resumable = not finished and any(any(self.path.glob(pattern)) for pattern in RESUMABLE)
            go_on = "give --resume to go on with it, " if resumable else ""
            raise UsageError(
                f"{self} already holds {state}: {go_on}choose another --output_dir, or give --overwrite_output_dir"
            )

    def holds(self, path: Path) -> bool:
        """Return whether a folder is this one, or has a file among what `clear` removes, also by way of a link."""
        kept = [path.resolve(), *(file.resolve() for file in path.iterdir() if file.is_file())]
        gone = [found.resolve() for found in self._contents()]
        return self.path.resolve() in kept or any(file.is_relative_to(found) for file in kept for found in gone)

    def clear(self) -> None:
        """Remove an earlier run's files and no others, the record first, so that the rest never looks finished."""
        self.data.unlink(missing_ok=True)
        for path in sorted(self._contents(), key=lambda path: path != self.record):
            remove(path)

    def remove_model(self) -> None:
        """Remove everything but the record."""
        for path in [*self.path.iterdir()]:
            if path != self.record:
                remove(path)

    def read_record(self) -> RunRecord:
        """Return `run.json`; if it is damaged, raise a `UsageError`."""
        return RunRecord.from_json(_mapping(self.record, json.loads), self.record)

    def write_record(self, record: RunRecord) -> None:
        """Write `run.json`, which makes the run a finished one."""
        write_json(self.record, record.to_json())

    def read_config(self) -> dict[str, Any]:
        """Return the resolved settings; if they are damaged, raise a `UsageError`."""
        return _mapping(self.config, yaml.safe_load)

    def read_begun(self) -> dict[str, Any]:
        """Return what all seeds of an unfinished run have in common; if it is damaged, raise a `UsageError`."""
        return _mapping(self.begun, json.loads)

    def read_report(self) -> dict[str, Any]:
        """Return `report.json`; if it is damaged, raise a `UsageError`."""
        return _mapping(self.report, json.loads)

    def write_config(self, settings: dict[str, Any]) -> None:
        """Write the resolved settings."""
        write_whole(self.config, yaml.safe_dump(settings, allow_unicode=True, sort_keys=True))

    def _require(self, *files: Path, flag: str = "--run") -> None:
        """Raise a `UsageError` that names the first of a finished run's files which is missing."""
        if not self.path.is_dir():
            where = "" if self.path.is_absolute() else f" ({self.path.resolve()})"
            raise UsageError(f"no run at {self}{where}: train one first, or say where with {flag}")
        for file in files:
            if not file.is_file():
                raise UsageError(f"{self} holds no finished run: {file.name} is missing from it. Train it first")

    def _contents(self) -> list[Path]:
        """Return the paths of a run's files and folders that exist, links to nothing among them."""
        named = [self.record, self.config, self.onnx, self.weights, self.seeds]
        named += [self.report, self.report_folder, self.card, self.trained_length, self.path / "benchmark"]
        saved = [path for kind in ("checkpoint-*", ".onnx-*", ".report-*") for path in self.path.glob(kind)]
        return [path for path in (*named, *saved) if os.path.lexists(path)]


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return a file's content, which must be a mapping."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is damaged: it holds a {type(content).__name__}, not settings")
    return content


def versions() -> dict[str, str]:
    """Return the installed version of each library that a run's numbers depend on."""
    found = {}
    for name in PACKAGES:
        # For a GPU, onnxruntime-gpu takes the place of onnxruntime.
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

"""The content of run.json, and the header on the screen."""

import os
import platform
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from recipe import __version__
from recipe.arguments.parser import Arguments
from recipe.data.reviews import Reviews
from recipe.model.pretrained import Pretrained
from recipe.quickstart import is_package
from recipe.run_folder import BestEpoch, Epoch, RunRecord, versions
from recipe.training.progress import epoch_rows
from recipe.training.trainer import ReviewTrainer

FULL_COMMAND = "accelerate launch scripts/train.py --config amazon_polarity"


@dataclass
class TrainingJob:
    """A run that is ready to start."""

    arguments: Arguments
    pretrained: Pretrained
    reviews: Reviews
    model: PreTrainedModel
    trainer: ReviewTrainer


def header(job: TrainingJob) -> str:
    """Return the first lines on the screen: the weights, the reviews and the device of the run."""
    config = job.arguments.config
    rows = ", ".join(f"{len(split):,} {name}" for name, split in job.reviews.splits.items())
    rows += "" if "test" in job.reviews.splits else "; no test split, so evaluation will ask for one"
    place = _place(job.trainer)
    where = f"{place['device']}, {place['processes']} process(es), {place['threads']} thread(s) each"
    parameters = f"{job.model.num_parameters() / 1e6:.1f} M parameters"
    return "\n".join(
        (
            f"config     {config.stem} ({os.path.relpath(config)})",
            f"weights    {_origin(job.pretrained.source)}: {type(job.model).__name__}, {parameters}",
            f"reviews    {_origin(job.reviews.origin)}: {rows}",
            f"device     {where}; precision {place['precision']}",
            f"output     {job.arguments.training.output_dir}",
            *([f"The full Amazon Polarity: {FULL_COMMAND}"] if is_package(job.reviews.origin["name"]) else []),
        )
    )


def _origin(source: dict[str, Any]) -> str:
    """Return a source's name with its version or commit."""
    if "version" in source:
        return f"{source['name']}=={source['version']} (sha256 {source['sha256'][:12]}…)"
    return f"{source['name']}@{source['revision'][:12]}" if source.get("revision") else str(source["name"])


def _place(trainer: ReviewTrainer) -> dict[str, Any]:
    """Return the device, its name, processes, threads and precision in effect."""
    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "precision": trainer.precision,
    }


def run_record(job: TrainingJob, best: dict[str, Any], seconds: float) -> RunRecord:
    """Return the content of `run.json`."""
    epochs = [Epoch(**row) for row in epoch_rows(job.trainer.state.log_history)[:-1]]
    return RunRecord(
        config=job.arguments.config.stem,
        recipe=__version__,
        python=platform.python_version(),
        versions=versions(),
        seed=job.arguments.training.seed,
        weights=job.pretrained.source | {"parameters": job.model.num_parameters()},
        dataset=job.reviews.origin,
        labels=job.reviews.label_names,
        rows={name: len(split) for name, split in job.reviews.splits.items()},
        rows_sha256={name: split.sha256 for name, split in job.reviews.splits.items()},
        **_place(job.trainer),
        epochs=epochs,
        best=BestEpoch(**best, checkpoint=f"checkpoint-{int(best['step'])}"),
        seconds=round(seconds, 1),
    )

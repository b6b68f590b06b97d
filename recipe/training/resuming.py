"""Resume a run from its newest whole checkpoint, and only if it is the same run."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from recipe.arguments.data import DataArguments
from recipe.arguments.model import ModelArguments
from recipe.arguments.parser import Arguments
from recipe.data.reviews import Reviews
from recipe.errors import UsageError
from recipe.machine import is_main_process
from recipe.model.pretrained import Pretrained
from recipe.run_folder import RunFolder
from recipe.training import checkpoints

# Settings that do not change what is learned: paths, devices, logging. Data and weights are compared by hash.
MAY_CHANGE_ON_RESUME = {
    *(f.name for cls in (ModelArguments, DataArguments) for f in dataclasses.fields(cls)),
    *("output_dir", "overwrite_output_dir", "resume", "save_steps", "save_total_limit"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"),
    *("disable_tqdm", "report_to", "run_name", "use_cpu", "torch_compile", "gradient_checkpointing"),
    *("average_tokens_across_devices", "threads", "tuned_trials"),
} - {"max_length", "truncation_side"}
PREFIXES_THAT_MAY_CHANGE = ("logging_", "dataloader_", "ddp_", "fsdp", "torch_compile_", "gradient_checkpointing_")


def identity(arguments: Arguments, pretrained: Pretrained, reviews: Reviews, architecture: str) -> dict[str, Any]:
    """Return the data, weights and settings that make a run the one it is."""
    rows = {"rows of " + name: reviews.splits[name].sha256 for name in ("train", "validation")}
    model = pretrained.source | {"architecture": architecture}
    if "revision" not in model:
        # A folder is known by its files' hashes wherever it is, a name on the Hub by its commit.
        del model["name"]
    settings = {
        name: value
        for name, value in arguments.resolved.items()
        if name not in MAY_CHANGE_ON_RESUME and not name.startswith(PREFIXES_THAT_MAY_CHANGE)
    }
    # A checkpoint of an earlier version does not name them: it keeps the beginning, and has no warm-up.
    for name, before in {"truncation_side": "right", "warmup_ratio": 0}.items():
        if settings[name] == before:
            del settings[name]
    return {"data": rows | {"labels": reviews.label_names}, "model": model, "settings": settings}


def find_checkpoint(run: RunFolder) -> tuple[Path, dict[str, Any]]:
    """Return a run's newest whole checkpoint with its manifest, having warned of damaged ones.

    Raises:
        UsageError: There is none, or the run is finished.
    """
    if run.record.is_file():
        raise UsageError(f"{run} holds a finished run, so there is nothing to resume")
    if not run.config.is_file():
        raise UsageError(f"nothing to resume: {run} holds no run. Is it another --output_dir?")
    checkpoint, manifest, damaged = checkpoints.newest_checkpoint(run.path)
    if checkpoint is None:
        found = f": {'; '.join(damaged)}" if damaged else ", no checkpoint was written yet"
        raise UsageError(f"nothing to resume in {run}{found}. Start again without --resume")
    if is_main_process():
        for line in damaged:
            print(f"warning: {line}, going back to {checkpoint.name}", file=sys.stderr, flush=True)
    return checkpoint, manifest


def require_same_run(checkpoint: Path, manifest: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise `UsageError`, with the changes, for a checkpoint with other data, weights or settings."""
    changes = [
        f"{name} ({_short(before.get(name))}, now {_short(now.get(name))})"
        for before, now in ((manifest["run"][part], expected[part]) for part in expected)
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise UsageError(
            f"{checkpoint} is of another run: {'; '.join(changes)} changed since. Give what it was begun with"
        )


def _short(value: Any) -> str:
    if value is None:
        return "the default"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text

"""Checkpoints of a run: a folder counts once its manifest, written last, lists the sha256 of every file in it."""

import shutil
from pathlib import Path
from typing import Any

from recipe.arguments.training import TrainingArguments
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256, flush, read_json, remove, write_json
from recipe.run_folder import RunFolder

MANIFEST = "checkpoint.json"
# Files that only a restart needs: AdamW's two moments are twice the size of the weights.
STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "pytorch_model_fsdp*", MANIFEST)
# A generous bound on the bytes of the tokenizer, the configuration and the manifest.
SMALL_FILES = 16 * 2**20


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the folder of the checkpoint after `step` optimisation steps."""
    return run / f"checkpoint-{step}"


def sorted_checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoint folders by step, damaged ones included."""
    numbered = [path for path in run.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def write_manifest(checkpoint: Path, content: dict[str, Any]) -> None:
    """Flush a folder that Trainer has written, then write its manifest: `content` and each file's sha256.

    It reaches the disk last, so that a crash at any moment leaves a whole checkpoint or a folder without a manifest.
    """
    paths = sorted(checkpoint.rglob("*"))
    for path in (*paths, checkpoint):
        flush(path)
    digests = {str(path.relative_to(checkpoint)): file_sha256(path) for path in paths if path.is_file()}
    write_json(checkpoint / MANIFEST, content | {"files": digests})
    for path in (checkpoint / MANIFEST, checkpoint, checkpoint.parent):
        flush(path)


def newest_checkpoint(run: Path) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return a run's newest whole checkpoint, if any, its manifest, and a line for each newer one that is damaged."""
    damaged: list[str] = []
    for folder in sorted_checkpoints(run)[::-1]:
        if not (damage := _damage(folder)):
            return folder, read_json(folder / MANIFEST), damaged
        damaged.append(f"{folder.name} is damaged ({damage})")
    return None, {}, damaged


def remove_incomplete(run: Path) -> bool:
    """Remove the checkpoint folders without a manifest, and return whether there was one."""
    incomplete = [folder for folder in sorted_checkpoints(run) if not (folder / MANIFEST).is_file()]
    for folder in incomplete:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(incomplete)


def rotate(run: Path, limit: int, kept_steps: set[int | None]) -> None:
    """Remove the oldest checkpoints until `limit` are left, but never those of `kept_steps`."""
    folders = sorted_checkpoints(run)
    removable = [folder for folder in folders if folder.name not in {f"checkpoint-{step}" for step in kept_steps}]
    for folder in removable[: max(0, len(folders) - limit)]:
        shutil.rmtree(folder, ignore_errors=True)


def drop_states(run: RunFolder) -> None:
    """Remove what only a restart needs from a finished run: seeds, and states in its checkpoints, manifests first."""
    if run.seeds.is_dir():
        remove(run.seeds)
    for folder in sorted_checkpoints(run.path):
        (folder / MANIFEST).unlink(missing_ok=True)
        for pattern in STATES:
            for path in folder.glob(pattern):
                remove(path)


def require_space(run: Path, needed: int) -> None:
    """Raise `UsageError` if the disk has no room for a checkpoint with `needed` bytes of weights and optimiser."""
    needed += SMALL_FILES
    free = shutil.disk_usage(run).free
    if free < needed:
        newest = next(iter(sorted_checkpoints(run)[::-1]), None)
        kept = f"{newest.name} is kept: free some space and give --resume" if newest else "free some space"
        sizes = f"needs {needed / 1e6:,.0f} MB and has {free / 1e6:,.0f}"
        raise UsageError(f"no space left for a checkpoint: {run} {sizes}; {kept}")


def how_to_resume(folder: Path | None, args: TrainingArguments) -> str:
    """Return how a run that was stopped goes on, in words.

    Args:
        folder: Of its first training that is not finished, one of its `seeds/` where there are several; `None` where
            all are.
        args: Of the run.
    """
    if folder is None:
        place = "where all seeds are trained"
    elif saved := [path for path in sorted_checkpoints(folder) if (path / MANIFEST).is_file()]:
        place = str(saved[-1])
    elif args.seeds > 1 and any(folder.parent.glob("*/run.json")):
        place = f"the start of seed {folder.name}"
    else:
        again = "" if args.overwrite_output_dir else " with --overwrite_output_dir"
        return f"No checkpoint was written yet: start again{again}"
    flag = "--resume in place of --overwrite_output_dir" if args.overwrite_output_dir else "--resume"
    return f"The same command with {flag} goes on from {place}"


def _damage(folder: Path) -> str | None:
    try:
        manifest = read_json(folder / MANIFEST)
        digests = {"model.safetensors": None, "trainer_state.json": None} | manifest["files"]
        if {"data", "model", "settings"} - {*manifest["run"]} or {"passed", "validation_due"} - {*manifest}:
            return f"its {MANIFEST} cannot be read"
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in digests.items():
        if not (folder / name).is_file():
            return f"its {name} is missing"
        if file_sha256(folder / name) != digest:
            return f"its {name} is not what was written"
    return None

"""Checkpoints of a run: whole or not there, known to be undamaged, and of one run only."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipe.errors import UsageError
from recipe.files.atomic import file_sha256, flush, write_json

# Lists the others; written last.
MANIFEST = "checkpoint.json"
# What only a restart needs: AdamW's two moments are twice the size of the weights.
STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "pytorch_model_fsdp*", MANIFEST)
# The tokenizer, the configuration and the manifest, generously.
SMALL_FILES = 16 * 2**20


def checkpoint_path(run: Path, step: int) -> Path:
    """Return where the checkpoint after `step` optimisation steps is."""
    return run / f"checkpoint-{step}"


def staging_path(checkpoint: Path) -> Path:
    """Return where a checkpoint is written before it gets its name."""
    return checkpoint.with_name(f".{checkpoint.name}")


def publish(checkpoint: Path, content: dict[str, Any]) -> None:
    """Give what was staged its name, with a manifest that holds `content` and each file's sha256.

    Everything is on the disk before the name is: a machine that stops at any moment leaves a whole checkpoint or none.
    """
    staged = staging_path(checkpoint)
    digests = {}
    for file in _files(staged):
        digests[str(file.relative_to(staged))] = file_sha256(file)
        flush(file)
    write_json(staged / MANIFEST, content | {"files": digests})
    flush(staged / MANIFEST)
    flush(staged)
    # One that is replaced was written when its step's validation was still to come.
    shutil.rmtree(checkpoint, ignore_errors=True)
    staged.rename(checkpoint)
    flush(checkpoint.parent)


def newest_whole(run: Path) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return a run's newest whole checkpoint with what its manifest says, and why newer ones were passed over.

    Returns:
        The checkpoint, `None` if there is none; its manifest; a line for each that is damaged.
    """
    damaged: list[str] = []
    for folder in sorted_checkpoints(run)[::-1]:
        if not (damage := _damage(folder)):
            return folder, json.loads((folder / MANIFEST).read_text(encoding="utf-8")), damaged
        damaged.append(f"{folder.name} is damaged ({damage})")
    return None, {}, damaged


def sorted_checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, damaged ones among them, by step."""
    numbered = [path for path in run.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def drop_states(run: Path) -> None:
    """Remove from a finished run's checkpoints what only a restart needs, the manifests first."""
    for folder in sorted_checkpoints(run):
        (folder / MANIFEST).unlink(missing_ok=True)
        for pattern in STATES:
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def require_space(run: Path, needed: int) -> None:
    """Refuse to begin a checkpoint that the disk has no room for.

    Raises:
        UsageError: Says how many bytes are needed, how many are free, and what is kept.
    """
    free = shutil.disk_usage(run).free
    if free < needed + SMALL_FILES:
        raise _no_space(run, needed, free)


@contextmanager
def space_named(run: Path, needed: int) -> Iterator[None]:
    """Turn whatever a full disk makes the libraries raise into the refusal of `require_space`, and take away the rest.

    Whatever, because safetensors and torch raise types of their own when a write fails.
    """
    try:
        yield
    except Exception as error:
        written = sum(file.stat().st_size for staged in run.glob(".checkpoint-*") for file in _files(staged))
        free = shutil.disk_usage(run).free
        remove_staged(run)
        if free + written < needed + SMALL_FILES:
            raise _no_space(run, needed, free + written) from error
        raise


def remove_staged(run: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for staged in run.glob(".checkpoint-*"):
        shutil.rmtree(staged, ignore_errors=True)


def _no_space(run: Path, needed: int, free: int) -> UsageError:
    """Return the refusal."""
    newest = next(iter(sorted_checkpoints(run)[::-1]), None)
    kept = f"{newest.name} is kept: free some space and give --resume" if newest else "free some space"
    return UsageError(
        f"no space left for a checkpoint: {run} needs {(needed + SMALL_FILES) / 1e6:,.0f} MB and has "
        f"{free / 1e6:,.0f}; {kept}"
    )


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, `None` if it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digests = dict(manifest["files"])
        if (
            not {"data", "model", "settings"} <= manifest["run"].keys()
            or not {"passed", "validation_due"} <= manifest.keys()
        ):
            raise KeyError
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in (dict.fromkeys(("model.safetensors", "trainer_state.json")) | digests).items():
        file = folder / name
        if not file.is_file():
            return f"its {name} is missing"
        if file_sha256(file) != digest:
            return f"its {name} is not what was written"
    return None


def _files(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())

"""Resume a run from its newest whole checkpoint, and only if it is the same run."""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipe.arguments.data import DataArguments
from recipe.arguments.model import ModelArguments
from recipe.arguments.parser import Arguments
from recipe.data.reviews import Reviews, Split
from recipe.errors import UsageError
from recipe.machine import is_main_process
from recipe.model.pretrained import Pretrained
from recipe.run_folder import RunFolder
from recipe.training import checkpoints
from recipe.training.teacher import Teacher

# Settings that do not change what is learned: paths, devices, logging. Data and weights are compared by hash.
MAY_CHANGE_ON_RESUME = {
    *(f.name for cls in (ModelArguments, DataArguments) for f in dataclasses.fields(cls)),
    *("output_dir", "overwrite_output_dir", "resume", "seeds", "save_steps", "save_total_limit"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"),
    *("disable_tqdm", "report_to", "run_name", "use_cpu", "torch_compile", "gradient_checkpointing"),
    *("average_tokens_across_devices", "threads", "tuned_trials"),
} - {"max_length", "truncation_side"}
PREFIXES_THAT_MAY_CHANGE = ("logging_", "dataloader_", "ddp_", "fsdp", "torch_compile_", "gradient_checkpointing_")


@dataclass(frozen=True)
class Start:
    """Where a launch begins.

    Attributes:
        left: The folders of the run's trainings that are not finished, by seed.
        checkpoint, manifest: Of the first of them, if it is resumed; what a resumed run was begun with, if not.
    """

    left: Mapping[int, RunFolder]
    checkpoint: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return it in words."""
        begins = f"the start of seed {next(iter(self.left))}" if self.left else "where all seeds are trained"
        return str(self.checkpoint or begins)


def identity(
    arguments: Arguments,
    pretrained: Pretrained,
    reviews: Reviews,
    architecture: str,
    unlabelled: Split | None = None,
    teacher: Teacher | None = None,
) -> dict[str, Any]:
    """Return the data, weights and settings that make a run the one it is."""
    rows = {"rows of " + name: reviews.splits[name].sha256 for name in ("train", "validation")}
    if unlabelled is not None:
        rows["unlabelled rows"] = unlabelled.sha256
    if teacher is not None:
        rows["teacher"] = teacher.origin["sha256"]
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


def find_start(run: RunFolder, folders: Mapping[int, RunFolder]) -> Start:
    """Return where a run's trainings, by seed, were stopped: their newest whole checkpoint; warn of damaged ones.

    Raises:
        UsageError: There is none and no training is finished, the run is, or it was begun with another number of seeds.
    """
    if run.record.is_file():
        if run.is_finished and is_main_process():
            # A stop right after the record leaves them.
            checkpoints.drop_states(run)
        raise UsageError(f"{run} holds a finished run, so there is nothing to resume")
    if not run.config.is_file():
        raise UsageError(f"nothing to resume: {run} holds no run. Is it another --output_dir?")
    if (before := run.read_config().get("seeds", 1)) != len(folders):
        raise UsageError(f"{run} was begun with --seeds {before}, not {len(folders)}: give what it was begun with")
    left = {seed: folder for seed, folder in folders.items() if not folder.record.is_file()}
    newest = [checkpoints.newest_checkpoint(folder.path) for folder in left.values()]
    checkpoint, manifest, damaged = newest[0] if newest else (None, {}, [])
    if checkpoint is None and not any(run.seeds.glob("*/run.json")):
        found = f": {'; '.join(damaged)}" if damaged else ", no checkpoint was written yet"
        raise UsageError(
            f"nothing to resume in {run}{found}. Start again with --overwrite_output_dir in place of --resume"
        )
    start = Start(left, checkpoint, manifest if checkpoint else run.read_begun())
    if is_main_process():
        for line in damaged:
            back = checkpoint.name if checkpoint else start
            print(f"warning: {line}, going back to {back}", file=sys.stderr, flush=True)
    return start


def require_same_run(begun: Path, manifest: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise `UsageError`, with the changes, for a checkpoint, or seeds, with other data, weights or settings."""
    changes = [
        f"{name} ({_short(before.get(name))}, now {_short(now.get(name))})"
        for before, now in ((manifest["run"][part], expected[part]) for part in expected)
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise UsageError(f"{begun} is of another run: {'; '.join(changes)} changed since. Give what it was begun with")


def _short(value: Any) -> str:
    if value is None:
        return "the default"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text

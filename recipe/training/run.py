"""Fine-tune: from arguments to a run folder with its checkpoints and the best model."""

import math
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from recipe.arguments.parser import Arguments
from recipe.arguments.training import METRICS
from recipe.data.inspection import as_block, inspect
from recipe.errors import CheckFailed, Interrupted, UsageError, signal_of
from recipe.files.atomic import write_json
from recipe.hub import local_folder
from recipe.machine import is_main_process
from recipe.run_folder import RunFolder
from recipe.training import checkpoints
from recipe.training.job import Material, TrainingJob, header, job_of, read_material, run_record
from recipe.training.outcome import validation_of
from recipe.training.progress import epoch_rows
from recipe.training.refit import refit
from recipe.training.resuming import Start, find_start, require_same_run
from recipe.training.seeds import drop_all_but_best, folders_by_seed, keep_best
from recipe.training.trainer import ReviewTrainer, free_trainers

# A reloaded checkpoint gives the same metrics up to the order of a GPU's additions.
RELOAD_TOLERANCE = 1e-4


def train(arguments: Arguments) -> RunFolder:
    """Fine-tune, or resume a run that was stopped, and return the finished run's folder.

    Nothing but the folder's lock is written before all arguments, the data and the weights were checked.

    Raises:
        UsageError: The settings, the data, the weights or the folder do not allow it, or another process writes to it.
        CheckFailed: The loss was not finite, or the reloaded weights do not give the best epoch's metrics.
        Interrupted: The run was stopped by a signal; it says how to go on, if there is anything to go on from.
    """
    run = RunFolder(str(arguments.training.output_dir))
    with _held(run):
        _train(arguments, run)
    return run


@contextmanager
def _held(run: RunFolder) -> Iterator[None]:
    """Hold the run's folder for all processes of this launch, which otherwise all refuse."""
    with ExitStack() as held:
        refusal = [""]
        try:
            held.enter_context(run.hold("--output_dir"))
        except UsageError as error:
            refusal = [str(error)]
        broadcast_object_list(refusal)
        if refusal[0]:
            raise UsageError(refusal[0])
        yield


def _train(arguments: Arguments, run: RunFolder) -> None:
    args = arguments.training
    folders = folders_by_seed(run, args)
    start = find_start(run, folders) if args.resume else Start(folders)
    if not args.resume:
        _require_free(run, arguments)
    require_one_process_per_gpu(args.n_gpu)
    material = read_material(arguments)
    ready = [job_of(material, next(iter(start.left or folders)))]
    report = _announce(ready[0], run, start)
    begun = args.resume
    try:
        if material.teacher and start.left:
            # Whatever fails there, fails before anything is overwritten.
            material.teacher.answers  # noqa: B018
        _begin(ready[0], run, start, report)
        begun = True
        for number, (seed, folder) in enumerate(start.left.items()):
            checkpoint = None if number else start.checkpoint
            # Without a name, so that it is gone before the next one is loaded.
            _fit(ready.pop() if ready else job_of(material, seed), material, folder, checkpoint)
            if len(folders) > 1:
                if is_main_process():
                    print(drop_all_but_best(folders, args), flush=True)
                free_trainers()
        if len(folders) > 1:
            if is_main_process():
                keep_best(run, folders, args)
            PartialState().wait_for_everyone()
    except (KeyboardInterrupt, SystemExit) as end:
        # Between the steps of trainings.
        if not begun or run.record.is_file() or not (signal := signal_of(end)):
            raise
        left = next((folder.path for folder in folders.values() if not folder.record.is_file()), None)
        raise Interrupted(f"stopped. {checkpoints.how_to_resume(left, args)}", signal) from None


def _require_free(run: RunFolder, arguments: Arguments) -> None:
    """Raise a `UsageError` if a new run may not replace what its folder holds, such as the weights that it reads."""
    run.require_free(arguments.training.overwrite_output_dir)
    weights = arguments.model.model_name_or_path
    if (folder := local_folder(weights)) and run.holds(Path(folder)):
        raise UsageError(f"--model_name_or_path {weights} is in --output_dir, and would be replaced: choose another")


def _announce(job: TrainingJob, run: RunFolder, start: Start) -> dict[str, Any]:
    """Check that a resumed run is the same, and say what is trained; return the data report of a run that begins."""
    trainer, resumed, report = job.trainer, bool(start.manifest), {}
    if resumed:
        require_same_run(start.checkpoint or run.seeds, start.manifest, trainer.identity)
    if start.checkpoint:
        trainer.restore(start.manifest)
    # Every process has to see the folder as it was before the main process writes to it.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        print(header(job), flush=True)
        if resumed:
            print(f"resumed    from {start}", flush=True)
        else:
            report = inspect(job.reviews, trainer.train_dataset, job.arguments)
            print(as_block(report), flush=True)
            checkpoints.require_space(run.path, trainer.checkpoint_bytes())
    trainer.accelerator.wait_for_everyone()
    return report


def _begin(job: TrainingJob, run: RunFolder, start: Start, report: dict[str, Any]) -> None:
    """Write what comes before the first step of a run that is not resumed."""
    trainer = job.trainer
    if trainer.is_world_process_zero() and not start.manifest:
        run.clear()
        run.write_config(job.arguments.resolved)
        write_json(run.data, report)
        if len(start.left) > 1:
            write_json(run.begun, {"run": trainer.identity})
    trainer.accelerator.wait_for_everyone()
    if not all(trainer.gather_scalar(run.config.is_file())):
        raise UsageError(f"--output_dir {run} must be the same folder on every machine: a shared file system")


def _fit(job: TrainingJob, material: Material, folder: RunFolder, checkpoint: Path | None) -> None:
    """Train from the start or a checkpoint, and leave the best model, with its record, in the training's folder."""
    trainer = job.trainer
    trainer.args.output_dir = str(folder.path)
    if trainer.is_world_process_zero():
        if not checkpoint and job.arguments.training.seeds > 1:
            # Of this seed, damaged checkpoints may be there.
            folder.clear()
        folder.path.mkdir(parents=True, exist_ok=True)
        checkpoints.remove_incomplete(folder.path)
    trainer.accelerator.wait_for_everyone()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{checkpoint} holds more than weights and numbers, and is not read") from error
    seconds = trainer.totals.count_seconds()
    best = prove_best_reloaded(trainer)
    again, kept = refit(job, material, folder.path) if trainer.args.refit else (None, trainer)
    kept.save_model(str(folder.path))
    if trainer.is_world_process_zero():
        # The record makes the training finished, so it follows the model.
        folder.write_record(run_record(job, best, seconds + (again.seconds if again else 0), validation_of(job), again))
        checkpoints.drop_states(folder)
    trainer.accelerator.wait_for_everyone()


def require_one_process_per_gpu(visible_gpus: int) -> None:
    """Raise `UsageError` if one process sees several GPUs: Trainer would use the slow, deprecated `DataParallel`."""
    if visible_gpus > 1:
        raise UsageError(
            f"{visible_gpus} GPUs but one process: start it with accelerate launch --multi_gpu --num_processes "
            f"{visible_gpus} scripts/train.py, or show it a single GPU with CUDA_VISIBLE_DEVICES=0"
        )


def prove_best_reloaded(trainer: ReviewTrainer) -> dict[str, Any]:
    """Validate once more, with the weights now in memory, and return the best epoch's row.

    Raises:
        CheckFailed: The loss or a metric is not what it was in the best epoch, or nothing was ever validated.
    """
    rows = epoch_rows(trainer.state.log_history)
    best = next((row for row in rows if row["step"] == trainer.state.best_global_step), None)
    if best is None:
        raise CheckFailed(
            "training ended before the first validation, so there is no best epoch: lower --eval_steps or --eval_delay"
        )
    again = trainer.evaluate()
    for name in ("loss", *METRICS):
        if not math.isclose(again[f"eval_{name}"], best[name], rel_tol=RELOAD_TOLERANCE, abs_tol=RELOAD_TOLERANCE):
            raise CheckFailed(
                f"the best epoch ({best['epoch']:g}) was not reloaded: its validation {name} was {best[name]:.6f}, "
                f"now it is {again[f'eval_{name}']:.6f}. The checkpoints are untouched in {trainer.args.output_dir}"
            )
    return best


def inspect_only(arguments: Arguments) -> RunFolder:
    """Report on the reviews that a run would use, on the screen and in `<run>/data.json`, and return the folder.

    Raises:
        UsageError: The data or the tokenizer cannot be read, or the folder holds a run or is being written.
    """
    run = RunFolder(str(arguments.training.output_dir))
    with _held(run):
        _require_free(run, arguments)
        material = read_material(arguments)
        report = inspect(material.reviews, material.tokens["train"], material.arguments)
        print(as_block(report))
        write_json(run.data, report)
    return run

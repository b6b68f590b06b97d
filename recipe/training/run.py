"""Fine-tune: from arguments to a run folder with a checkpoint per epoch and the best model."""

import math
import os
import pickle
from typing import Any

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy
from transformers import DataCollatorWithPadding, set_seed

from recipe.arguments.parser import Arguments
from recipe.arguments.training import METRICS, TrainingArguments, set_environment
from recipe.data.inspection import as_block, inspect
from recipe.data.reviews import Reviews, load_reviews
from recipe.data.tokens import tokenize
from recipe.errors import CheckFailed, UsageError
from recipe.files.atomic import write_json
from recipe.machine import usable_cores
from recipe.model.dropout import draw_masks_faster
from recipe.model.pretrained import find_pretrained, load_model, load_tokenizer
from recipe.run_folder import RunFolder
from recipe.training import checkpoints
from recipe.training.compute_metrics import metrics_hook
from recipe.training.progress import epoch_rows
from recipe.training.record import TrainingJob, header, run_record
from recipe.training.resuming import find_checkpoint, identity, require_same_run
from recipe.training.trainer import ReviewTrainer

# A reloaded checkpoint gives the same metrics up to the order of a GPU's additions.
RELOAD_TOLERANCE = 1e-4


def train(arguments: Arguments) -> RunFolder:
    """Fine-tune, or resume a run that was stopped, and return the finished run's folder.

    Nothing but an empty folder is written before all arguments, the data and the weights were checked.

    Raises:
        UsageError: The settings, the data, the weights or the folder do not allow it.
        CheckFailed: The loss was not finite, or the reloaded weights do not give the best epoch's metrics.
        Interrupted: The run was stopped by a signal, after a checkpoint.
    """
    args = arguments.training
    run = RunFolder(str(args.output_dir))
    resumed = find_checkpoint(run) if args.resume else None
    if resumed is None:
        run.require_free(args.overwrite_output_dir)
    require_one_process_per_gpu(args.n_gpu)
    job = prepare(arguments)
    trainer = job.trainer
    if resumed is not None:
        require_same_run(*resumed, trainer.identity)
    # Every process has to see the folder as it was before the main process writes to it.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        print(header(job), flush=True)
        if resumed is None:
            _begin(job, run)
        else:
            print(f"resumed    from {resumed[0]}", flush=True)
            checkpoints.remove_incomplete(run.path)
    trainer.accelerator.wait_for_everyone()
    if not all(trainer.gather_scalar(run.config.is_file())):
        raise UsageError(f"--output_dir {run} must be the same folder on every machine: a shared file system")
    if resumed is not None:
        trainer.restore(resumed[1])
    try:
        trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{resumed and resumed[0]} holds more than weights and numbers, and is not read") from error
    seconds = trainer.totals.count_seconds()
    best = prove_best_reloaded(trainer)
    trainer.save_model(str(run.path))
    if trainer.is_world_process_zero():
        # The record makes the run finished, so it follows the model.
        run.write_record(run_record(job, best, seconds))
        checkpoints.drop_states(run.path)
    trainer.accelerator.wait_for_everyone()
    return run


def _begin(job: TrainingJob, run: RunFolder) -> None:
    """Make room for a new run, and write its settings and the report of its reviews.

    Raises:
        UsageError: The disk has no room for a single checkpoint.
    """
    report = inspect(job.reviews, job.trainer.train_dataset, job.arguments)
    print(as_block(report), flush=True)
    run.path.mkdir(parents=True, exist_ok=True)
    checkpoints.require_space(run.path, job.trainer.checkpoint_bytes())
    run.clear()
    run.write_config(job.arguments.resolved)
    write_json(run.data, report)


def prepare(arguments: Arguments) -> TrainingJob:
    """Read the reviews and the weights, and return them with a Trainer that has written nothing but made its folder.

    Raises:
        UsageError: The data or the weights cannot be read, Trainer or Accelerate refuses a setting (a logger that is
            not installed, say), or the folder cannot be made.
    """
    max_length, args = arguments.data.max_length, arguments.training
    pretrained = find_pretrained(arguments.model, max_length)
    tokenizer = load_tokenizer(pretrained, max_length)
    # The main process reads and tokenizes first; the others find the result on disk.
    with args.main_process_first(local=True):
        reviews = load_reviews(arguments.data, args.seed)
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
    set_environment(args)
    use_all_cores(args)
    set_seed(args.seed)
    model = load_model(pretrained, reviews.label_names)
    if args.device.type == "cpu":
        draw_masks_faster(model)
    balanced = args.class_weights == "balanced"
    try:
        trainer = ReviewTrainer(
            model=model,
            args=args,
            train_dataset=tokens["train"],
            eval_dataset=tokens["validation"].sort("length"),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=metrics_hook(len(reviews.label_names)),
            compute_loss_func=weighted_loss(reviews, args.label_smoothing_factor, args.device) if balanced else None,
            identity=identity(arguments, pretrained, reviews, type(model).__name__),
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise UsageError(f"these settings do not go together: {error}") from error
    except OSError as error:
        raise UsageError(f"--output_dir {args.output_dir} cannot be made: {error.strerror}") from error
    return TrainingJob(arguments, pretrained, reviews, model, trainer)


def require_one_process_per_gpu(visible_gpus: int) -> None:
    """Refuse to start where Trainer would wrap the model in the slow, deprecated `nn.DataParallel`.

    Args:
        visible_gpus: GPUs this one process would use.

    Raises:
        UsageError: There is more than one. The message shows the command for one process each.
    """
    if visible_gpus > 1:
        raise UsageError(
            f"{visible_gpus} GPUs but one process: start it with accelerate launch --multi_gpu --num_processes "
            f"{visible_gpus} scripts/train.py, or show it a single GPU with CUDA_VISIBLE_DEVICES=0"
        )


def use_all_cores(args: TrainingArguments) -> None:
    """Let a run on the CPU use the cores it may use, shared between this machine's processes.

    `accelerate launch` sets OMP_NUM_THREADS=1 when nobody set it, which would halve the speed of two cores. Any other
    value was set by the user and is kept.
    """
    if args.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def weighted_loss(reviews: Reviews, smoothing: float, device: torch.device) -> Any:
    """Return a loss for Trainer in which every class weighs the same however rare it is.

    A review of class c weighs rows / (classes * rows of c), as scikit-learn's `class_weight="balanced"`. The sum is
    divided by the number of reviews in the optimiser's step and not by their weights, which differ from batch to batch
    (transformers#34191).
    """
    labels, classes = reviews.splits["train"].labels, len(reviews.label_names)
    weights = compute_class_weight("balanced", classes=np.arange(classes), y=labels)
    tensor = torch.tensor(weights, dtype=torch.float32, device=device)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        """Return the weighted cross-entropy of a batch's logits, float (reviews, classes)."""
        logits = outputs["logits"].float()
        total = cross_entropy(logits, labels, weight=tensor, reduction="sum", label_smoothing=smoothing)
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def prove_best_reloaded(trainer: ReviewTrainer) -> dict[str, Any]:
    """Validate once more, with the weights now in memory, and return the best epoch's row.

    Raises:
        CheckFailed: The loss or a metric is not what it was in the best epoch, or nothing was ever validated.
    """
    rows = epoch_rows(trainer.state.log_history)
    best = next((row for row in rows if row["step"] == trainer.state.best_global_step), None)
    if best is None:
        raise CheckFailed("training ended before the first validation, so there is no best epoch: lower --eval_steps")
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
        UsageError: The data or the tokenizer cannot be read, or the folder holds a run already.
    """
    run = RunFolder(str(arguments.training.output_dir))
    run.require_free(arguments.training.overwrite_output_dir)
    pretrained = find_pretrained(arguments.model, arguments.data.max_length)
    reviews = load_reviews(arguments.data, arguments.training.seed)
    tokens = tokenize(reviews.train, load_tokenizer(pretrained, arguments.data.max_length))
    report = inspect(reviews, tokens, arguments)
    print(as_block(report))
    write_json(run.data, report)
    return run

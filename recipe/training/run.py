"""Fine-tuning: from arguments to a run folder with a checkpoint per epoch and the best of them on top."""

import math
import os
import pickle
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from recipe.arguments.parser import Arguments
from recipe.arguments.training import METRICS, TrainingArguments
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
from recipe.training.record import Job, header, run_record
from recipe.training.resuming import find_checkpoint, identity, require_same_run
from recipe.training.trainer import ReviewTrainer

# A reloaded checkpoint computes what it computed before, up to the order of a GPU's additions.
RELOAD_TOLERANCE = 1e-4


def train(arguments: Arguments) -> RunFolder:
    """Fine-tune, or go on with a run that was stopped, and return the run's folder, finished.

    Nothing is written before every argument, the data and the weights have been found good.

    Raises:
        UsageError: Something that was asked for cannot be done.
        CheckFailed: The loss was not finite, or the best epoch could not be proven to be the one reloaded.
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
    # Not before every process has seen the folder as it was.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        print(header(job), flush=True)
        if resumed is None:
            _begin(job, run)
        else:
            print(f"resumed    from {resumed[0]}", flush=True)
    trainer.accelerator.wait_for_everyone()
    if not trainer.agree(run.config.is_file()).all():
        raise UsageError(f"--output_dir {run} must be the same folder on every machine: a shared file system")
    if resumed is not None:
        trainer.go_on_from(resumed[1])
    try:
        trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{resumed and resumed[0]} holds more than weights and numbers, and is not read") from error
    seconds = trainer.passed.total_seconds()
    best = prove_best_reloaded(trainer)
    _save(job, run, best, seconds)
    return run


def _begin(job: Job, run: RunFolder) -> None:
    """Make room for a new run, and write what it is.

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


def prepare(arguments: Arguments) -> Job:
    """Return the run with its reviews, weights and Trainer, everything found and read.

    Raises:
        UsageError: Something that was asked for cannot be done.
    """
    max_length, seed = arguments.data.max_length, arguments.training.seed
    pretrained = find_pretrained(arguments.model, max_length)
    tokenizer = load_tokenizer(pretrained, max_length)
    # The others of this machine then find on disk what the first has read and tokenized.
    with arguments.training.main_process_first(local=True):
        reviews = load_reviews(arguments.data, seed)
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
    use_all_cores(arguments.training)
    set_seed(seed)
    model = load_model(pretrained, reviews.label_names)
    if arguments.training.device.type == "cpu":
        draw_masks_faster(model)
    known_by = identity(arguments, pretrained, reviews, type(model).__name__)
    trainer = make_trainer(arguments, model, tokenizer, tokens, reviews, known_by)
    return Job(arguments, pretrained, reviews, model, trainer)


def require_one_process_per_gpu(visible_gpus: int) -> None:
    """Refuse to start where Trainer would wrap the model in the slow, deprecated `nn.DataParallel`.

    Args:
        visible_gpus: GPUs this one process would use.

    Raises:
        UsageError: There is more than one; says how to start one process for each.
    """
    if visible_gpus > 1:
        raise UsageError(
            f"{visible_gpus} GPUs but one process: start it with accelerate launch --multi_gpu --num_processes "
            f"{visible_gpus} scripts/train.py, or show it a single GPU with CUDA_VISIBLE_DEVICES=0"
        )


def use_all_cores(args: TrainingArguments) -> None:
    """Let a run on the CPU use the cores it may use, shared between this machine's processes.

    `accelerate launch` sets OMP_NUM_THREADS=1 when nobody set it, which would halve the speed of two cores. Any other
    value is the user's and stands.
    """
    if args.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def make_trainer(
    arguments: Arguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: dict[str, Dataset],
    reviews: Reviews,
    known_by: dict[str, Any],
) -> ReviewTrainer:
    """Return the Trainer of a run, which has written nothing yet but made its folder.

    Args:
        arguments: Of the run.
        model: To be trained.
        tokenizer: Goes into every checkpoint, and pads.
        tokens: The train and validation splits, tokenized.
        reviews: Where their labels are counted for class weights.
        known_by: The run's identity, for its checkpoints.

    Raises:
        UsageError: Trainer or Accelerate refuses a setting (a logger that is not installed, say), or the folder cannot
            be made.
    """
    args = arguments.training
    balanced = args.class_weights == "balanced"
    try:
        trainer = ReviewTrainer(
            model=model,
            args=args,
            train_dataset=tokens["train"],
            eval_dataset=tokens["validation"].sort("length"),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=metrics_hook(model.config.num_labels),
            compute_loss_func=weighted_loss(reviews, args.label_smoothing_factor, args.device) if balanced else None,
            identity=known_by,
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise UsageError(f"these settings do not go together: {error}") from error
    except OSError as error:
        raise UsageError(f"--output_dir {args.output_dir} cannot be made: {error.strerror}") from error
    return trainer


def weighted_loss(reviews: Reviews, smoothing: float, device: torch.device) -> Any:
    """Return a loss in which every class weighs the same however rare it is, as Trainer calls it.

    A review of class c weighs rows / (classes * rows of c), as scikit-learn's `class_weight="balanced"` has it. The sum
    is divided by the number of reviews in the optimiser's step, over all its devices and accumulated batches, and not
    by their weights, which differ from batch to batch (transformers#34191).
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


def _save(job: Job, run: RunFolder, best: dict[str, float], seconds: float) -> None:
    """Write the best model with its tokenizer, and last of all the record that makes the run finished."""
    job.trainer.save_model(str(run.path))
    if job.trainer.is_world_process_zero():
        write_json(run.record, run_record(job, best, seconds).to_json())
        checkpoints.drop_states(run.path)
    job.trainer.accelerator.wait_for_everyone()


def inspect_only(arguments: Arguments) -> RunFolder:
    """Print the report of the reviews a run would use, write it to `<run>/data.json`, and return that folder.

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

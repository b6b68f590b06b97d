"""A run that is ready to start: prepared from its arguments, and described on the screen and in run.json."""

import copy
import math
import os
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, List
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_scheduler,
    set_seed,
)
from transformers.utils import logging

from recipe import __version__
from recipe.arguments.parser import Arguments, scheduled
from recipe.arguments.schedule import steps_per_epoch
from recipe.arguments.training import TrainingArguments, set_environment
from recipe.data.reviews import Reviews, load_reviews
from recipe.data.tokens import tokenize
from recipe.data.unlabelled import Unlabelled, read_unlabelled
from recipe.errors import UsageError
from recipe.files.parts import joined_name
from recipe.machine import usable_cores
from recipe.model.averaging import begin_with_mean
from recipe.model.dropout import draw_masks_faster
from recipe.model.pretrained import Pretrained, find_pretrained, labels_of_classifier, load_model, load_tokenizer
from recipe.quickstart import is_package
from recipe.run_folder import BestEpoch, Epoch, Refit, RunRecord, Validation, versions
from recipe.training.compute_metrics import metrics_hook
from recipe.training.progress import epoch_rows
from recipe.training.resuming import identity
from recipe.training.teacher import Teacher, find_teacher, open_teacher
from recipe.training.trainer import ReviewTrainer


@dataclass(frozen=True)
class Material:
    """What all trainings of a run share: arguments with their schedule, weights to start from, reviews and tokens.

    The `tokens` are those of train and validation, and of the reviews without labels that are learned from.
    """

    arguments: Arguments
    pretrained: Pretrained
    tokenizer: PreTrainedTokenizerBase
    reviews: Reviews
    tokens: dict[str, Dataset]
    unlabelled: Unlabelled | None
    teacher: Teacher | None


@dataclass
class TrainingJob:
    """A training that is ready to start, in `steps` of the optimiser, with what it takes from its `Material`."""

    arguments: Arguments
    pretrained: Pretrained
    reviews: Reviews
    unlabelled: Unlabelled | None
    teacher: Teacher | None
    model: PreTrainedModel
    trainer: ReviewTrainer
    steps: int


def prepare(arguments: Arguments, reviews: Reviews | None = None) -> TrainingJob:
    """Read the reviews and the weights, and return them with a Trainer that has written nothing but made its folder.

    Args:
        reviews: Those that the arguments ask for, where they were read already.

    Raises:
        UsageError: The data or the weights cannot be read, or Trainer refuses a setting.
    """
    return job_of(read_material(arguments, reviews), arguments.training.seed)


def read_material(arguments: Arguments, reviews: Reviews | None = None) -> Material:
    """Read the reviews, unless they were, and tokenize them; raise `UsageError` if that or the tokenizer fails."""
    data, args = arguments.data, arguments.training
    pretrained = find_pretrained(arguments.model, data.max_length)
    tokenizer = load_tokenizer(pretrained, data.max_length, data.truncation_side)
    teaching = open_teacher(arguments) if data.teacher is not None else None
    # The main process reads and tokenizes first; the others find the result on disk.
    with args.main_process_first(local=True):
        reviews = reviews or load_reviews(data, args.seed)
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
        unlabelled = teacher = None
        if given := data.unlabelled_file:
            unlabelled = read_unlabelled(given, data, reviews)
            tokens["unlabelled"] = tokenize(unlabelled.learned, tokenizer)
            if teaching:
                teacher = find_teacher(teaching, arguments, reviews, unlabelled.learned)
    contrast = not no_contrast(pretrained, reviews.label_names, args)
    arguments = scheduled(arguments, len(reviews.splits["train"]), contrast)
    return Material(arguments, pretrained, tokenizer, reviews, tokens, unlabelled, teacher)


def job_of(material: Material, seed: int) -> TrainingJob:
    """Load the weights and return a training with a seed of its own, which decides the head, the dropout and the order.

    Raises:
        UsageError: The weights cannot be loaded, or Trainer refuses a setting.
    """
    arguments, pretrained, reviews = material.arguments, material.pretrained, material.reviews
    tokenizer, tokens, args = material.tokenizer, material.tokens, copy.copy(arguments.training)
    args.seed = seed
    if args.seeds > 1:
        args.logging_dir = os.path.join(str(args.logging_dir), str(seed))
    set_environment(args)
    use_all_cores(args)
    set_seed(args.seed)
    model = _load_model(material, args)
    steps = math.ceil(args.num_train_epochs * steps_per_epoch(len(tokens["train"]), args.global_batch_size))
    steps = args.max_steps if args.max_steps > 0 else steps
    if args.eval_strategy == "steps" and args.eval_steps and args.eval_steps > steps:
        raise UsageError(f"--eval_steps {args.eval_steps:g} is after the training's end at step {steps}: lower it")
    own_loss = args.class_weights == "balanced" or isinstance(tokens["train"].features["labels"], List)
    try:
        trainer = ReviewTrainer(
            model=model,
            args=args,
            train_dataset=tokens["train"],
            eval_dataset=tokens["validation"].sort("length"),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=metrics_hook(len(reviews.label_names)),
            preprocess_logits_for_metrics=logits_alone,
            compute_loss_func=review_loss(reviews, args) if own_loss else None,
            identity=identity(
                arguments, pretrained, reviews, type(model).__name__, material.unlabelled, material.teacher
            ),
        )
        _try_settings(trainer, steps)
    except (ValueError, ImportError, RuntimeError, TypeError) as error:
        raise UsageError(f"these settings do not go together: {error}") from error
    return TrainingJob(arguments, pretrained, reviews, material.unlabelled, material.teacher, model, trainer, steps)


def _load_model(material: Material, args: TrainingArguments) -> PreTrainedModel:
    """Load the weights, with a head for the labels, as the arguments need them."""
    pretrained, names = material.pretrained, material.reviews.label_names
    # Outside the main process a Trainer of before has let transformers warn of a new head.
    logging.set_verbosity_error()
    model = load_model(pretrained, names, material.tokenizer)
    if args.contrast_labels:
        if reason := no_contrast(pretrained, names, args):
            raise UsageError(f"--contrast_labels {reason}: leave it out")
        begin_with_mean(model)  # type: ignore[arg-type]
    if args.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UsageError(f"--gradient_checkpointing: a {pretrained.config.model_type!r} cannot do that: leave it out")
    if args.device.type == "cpu":
        draw_masks_faster(model)
    return model


def no_contrast(pretrained: Pretrained, label_names: list[str], args: TrainingArguments) -> str:
    """Return why `contrast_labels` does not go with the weights or the devices; nothing if it does."""
    if pretrained.config.model_type != "bert":
        return f"begins with the mean of BERT's tokens, and the weights are a {pretrained.config.model_type!r}"
    if labels_of_classifier(pretrained.config) == label_names:
        return "begins with a new head, and the weights have one for these labels"
    return "fits the head on each device, and --fsdp shares it out" if args.fsdp else ""


def _try_settings(trainer: ReviewTrainer, steps: int) -> None:
    """Raise what the optimiser or the schedule would raise only once training starts."""
    args = trainer.args
    kind, settings = trainer.get_optimizer_cls_and_kwargs(args)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    if kind.__module__.startswith("torch.optim"):
        optimizer = kind(optimizer.param_groups[0]["params"], **settings)
    more: Any = args.lr_scheduler_kwargs
    get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps, more)


def logits_alone(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the logits of what a model gives beside the loss: some (BART) give hidden states after them."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def use_all_cores(args: TrainingArguments) -> None:
    """Let a run on the CPU use the cores it may use, shared between this machine's processes; or `--threads` of them.

    `accelerate launch` sets OMP_NUM_THREADS=1 when nobody set it, which would halve the speed of two cores. Any other
    value was set by the user and is kept.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    elif args.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def review_loss(reviews: Reviews, args: TrainingArguments) -> Any:
    """Return a loss for Trainer that takes soft labels too, and in which every class may weigh the same.

    With balanced `class_weights`, a review of class c weighs rows / (classes * rows of c), as scikit-learn's
    `class_weight="balanced"`. The sum is divided by the number of reviews in the optimiser's step and not by their
    weights, which differ from batch to batch (transformers#34191).

    It takes a batch's logits as float (reviews, classes), and labels as int64 (reviews,), or as probabilities, float
    (reviews, classes).
    """
    weights: Any = None
    if args.class_weights == "balanced":
        classes = np.arange(len(reviews.label_names))
        weights = compute_class_weight("balanced", classes=classes, y=reviews.splits["train"].labels)
        weights = torch.tensor(weights, dtype=torch.float32, device=args.device)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        smoothing = args.label_smoothing_factor
        total = cross_entropy(logits, labels, weight=weights, reduction="sum", label_smoothing=smoothing)
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def header(job: TrainingJob) -> str:
    """Return the first lines on the screen: the weights, the reviews and the device of the run."""
    config, args, place = job.arguments.config, job.arguments.training, _place(job.trainer)
    rows = ", ".join(f"{len(split):,} {name}" for name, split in job.reviews.splits.items())
    rows += "" if "test" in job.reviews.splits else "; no test split, so evaluation will ask for one"
    where = f"{place['device']}, {place['processes']} process(es), {place['threads']} thread(s) each"
    own = labels_of_classifier(job.pretrained.config)
    parameters = f"{job.model.num_parameters() / 1e6:.1f} M parameters"
    lines = [
        f"config     {config.stem} ({os.path.relpath(config)})",
        f"weights    {_origin(job.pretrained.source)}: {type(job.model).__name__}, {parameters}",
        f"reviews    {_origin(job.reviews.origin)}: {rows}",
        f"device     {where}; precision {place['precision']}",
        f"schedule   {_schedule(job)}",
        f"output     {args.output_dir}",
    ]
    if (seeds := args.seeds) > 1:
        metric = str(args.metric_for_best_model).removeprefix("eval_")
        lines.insert(-1, f"seeds      {args.seed} to {args.seed + seeds - 1}; kept is the best by validation {metric}")
    if own is not None and own != job.reviews.label_names:
        lines.insert(2, f"head       new, as the weights' own is for other labels: {', '.join(own)}")
    if job.unlabelled is not None:
        lines.insert(-3, f"unlabelled {_unlabelled(job.unlabelled, job.teacher)}")
    if is_package(job.reviews.origin["name"]):
        lines.append("The full Amazon Polarity: accelerate launch scripts/train.py --config amazon_polarity")
    return "\n".join(lines)


def _schedule(job: TrainingJob) -> str:
    args, steps = job.arguments.training, job.steps
    epochs = steps / steps_per_epoch(len(job.reviews.splits["train"]), args.global_batch_size)
    return (
        f"{steps:,} steps of {args.global_batch_size} ({epochs:.3g} epochs), warm-up {args.get_warmup_steps(steps):,}, "
        f"learning rate {args.learning_rate:g}: {job.arguments.reason}"
    )


def _unlabelled(unlabelled: Unlabelled, teacher: Teacher | None) -> str:
    answering = f"{teacher.run} ({teacher.origin['parameters'] / 1e6:.1f} M parameters)" if teacher else "the model"
    files, left_out = unlabelled.files, sum(unlabelled.dropped.values())
    return (
        f"{joined_name([file['file'] for file in files])}: {len(unlabelled):,} new reviews ({left_out:,} left out), "
        f"{len(unlabelled.learned):,} of which are learned from in the end, as {answering} answers them"
    )


def _origin(source: dict[str, Any]) -> str:
    if "version" in source:
        return f"{source['name']}=={source['version']} (sha256 {source['sha256'][:12]}…)"
    return f"{source['name']}@{source['revision'][:12]}" if source.get("revision") else str(source["name"])


def _place(trainer: ReviewTrainer) -> dict[str, Any]:
    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "precision": trainer.precision,
    }


def run_record(
    job: TrainingJob, best: dict[str, Any], seconds: float, validation: Validation, refit: Refit | None
) -> RunRecord:
    """Return the content of `run.json`."""
    unlabelled = job.unlabelled.origin if job.unlabelled is not None else None
    if unlabelled and job.teacher:
        unlabelled["teacher"] = job.teacher.origin
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
        # The last row is of the validation that proved the best epoch reloaded.
        epochs=[Epoch(**row) for row in epoch_rows(job.trainer.state.log_history)[:-1]],
        best=BestEpoch(**best, checkpoint=f"checkpoint-{int(best['step'])}"),
        seconds=round(seconds, 1),
        validation=validation,
        refit=refit,
        unlabelled=unlabelled,
    )

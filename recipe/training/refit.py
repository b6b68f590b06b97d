"""Train once more on all labelled rows, where those held out are too many to lose, and then on unlabelled ones too."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
from datasets import Dataset, List, Value, concatenate_datasets
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import IntervalStrategy

from recipe.arguments.schedule import steps_per_epoch
from recipe.metrics.softmax import softmax
from recipe.run_folder import Refit
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import Material, TrainingJob, job_of
from recipe.training.trainer import ReviewTrainer, free_trainers

# Of few unlabelled reviews each comes as often as a labelled one in a training of three epochs.
MOST_REPEATED = 3


def refit(job: TrainingJob, material: Material, folder: Path) -> tuple[Refit, ReviewTrainer]:
    """Train as a finished training did, with its seed and in as many steps, on train and validation rows together.

    Where there are reviews without labels, that model answers them, and another learns from its answers as well. A
    teacher answers them in its place, and spares its training.

    Args:
        job: The finished training, with its best epoch in memory.
        folder: Of the training; a signal's message names what is kept there. Nothing is written.

    Returns:
        What to record of it, and its Trainer with the weights.

    Raises:
        CheckFailed: The loss or a weight is not finite.
        Interrupted: A signal came; resumed, the run begins this again.
    """
    started, rows, args = time.perf_counter(), material.tokens["validation"], job.trainer.args
    logits = _answers(job.trainer, rows)[0].astype(np.float64).round(6).tolist()
    labelled = concatenate_datasets([material.tokens["train"], rows])
    if material.unlabelled is None:
        trainer = _train(job, material, labelled, job.steps, folder, "on all rows")
    else:
        answers, size, seed = _soft_labels(job, material, labelled, folder), args.global_batch_size, args.seed
        # The head is fitted to each of them once.
        reviews = max(job.steps * size, len(labelled) if job.trainer.contrast else 0)
        together = with_answers(labelled, material.tokens["unlabelled"], answers, reviews, seed)
        steps = steps_per_epoch(len(together), size)
        trainer = _train(job, material, together, steps, folder, "with unlabelled", len(labelled))
    _, metrics = _answers(trainer, rows)
    return Refit(len(labelled), metrics["all_f1"], round(time.perf_counter() - started, 1), logits), trainer


def _soft_labels(job: TrainingJob, material: Material, labelled: Dataset, folder: Path) -> np.ndarray:
    """Return the teacher's answers to the unlabelled reviews, or those of a model trained on the labelled ones."""
    if material.teacher:
        return material.teacher.answers
    trainer = _train(job, material, labelled, job.steps, folder, "on all rows")
    logits, _ = _answers(trainer, material.tokens["unlabelled"])
    del trainer
    free_trainers()
    return softmax(logits)


def with_answers(labelled: Dataset, unlabelled: Dataset, answers: np.ndarray, reviews: int, seed: int) -> Dataset:
    """Return the train rows of a single epoch: labelled ones, over and over until they are `reviews`, then the others.

    These are as many, but each is there once at least, and `MOST_REPEATED` times at most.

    Args:
        labelled, unlabelled: As `tokenize` returns them.
        answers: Probabilities of the labels of each unlabelled row, float (unlabelled, classes).
        seed: Draws which rows are repeated once more than others.

    Returns:
        The rows, whose `labels` are probabilities, list of float32: 0 and 1 where the label is known. The first ones
        are labelled rows, each once.
    """
    known = np.eye(answers.shape[1])[labelled["labels"][:]]
    softened = [
        rows.remove_columns("labels").add_column("labels", _lists(labels), feature=List(Value("float32")))
        for rows, labels in ((labelled, known), (unlabelled, answers))
    ]
    rng, others = np.random.default_rng(seed), len(unlabelled)
    rows = np.resize(rng.permutation(len(labelled)), reviews)
    answered = np.resize(rng.permutation(others), np.clip(reviews, others, MOST_REPEATED * others))
    return concatenate_datasets(softened).select(np.concatenate([rows, len(labelled) + answered]))


def _lists(values: np.ndarray) -> pyarrow.ListArray:
    """Return a table's column of lists, from float (rows, classes), without a Python object for each value."""
    rows, classes = values.shape
    return pyarrow.ListArray.from_arrays(
        np.arange(rows + 1, dtype=np.int32) * classes, values.astype(np.float32).ravel()
    )


def _train(
    job: TrainingJob, material: Material, rows: Dataset, steps: int, folder: Path, what: str, head: int | None = None
) -> ReviewTrainer:
    """Train from the start on other rows and return the Trainer.

    Where rows are repeated, the `head` is fitted to so many of the first ones.
    """
    tokens = {"train": rows, "validation": material.tokens["validation"]}
    trainer = job_of(replace(material, tokens=tokens), job.trainer.args.seed).trainer
    args = trainer.args
    args.output_dir, args.max_steps, args.eval_strategy = str(folder), steps, IntervalStrategy.NO
    watch = UnsavedCallback(trainer, what)
    # Nothing is validated that it could stop by.
    trainer.remove_callback(EarlyStoppingCallback)
    if head is not None:
        # A row has the length of its repetitions, which would all come in a few batches.
        args.group_by_length = False
    if trainer.contrast:
        trainer.contrast.rows = head
    watch.train()
    trainer.require_finite_weights()
    return trainer


def _answers(trainer: ReviewTrainer, rows: Dataset) -> tuple[np.ndarray, dict[str, float]]:
    """Return the logits of each row, float32 (rows, classes), in their order, and figures, of no use for `NO_LABEL`."""
    order = np.argsort(rows["length"][:], kind="stable")
    labels = np.maximum(rows["labels"][:], 0)
    rows = rows.remove_columns("labels").add_column("labels", labels).select(order)
    with trainer.stop_request:
        found = trainer.evaluation_loop(trainer.get_eval_dataloader(rows), "all rows", metric_key_prefix="all")
    if any(trainer.gather_scalar(trainer.stop_request.signal)):
        raise trainer.interrupted()
    logits = np.empty_like(found.predictions)
    logits[order] = found.predictions
    return logits, found.metrics or {}

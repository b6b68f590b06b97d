"""Train once more on all labelled rows, where those held out are too many to lose, and then on unlabelled ones too."""

import gc
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, List, Value, concatenate_datasets
from scipy.special import softmax
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy

from recipe.arguments.schedule import steps_per_epoch
from recipe.run_folder import Refit
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import Material, TrainingJob, job_of
from recipe.training.trainer import ReviewTrainer


def refit(job: TrainingJob, material: Material, folder: Path) -> tuple[Refit, ReviewTrainer]:
    """Train as a finished training did, with its seed and in as many steps, on train and validation rows together.

    Where there are reviews without labels, that model answers them, and another learns from its answers as well.

    Args:
        job: The finished training, with its best epoch in memory.
        folder: Of the training; a signal's message names what is kept there. Nothing is written.

    Returns:
        What to record of it, and its Trainer with the weights.

    Raises:
        CheckFailed: The loss or a weight is not finite.
        Interrupted: A signal came; resumed, the run begins this again.
    """
    started, rows = time.perf_counter(), material.tokens["validation"]
    logits = np.asarray(_answers(job.trainer, rows).predictions, dtype=np.float64).round(6).tolist()
    labelled = concatenate_datasets([material.tokens["train"], rows])
    trainer = _train(job, material, labelled, job.steps, folder, "on all rows")
    if "unlabelled" in material.tokens:
        unlabelled = material.tokens["unlabelled"]
        answers = softmax(np.asarray(_answers(trainer, unlabelled).predictions, dtype=np.float64), axis=1)
        del trainer
        # A Trainer and its callbacks hold each other; the next one takes this one's place in memory.
        gc.collect()
        size, seed = job.trainer.args.global_batch_size, job.trainer.args.seed
        together, distinct = with_answers(labelled, unlabelled, answers, job.steps * size, seed)
        steps = steps_per_epoch(len(together), size)
        trainer = _train(job, material, together, steps, folder, "with unlabelled", distinct)
    metrics = _answers(trainer, rows).metrics
    assert metrics
    return Refit(len(labelled), metrics["all_f1"], round(time.perf_counter() - started, 1), logits), trainer


def with_answers(
    labelled: Dataset, unlabelled: Dataset, answers: np.ndarray, reviews: int, seed: int
) -> tuple[Dataset, int]:
    """Return the train rows of a single epoch: labelled ones, over and over until they are `reviews`, then the others.

    Args:
        labelled, unlabelled: As `tokenize` returns them.
        answers: Probabilities of the labels of each unlabelled row, float (unlabelled, classes).
        seed: Draws the order of the labelled rows.

    Returns:
        The rows, whose `labels` are probabilities, list of float32: 0 and 1 where the label is known. And how many of
        the first rows are labelled and not repeated.
    """
    known = np.eye(answers.shape[1])[labelled["labels"][:]]
    softened = [
        rows.remove_columns("labels").add_column("labels", labels.tolist(), feature=List(Value("float32")))
        for rows, labels in ((labelled, known), (unlabelled, answers))
    ]
    repeated = np.resize(np.random.default_rng(seed).permutation(len(labelled)), reviews)
    together = concatenate_datasets(softened)
    rows = np.concatenate([repeated, np.arange(len(labelled), len(together))])
    return together.select(rows), min(len(labelled), reviews)


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


def _answers(trainer: ReviewTrainer, rows: Dataset) -> EvalLoopOutput:
    """Return the logits of each row, in their order, and figures of its labels, of no use for `NO_LABEL`."""
    labels = np.maximum(rows["labels"][:], 0)
    rows = rows.remove_columns("labels").add_column("labels", labels)
    return trainer.evaluation_loop(trainer.get_eval_dataloader(rows), "all rows", metric_key_prefix="all")

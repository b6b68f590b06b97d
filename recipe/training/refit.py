"""Train once more on all labelled rows, where those held out are too many to lose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import IntervalStrategy

from recipe.run_folder import Refit
from recipe.training.adaptation import contrast
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import Material, TrainingJob, job_of
from recipe.training.trainer import ReviewTrainer


def refit(job: TrainingJob, material: Material, folder: Path) -> tuple[Refit, ReviewTrainer]:
    """Train as a finished training did, with its seed and in as many steps, on train and validation rows together.

    Args:
        job: The finished training, with its best epoch in memory.
        folder: Of the training; a signal's message names what is kept there. Nothing is written.

    Returns:
        What to record of it, and its Trainer with the weights.

    Raises:
        CheckFailed: The loss or a weight is not finite.
        Interrupted: A signal came; resumed, the run begins this again.
    """
    rows = material.tokens["validation"]
    logits = _answers(job.trainer, rows)[0]
    together = concatenate_datasets([material.tokens["train"], rows])
    again = job_of(replace(material, tokens={"train": together, "validation": rows}), job.trainer.args.seed)
    trainer, args = again.trainer, again.trainer.args
    args.output_dir, args.max_steps, args.eval_strategy = str(folder), job.steps, IntervalStrategy.NO
    watch = UnsavedCallback(trainer, "on all rows")
    # Nothing is validated that it could stop by.
    trainer.remove_callback(EarlyStoppingCallback)
    if job.pairs:
        contrast(again.model, material.tokenizer, job.pairs, args)
    watch.train()
    trainer.require_finite_weights()
    f1 = _answers(trainer, rows)[1]
    return Refit(len(together), f1, round(trainer.totals.count_seconds(), 1), logits), trainer


def _answers(trainer: ReviewTrainer, rows: Dataset) -> tuple[list[list[float]], float]:
    """Return the logits of each row, in their order, and their F1."""
    output = trainer.evaluation_loop(trainer.get_eval_dataloader(rows), "all rows", metric_key_prefix="all")
    assert output.metrics
    return np.asarray(output.predictions, dtype=np.float64).round(6).tolist(), output.metrics["all_f1"]

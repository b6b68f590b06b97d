"""One trial of a search: a training that writes nothing, and ends where others were better by then."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from optuna import Trial, TrialPruned
from sklearn.metrics import confusion_matrix
from transformers import TrainerControl, TrainerState

from recipe.errors import CheckFailed
from recipe.training.callbacks import UnsavedCallback
from recipe.training.job import TrainingJob

# Trials differ in how often they are validated. They are compared after each of these parts of their training.
PARTS = 3


@dataclass
class Best:
    """The validation with the highest F1 of a training so far, the first of equals.

    Attributes:
        loss: Mean cross-entropy.
        confusion: Counts, rows true and columns predicted.
    """

    f1: float
    loss: float
    epoch: float
    confusion: list[list[int]]


class TrialCallback(UnsavedCallback):
    """Watches the training of one trial: the best validation, and whether to end it early."""

    def __init__(self, job: TrainingJob, trial: Trial, description: str) -> None:
        """Report to `trial`, with a progress bar that says `description`."""
        super().__init__(job.trainer, description)
        self.job, self.trial = job, trial
        self.best: Best | None = None
        self.reported = 0

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the best validation; raise `TrialPruned` where others were better by this part of their training."""
        metrics = kwargs["metrics"]
        if self.best is None or metrics["eval_f1"] > self.best.f1:
            output = self.job.trainer.validated
            predicted = np.asarray(output.predictions).argmax(axis=-1)
            labels = range(len(self.job.reviews.label_names))
            counts = confusion_matrix(output.label_ids, predicted, labels=labels).tolist()
            self.best = Best(metrics["eval_f1"], metrics["eval_loss"], float(state.epoch or 0), counts)
        part = PARTS * state.global_step // state.max_steps
        if self.reported < part < PARTS:
            self.reported = part
            self.trial.report(self.best.f1, part)
            if self.trial.should_prune():
                raise TrialPruned(f"pruned after epoch {state.epoch:g}")


def train_trial(job: TrainingJob, trial: Trial, description: str) -> tuple[Best | None, str]:
    """Train as train.py does, but write nothing, and return the best validation and why it ended early, if it did.

    Raises:
        Interrupted: A signal came.
    """
    watch = TrialCallback(job, trial, description)
    try:
        watch.train()
    except TrialPruned as end:
        return watch.best, str(end)
    except CheckFailed:
        return watch.best, "lost: its loss is not finite"
    except torch.OutOfMemoryError:
        return watch.best, "does not fit into the memory"
    return watch.best, ""

"""The content of `run.json`: how a finished run was trained."""

from dataclasses import dataclass
from typing import Any

from recipe.run_folder.document import Document


@dataclass(frozen=True)
class Epoch:
    """One validation.

    Attributes:
        epoch: Epochs trained so far.
        step: Optimiser steps so far.
        train_loss: Mean over the steps since the previous validation.
        loss: Mean cross-entropy over the validation rows.
        f1, accuracy, precision, recall: On the validation rows.
        seconds: Of training and validation since the previous validation.
    """

    epoch: float
    step: int
    train_loss: float
    loss: float
    f1: float
    accuracy: float
    precision: float
    recall: float
    seconds: float


@dataclass(frozen=True)
class BestEpoch(Epoch):
    """The epoch whose weights the run keeps.

    Attributes:
        checkpoint: Name of its folder.
    """

    checkpoint: str


@dataclass(frozen=True)
class RunRecord(Document):
    """The weights, data, machine and results of a training.

    Attributes:
        config: Name of the YAML file.
        recipe, python, versions: Versions of the recipe, of Python, and of each library.
        seed: Of the run.
        weights: Where training started: `name`, what pins it (`revision`, or `version` and `sha256`), `parameters`.
        dataset: Where the reviews come from: `name`, and what pins it.
        labels: Names of labels 0, 1, ….
        rows: Rows of each split.
        rows_sha256: SHA-256 of each split's texts and labels in their order.
        device, processes, threads, precision: Where it was trained; threads of each process.
        epochs: One per validation.
        best: The epoch with the best validation metric.
        seconds: Of the whole training.
    """

    config: str
    recipe: str
    python: str
    versions: dict[str, str]
    seed: int
    weights: dict[str, Any]
    dataset: dict[str, Any]
    labels: list[str]
    rows: dict[str, int]
    rows_sha256: dict[str, str]
    device: str
    processes: int
    threads: int
    precision: str
    epochs: list[Epoch]
    best: BestEpoch
    seconds: float

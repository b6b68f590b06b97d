"""The content of `run.json`: how a finished run was trained."""

from dataclasses import dataclass
from typing import Any

from recipe.run_folder.document import Document


@dataclass(frozen=True)
class Epoch:
    """One validation.

    Attributes:
        epoch, step: Epochs and optimiser steps so far.
        train_loss: Mean over the steps since the previous validation.
        loss: Mean cross-entropy over the validation rows.
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
    """The epoch whose weights the run keeps, and the name of its checkpoint's folder."""

    checkpoint: str


@dataclass(frozen=True)
class RunRecord(Document):
    """The weights, data, machine and results of a training.

    Attributes:
        config: Name of the YAML file.
        weights: Where training started: `name`, what pins it (`revision`, or `version` and `sha256`), `parameters`.
        dataset: Where the reviews come from: `name`, and what pins it.
        rows_sha256: SHA-256 of each split's texts and labels in their order.
        threads: Of each process.
        best: The epoch with the best validation metric.
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

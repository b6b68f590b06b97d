"""The content of `run.json`: how a finished run was trained."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from recipe.errors import CheckFailed
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
class Validation:
    """What the trained model's answers to the validation rows are worth.

    Attributes:
        majority, majority_share: The label with the most train rows, and its share of the validation rows.
        baseline_f1: Of TF-IDF, fitted to a sample of the train rows; `None` where it could not be.
        notes: Sentences on what is wrong with the answers, the last one with what to try; none if nothing is.
    """

    majority: str
    majority_share: float
    baseline_f1: float | None
    notes: list[str]


@dataclass(frozen=True)
class SeedFigures:
    """One of several trainings on the same rows: its seed, its best epoch on the validation rows, its seconds."""

    seed: int
    epoch: float
    loss: float
    f1: float
    seconds: float


@dataclass(frozen=True)
class Refit:
    """The trainings after the first one, on the validation rows too; the run keeps the last one's weights.

    Attributes:
        rows: With labels, that they learned from.
        f1: Of its weights on the validation rows, which they know; it only tells these weights from others.
        logits: Of the first training's best epoch, which has not seen the validation rows, for each of them in their
            order: what the model can be trusted to know of new reviews is measured by these.
    """

    rows: int
    f1: float
    seconds: float
    logits: list[list[float]]


@dataclass(frozen=True)
class RunRecord(Document):
    """The weights, data, machine and results of a training.

    Attributes:
        config: Name of the YAML file.
        seed: Of the rows, and of the training unless there are several.
        weights: Where training started: `name`, what pins it (`revision`, or `version` and `sha256`), `parameters`.
        dataset: Where the reviews come from: `name`, and what pins it.
        rows_sha256: SHA-256 of each split's texts and labels in their order.
        threads: Of each process.
        best: The epoch with the best validation metric.
        seconds: Of all trainings: each seed's, with its refit.
        validation: `None` in a run of an older version.
        refit: `None` where the best epoch's weights are kept.
        seeds: Each training's figures, in their order, if there were several; the other figures are those of the best.
        kept_seed: The best one's.
        unlabelled: The reviews without labels: the `files`, their new `rows`, how many the last training has `learned`
            from, the rows `dropped`, and the `teacher` if another run answered them; `None` if there were none.
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
    validation: Validation | None = None
    refit: Refit | None = None
    seeds: list[SeedFigures] = field(default_factory=list)
    kept_seed: int | None = None
    unlabelled: dict[str, Any] | None = None

    @property
    def seed_spread(self) -> float:
        """Return the standard deviation of validation F1 over the seeds, of which there are several."""
        return stdev(one.f1 for one in self.seeds)

    def describe_seeds(self) -> str:
        """Return what several seeds reached, in a line."""
        f1 = [one.f1 for one in self.seeds]
        return (
            f"{len(f1)} seeds: validation F1 mean {mean(f1):.4f}, spread (standard deviation) {self.seed_spread:.4f}, "
            f"lowest {min(f1):.4f}, highest {max(f1):.4f}; kept seed {self.kept_seed}, the best on "
            f"{self.rows['validation']:,} validation rows, so its F1 there is somewhat flattered"
        )

    def seed_note(self) -> str:
        """Return, in words for a reader of other figures, what validation rows tell and how much a seed alone moves."""
        rows, seeds = f"{self.rows['train']:,} train rows", len(self.seeds)
        known = "The model has learned from the validation rows too: its own F1 on them says nothing. "
        known = known if self.refit else ""
        if not seeds:
            how = "was not measured: train with --seeds 5 to know."
            return f"{known}How much another seed alone moves F1 with {rows} {how}"
        return known + (
            f"The model is the best of {seeds} seeds by validation, which flatters its validation F1. With {rows} "
            f"a seed alone moves that F1 by {self.seed_spread:.4f} (standard deviation of the {seeds})."
        )

    def require_f1(self, f1: float, rows: int) -> None:
        """Check that F1 of the weights, on `rows` of the validation rows, is what training found at its end.

        Two labels may differ by rounding. Where some rows are left out, F1 may also differ by four standard errors,
        each at most half the root of (1 - share of the rows) / rows, and wider with more classes.

        Raises:
            CheckFailed: It is not: what is served is not what was trained.
        """
        recorded = self.refit.f1 if self.refit else self.best.f1
        left_out = 1 - rows / self.rows["validation"]
        allowed = 0.01 + 2 / rows + 2 * math.sqrt(max(left_out, 0) * len(self.labels) / 2 / rows)
        if not abs(f1 - recorded) <= allowed:
            raise CheckFailed(
                f"the trained model has an F1 of {f1:.4f} on {rows:,} validation rows, but had {recorded:.4f} in "
                "training: it is not given what it was trained with, so none of its figures can be trusted"
            )


def without_folder(source: dict[str, Any]) -> dict[str, Any]:
    """Return a record's weights or dataset, with what is on this machine by the last part of its name.

    A name on the Hub stays.
    """
    return source if source.get("revision") else source | {"name": Path(source["name"]).name}

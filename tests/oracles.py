"""Cases whose figures were counted by hand, and records of runs that never took place."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from recipe.run_folder import BestEpoch, Epoch, RunRecord


@dataclass(frozen=True)
class Confusion:
    """Ten reviews: 3 true positives, 1 false positive, 2 false negatives, 4 true negatives."""

    labels: np.ndarray
    positive: np.ndarray
    matrix: list[list[int]]
    figures: dict[str, float]

    @property
    def predicted(self) -> np.ndarray:
        """The labels that are more probable than not."""
        return (self.positive > 0.5).astype(np.int64)


CONFUSION = Confusion(
    labels=np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0]),
    positive=np.array([0.9, 0.8, 0.6, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1, 0.05]),
    matrix=[[4, 1], [2, 3]],
    figures={"f1": 2 / 3, "accuracy": 7 / 10, "precision": 3 / 4, "recall": 3 / 5},
)


def run_record(**changes: Any) -> RunRecord:
    """A run on the Hub's reviews that kept the second of its three epochs."""
    epochs = [
        Epoch(
            epoch=number + 1.0,
            step=10 * (number + 1),
            train_loss=train,
            loss=loss,
            f1=f1,
            accuracy=f1,
            precision=f1,
            recall=f1,
            seconds=1.0,
        )
        for number, (train, loss, f1) in enumerate([(0.52, 0.43, 0.80), (0.42, 0.41, 0.82), (0.401, 0.40, 0.81)])
    ]
    known: dict[str, Any] = {
        "config": "quickstart",
        "recipe": "0.1.0",
        "python": "3.11.0",
        "versions": {},
        "seed": 42,
        "weights": {"name": "google-bert/bert-base-uncased", "revision": "86b5e0934494bd15c9632b12f734a8a67f723594"},
        "dataset": {"name": "fancyzhx/amazon_polarity", "config": None, "revision": "9d9c45c18f8c3cf1b23a"},
        "labels": ["negative", "positive"],
        "rows": {"train": 4000, "validation": 1000, "test": 1000},
        "rows_sha256": {},
        "device": "cpu",
        "processes": 1,
        "threads": 2,
        "precision": "fp32",
        "epochs": epochs,
        "best": BestEpoch(**vars(epochs[1]), checkpoint="checkpoint-20"),
        "seconds": 3.0,
    }
    return RunRecord(**(known | changes))

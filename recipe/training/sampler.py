"""The order of the train rows."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from recipe.arguments.schedule import steps_per_epoch


class WholeBatchSampler(LengthGroupedSampler):
    """Yield train rows so that each global batch holds similar lengths, without an incomplete last batch.

    An incomplete batch would be computed differently by one process, by several, and with accumulated gradients. Each
    epoch leaves out different rows, and none if there is less than one batch. The order follows from the seed and the
    epoch's number, so that a resumed run finds it again.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        """Start with epoch 0."""
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order is yielded next; Accelerate's data loaders call this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of rows of an epoch."""
        rows = len(self.lengths)
        return min(rows, steps_per_epoch(rows, self.batch_size) * self.batch_size)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of an epoch's rows."""
        self.generator.manual_seed(int(self.seeds_of_epoch().generate_state(1, np.uint64)[0]))
        return islice(super().__iter__(), len(self))

    def seeds_of_epoch(self) -> np.random.SeedSequence:
        """Return what an epoch's order is drawn by: hashed, so that seed 1's second epoch is not seed 2's first."""
        return np.random.SeedSequence([self.seed, self.epoch])


class StratifiedSampler(WholeBatchSampler):
    """Yield train rows so that each global batch holds each label as often as all rows do; the lengths do not count."""

    def __init__(self, batch_size: int, labels: np.ndarray, seed: int) -> None:
        """Start with epoch 0; `labels` is int64 (rows,)."""
        super().__init__(batch_size, [1] * len(labels), seed)
        self.labels = labels

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of an epoch's rows."""
        rng, places = np.random.default_rng(self.seeds_of_epoch()), np.empty(len(self.labels))
        for label in np.unique(self.labels):
            rows = np.flatnonzero(self.labels == label)
            # A label's rows lie evenly between 0 and 1, in another order each time.
            places[rows] = (rng.permutation(len(rows)) + rng.random()) / len(rows)
        return islice(map(int, np.argsort(places)), len(self))

"""The order in which train rows are seen."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class WholeBatches(LengthGroupedSampler):
    """Like lengths together, in whole batches: up to a batch less one of the rows, others each epoch, wait.

    A last batch that is not whole would be another one on one process, on two and under accumulation. The order follows
    from the seed and the epoch's number, so that a resumed run finds it again.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        """Begin with epoch 0."""
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch whose order is asked for next, as Accelerate's data loaders do."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of rows of an epoch."""
        return len(self.lengths) // self.batch_size * self.batch_size or len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the rows of an epoch, by number."""
        # Hashed, as seed 1's second epoch should not be seed 2's first.
        self.generator.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]))
        return islice(super().__iter__(), len(self))

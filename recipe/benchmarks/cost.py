"""How many operations a model needs for reviews, to hold a speed against what the machine could do at most."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

# As many as a quadratic has coefficients; any three give the same.
LENGTHS = (8, 16, 32)


def operations(step: Callable[[torch.Tensor], Any], device: torch.device) -> np.ndarray:
    """Return a, b and c of the operations that a step needs per review of n word pieces, a + b * n + c * n**2.

    Multiplications and additions are counted, each as one, and of matrix multiplications alone.

    Args:
        step: Computes a batch, int64 (reviews, word pieces) of ones, which is its own mask.
        device: Where.
    """
    counted = []
    for length in LENGTHS:
        batch = torch.ones((2, length), dtype=torch.long, device=device)
        # PyTorch does not count the fused attention of a CPU, and of a GPU's what it computes twice as well.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            step(batch)
        counted.append(counter.get_total_flops() / 2)
    return np.polynomial.polynomial.polyfit(LENGTHS, counted, 2)


def operations_of(sizes: np.ndarray, cost: np.ndarray) -> float:
    """Return the operations of batches, padding counted.

    Args:
        sizes: int64 (batches, 2 or more), each batch's reviews and padded length first.
        cost: As `operations` returns it.
    """
    return float((sizes[:, 0] * np.polynomial.polynomial.polyval(sizes[:, 1], cost)).sum())

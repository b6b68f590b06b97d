"""Turn logits into probabilities, on NumPy alone because serving imports it."""

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return each review's probability of each label, float64 (reviews, classes), from logits of that shape.

    A temperature divides the logits; above 1 it makes every probability less certain.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

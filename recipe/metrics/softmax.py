"""Turn logits into probabilities, on NumPy alone because serving imports it."""

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return each review's probability of each label.

    Args:
        logits: float (reviews, classes).
        temperature: Divides the logits; above 1 it makes every probability less certain.

    Returns:
        float64 (reviews, classes); each row sums to 1.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

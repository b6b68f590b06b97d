"""Turn a model's logits into answers with a temperature, a threshold and an abstain bound."""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from recipe.errors import UsageError
from recipe.metrics.softmax import softmax
from recipe.run_folder.document import Document


class Answers(NamedTuple):
    """A model's answers to reviews.

    Attributes:
        labels: int64 (reviews,), uncertain ones included.
        probabilities: Probability of each label, float64 (reviews,).
        certain: bool (reviews,), false where a person should decide.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    certain: np.ndarray


@dataclass(frozen=True)
class Decision(Document):
    """How logits become answers; without arguments, the most probable label, always certain.

    Attributes:
        temperature: Logits are divided by it; above 1 it makes a model less sure (Guo et al., *On Calibration of Modern
            Neural Networks*, 2017).
        threshold: Probability, after the temperature, from which on the label is 1. Two classes only; `None` takes the
            most probable label.
        abstain_below: Confidence, as in `confidence`, below which a person should decide; `None` never asks.
    """

    temperature: float = 1.0
    threshold: float | None = None
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        """Raise a `UsageError` that names a number which is out of its range, and the range."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"a temperature of {self.temperature}: it must be a number above 0 (1 changes nothing)")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"a threshold of {self.threshold}: it must be above 0 and below 1, or null for none")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise UsageError(f"abstain_below {self.abstain_below}: it must be from 0 to 1, or null for never")

    def __call__(self, logits: np.ndarray) -> Answers:
        """Return the answers to logits, float32 (reviews, classes).

        Raises:
            UsageError: There is a threshold, and there are not two classes.
        """
        probabilities, certain = self.probabilities(logits), self.confidence(logits) >= (self.abstain_below or 0)
        if self.threshold is None:
            labels = probabilities.argmax(axis=1)
        else:
            labels = (probabilities[:, 1] >= self.threshold).astype(np.int64)
        of_labels = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        return Answers(labels, of_labels, certain)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return each review's probability of each label, float64 (reviews, classes), from logits of that shape."""
        return softmax(logits, self.temperature)

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """Return how far each answer is from turning into another, float64 (reviews,).

        Without a threshold, the probability of the most probable label. With one, what that probability would be if the
        log-odds were moved so that the threshold stood at 0.5: the logistic function of their distance from the
        threshold's own, from 0.5 at the threshold to 1. So a review at 0.80 is in doubt where the threshold is 0.81,
        both meanings agree at 0.5, and the doubtful band lies around the threshold on either side.

        Raises:
            UsageError: There is a threshold, and there are not two classes.
        """
        if self.threshold is None:
            return np.asarray(self.probabilities(logits).max(axis=1))
        if logits.shape[1] != 2:
            raise UsageError(f"a threshold of {self.threshold} needs two classes, and the model has {logits.shape[1]}")
        # From logits and not from probabilities, whose log-odds are infinite once they are rounded to 1.
        log_odds = np.diff(np.asarray(logits, dtype=np.float64), axis=1)[:, 0] / self.temperature
        distance = np.abs(log_odds - math.log(self.threshold / (1 - self.threshold)))
        return np.asarray(1 / (1 + np.exp(-distance)))

    @classmethod
    def from_json(cls, content: dict[str, Any], where: object) -> "Decision":
        """Return the decision that a file's content describes, which has to name all three numbers and nothing else.

        Raises:
            UsageError: A key is missing or not known, or what it holds is no number in its range.
        """
        known = [field.name for field in fields(cls)]
        if content.keys() != set(known):
            raise UsageError(f"{where}: a decision has {', '.join(known)}, not {', '.join(content) or 'nothing'}")
        return super().from_json(content, where)

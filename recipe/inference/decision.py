"""Turn a model's logits into answers with a temperature, a threshold and what is certain of each label."""

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
        certain_from: For each label, the probability, after the temperature, from which on its answers are certain;
            the others are doubtful. `None` leaves no review to people.
    """

    temperature: float = 1.0
    threshold: float | None = None
    certain_from: list[float] | None = None

    def __post_init__(self) -> None:
        """Raise a `UsageError` that names a number which is out of its range, and the range."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"a temperature of {self.temperature}: it must be a number above 0 (1 changes nothing)")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"a threshold of {self.threshold}: it must be above 0 and below 1, or null for none")
        if self.certain_from is not None and not all(0 <= bound <= 1 for bound in self.certain_from):
            raise UsageError(f"certain_from {self.certain_from}: each must be from 0 to 1, or null in place of all")

    def __call__(self, logits: np.ndarray, wordless: np.ndarray | None = None) -> Answers:
        """Return the answers to logits, float32 (reviews, classes).

        Args:
            wordless: bool (reviews,), as `Scores` has it. Where some reviews are left to people, these are.

        Raises:
            UsageError: There is a threshold, and there are not two classes; or not as many bounds as classes.
        """
        probabilities = self.probabilities(logits)
        self.require_classes(probabilities.shape[1])
        if self.threshold is None:
            labels = probabilities.argmax(axis=1)
        else:
            labels = (probabilities[:, 1] >= self.threshold).astype(np.int64)
        of_labels = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        if self.certain_from is None:
            return Answers(labels, of_labels, np.ones(len(labels), dtype=bool))
        certain = of_labels >= np.array(self.certain_from)[labels]
        return Answers(labels, of_labels, certain if wordless is None else certain & ~wordless)

    def require_classes(self, classes: int) -> None:
        """Raise a `UsageError` where there is a threshold and not two classes, or not one bound for each class."""
        if self.threshold is not None and classes != 2:
            raise UsageError(f"a threshold of {self.threshold} needs two classes, and the model has {classes}")
        if self.certain_from is not None and len(self.certain_from) != classes:
            raise UsageError(
                f"certain_from {self.certain_from}: it has one for each label, and the model has {classes}"
            )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return each review's probability of each label, float64 (reviews, classes), from logits of that shape."""
        return softmax(logits, self.temperature)

    @classmethod
    def from_json(cls, content: Any, where: object) -> "Decision":
        """Return the decision that a file's content describes, which has to name all three fields and nothing else.

        Raises:
            UsageError: A key is missing or not known, what it holds is no number in its range, or an earlier version
                wrote the file.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(content, dict):
            raise UsageError(f"{where} is damaged: it holds a {type(content).__name__}, not a decision")
        if "abstain_below" in content:
            raise UsageError(f"{where} is of an earlier version of this recipe")
        if content.keys() != set(known):
            found = ", ".join(content) or "nothing"
            raise UsageError(f"{where} is damaged: a decision has {', '.join(known)}, not {found}")
        return super().from_json(content, where)

"""The schedule of a training on the user's own reviews, which follows from how many train rows there are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Fine-tuning on few rows fails above all for want of steps and of a warm-up (Mosbach et al., *On the Stability of
# Fine-tuning BERT*, 2021; Zhang et al., *Revisiting Few-sample BERT Fine-tuning*, 2021). On 256 reviews MiniLM gave one
# label to everything after 16 steps, and had an F1 of 0.79 after 192.
FEW_STEPS = 200
SMALL_BATCH = 8
# From so many rows on, the batch that goes with them: enough steps are left, and each uses the device better.
BATCHES = {0: SMALL_BATCH, 2_000: 16, 10_000: 32}
# So few train rows contrast their labels, in so many steps of so many reviews, and miss those that are held out.
FEW_ROWS, CONTRAST_STEPS, CONTRAST_BATCH = 1_000, 120, 16
EPOCHS = 3
# From here on two epochs are tens of thousands of steps.
MANY_ROWS = 500_000
WARMUP = 0.1
# The highest rate that BERT's authors chose from (Devlin et al., 2019).
RATE = 5e-5
# More validations and checkpoints of short epochs would cost more than the training.
VALIDATIONS = 5
# A few held-out rows take a model that is half trained for the best one: of 100 labels after 80 of 200 steps, F1 0.841
# on other rows against 0.861 at the end. Short epochs are validated from here on.
NOT_BEFORE = 0.5

VALIDATED = ("eval_strategy", "save_strategy", "eval_steps", "eval_delay")
# The settings that follow from the rows, each with those that decide the same: given one, it is the user's.
SCHEDULED = {
    "global_batch_size": (),
    "num_train_epochs": ("max_steps",),
    "warmup_ratio": ("warmup_steps",),
    "learning_rate": (),
    "contrast_labels": (),
    "refit": ("validation_file",),
} | dict.fromkeys(VALIDATED, (*VALIDATED, "num_train_epochs", "max_steps"))


@dataclass(frozen=True)
class Schedule:
    """Settings of a training, as flags, and the reason for them in words."""

    settings: dict[str, Any]
    reason: str


def schedule(rows: int, share: int = 1, batch: int | None = None, contrast: bool = False) -> Schedule:
    """Return the schedule for `rows` train rows.

    Few rows get small batches and at least 200 steps, or 120 of twice the size that contrast their labels, and learn
    from the validation rows in the end; many rows get two or three epochs.

    Args:
        rows: Train rows, without those held out.
        share: What the batch must divide by: the reviews that all devices compute at once.
        batch: Reviews per step of the optimiser, if the user set it.
        contrast: Whether few rows may contrast their labels.
    """
    contrast = contrast and rows < FEW_ROWS
    size = CONTRAST_BATCH if contrast else max(size for start, size in BATCHES.items() if start <= rows)
    batch = batch or math.ceil(size / share) * share
    steps, fewest = steps_per_epoch(rows, batch), CONTRAST_STEPS if contrast else FEW_STEPS
    epochs = max(EPOCHS if rows < MANY_ROWS else EPOCHS - 1, math.ceil(fewest / steps))
    settings: dict[str, Any] = {"global_batch_size": batch, "warmup_ratio": WARMUP, "learning_rate": RATE}
    settings |= {"contrast_labels": contrast, "refit": rows < FEW_ROWS}
    few = epochs > EPOCHS
    reason = f"{rows:,} train rows {'need many small steps' if few else 'are enough for few epochs'}"
    reason += "; their labels are contrasted" if contrast else ""
    return Schedule(settings | validated(epochs, steps), reason)


def validated(epochs: int, steps: int) -> dict[str, Any]:
    """Return the settings of so many epochs, or of the next number that evenly spaced checkpoints divide.

    Args:
        epochs: Up to five are each validated and saved. More are saved three to five times in all, the last time at the
            end, and validated as often, but not in the first half.
        steps: Of each epoch.
    """
    apart = math.ceil(epochs / VALIDATIONS)
    epochs = math.ceil(epochs / apart) * apart
    settings: dict[str, Any] = {"num_train_epochs": float(epochs)}
    if apart == 1:
        return settings | {"eval_strategy": "epoch", "save_strategy": "epoch"}
    spaced = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": apart * steps}
    return settings | spaced | {"eval_delay": NOT_BEFORE * epochs * steps}


def steps_per_epoch(rows: int, batch: int) -> int:
    """Return the steps of an epoch of whole batches, or of one batch that is not."""
    return max(1, rows // batch)


def left_open(chosen: Iterable[str]) -> frozenset[str]:
    """Return the settings of a schedule that none of the `chosen` settings decides."""
    return frozenset(name for name, others in SCHEDULED.items() if not {name, *others} & {*chosen})

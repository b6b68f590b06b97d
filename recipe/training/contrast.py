"""Learn from few labels: a head fitted before the first step, and a loss that brings reviews of a label together."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import TrainerCallback, TrainerControl, TrainerState

from recipe.model.averaging import fit_head


class ContrastCallback(TrainerCallback):
    """Fits the head of a `ReviewTrainer`'s BERT before its first step, and knows the last batch's vectors.

    Attributes:
        vectors: What the pooler gave, float (reviews, hidden).
        rows: The head is fitted to so many of the first train rows; to all of them if `None`.
    """

    rows: int | None = None

    def __init__(self, trainer: Any) -> None:
        """Watch the pooler."""
        self.trainer = trainer
        self.vectors = torch.empty(0)
        trainer.model.bert.pooler.register_forward_hook(self._keep)

    def _keep(self, _pooler: torch.nn.Module, _given: Any, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Fit the head, unless training is resumed after its first step."""
        if state.global_step == 0:
            labels = hard_labels(np.asarray(self.trainer.train_dataset["labels"][: self.rows]))
            fit_head(self.trainer.model, self.pooled(), labels)

    @torch.no_grad()
    def pooled(self) -> np.ndarray:
        """Return what the pooler gives for each of the `rows`, without dropout, float32 (reviews, hidden)."""
        trainer, size = self.trainer, self.trainer.args.per_device_eval_batch_size
        rows = trainer.train_dataset.select_columns(trainer.processing_class.model_input_names)
        rows = rows.select(range(len(rows) if self.rows is None else self.rows))
        trainer.model.eval()
        found = []
        for start in range(0, len(rows), size):
            batch = trainer.data_collator([rows[row] for row in range(start, min(start + size, len(rows)))])
            trainer.model(**batch.to(trainer.model.device))
            found.append(self.vectors.float().cpu())
        trainer.model.train()
        return torch.cat(found).numpy()


def hard_labels(labels: Any) -> Any:
    """Return labels as int64 (reviews,): as they are, or the likeliest of soft ones, float (reviews, classes)."""
    return labels if labels.ndim == 1 else labels.argmax(-1)


def label_contrast(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how far a batch's cosines are from 1 within a label and from 0 between labels: a mean square, float32 ().

    Both kinds of pairs weigh the same. It is the loss of SetFit (Tunstall et al., *Efficient Few-Shot Learning Without
    Prompts*, 2022), over all pairs of the batch. Of soft labels a pair is of either kind, as likely as it is that both
    have the same label.

    Args:
        vectors: float (reviews, hidden).
        labels: int64 (reviews,), or probabilities, float (reviews, classes).
    """
    unit = normalize(vectors.float(), dim=-1)
    cosines = unit @ unit.T
    same = (labels[:, None] == labels[None, :]).float() if labels.ndim == 1 else (labels @ labels.T).float()
    others = 1 - torch.eye(len(labels), device=labels.device)
    kinds = ((cosines - 1) ** 2, same * others), (cosines**2, (1 - same) * others)
    # A batch may have one label alone, or one review of each, and the mean of no pair would be NaN.
    return torch.stack([(squares * kind).sum() / kind.sum().clamp(min=1) for squares, kind in kinds]).mean()

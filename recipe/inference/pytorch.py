"""The trained model in PyTorch, the reference of every exported variant."""

import inspect
from pathlib import Path

import numpy as np
import torch

from recipe.data.reviews import Split
from recipe.data.tokens import texts_of
from recipe.inference.classifier import Classifier, loading_errors_as_usage_error
from recipe.metrics.scores import score_labels
from recipe.model.pretrained import load_trained
from recipe.run_folder import RunFolder, RunRecord

# Enough for an interval of the F1 drop that is narrower than the budget, few enough for a BERT-base on a CPU.
CHECKED_REVIEWS = 1000


class TorchClassifier(Classifier):
    """Runs a run's best checkpoint in PyTorch, on the GPU where there is one, or on a given device."""

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        """Load the weights (safetensors only) and the tokenizer from a run's folder."""
        # PyTorch itself divides a batch among the cores.
        super().__init__(folder, threads=1)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_trained(folder).to(self.device)  # type: ignore[arg-type]
        self.inputs = inspect.signature(self.model.forward).parameters.keys() & set(self.trained_inputs)

    @classmethod
    def from_run(cls, run: str | Path, device: torch.device | None = None) -> "TorchClassifier":
        """Return a finished run's classifier; if there is no such run, or it is damaged, raise a `UsageError`."""
        folder = RunFolder(run)
        folder.require_finished()
        with loading_errors_as_usage_error(folder.path):
            return cls(folder.path, device)

    def require_recorded_f1(
        self, validation: Split, record: RunRecord, most: int = CHECKED_REVIEWS
    ) -> tuple[Split, np.ndarray]:
        """Return up to `most` validation rows and their logits, float32 (reviews, classes).

        Raises:
            CheckFailed: Their F1 is not what training has recorded, as `RunRecord.require_f1` says.
        """
        rows = validation.spread(most)
        logits = self.logits(texts_of(rows), "PyTorch, validation rows")
        # What is not a number is refused where it is measured.
        if np.isfinite(logits).all():
            f1 = score_labels(rows.labels, logits.argmax(axis=1), len(record.labels))["f1"]
            record.require_f1(f1, len(rows))
        return rows, logits

    @torch.inference_mode()
    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(batch[name]).to(self.device) for name in self.inputs}
        return self.model(**tensors).logits.float().cpu().numpy()

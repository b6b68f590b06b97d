"""The trained model in PyTorch, the reference of every exported variant."""

import inspect
from pathlib import Path

import numpy as np
import torch

from recipe.inference.classifier import Classifier, loading_errors_as_usage_error
from recipe.model.pretrained import load_trained
from recipe.run_folder import RunFolder


class TorchClassifier(Classifier):
    """Runs a run's best checkpoint in PyTorch, on the GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        """Load the weights (safetensors only) and the tokenizer from a run's folder."""
        # PyTorch itself divides a batch among the cores.
        super().__init__(folder, threads=1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_trained(folder).to(self.device)  # type: ignore[arg-type]
        self.inputs = inspect.signature(self.model.forward).parameters.keys() & self.padding.keys()

    @classmethod
    def from_run(cls, run: str | Path) -> "TorchClassifier":
        """Return a finished run's classifier; if there is no such run, or it is damaged, raise a `UsageError`."""
        folder = RunFolder(run)
        folder.require_finished()
        with loading_errors_as_usage_error(folder.path):
            return cls(folder.path)

    @torch.inference_mode()
    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(batch[name]).to(self.device) for name in self.inputs}
        return self.model(**tensors).logits.float().cpu().numpy()

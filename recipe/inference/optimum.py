"""An exported model in Optimum's `ORTModelForSequenceClassification`."""

from pathlib import Path

import numpy as np
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification

from recipe.inference.classifier import Classifier
from recipe.inference.onnx import PROVIDERS, session_options
from recipe.model.safety import require_safe
from recipe.run_folder import VARIANT_FILES


class OptimumClassifier(Classifier):
    """Runs an exported file as Optimum's users do, in `ORTModelForSequenceClassification`."""

    def __init__(self, folder: Path, variant: str, provider: str, batch_tokens: int) -> None:
        """Load a variant from the folder it was written to.

        Raises:
            UsageError: A file of the folder is not safe, as in `require_safe`.
        """
        require_safe(folder)
        super().__init__(folder, threads=1)
        self.batch_tokens = batch_tokens
        # `export=False`: from a folder without an ONNX file Optimum would silently export one.
        self.model = ORTModelForSequenceClassification.from_pretrained(
            folder,
            file_name=VARIANT_FILES[variant],
            export=False,
            local_files_only=True,
            provider=PROVIDERS[provider],
            session_options=session_options(),
        )

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(batch[name]).to(self.model.device) for name in self.model.input_names}
        return np.asarray(self.model(**tensors).logits.cpu().numpy(), dtype=np.float32)

"""Labels and probabilities for reviews, from an exported model or from the PyTorch one it came from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from onnxruntime import SessionOptions
from optimum.onnxruntime import ORTModelForSequenceClassification
from scipy.special import softmax
from tqdm.auto import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from recipe.command_line import usable_cores
from recipe.errors import UsageError
from recipe.model import load_trained
from recipe.run_folder import RunFolder

# A review, or the pair of its title and content for a model trained on two text columns.
Text = str | tuple[str, str]
BATCH_SIZE = 16


class Prediction(NamedTuple):
    """A review's label and how probable the model holds it to be, from 1 / classes to 1."""

    label: str
    probability: float


class Classifier(ABC):
    """Turns reviews into predictions, in batches of like length so that little is computed for padding.

    A review scores the same alone and in any batch: padding is masked, and each review is cut at the trained length.
    """

    def __init__(self, folder: Path, label_names: dict[int, str]) -> None:
        """Read the tokenizer of `folder`, whose `model_max_length` is the trained length."""
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.label_names = [label_names[label] for label in range(len(label_names))]

    def __call__(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return each review's most probable label, in the order given."""
        probabilities = self.probabilities(texts)
        best = probabilities.argmax(axis=1)
        return [Prediction(self.label_names[label], float(row[label])) for label, row in zip(best, probabilities)]

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """Return each review's probability of each label, float32 (reviews, classes), in the order given."""
        return np.asarray(softmax(self.logits(texts), axis=1), dtype=np.float32)

    def logits(self, texts: Sequence[Text], progress: str | None = None) -> np.ndarray:
        """Return the model's output for each review, float32 (reviews, classes), in the order given.

        Args:
            texts: The reviews; a single one is a list of one.
            progress: The name of a progress bar to show on a terminal; `None` shows none.

        Raises:
            TypeError: A lone string was given, whose letters would each be taken for a review.
        """
        if isinstance(texts, str):
            raise TypeError("give a list of reviews, not a string: [text]")
        logits = np.empty((len(texts), len(self.label_names)), dtype=np.float32)
        if len(texts):
            encoded = self.tokenizer(list(texts), truncation=True)
            batches = list(length_sorted_batches([len(ids) for ids in encoded["input_ids"]], BATCH_SIZE))
            for rows in tqdm(batches, desc=progress, unit="batch", leave=False, disable=None if progress else True):
                batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
                padded = pad_without_fast_tokenizer_warning(self.tokenizer, batch, return_tensors="pt")
                logits[rows] = self._forward(padded)
        return logits

    @abstractmethod
    def _forward(self, batch: Any) -> np.ndarray:
        """Return the logits, float32 (reviews, classes), of a padded batch of int64 (reviews, word pieces)."""


class OnnxClassifier(Classifier):
    """Runs an exported model in ONNX Runtime, through Optimum."""

    def __init__(self, folder: Path) -> None:
        """Load `model.onnx` and its tokenizer from a folder that `export` wrote."""
        options = SessionOptions()
        # ONNX Runtime would count the host's cores, not those this process may use (onnxruntime#8313).
        options.intra_op_num_threads = usable_cores()
        # `export=False`: from a folder without an ONNX file Optimum would silently export one.
        self.model = ORTModelForSequenceClassification.from_pretrained(
            folder, file_name="model.onnx", export=False, local_files_only=True, session_options=options
        )
        super().__init__(folder, self.model.config.id2label)

    @classmethod
    def from_run(cls, run: str | Path) -> "OnnxClassifier":
        """Return the classifier of a run that was exported.

        Raises:
            UsageError: There is no such run, it was not exported, or what it exported is damaged.
        """
        folder = RunFolder(run)
        folder.require_onnx()
        with _damage_named(folder.onnx):
            return cls(folder.onnx)

    def _forward(self, batch: Any) -> np.ndarray:
        """Run the batch in ONNX Runtime."""
        return np.asarray(self.model(**batch).logits, dtype=np.float32)


class TorchClassifier(Classifier):
    """Runs a run's best checkpoint in PyTorch, on the GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        """Load the weights (safetensors only) and the tokenizer from a run's folder."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_trained(folder).to(self.device)  # type: ignore[arg-type]
        super().__init__(folder, self.model.config.id2label)

    @classmethod
    def from_run(cls, run: str | Path) -> "TorchClassifier":
        """Return the classifier of a finished run.

        Raises:
            UsageError: There is no such run, or its weights are damaged.
        """
        folder = RunFolder(run)
        folder.require_finished()
        with _damage_named(folder.path):
            return cls(folder.path)

    @torch.inference_mode()
    def _forward(self, batch: Any) -> np.ndarray:
        """Run the batch in PyTorch."""
        return self.model(**batch.to(self.device)).logits.float().cpu().numpy()


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Turn whatever is raised while a model is loaded into a `UsageError`.

    Whatever, because safetensors and ONNX Runtime raise types of their own that have no base but `Exception`.
    """
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"the model in {folder} cannot be loaded, a file is missing or damaged: {reason}") from error


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Yield the rows of each batch, int64 (at most batch_size,), longest reviews first so that memory peaks at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]

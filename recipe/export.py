"""The trained model as ONNX, proven on real reviews to be the same model."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoTokenizer

from recipe.arguments import data_arguments_of
from recipe.data import load_reviews, texts_of
from recipe.errors import CheckFailed
from recipe.inference import Classifier, OnnxClassifier, Text, TorchClassifier
from recipe.model import load_trained
from recipe.run_folder import RunFolder

MAX_LOGIT_DIFFERENCE = 1e-4
# Validation reviews that both models are run on: enough to meet every length, few enough for a BERT-base on a CPU.
CHECKED_REVIEWS = 512


@dataclass(frozen=True)
class Parity:
    """How far two models' outputs for the same reviews lie apart.

    Attributes:
        reviews: How many were compared.
        largest_difference: Of any logit.
        labels_changed: Reviews whose most probable label differs.
        finite: Whether no logit was NaN or infinite.
    """

    reviews: int
    largest_difference: float
    labels_changed: int
    finite: bool

    def __str__(self) -> str:
        """Return the result in words."""
        if not self.finite:
            return f"NaN or infinite logits on {self.reviews} reviews"
        return (
            f"largest logit difference {self.largest_difference:.1e} and {self.labels_changed} label(s) changed "
            f"on {self.reviews} reviews"
        )


def export(run: RunFolder, max_difference: float = MAX_LOGIT_DIFFERENCE) -> Parity:
    """Write `<run>/onnx/` and return how it compares with PyTorch on the run's own validation reviews.

    The folder appears whole, once the check has passed, or not at all; an earlier one stays until there is a verdict.

    Args:
        run: A finished run.
        max_difference: The largest logit difference to accept.

    Raises:
        UsageError: There is no finished run, or its weights or reviews cannot be read any more.
        CheckFailed: ONNX Runtime's logits differ by more, a label changed, or a logit is not finite.
    """
    run.require_finished()
    texts = validation_texts(run)
    trained = TorchClassifier.from_run(run.path)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=run.path) as temporary:
        folder = Path(temporary) / "onnx"
        write_onnx(run.path, folder)
        result = parity(trained, OnnxClassifier(folder), texts)
        # Whatever the check says, an earlier export is not the one of these weights any more.
        if run.onnx.exists():
            shutil.rmtree(run.onnx)
        require_parity(result, max_difference)
        folder.replace(run.onnx)
    return result


def validation_texts(run: RunFolder) -> list[Text]:
    """Return up to `CHECKED_REVIEWS` of the run's validation reviews.

    Raises:
        UsageError: The dataset cannot be read any more.
    """
    settings = run.read_config()
    args = data_arguments_of(settings)
    validation = load_reviews(args, run.read_record()["seed"]).validation
    return list(texts_of(validation.take(np.arange(min(CHECKED_REVIEWS, len(validation))))))


def write_onnx(trained: Path, folder: Path) -> None:
    """Export a trained model's folder into another, with label names, trained length and tokenizer."""
    # What `ORTModelForSequenceClassification.from_pretrained(..., export=True)` calls with a model of its own loading,
    # whose last layer would be whole. `do_validation` would only warn; what is written is compared on real reviews.
    onnx_export_from_model(load_trained(trained), folder, task="text-classification", do_validation=False)
    AutoTokenizer.from_pretrained(trained, local_files_only=True).save_pretrained(folder)


def parity(reference: Classifier, candidate: Classifier, texts: Sequence[Text]) -> Parity:
    """Return how far the candidate's logits lie from the reference's on the same texts."""
    expected, actual = reference.logits(texts, "PyTorch"), candidate.logits(texts, "ONNX")
    return Parity(
        reviews=len(texts),
        largest_difference=float(np.abs(expected - actual).max()),
        labels_changed=int((expected.argmax(axis=1) != actual.argmax(axis=1)).sum()),
        finite=bool(np.isfinite(expected).all() and np.isfinite(actual).all()),
    )


def require_parity(result: Parity, max_difference: float) -> None:
    """Refuse an export that is not the model it came from.

    Raises:
        CheckFailed: It differs too much, changed a label, or is not finite.
    """
    if not result.finite or result.labels_changed or not result.largest_difference <= max_difference:
        raise CheckFailed(
            f"the ONNX model is not the PyTorch one: {result} (allowed: {max_difference:g} and none). Nothing was kept"
        )

"""The ways from reviews to logits that the inference benchmark compares, each for a process of its own.

Each imports its libraries when it is prepared, as a way's memory is to be that of its own libraries.
"""

import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recipe.benchmarks.turns import peak_resident
from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier, Scores, length_sorted_batches, windows
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import VARIANT_FILES

# What `transformers`' users take, and its Trainer's evaluation is close to.
PYTORCH_BATCH = 16
# Of 1, 2, 4, 8 and 16 the fastest, or as fast as any, for OpenVINO on two cores.
OPENVINO_BATCH = 2
OPENVINO_FILE = "openvino_model.xml"
# OpenVINO's own packages: of the extra `benchmark`, as nothing else needs them.
OPENVINO_PACKAGES = ("openvino", "nncf")


@dataclass(frozen=True)
class Folders:
    """Where the models are.

    Attributes:
        run: The finished run.
        plain: The untouched class as ONNX, the last layer whole; where OpenVINO is installed its int8 form as well.
        dynamic: Our export with ONNX Runtime's dynamic int8.
    """

    run: Path
    plain: Path
    dynamic: Path


@dataclass(frozen=True)
class Pass:
    """One pass over the reviews.

    Attributes:
        seconds: From texts to logits.
        logits: float32 (reviews, classes), in the reviews' order.
        peak: The most bytes that the process has held resident until then.
    """

    seconds: float
    logits: np.ndarray
    peak: int


class Way(ABC):
    """A way from reviews to logits.

    Attributes:
        precision: What it multiplies in, `fp32` or `int8`.
        reads_only_cls: Whether its last layer is computed for `[CLS]` alone.
    """

    precision = "fp32"
    reads_only_cls = False

    @abstractmethod
    def __init__(self, folders: Folders) -> None:
        """Load the model."""

    @abstractmethod
    def batches(self, texts: Sequence[Text]) -> Iterable[Mapping[str, Any]]:
        """Yield what is computed at once: `input_ids` and `attention_mask`, (reviews, word pieces)."""

    @abstractmethod
    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Return the logits, float32 (reviews, classes), in the reviews' order."""


class OriginalRecipe(Way):
    """The original's `onnx_infer`: a plain session, one review at a time, padded to the trained length."""

    def __init__(self, folders: Folders) -> None:
        """Open the session that `InferenceSession(file)` gives."""
        from onnxruntime import InferenceSession

        self.tokenizer = _tokenizer(folders.plain)
        self.session = InferenceSession(folders.plain / VARIANT_FILES["fp32"], providers=["CPUExecutionProvider"])
        self.inputs = [given.name for given in self.session.get_inputs()]

    def batches(self, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
        """Yield each review."""
        for text in texts:
            yield self.tokenizer([text], padding="max_length", truncation=True, return_tensors="np")

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Run each review."""
        found = [self.session.run(["logits"], {name: one[name] for name in self.inputs}) for one in self.batches(texts)]
        return np.concatenate([logits for (logits,) in found])


class PyTorch(Way):
    """The untouched class in PyTorch, in batches as the reviews come, padded to their longest."""

    def __init__(self, folders: Folders) -> None:
        """Load the run's weights."""
        self.tokenizer, self.model = _tokenizer(folders.run), untouched_class(folders.run)

    def batches(self, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
        """Yield the reviews a batch at a time."""
        for start in range(0, len(texts), PYTORCH_BATCH):
            some = list(texts[start : start + PYTORCH_BATCH])
            yield self.tokenizer(some, padding=True, truncation=True, return_tensors="pt")

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Run the batches."""
        import torch

        with torch.inference_mode():
            return np.concatenate([self.model(**batch).logits.numpy() for batch in self.batches(texts)])


class Pipeline(Way):
    """`transformers`' `pipeline` over Optimum's `ORTModelForSequenceClassification`, one by one, as documented."""

    def __init__(self, folders: Folders) -> None:
        """Make the pipeline."""
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import pipeline

        self.tokenizer = _tokenizer(folders.plain)
        model = ORTModelForSequenceClassification.from_pretrained(folders.plain, local_files_only=True)
        self.names = [model.config.id2label[label] for label in range(len(model.config.id2label))]
        self.pipeline = pipeline("text-classification", model=model, tokenizer=self.tokenizer)

    def batches(self, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
        """Yield each review."""
        for text in texts:
            yield self.tokenizer([text], truncation=True, return_tensors="np")

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Give the pipeline each review, and take the scores of all labels, before softmax."""
        rows = []
        for text in texts:
            given = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
            answer = self.pipeline(given, truncation=True, top_k=None, function_to_apply="none")
            scores = {one["label"]: one["score"] for one in answer}
            rows.append([scores[name] for name in self.names])
        return np.array(rows, dtype=np.float32)


class OpenVino(Way):
    """OpenVINO's int8 from nncf, with its documented settings for throughput."""

    precision = "int8"

    def __init__(self, folders: Folders) -> None:
        """Compile the model."""
        self.classifier = OpenVinoClassifier(folders.plain)

    def batches(self, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
        """Yield reviews of like length."""
        return _batches(self.classifier, texts)

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Run them."""
        return self.classifier.logits(texts)


class OpenVinoClassifier(Classifier):
    """Runs a model in OpenVINO: throughput hint, a queue with as many requests as it says are best."""

    batch_size = OPENVINO_BATCH

    def __init__(self, folder: Path) -> None:
        """Compile the int8 model of a folder."""
        import openvino
        from openvino.properties import hint

        super().__init__(folder, threads=1)
        settings = {hint.performance_mode: hint.PerformanceMode.THROUGHPUT}
        self.model = openvino.Core().compile_model(folder / OPENVINO_FILE, "CPU", settings)
        self.inputs = [given.get_any_name() for given in self.model.inputs]
        self.queue = openvino.AsyncInferQueue(self.model)

    def score(self, texts: Iterable[Sequence[Text]], done: Any = int) -> Iterator[Scores]:
        """Yield the output for each window, from OpenVINO's own queue in the place of our threads."""
        for window in texts:
            encodings = self.tokenizer.encode_batch_fast(list(window))
            logits = np.empty((len(window), len(self.label_names)), dtype=np.float32)

            def keep(request: Any, rows: np.ndarray, logits: np.ndarray = logits) -> None:
                """Put a batch's logits in their place."""
                logits[rows] = request.get_output_tensor(0).data

            self.queue.set_callback(keep)
            for rows in length_sorted_batches([len(encoding.ids) for encoding in encodings], self.batch_size):
                batch = self._padded([encodings[row] for row in rows])
                self.queue.start_async({name: batch[name] for name in self.inputs}, rows)
            self.queue.wait_all()
            yield Scores(logits, np.array([bool(encoding.overflowing) for encoding in encodings], dtype=bool))

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Run a batch, without the queue."""
        return np.asarray(self.model({name: batch[name] for name in self.inputs})[0], dtype=np.float32)


class DynamicInt8(Way):
    """ONNX Runtime's dynamic int8 of our export, through our threads and batches."""

    precision, reads_only_cls = "int8", True

    def __init__(self, folders: Folders) -> None:
        """Open our session."""
        self.classifier = OnnxClassifier(folders.dynamic, "int8")

    def batches(self, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
        """Yield reviews of like length."""
        return _batches(self.classifier, texts)

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Run them."""
        return self.classifier.logits(texts)


class OursFp32(DynamicInt8):
    """`OnnxClassifier` with the certified fp32 file."""

    precision = "fp32"

    def __init__(self, folders: Folders) -> None:
        """Open it as a user does."""
        self.classifier = OnnxClassifier.from_run(folders.run, self.precision)


class OursInt8(OursFp32):
    """The same with int8."""

    precision = "int8"


ORIGINAL, PYTORCH, OPENVINO = "original recipe", "PyTorch, batches of 16", "OpenVINO int8"
WAYS: dict[str, type[Way]] = {
    ORIGINAL: OriginalRecipe,
    PYTORCH: PyTorch,
    "Optimum's pipeline": Pipeline,
    OPENVINO: OpenVino,
    "ONNX Runtime's dynamic int8": DynamicInt8,
    "ours, fp32": OursFp32,
    "ours, int8": OursInt8,
}


def left_out() -> dict[str, str]:
    """Return why a way cannot be measured here, by its name."""
    missing = [name for name in OPENVINO_PACKAGES if not find_spec(name)]
    reason = f"{' and '.join(missing)} not installed: pip install -e '.[benchmark]'"
    return {OPENVINO: reason} if missing else {}


def versions_of_extra() -> dict[str, str]:
    """Return the installed versions of what only this benchmark needs."""
    return {name: version(name) for name in OPENVINO_PACKAGES if find_spec(name)}


def serve(name: str, folders: Folders, texts: Mapping[str, Sequence[Text]]) -> Generator[Any, Any, None]:
    """Be the process of one way.

    Yields:
        Its `precision` and `reads_only_cls`; then for the wish `("pass", reviews)` a `Pass`, for `("alone", reviews,
        rows)` the seconds of each of these rows by itself, and for `("sizes", reviews)` the batches, int64 (batches,
        3): reviews, padded length and word pieces.
    """
    # Loaded as they are, and nothing asked of the Hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    way = WAYS[name](folders)
    wish = yield way.precision, way.reads_only_cls
    while True:
        task, reviews, *rows = wish
        if task == "pass":
            wish = yield _pass(way, texts[reviews])
        elif task == "alone":
            wish = yield [_pass(way, [texts[reviews][row]]).seconds for row in rows[0]]
        else:
            wish = yield np.array([_size(batch) for batch in way.batches(texts[reviews])])


def write_openvino(folder: Path, calibration: list[Text]) -> Generator[Any, Any, None]:
    """Write OpenVINO's int8 form of a folder's ONNX file, as nncf documents it for transformers, and yield once."""
    # Or nncf would report its use to Intel.
    os.environ["NNCF_CI"] = "1"
    import nncf
    import openvino

    tokenizer = _tokenizer(folder)
    model = openvino.Core().read_model(folder / VARIANT_FILES["fp32"])
    names = [given.get_any_name() for given in model.inputs]

    def inputs(text: Text) -> dict[str, np.ndarray]:
        """Return a review as the model takes it."""
        encoded = tokenizer([text], truncation=True, return_tensors="np")
        return {name: encoded[name] for name in names}

    # Its bars go to standard output, where the table goes.
    with redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(calibration, inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
        )
    openvino.save_model(quantized, folder / OPENVINO_FILE, compress_to_fp16=False)
    yield None


def untouched_class(folder: Path) -> Any:
    """Return a run's model as `transformers` has it, its last layer computed for every position."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    ).eval()


def _pass(way: Way, texts: Sequence[Text]) -> Pass:
    """Pass once over the reviews."""
    begun = time.perf_counter()
    logits = way.logits(texts)
    return Pass(time.perf_counter() - begun, logits, peak_resident())


def _size(batch: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return a batch's reviews, padded length and word pieces."""
    reviews, length = batch["input_ids"].shape
    return reviews, length, int(batch["attention_mask"].sum())


def _batches(classifier: Classifier, texts: Sequence[Text]) -> Iterator[Mapping[str, Any]]:
    """Yield the batches that a classifier makes."""
    for window in windows(texts):
        yield from classifier.batches(window)


def _tokenizer(folder: Path) -> Any:
    """Return `transformers`' own tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)

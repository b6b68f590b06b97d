"""The inference backends that are compared, and the worker processes that benchmarks give them.

Each backend imports its libraries when it is loaded, so that its memory is that of its own libraries. In one process
PyTorch and ONNX Runtime slow each other, because the threads of one spin while the other works (onnxruntime#13808).
"""

import multiprocessing
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from recipe.files.text_rows import Text
from recipe.machine import silence_libraries, usable_cores
from recipe.run_folder import VARIANT_FILES

# A usual size for `transformers`, and near that of its Trainer's evaluation.
PYTORCH_BATCH = 16
# Instructions that decide how fast matrices are multiplied, as Linux names them.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")

# Returns the logits of reviews, float32 (reviews, classes), in the order given.
Backend = Callable[[Sequence[Text]], np.ndarray]
# Runs in a worker process, and returns what answers its requests.
Prepare = Callable[..., Callable[[Any], Any]]


@dataclass(frozen=True)
class Pass:
    """One pass of a backend over the reviews.

    Attributes:
        seconds: From texts to logits, all reviews.
        alone: Seconds of each review that was given by itself.
        logits: float32 (reviews, classes), in the reviews' order.
        peak: The most bytes that the process has held resident so far.
    """

    seconds: float
    alone: list[float]
    logits: np.ndarray
    peak: int


def load_original(run: Path, plain: Path) -> Backend:
    """Return the original's `onnx_infer`: a default session, one review at a time, padded to the trained length."""
    from onnxruntime import InferenceSession

    tokenizer = _load_tokenizer(plain)
    session = InferenceSession(plain / VARIANT_FILES["fp32"], providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]

    def logits(texts: Sequence[Text]) -> np.ndarray:
        rows = []
        for text in texts:
            encoded = tokenizer([text], padding="max_length", truncation=True, return_tensors="np")
            rows += session.run(["logits"], {name: encoded[name] for name in inputs})
        return np.concatenate(rows)

    return logits


def load_pytorch(run: Path, plain: Path) -> Backend:
    """Return the unmodified class in PyTorch, in batches as the reviews come, padded to their longest."""
    import torch

    tokenizer, model = _load_tokenizer(run), load_unmodified(run)

    @torch.inference_mode()
    def logits(texts: Sequence[Text]) -> np.ndarray:
        batches = (list(texts[start : start + PYTORCH_BATCH]) for start in range(0, len(texts), PYTORCH_BATCH))
        encoded = (tokenizer(batch, padding=True, truncation=True, return_tensors="pt") for batch in batches)
        return np.concatenate([model(**batch).logits.numpy() for batch in encoded])

    return logits


def load_pipeline(run: Path, plain: Path) -> Backend:
    """Return `transformers`' `pipeline` over Optimum's ONNX model, one review at a time, as Optimum documents it."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import pipeline

    model = ORTModelForSequenceClassification.from_pretrained(plain, local_files_only=True)
    classify = pipeline("text-classification", model=model, tokenizer=_load_tokenizer(plain))
    names = [model.config.id2label[label] for label in range(len(model.config.id2label))]

    def logits(texts: Sequence[Text]) -> np.ndarray:
        rows = []
        for text in texts:
            given = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
            answers = classify(given, truncation=True, top_k=None, function_to_apply="none")
            scores = {answer["label"]: answer["score"] for answer in answers}
            rows.append([scores[name] for name in names])
        return np.array(rows, dtype=np.float32)

    return logits


def load_ours(variant: str, run: Path, plain: Path) -> Backend:
    """Return `OnnxClassifier` with a certified variant, opened as a user opens it."""
    from recipe.inference.onnx import OnnxClassifier

    return OnnxClassifier.from_run(run, variant).logits


ORIGINAL, PYTORCH = "original recipe", "PyTorch, batches of 16"
# Each loader takes the run's folder, and a folder with the unmodified class as ONNX.
BACKENDS: dict[str, Callable[[Path, Path], Backend]] = {
    ORIGINAL: load_original,
    PYTORCH: load_pytorch,
    "Optimum's pipeline": load_pipeline,
    "ours, fp32": partial(load_ours, "fp32"),
    "ours, int8": partial(load_ours, "int8"),
}


def prepare_backend(
    name: str, run: Path, plain: Path, samples: Mapping[str, Sequence[Text]]
) -> Callable[[tuple[str, Sequence[int]]], Pass]:
    """Load a backend, and return a function that passes over a named sample, then over some of its rows one by one."""
    # So that no library asks the Hub for a newer file.
    os.environ["HF_HUB_OFFLINE"] = "1"
    backend = BACKENDS[name](run, plain)

    def timed(texts: Sequence[Text]) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        logits = backend(texts)
        return time.perf_counter() - start, logits

    def answer(request: tuple[str, Sequence[int]]) -> Pass:
        texts, rows = samples[request[0]], request[1]
        seconds, logits = timed(texts)
        return Pass(seconds, [timed([texts[row]])[0] for row in rows], logits, peak_resident())

    return answer


def load_unmodified(folder: Path) -> Any:
    """Return a run's model as `transformers` has it, with the last layer computed for every position."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    ).eval()


def _load_tokenizer(folder: Path) -> Any:
    """Return `transformers`' own tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def start_workers(
    prepare: Prepare, arguments: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, Callable[[Any], Any]]]:
    """Start a process for each name, and yield, by name, a function that sends a request and returns the answer.

    Args:
        prepare: Called in each process; the function that it returns answers the requests.
        arguments: Of `prepare`, by name.

    Raises:
        UsageError: A process found a mistake in what was asked.
    """
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in arguments}
        for prepared in [pools[name].submit(_prepare_worker, prepare, args) for name, args in arguments.items()]:
            prepared.result()
        yield {name: partial(_ask, pool) for name, pool in pools.items()}


def _ask(pool: ProcessPoolExecutor, request: Any) -> Any:
    """Return a worker's answer."""
    return pool.submit(_answer, request).result()


# In a worker: the function that `prepare` returned.
_prepared: dict[str, Callable[[Any], Any]] = {}


def _prepare_worker(prepare: Prepare, args: Sequence[Any]) -> None:
    """Prepare this process, quietly, for requests."""
    silence_libraries()
    # Ctrl-C ends the process without a traceback; the main process says what happened.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prepared["answer"] = prepare(*args)


def _answer(request: Any) -> Any:
    """Answer a request in the worker."""
    return _prepared["answer"](request)


def peak_resident() -> int:
    """Return the most bytes that this process has held resident."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Not `ru_maxrss`, where Linux has it: that begins with the memory of the process that started this one.
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def median_ratio(original: Sequence[float], seconds: Sequence[float]) -> float:
    """Return how many times as fast as the original a backend is: the median over rounds."""
    return round(median(first / own for first, own in zip(original, seconds, strict=True)), 2)


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the usable cores, the CPU's model, and which of `CPU_FLAGS` it has."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    named = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "instructions unknown"
    return f"{usable_cores()} CPU cores, {model} ({named})"

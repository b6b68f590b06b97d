"""The inference backends that are compared, and the processes that benchmarks give to each of their ways.

Each backend imports its libraries when it is loaded, so that its memory is that of its own libraries. In one process
PyTorch and ONNX Runtime slow each other, because the threads of one spin while the other works (onnxruntime#13808).
"""

import logging
import multiprocessing
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from recipe.files.text_rows import Text
from recipe.machine import silence_libraries, usable_cores
from recipe.run_folder import VARIANT_FILES

# A usual size for `transformers`, and near that of its Trainer's evaluation.
PYTORCH_BATCH = 16
# Instructions that decide how fast matrices are multiplied, as Linux names them.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")

# Returns the logits of reviews, float32 (reviews, classes), in the order given.
Backend = Callable[[Sequence[Text]], np.ndarray]


class Pass(NamedTuple):
    """Seconds of all reviews and of each given alone, logits as a `Backend` returns them, and peak memory in bytes."""

    seconds: float
    alone: list[float]
    logits: np.ndarray
    peak: int


def load_original(run: Path, plain: Path) -> Backend:
    """Return the original's `onnx_infer`: a default session, one review at a time, padded to the trained length."""
    from onnxruntime import InferenceSession
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plain, local_files_only=True)
    session = InferenceSession(plain / VARIANT_FILES["fp32"], providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]

    def logits(texts: Sequence[Text]) -> np.ndarray:
        encoded = (tokenizer([text], padding="max_length", truncation=True, return_tensors="np") for text in texts)
        return np.concatenate([session.run(["logits"], {name: row[name] for name in inputs})[0] for row in encoded])

    return logits


def load_pytorch(run: Path, plain: Path) -> Backend:
    """Return the unmodified class in PyTorch, in batches as the reviews come, padded to their longest."""
    import torch
    from transformers import AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(run, local_files_only=True), load_unmodified(run)

    @torch.inference_mode()
    def logits(texts: Sequence[Text]) -> np.ndarray:
        batches = (list(texts[start : start + PYTORCH_BATCH]) for start in range(0, len(texts), PYTORCH_BATCH))
        encoded = (tokenizer(batch, padding=True, truncation=True, return_tensors="pt") for batch in batches)
        return np.concatenate([model(**batch).logits.numpy() for batch in encoded])

    return logits


def load_unmodified(folder: Path) -> Any:
    """Return a run's model as `transformers` has it, with the last layer computed for every position."""
    from transformers import AutoModelForSequenceClassification as Unmodified

    return Unmodified.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()


def load_pipeline(run: Path, plain: Path) -> Backend:
    """Return `transformers`' `pipeline` over Optimum's ONNX model, one review at a time, as Optimum documents it."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    model = ORTModelForSequenceClassification.from_pretrained(plain, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(plain, local_files_only=True)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
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


def load_dynamic(run: Path, plain: Path) -> Backend:
    """Return ONNX Runtime's dynamic int8 of the unmodified class in our engine: ranges are found in each batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from recipe.inference.onnx import OnnxClassifier

    # It advises to optimise the graph first, which the session does.
    logging.disable(logging.WARNING)
    files = plain / VARIANT_FILES["fp32"], plain / VARIANT_FILES["int8"]
    quantize_dynamic(*files, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    return OnnxClassifier(plain, "int8").logits


def load_ours(variant: str, run: Path, plain: Path) -> Backend:
    """Return `OnnxClassifier` with a certified variant, opened as a user opens it."""
    from recipe.inference.onnx import OnnxClassifier

    return OnnxClassifier.from_run(run, variant).logits


PYTORCH = f"PyTorch, batches of {PYTORCH_BATCH}"
# Each loader takes the run's folder, and a folder with the unmodified class as ONNX.
BACKENDS: dict[str, Callable[[Path, Path], Backend]] = {
    "original recipe": load_original,
    PYTORCH: load_pytorch,
    "Optimum's pipeline": load_pipeline,
    "dynamic int8": load_dynamic,
    "ours, fp32": partial(load_ours, "fp32"),
    "ours, int8": partial(load_ours, "int8"),
}


def pass_over(name: str, run: Path, plain: Path, texts: Sequence[Text], alone: Sequence[Text]) -> Pass:
    """Let a backend, which this process keeps, answer `texts` together, then `alone` one by one."""
    backend = _load(name, run, plain)
    start = time.perf_counter()
    logits = backend(texts)
    ends = [time.perf_counter()]
    for text in alone:
        backend([text])
        ends.append(time.perf_counter())
    return Pass(ends[0] - start, np.diff(ends).tolist(), logits, peak_resident())


@cache
def _load(name: str, run: Path, plain: Path) -> Backend:
    # So that no library asks the Hub for a newer file.
    os.environ["HF_HUB_OFFLINE"] = "1"
    return BACKENDS[name](run, plain)


def take_turns(ways: Iterable[str], pass_over: Callable[..., Any], requests: Iterable[Sequence[Any]]) -> list[Any]:
    """Let each way answer each request, in turn, in a process of its own that stays.

    Returns:
        For each request, by way, what `pass_over(way, *request)` returned.

    Raises:
        UsageError: `pass_over` did, because of a mistake in what was asked.
    """
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        processes = {way: stack.enter_context(ProcessPoolExecutor(1, context, _be_quiet)) for way in ways}
        return [
            {way: process.submit(pass_over, way, *request).result() for way, process in processes.items()}
            for request in tqdm(requests, unit=" rounds", disable=None)
        ]


def _be_quiet() -> None:
    silence_libraries()
    # Ctrl-C ends the process without a traceback; the main process says what happened.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def peak_resident() -> int:
    """Return the most bytes that this process has held resident."""
    if not (status := Path("/proc/self/status")).is_file():
        # macOS counts bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not `ru_maxrss`, where Linux has it: that begins with the memory of the process that started this one.
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def compare_speed(turns: Sequence[Mapping[str, Any]], way: str, reviews: int) -> dict[str, float]:
    """Return a way's median speed, and the median over rounds of its ratio to the first way, from all ways' passes."""
    seconds = [turn[way].seconds for turn in turns]
    ratios = [next(iter(turn.values())).seconds / turn[way].seconds for turn in turns]
    return {"reviews_per_second": round(reviews / median(seconds), 1), "ratio": round(median(ratios), 2)}


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the usable cores, the CPU's model, and which of `CPU_FLAGS` it has."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    named = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "instructions unknown"
    return f"{usable_cores()} CPU cores, {model} ({named})"

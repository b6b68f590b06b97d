"""Labels and probabilities for reviews, from an exported model in ONNX Runtime.

Imports only NumPy, tokenizers, onnxruntime, tqdm and PyYAML, so that a small service answers within a second of its
start.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import (
    InferenceSession,
    SessionOptions,
    disable_telemetry_events,
    get_available_providers,
    preload_dlls,
    set_default_logger_severity,
)

from recipe.errors import UsageError
from recipe.files.atomic import read_json
from recipe.inference.classifier import Classifier, loading_errors_as_usage_error
from recipe.inference.decision import Decision
from recipe.machine import usable_cores
from recipe.run_folder import VARIANT_FILES, RunFolder, VariantCertificate

# It is off from the start, unless onnxruntime was imported before `recipe`.
disable_telemetry_events()
# Errors alone: with a GPU it would warn at every session of what it computes on the CPU.
LOGGED = 3
set_default_logger_severity(LOGGED)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxClassifier(Classifier):
    """Runs an exported model in ONNX Runtime.

    One thread for each core runs a session that has a single thread: on two cores, a quarter to a half faster than one
    session with two threads.

    Attributes:
        variant, provider: `fp32`, `int8` or `fp16`, on `cpu` or `cuda`.
        certified: Its certificate, where `from_run` has loaded it.
    """

    # Of 256, 384, 512, 768 and 1,024 about the fastest on one core, in fp32 and int8, with long reviews and short ones.
    batch_tokens = 512
    certified: VariantCertificate

    def __init__(self, folder: Path, variant: str = "fp32", provider: str = "cpu", threads: int | None = None) -> None:
        """Load a variant and its tokenizer from a folder that `export` wrote.

        Args:
            provider: `cpu` or `cuda`.
            threads: Batches to compute at a time; `None` is one for each core that this process may use.

        Raises:
            UsageError: ONNX Runtime does not have the provider.
        """
        super().__init__(folder, threads or usable_cores())
        self.variant, self.provider = variant, provider
        self.file = (folder / VARIANT_FILES[variant]).resolve()
        self.session = open_session(self.file, provider)
        self.inputs = [given.name for given in self.session.get_inputs()]
        if provider == "cuda":
            # Not measured: a GPU is idle on a few reviews.
            self.batch_tokens = 8192

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be pickled; the session is opened again from the same file."""
        return {name: value for name, value in super().__getstate__().items() if name != "session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the session in the process that unpickles."""
        vars(self).update(state)
        self.session = open_session(self.file, self.provider)

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        variant: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        raw: bool = False,
    ) -> "OnnxClassifier":
        """Return the classifier of a run that was exported.

        Args:
            run: The run's folder.
            variant: A certified variant; `None` is the fastest that this machine can run.
            provider: `cpu` or `cuda`; `None` is the one that the variant was certified on. Only fp32 runs on another.
            threads: As for the class.
            raw: Whether to ignore the decision that an evaluation has fitted.

        Raises:
            UsageError: There is no such run or variant, or what was exported is damaged or cannot be run here.
        """
        folder = RunFolder(run)
        if provider not in (None, *PROVIDERS):
            raise UsageError(f"provider {provider!r} is not one of {', '.join(PROVIDERS)}")
        name, certified = folder.choose_variant(variant, [provider] if provider else installed_providers())
        if provider not in (None, certified.provider) and name != "fp32":
            # A GPU has none of int8's operators and a CPU few of fp16's; ONNX Runtime would silently run others.
            raise UsageError(f"{name} was certified on {certified.provider}, not on {provider}: leave out --provider")
        with loading_errors_as_usage_error(folder.onnx):
            classifier = cls(folder.onnx, name, provider or certified.provider, threads)
            classifier.certified = certified
            if not raw and folder.decision.is_file():
                classifier.decision = read_decision(folder.decision, len(classifier.label_names))
        return classifier

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        (logits,) = self.session.run(["logits"], {name: batch[name] for name in self.inputs})
        return np.asarray(logits, dtype=np.float32)


def read_decision(file: Path, classes: int) -> Decision:
    """Return the decision of a run's last evaluation.

    Raises:
        UsageError: The file is damaged, of an earlier version, or for another number of classes; names the file.
    """
    try:
        decision = Decision.from_json(read_json(file), "it")
        decision.require_classes(classes)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{file}: {error}; evaluate the run again") from error
    return decision


def session_options() -> SessionOptions:
    """Return the session options of an exported model: one thread, and the graph optimisations that pay."""
    options = SessionOptions()
    # ONNX Runtime would count the host's cores, not those this process may use (onnxruntime#8313).
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = LOGGED
    # Measured on int8 models: with this fusion they run at seven eighths of the speed.
    options.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
    return options


def open_session(file: Path, provider: str) -> InferenceSession:
    """Return a session of an ONNX file on `cpu` or `cuda`.

    Raises:
        UsageError: ONNX Runtime does not have the provider; it would take the CPU without an error (onnxruntime#23372).
    """
    wanted, found = PROVIDERS[provider], []
    # Each process started by a launcher has its own GPU.
    settings = {"device_id": int(os.environ.get("LOCAL_RANK", "0"))} if provider == "cuda" else {}
    # ONNX Runtime would print a warning for a provider that it was not built with.
    if provider in installed_providers():
        if provider == "cuda":
            # CUDA's libraries may lie in packages of their own, and be loaded by nobody where there is no torch.
            preload_dlls()
        session = InferenceSession(file, session_options(), providers=[(wanted, settings)])
        found = session.get_providers()
    if wanted not in found:
        what_to_do = "install onnxruntime-gpu, or choose another variant or provider"
        raise UsageError(f"ONNX Runtime has no {wanted} that works here: {what_to_do}")
    return session


def installed_providers() -> list[str]:
    """Return which of `cpu` and `cuda` ONNX Runtime was built with."""
    return [name for name, provider in PROVIDERS.items() if provider in get_available_providers()]

"""Labels and probabilities for reviews, from an exported model in ONNX Runtime.

Light on purpose: of the large libraries it needs NumPy, tokenizers and onnxruntime alone (tqdm and PyYAML beside them),
so that a small service that imports it answers within a second of its start.
"""

import os
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions, get_available_providers

from recipe.errors import UsageError
from recipe.inference.classifier import Classifier, damage_named, read_json
from recipe.inference.decision import Decision
from recipe.machine import usable_cores
from recipe.run_folder import VARIANT_FILES, RunFolder, Variant

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxClassifier(Classifier):
    """Runs an exported model in ONNX Runtime.

    One session with one thread of its own is run by a thread for each core: on two cores, a quarter to a half faster
    than one session with two threads.

    Attributes:
        certified: The certified variant that `from_run` has loaded.
    """

    # Of 2, 4, 8 and 16 the fastest on two cores, in fp32 and int8.
    batch_size = 4
    certified: Variant

    def __init__(self, folder: Path, variant: str = "fp32", provider: str = "cpu", threads: int | None = None) -> None:
        """Load a variant and its tokenizer from a folder that `export` wrote.

        Args:
            folder: The exported one.
            variant: `fp32`, `int8` or `fp16`.
            provider: `cpu` or `cuda`.
            threads: Batches that are computed at a time; `None` is one for each core that this process may use.

        Raises:
            UsageError: ONNX Runtime does not have the provider.
        """
        super().__init__(folder, threads or usable_cores())
        self.session = open_session(folder / VARIANT_FILES[variant], provider)
        self.inputs = [given.name for given in self.session.get_inputs()]
        if provider == "cuda":
            # Not measured: a GPU is idle on a few reviews.
            self.batch_size = 64

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
            variant: One that has its certificate; `None` is the fastest of those that this machine can run.
            provider: `cpu` or `cuda`; `None` is the one that the variant was certified on. Only fp32 runs on another.
            threads: As of the class.
            raw: Whether to leave out the temperature, the threshold and the doubt that an evaluation has chosen.

        Raises:
            UsageError: There is no such run or variant, or what was exported is damaged or cannot be run here.
        """
        folder = RunFolder(run)
        if provider not in (None, *PROVIDERS):
            raise UsageError(f"provider {provider!r} is not one of {', '.join(PROVIDERS)}")
        chosen = folder.choose_variant(variant, [provider] if provider else installed_providers())
        if provider not in (None, chosen.provider) and chosen.name != "fp32":
            # Of the operators of int8 a GPU has none, and of fp16 the CPU has few: others would run, without a word.
            where = f"{chosen.provider}, not on {provider}"
            raise UsageError(f"{chosen.name} was certified on {where}: leave out --provider")
        with damage_named(folder.onnx):
            classifier = cls(folder.onnx, chosen.name, provider or chosen.provider, threads)
            classifier.certified = chosen
            if not raw and folder.decision.is_file():
                classifier.decision = Decision.from_dict(read_json(folder.decision))
        return classifier

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Run the batch in ONNX Runtime."""
        (logits,) = self.session.run(["logits"], {name: batch[name] for name in self.inputs})
        return np.asarray(logits, dtype=np.float32)


def session_options() -> SessionOptions:
    """Return how an exported model is run: by one thread, with the graph optimisations that pay."""
    options = SessionOptions()
    # ONNX Runtime would count the host's cores, not those this process may use (onnxruntime#8313).
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Measured on int8 models: with this fusion they run at seven eighths of the speed.
    options.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
    return options


def open_session(file: Path, provider: str) -> InferenceSession:
    """Return a session of an ONNX file on `cpu` or `cuda`.

    Raises:
        UsageError: ONNX Runtime does not have the provider; it would take the CPU without an error (onnxruntime#23372).
    """
    wanted, found = PROVIDERS[provider], []
    # Each process that a launcher started has a GPU of its own.
    settings = {"device_id": int(os.environ.get("LOCAL_RANK", "0"))} if provider == "cuda" else {}
    # Of one that it was not built with ONNX Runtime would warn in a line of its own.
    if provider in installed_providers():
        session = InferenceSession(file, session_options(), providers=[(wanted, settings)])
        found = session.get_providers()
    if wanted not in found:
        what_to_do = "install onnxruntime-gpu, or choose another variant or provider"
        raise UsageError(f"ONNX Runtime has no {wanted} that works here: {what_to_do}")
    return session


def installed_providers() -> list[str]:
    """Return which of `cpu` and `cuda` ONNX Runtime was built with."""
    return [name for name, provider in PROVIDERS.items() if provider in get_available_providers()]

"""The content of `onnx/certificate.json`: measurements of the exported variants."""

from dataclasses import dataclass
from typing import Any

from recipe.run_folder.document import Document


@dataclass(frozen=True)
class Difference:
    """Absolute differences between two models' outputs for the same reviews."""

    largest: float
    mean: float


@dataclass(frozen=True)
class AloneCheck:
    """What changes when each review is computed by itself and not in a batch.

    Attributes:
        largest_drift: Largest difference of a logit.
        labels_flipped: Labels that change.
    """

    largest_drift: float
    labels_flipped: int


@dataclass(frozen=True)
class EngineCheck:
    """`OnnxClassifier` against Optimum on the same file.

    Attributes:
        largest_difference: Largest difference of a logit.
    """

    largest_difference: float


@dataclass(frozen=True)
class VariantCertificate:
    """Measurements of one exported variant against PyTorch on validation reviews.

    Attributes:
        file, sha256, bytes: The ONNX file.
        provider: Where it was measured, `cpu` or `cuda`.
        opset, nodes, quantized_nodes: Of its graph.
        finite: Whether all logits are numbers.
        logit_difference, probability_difference: To PyTorch's.
        labels_flipped: How many labels differ from PyTorch's.
        flipped: Those reviews, each with the true label and both models' labels and probabilities.
        f1: On these reviews.
        f1_drop, f1_drop_interval: PyTorch's F1 minus this one, and the two ends of its 95 % interval.
        alone: What batching changes.
        onnx_classifier: What the engine changes.
        reviews_per_second: Median of passes that take turns with the other variants; it ranks them only.
        objection: Why the variant is over its budget; `None` if it is not.
    """

    file: str
    provider: str
    sha256: str
    bytes: int
    opset: int
    nodes: int
    quantized_nodes: int
    finite: bool
    logit_difference: Difference
    probability_difference: Difference
    labels_flipped: int
    flipped: list[dict[str, Any]]
    f1: float
    f1_drop: float
    f1_drop_interval: list[float]
    alone: AloneCheck
    onnx_classifier: EngineCheck
    reviews_per_second: float
    objection: str | None = None


@dataclass(frozen=True)
class Budget:
    """Limits that a variant must keep.

    Attributes:
        fp32_logit_difference: Largest difference of an fp32 logit.
        f1_drop: Upper end of the interval of F1 lost by int8 or fp16.
    """

    fp32_logit_difference: float
    f1_drop: float


@dataclass(frozen=True)
class Certificate(Document):
    """Measurements of an export, and the verdict on each variant.

    Attributes:
        command, versions: How it was made.
        target: The kind of CPU that int8 was made for: `vnni`, `avx2` or `arm`.
        reviews: Number of validation reviews.
        f1_of_pytorch: On these.
        budget: What a variant may cost.
        variants: Those within their budget, by name.
        refused: The others.
    """

    command: str
    versions: dict[str, str]
    target: str
    reviews: int
    f1_of_pytorch: float
    budget: Budget
    variants: dict[str, VariantCertificate]
    refused: dict[str, VariantCertificate]

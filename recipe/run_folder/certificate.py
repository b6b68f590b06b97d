"""The content of `onnx/certificate.json`: measurements of the exported variants."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from recipe.machine import this_cpu
from recipe.run_folder.document import Document


@dataclass(frozen=True)
class Difference:
    """Absolute differences between two models' outputs for the same reviews."""

    largest: float
    mean: float


@dataclass(frozen=True)
class AloneCheck:
    """The largest change of a logit, and how many labels change, when each review is computed by itself."""

    largest_drift: float
    labels_flipped: int


@dataclass(frozen=True)
class EngineCheck:
    """The largest difference of a logit between `OnnxClassifier` and Optimum on the same file."""

    largest_difference: float


@dataclass(frozen=True)
class VariantCertificate:
    """Measurements of one exported variant against PyTorch on validation reviews.

    Attributes:
        provider: Where it was measured, `cpu` or `cuda`.
        finite: Whether all logits are numbers.
        flipped: The reviews whose label changes, each with the true label and both models' labels and probabilities.
        f1_drop, f1_drop_interval: PyTorch's F1 minus this one, and the two ends of its 95 % interval.
        reviews_per_second: Median of passes that take turns with the other variants; it ranks them only.
        quantized_share: Share of the multiplications by weights that are 8-bit.
        verdict: `worse` than its budget allows, or `undecided` because the reviews were too few to tell.
        objection: What is said of a variant that is not certified, after its name.
        reviews_needed: How many validation reviews would probably decide; `None` for more than a million, or where the
            verdict is not `undecided`.
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
    quantized_share: float = 0.0
    verdict: Literal["certified", "worse", "undecided"] = "certified"
    objection: str | None = None
    reviews_needed: int | None = None


@dataclass(frozen=True)
class Budget:
    """Upper bounds of an fp32 logit's difference, and of the interval of the F1 that int8 or fp16 loses."""

    fp32_logit_difference: float
    f1_drop: float


@dataclass(frozen=True)
class Certificate(Document):
    """Measurements of an export, and the verdict on each variant.

    Attributes:
        target: The kind of CPU that int8 was made for: `vnni`, `avx2` or `arm`.
        reviews: Number of validation reviews.
        variants, refused: Those that are certified, and the others, by name.
        notes: What else a reader should know of this architecture, a sentence each.
    """

    command: str
    versions: dict[str, str]
    target: str
    reviews: int
    f1_of_pytorch: float
    budget: Budget
    variants: dict[str, VariantCertificate]
    refused: dict[str, VariantCertificate]
    notes: list[str] = field(default_factory=list)

    def runnable(self, providers: Collection[str]) -> dict[str, VariantCertificate]:
        """Return the variants that give the certified answers on this machine, by name.

        Args:
            providers: Those that ONNX Runtime has here: `cpu`, `cuda`.
        """
        found = {name: one for name, one in self.variants.items() if one.provider in providers}
        if this_cpu() == "avx2" != self.target:
            # It adds pairs of products in 16 bits, which a file for another CPU overflows without an error.
            found.pop("int8", None)
        return found

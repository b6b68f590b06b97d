"""The content of `report.json`."""

from dataclasses import asdict, dataclass
from typing import Any

from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.thresholds import Thresholds
from recipe.inference.decision import Decision
from recipe.metrics.calibration import Calibration
from recipe.metrics.intervals import Intervals
from recipe.metrics.scores import Figures
from recipe.metrics.significance import McNemar
from recipe.run_folder.document import Document

# Keys that report.json leaves out where there is no value; any other key is then null.
LEFT_OUT = {"roc_auc", "average_precision", "bytes", "f1", "f1_interval", "chosen", "abstain", "measured"}


@dataclass(frozen=True)
class Latency:
    """Median and 95th percentile of the milliseconds that one review alone takes."""

    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Speed of all test reviews in batches, of one review alone, and the size of the model's file if it has one."""

    reviews_per_second: float
    latency_ms: Latency
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class VariantFigures(Costs, Figures):
    """Everything measured of one model, and how many of its labels differ from PyTorch's."""

    labels_changed: int


@dataclass(frozen=True)
class Measured:
    """Test rows that are not the run's own: their files, each with its sha256, and how many training has seen."""

    files: list[dict[str, str]]
    seen: int


@dataclass(frozen=True)
class Report(Document):
    """The evaluation of a run on its test rows.

    Attributes:
        run: Name of the run's config.
        served: The fastest variant; calibration, thresholds and slices are reported for it.
        decision: Temperature, threshold and abstain bound, chosen on validation rows.
        variants: `pytorch`, the exported variants and `tfidf`. Figures of the most probable labels, without a decision.
        intervals: Of F1 and accuracy, and of their differences.
        mcnemar: A test of each exported variant against PyTorch, and of PyTorch against `tfidf`.
        calibration, thresholds: What the decision changes.
        measured: Where the test rows come from, if they are not the run's own.
    """

    run: str
    versions: dict[str, str]
    labels: list[str]
    served: str
    decision: Decision
    variants: dict[str, VariantFigures]
    intervals: Intervals
    mcnemar: list[McNemar]
    calibration: Calibration
    thresholds: Thresholds
    slices: list[SliceFigures]
    measured: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return asdict(self, dict_factory=lambda pairs: {k: v for k, v in pairs if not (v is None and k in LEFT_OUT)})

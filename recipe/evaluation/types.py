"""The content of `report.json`."""

from dataclasses import dataclass

from recipe.evaluation.slices import SliceFigures
from recipe.evaluation.thresholds import Asked, ServedFigures
from recipe.inference.decision import Decision
from recipe.metrics.calibration import Calibration
from recipe.metrics.intervals import Intervals
from recipe.metrics.scores import Figures, OfLabel, Ordinal
from recipe.metrics.significance import McNemar
from recipe.run_folder.document import Document


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
    """Everything measured of one model, whose answers are its most probable labels.

    Attributes:
        labels_changed: How many of them differ from PyTorch's.
        labels_not_served: How many of them differ from the answers that are served.
    """

    labels_changed: int
    labels_not_served: int


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
        served: The fastest variant. It gives the answers that are served, and the calibration is its own.
        decision: What turns its logits into answers, chosen on validation rows.
        asked: What was wished of the decision, and what came of it.
        answers: Figures of the served answers.
        by_label: Figures of the served answers for each label.
        ordinal: How far off the served answers are, where the labels are numbers in order.
        variants: `pytorch`, the exported variants and `tfidf`. Figures of the most probable labels, without a decision.
        intervals: Of the variants' F1 and accuracy, and of their differences.
        mcnemar: A test of each exported variant against PyTorch, and of PyTorch against `tfidf`.
        calibration: What the temperature changes.
        slices: Figures of the served answers.
        notes: What a reader should know besides, a sentence each.
        measured: Where the test rows come from, if they are not the run's own.
        test_sha256: Of the test rows' texts and labels; `None` in a report of an older version.
        seeds: How much of a difference a seed alone makes, in words; empty in a report of an older version.
    """

    run: str
    versions: dict[str, str]
    labels: list[str]
    served: str
    decision: Decision
    asked: list[Asked]
    answers: ServedFigures
    by_label: list[OfLabel]
    ordinal: Ordinal | None
    variants: dict[str, VariantFigures]
    intervals: Intervals
    mcnemar: list[McNemar]
    calibration: Calibration
    slices: list[SliceFigures]
    notes: list[str]
    measured: Measured | None = None
    test_sha256: str | None = None
    seeds: str = ""

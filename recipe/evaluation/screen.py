"""A report on the screen."""

from recipe.evaluation.sentences import (
    describe_differences,
    describe_ordinal,
    describe_served,
    named_shares,
)
from recipe.evaluation.types import Report
from recipe.files.parts import joined_name
from recipe.text_table import columns, span

# Labels whose confusion counts fit side by side, and labels that are shown at all.
MOST_COUNTED, MOST_SHOWN = 6, 12
LONGEST_NAME = 16


def summary(report: Report, slice_by: str | None = None) -> str:
    """Return what is served and its figures, the figures for each label, the variants beside each other, and notes.

    Args:
        slice_by: A slice of the report, to show its figures too.
    """
    blocks = [_answers(report), _labels(report), _slices(report, slice_by), _variants(report), _notes(report)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _answers(report: Report) -> list[str]:
    where = "held-out test reviews"
    if report.measured:
        where = f"reviews of {joined_name([part['file'] for part in report.measured.files])}"
    rows = [["", "", "95 % interval"]]
    for name, share in named_shares(report):
        rows.append([name, f"{share.value:.4f}", span(share.interval)])
    asked = [f"{wish.wish}: {wish.sentence}" for wish in report.asked]
    head = f"Served: {describe_served(report)}. {report.answers.reviews:,} {where}:"
    return [head, *columns(rows), *asked]


def _labels(report: Report) -> list[str]:
    """Return a line for each label, with the answers that its rows get where there are few labels."""
    names, shown = [_short(name) for name in report.labels], list(range(len(report.labels)))
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names)]
    counted = names if len(names) <= MOST_COUNTED else []
    rows = [["true label", *(f"as {name}" for name in counted), "precision", "recall", "F1", "rows"]]
    notes = [sentence] if (sentence := describe_ordinal(report)) else []
    if len(names) > MOST_SHOWN:
        shown = sorted(shown, key=lambda label: report.by_label[label].f1 or 0)[:MOST_SHOWN]
        notes.insert(0, f"These are the {MOST_SHOWN} labels of lowest F1; the card has all {len(names)}.")
    for label in shown:
        found, counts = report.by_label[label], report.answers.confusion[label][: len(counted)]
        shares = ["–" if value is None else f"{value:.4f}" for value in (found.precision, found.recall, found.f1)]
        rows.append([names[label], *(f"{count:,}" for count in counts), *shares, f"{found.rows:,}"])
    return [*columns(rows), *notes]


def _slices(report: Report, name: str | None) -> list[str]:
    rows = [[_short(name or ""), "rows", "F1", "95 % interval"]]
    for found in report.slices:
        if found.slice == name:
            f1 = "–" if found.f1 is None else f"{found.f1:.4f}"
            ends = span(found.f1_interval) if found.f1_interval else "–"
            rows.append([_short(found.value), f"{found.rows:,}", f1, ends])
    return columns(rows) if len(rows) > 1 else []


def _variants(report: Report) -> list[str]:
    rows = [
        ["most probable label", "F1", "95 % interval", "accuracy", "ROC AUC", "ECE", "reviews/s", "p50 ms", "changed"]
    ]
    for name, found in report.variants.items():
        roc_auc = "–" if found.roc_auc is None else f"{found.roc_auc:.4f}"
        ends = span(report.intervals.variants[name].f1)
        figures = [f"{found.f1:.4f}", ends, f"{found.accuracy:.4f}", roc_auc, f"{found.calibration_error:.4f}"]
        costs = [f"{found.reviews_per_second:,.1f}", f"{found.latency_ms.p50:.1f}", f"{found.labels_changed:,}"]
        rows.append([name, *figures, *costs])
    sentences = [sentence.replace("**", "") for sentence in describe_differences(report)]
    seeds = [f"None of this covers the choice of the train rows or the seed. {report.seeds}"] if report.seeds else []
    return [*columns(rows), "changed: labels that differ from PyTorch's.", *sentences, *seeds]


def _notes(report: Report) -> list[str]:
    return [f"Note: {note}" for note in report.notes]


def _short(name: str) -> str:
    """Return a name that leaves room for the figures."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 6]}…{name[-5:]}"

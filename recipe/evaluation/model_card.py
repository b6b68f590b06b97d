"""A run's README: a Hugging Face model card with its figures, what of them is more than noise, and how to load it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from recipe.files.atomic import write_whole
from recipe.run_folder import VARIANT_FILES, RunRecord

# The Hub's names of the metrics that its front matter shows.
HUB_METRICS = {
    "f1": "f1",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "matthews": "matthews_correlation",
}
TITLES = {
    "f1": "F1",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "matthews": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "brier": "Brier score",
}
BASELINE = "tfidf"
# A difference that only chance made is taken for one this rarely, in all of a report's comparisons together.
SIGNIFICANCE = 0.05


def write_card(path: Path, report: Mapping[str, Any], record: RunRecord, pictures: Mapping[str, str]) -> None:
    """Write the model card to `path`, whole or not at all.

    Args:
        path: `<run>/README.md`.
        report: As `make_card` takes it.
        record: The run's `run.json`.
        pictures: As `make_card` takes them.
    """
    write_whole(path, str(make_card(path.parent, report, record, pictures)))


def make_card(run: Path, report: Mapping[str, Any], record: RunRecord, pictures: Mapping[str, str]) -> ModelCard:
    """Return the model card of a run.

    Args:
        run: Its folder.
        report: Its `report.json`: `labels`; `served`, the variant whose logits the run's decision turns into answers;
            `variants`, each with the figures of `recipe.metrics.scores.score`, `reviews_per_second` and, where they were
            measured, `latency_ms` (`p50` and `p95`), `bytes` and `labels_changed`; `intervals`, of
            `recipe.metrics.intervals.describe_intervals`; `mcnemar`, a list of `first`, `second`, `only_first_right`,
            `only_second_right` and `p_value`, of the same pairs; and, of the served variant, `calibration`, of
            `recipe.metrics.calibration.describe_calibration`, `thresholds`, of `recipe.evaluation.thresholds.describe_decision`, and
            `slices`, of `recipe.evaluation.slices.describe_slices`.
        record: Its `run.json`.
        pictures: Each picture's path from the run's folder, by what it shows.
    """
    body = "\n\n".join(_sections(run, report, record, pictures))
    return ModelCard(f"---\n{_front_matter(run, report, record).to_yaml()}\n---\n\n{body}\n")


def describe_differences(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence per comparison: whether it is more than noise, and by how much.

    Noise is what an exact McNemar test cannot tell from chance at 5 %, shared out over all comparisons (Bonferroni), so
    that in one report out of twenty at most a difference is made of chance.
    """
    tests = report["mcnemar"]
    gains = {(gain["first"], gain["second"]): gain for gain in report["intervals"]["differences"]}
    return [_sentence(test, gains[test["first"], test["second"]], SIGNIFICANCE / len(tests)) for test in tests]


def _sentence(test: Mapping[str, Any], gain: Mapping[str, Any], level: float) -> str:
    """Return the sentence of one comparison."""
    first, second = test["first"], test["second"]
    better, worse = test["only_first_right"], test["only_second_right"]
    if not better + worse:
        return f"**{first}** and **{second}** are right on the same reviews."
    low, high = gain["f1_interval"]
    counts = f"only {first} is right on {better:,} reviews, only {second} on {worse:,} (exact McNemar p = "
    counts += f"{test['p_value']:.2g}); F1 {gain['f1']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    if test["p_value"] >= level:
        return f"**{first}** differs from **{second}** by **no more than noise**: {counts}."
    word = "better" if better > worse else "worse"
    return f"**{first}** is {word} than **{second}** by **more than noise**: {counts}."


def _front_matter(run: Path, report: Mapping[str, Any], record: RunRecord) -> ModelCardData:
    """Return what the Hub reads: where the weights and the reviews come from, and the figures with their split."""
    weights, dataset = record.weights, record.dataset
    return ModelCardData(
        model_name=run.resolve().name,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["onnx", "onnxruntime", "text-classification"],
        # A folder or a package is nothing that the Hub could link to.
        base_model=weights["name"] if weights.get("revision") else None,
        datasets=[dataset["name"]] if dataset.get("revision") else None,
        metrics=list(HUB_METRICS.values())[:4],
        eval_results=[
            EvalResult(
                task_type="text-classification",
                task_name="Text Classification",
                dataset_type=dataset["name"],
                dataset_name=dataset["name"],
                dataset_config=dataset.get("config"),
                dataset_revision=dataset.get("revision"),
                dataset_split="test",
                metric_type=kind,
                metric_name=f"{TITLES[name]} ({variant})",
                metric_value=round(figures[name], 6),
            )
            for variant, figures in report["variants"].items()
            for name, kind in HUB_METRICS.items()
            if variant != BASELINE and name in figures
        ],
    )


def _sections(run: Path, report: Mapping[str, Any], record: RunRecord, pictures: Mapping[str, str]) -> Iterator[str]:
    """Yield the body, section by section."""
    yield from _introduction(run, report, record)
    yield "## What it is worth"
    yield from measured_tables(report)
    yield "## What is more than noise"
    yield "\n".join(f"- {sentence}" for sentence in describe_differences(report))
    yield _noise_explained(report)
    yield from _calibration(report)
    yield from _thresholds(report)
    yield from _slices(report)
    yield "## Pictures"
    yield from (f"![{shows}]({path})" for shows, path in pictures.items())
    yield from _limits(report, record)
    yield from _loading(run, VARIANT_FILES[report["served"]])


def _introduction(run: Path, report: Mapping[str, Any], record: RunRecord) -> Iterator[str]:
    """Yield what was trained on what."""
    rows = ", ".join(f"{count:,} {split}" for split, count in record.rows.items())
    labels = ", ".join(f"{number} {name}" for number, name in enumerate(report["labels"]))
    yield f"# {run.resolve().name}"
    yield (
        f"`{record.weights['name']}` fine-tuned to tell reviews apart ({labels}), on "
        f"{_origin(record.dataset)}: {rows} rows, seed {record.seed}, the best of {len(record.epochs)} "
        "epoch(s) by validation. Every figure below is of the test rows, which nothing was trained, chosen or fitted "
        "on; each variant saw the same ones."
    )


def _origin(dataset: Mapping[str, Any]) -> str:
    """Return a dataset's name with what pins it."""
    if dataset.get("revision"):
        return f"`{dataset['name']}` at revision `{dataset['revision']}`"
    if dataset.get("sha256"):
        return f"`{dataset['name']}` (sha256 `{dataset['sha256']}`)"
    return f"`{dataset['name']}`"


def measured_tables(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the variants, and what they count."""
    variants, intervals = report["variants"], report["intervals"]["variants"]
    rows = [
        [
            name,
            *(f"{figures[key]:.4f} ({_span(intervals[name][key])})" for key in ("f1", "accuracy")),
            *(f"{figures[key]:.4f}" for key in ("precision", "recall", "matthews")),
            f"`{figures['confusion']}`",
        ]
        for name, figures in variants.items()
    ]
    order = "`[[tn, fp], [fn, tp]]`" if len(report["labels"]) == 2 else "(rows true, columns predicted)"
    titles = ["F1 (95 % interval)", "accuracy (95 % interval)", "precision", "recall", "Matthews"]
    yield _table(["", *titles, f"confusion {order}"], rows)
    keys = [key for key in TITLES if key in ("roc_auc", "average_precision", "log_loss", "calibration_error", "brier")]
    rows = [[name, *(_number(figures.get(key)) for key in keys)] for name, figures in variants.items()]
    yield _table(["probabilities", *(TITLES[key] for key in keys)], rows)
    rows = [[name, *_costs(figures)] for name, figures in variants.items()]
    yield _table(["cost", "reviews/s", "p50 ms", "p95 ms", "MB", "labels unlike PyTorch's"], rows)
    reviews = next(iter(variants.values()))["reviews"]
    average = "of label 1" if len(report["labels"]) == 2 else "macro averages"
    yield (
        f"{reviews:,} test reviews. F1, precision and recall are {average}. Milliseconds are those of one review "
        "alone, reviews per second those of all in batches, on the machine that evaluated."
    )


def _costs(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cells of the cost table."""
    yield f"{figures['reviews_per_second']:,.0f}"
    latency = figures.get("latency_ms", {})
    yield from (_number(latency.get(key), ".1f") for key in ("p50", "p95"))
    yield f"{figures['bytes'] / 1e6:.1f}" if "bytes" in figures else "–"
    yield _number(figures.get("labels_changed"), ",")


def _noise_explained(report: Mapping[str, Any]) -> str:
    """Return how noise was told from difference."""
    comparisons = len(report["mcnemar"])
    return (
        f"Intervals are a stratified bootstrap of the test rows ({report['intervals']['resamples']:,} resamples, those "
        f"of differences paired by row). More than noise means p < {SIGNIFICANCE / comparisons:.2g}, which is 5 % over "
        f"{comparisons} comparison(s). Neither covers the choice of the train rows or the seed: another run may differ "
        "by more."
    )


def _calibration(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether the probabilities can be relied on."""
    found = report["calibration"]
    before, after = found["before"], found["after"]
    yield "## Can its probabilities be relied on?"
    yield (
        f"A temperature of {found['temperature']:.3f}, fitted on validation rows, takes the expected calibration error "
        f"of {report['served']} on test from {before['calibration_error']:.4f} to {after['calibration_error']:.4f}, "
        f"and the log loss from {before['log_loss']:.4f} to {after['log_loss']:.4f}. It changes no review's most "
        "probable label."
    )


def _thresholds(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the lines were drawn, and what that gives on test."""
    found, keys = report["thresholds"], ("f1", "accuracy", "precision", "recall")
    rows = [["most probable label", *(_number(found["default"][key]) for key in keys)]]
    if "chosen" in found:
        chosen = found["chosen"]
        rows += [[f"label 1 from {chosen['threshold']:.4f} on", *(_number(chosen[key]) for key in keys)]]
    yield "## Which threshold?"
    yield _table([f"{report['served']}, test rows", *(TITLES[key] for key in keys)], rows)
    if "chosen" in found:
        yield "The threshold is of probabilities after the temperature, and was chosen on validation rows."
    if "abstain" in found:
        kept, doubtful = (_number(found["abstain"][key]) for key in ("accuracy", "accuracy_of_doubtful"))
        yield (
            f"{found['abstain']['reviews']:,} reviews ({found['abstain']['share']:.1%}) are left to a person; the rest "
            f"have an accuracy of {kept}, those {doubtful}."
        )


def _slices(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the model fails."""
    rows = [
        [
            _cell(f"{row['slice']}: {row['value']}"),
            f"{row['rows']:,}",
            _number(row.get("f1")) + (f" ({_span(row['f1_interval'])})" if "f1_interval" in row else ""),
            f"{row['accuracy']:.4f} ({_span(row['accuracy_interval'])})",
        ]
        for row in report["slices"]
    ]
    yield "## Where it fails"
    yield _table(["slice", "rows", "F1 (95 % interval)", "accuracy (95 % interval)"], rows)
    yield (
        "Of many slices one or the other looks bad by chance: an interval that leaves out the figure of all rows is a "
        "reason to look, not a proof. A slice with one label only has no F1."
    )


def _limits(report: Mapping[str, Any], record: RunRecord) -> Iterator[str]:
    """Yield what the figures do not say."""
    yield "## Limits"
    yield "\n".join(
        (
            f"- It was measured on {_origin(record.dataset)}; reviews of another kind or language may fare worse.",
            f"- It gives one of {len(report['labels'])} labels to whatever it is given, reviews or not.",
            "- What the pretrained weights learned from their own texts, prejudice included, may still be in it.",
            "- Speed is one machine's; a review that is longer than the trained length is cut.",
        )
    )


def _loading(run: Path, file: str) -> Iterator[str]:
    """Yield the three ways to load it, the exported one from `file`."""
    yield "## How to load it"
    yield f'''```python
from transformers import pipeline

classify = pipeline("text-classification", "{run}")
classify("a lovely film", truncation=True)
```'''
    yield f'''```python
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer

model = ORTModelForSequenceClassification.from_pretrained("{run}/onnx", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{run}/onnx")
model(**tokenizer("a lovely film", truncation=True, return_tensors="pt")).logits
```'''
    yield f'''```python
from recipe.inference.onnx import OnnxClassifier

classifier = OnnxClassifier.from_run("{run}")  # with the temperature and the threshold above
classifier(["a lovely film"])
```'''


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, numbers on the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a text that no table breaks at."""
    return " ".join(text.replace("|", "\\|").split())


def _number(value: float | None, form: str = ".4f") -> str:
    """Return a number for a table, a dash where there is none."""
    return "–" if value is None else format(value, form)


def _span(ends: Sequence[float]) -> str:
    """Return an interval."""
    return f"{ends[0]:.4f} to {ends[1]:.4f}"

"""A run's README: a Hugging Face model card, whose text is `card.md.jinja`."""

from collections.abc import Mapping
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from recipe.evaluation.types import Report
from recipe.files.parts import joined_name
from recipe.run_folder import VARIANT_FILES, RunRecord

# The figures that the Hub's front matter shows: the Hub's name of each, and its title.
HUB_METRICS = {
    "f1": ("f1", "F1"),
    "accuracy": ("accuracy", "accuracy"),
    "precision": ("precision", "precision"),
    "recall": ("recall", "recall"),
    "roc_auc": ("roc_auc", "ROC AUC"),
    "average_precision": ("average_precision", "average precision"),
    "matthews": ("matthews_correlation", "Matthews correlation"),
}
BASELINE = "tfidf"
# Largest chance that a report takes noise for a difference, in all of its comparisons together.
SIGNIFICANCE = 0.05


def make_card(run: Path, report: Report, record: RunRecord, pictures: Mapping[str, str], truncation: str) -> ModelCard:
    """Return the model card of a run.

    Args:
        pictures: Each picture's path from the run's folder, by its title.
        truncation: Where a review is cut, in words.
    """
    # `ModelCard.from_template` prints nothing for a misspelt name, and an empty line for each line of control.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, form=".4f": "–" if value is None else format(value, form)
    environment.filters["thousands"] = "{:,}".format
    environment.filters["span"] = lambda ends: f"{ends[0]:.4f} to {ends[1]:.4f}"
    # A bar or a new line would break the table.
    environment.filters["cell"] = lambda text: " ".join(text.replace("|", "\\|").split())
    content = environment.get_template("card.md.jinja").render(
        name=run.resolve().name,
        run=run,
        file=VARIANT_FILES[report.served],
        front_matter=_front_matter(run, report, record).to_yaml(),
        record=record,
        report=report,
        differences=describe_differences(report),
        level=SIGNIFICANCE / len(report.mcnemar),
        pictures=pictures,
        truncation=truncation,
    )
    return ModelCard(content)


def describe_differences(report: Report) -> list[str]:
    """Return a sentence per comparison: whether the difference is more than noise, and how large it is.

    More than noise means that an exact McNemar test rejects chance at 5 %, shared by all comparisons (Bonferroni). So
    at most one report in twenty takes chance for a difference.
    """
    differences = {(found.first, found.second): found for found in report.intervals.differences}
    sentences = []
    for test in report.mcnemar:
        first, second = f"**{test.first}**", f"**{test.second}**"
        if not test.only_first_right + test.only_second_right:
            sentences.append(f"{first} and {second} are right on the same reviews.")
            continue
        verdict = f"{first} differs from {second} by **no more than noise**"
        if test.p_value < SIGNIFICANCE / len(report.mcnemar):
            word = "better" if test.only_first_right > test.only_second_right else "worse"
            verdict = f"{first} is {word} than {second} by **more than noise**"
        found = differences[test.first, test.second]
        sentences.append(
            f"{verdict}: only {test.first} is right on {test.only_first_right:,} reviews, only {test.second} on "
            f"{test.only_second_right:,} (exact McNemar p = {test.p_value:.2g}); F1 {found.f1:+.4f}, "
            f"95 % interval {found.f1_interval[0]:+.4f} to {found.f1_interval[1]:+.4f}."
        )
    return sentences


def _front_matter(run: Path, report: Report, record: RunRecord) -> ModelCardData:
    """Return what the Hub reads: the origin of the weights and reviews, and the figures with their split."""
    weights, dataset = record.weights, record.dataset
    # What was measured has a name of its own where it is not the dataset's test split.
    tested = {"name": joined_name([part["file"] for part in report.measured.files])} if report.measured else dataset
    return ModelCardData(
        model_name=run.resolve().name,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["onnx", "onnxruntime", "text-classification"],
        # Only what has a revision is on the Hub and can be linked to.
        base_model=weights["name"] if weights.get("revision") else None,
        datasets=[dataset["name"]] if dataset.get("revision") else None,
        metrics=["f1", "accuracy", "precision", "recall"],
        eval_results=[
            EvalResult(
                task_type="text-classification",
                task_name="Text Classification",
                dataset_type=tested["name"],
                dataset_name=tested["name"],
                dataset_config=tested.get("config"),
                dataset_revision=tested.get("revision"),
                dataset_split="test",
                metric_type=metric,
                metric_name=f"{title} ({variant})",
                metric_value=round(value, 6),
            )
            for variant, figures in report.variants.items()
            for name, (metric, title) in HUB_METRICS.items()
            if variant != BASELINE and (value := getattr(figures, name)) is not None
        ],
    )

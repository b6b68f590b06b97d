"""A run's README: a Hugging Face model card, whose text is `card.md.jinja`."""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from recipe.arguments.data import data_arguments_of, describe_truncation
from recipe.evaluation.origin import Origin, files_origin, rows_of, weights_of
from recipe.evaluation.sentences import (
    describe_decision,
    describe_differences,
    describe_left_out,
    describe_ordinal,
    describe_served,
    describe_unlike,
    named_shares,
)
from recipe.evaluation.types import Report
from recipe.metrics.significance import SIGNIFICANCE
from recipe.run_folder import VARIANT_FILES, RunRecord
from recipe.text_table import span

HUB_METRICS = ("f1", "accuracy", "precision", "recall")
# With more labels than this a table of all their counts would be too wide to read.
MOST_COUNTED_LABELS = 12
# Reviews that the Hub offers to try the model on, by language.
EXAMPLES = {"en": ["A warm, funny film with a wonderful cast.", "It broke after two days, and nobody answers."]}
TAGS = ("text-classification", "onnx", "onnxruntime", "optimum")
TAGS_OF_TYPES = {
    # Whose tokens and logits were seen to be the same there (docs/publishing.md).
    "transformers.js": (
        *("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "albert", "deberta"),
        *("deberta-v2", "modernbert", "mobilebert", "squeezebert", "convbert"),
    ),
    # For which its source has a classifier.
    "text-embeddings-inference": ("bert", "roberta", "xlm-roberta", "camembert"),
}
# What Markdown would take for something else than letters; underscores inside a word are none of it.
MARKDOWN = re.compile(r"[\\`*\[\]<>$|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")


def make_card(
    name: str,
    report: Report,
    record: RunRecord,
    settings: Mapping[str, Any],
    pictures: Mapping[str, str],
    model_type: str,
) -> ModelCard:
    """Return the model card of a run.

    Args:
        name: Of the run's folder.
        settings: The run's `config.yaml`.
        pictures: Each picture's path from the run's folder, by its title.
        model_type: The encoder's, as its `config.json` names it.
    """
    weights, data = weights_of(record), data_arguments_of(dict(settings))
    splits = [split for split in record.rows if split != "test"] + ["test"]
    origins = {split: rows_of(record, split, report.measured) for split in splits}
    quoted = partial(json.dumps, ensure_ascii=False)
    content = _template().render(
        name=name,
        path=quoted(name),
        file=VARIANT_FILES[report.served],
        front_matter=_front_matter(name, report, weights, origins, model_type).to_yaml(),
        weights=weights,
        origins=origins,
        record=record,
        report=report,
        many=len(report.labels) > MOST_COUNTED_LABELS,
        described=describe_served(report, quoted_label),
        shares=list(named_shares(report)),
        ordinal=describe_ordinal(report),
        balanced=settings.get("class_weights") == "balanced",
        differences=describe_differences(report),
        level=SIGNIFICANCE / len(report.mcnemar),
        left_out=describe_left_out(report),
        unlike={name: describe_unlike(report, name) for name in report.variants},
        pictures=pictures,
        truncation=describe_truncation(data.max_length, data.truncation_side),
    )
    return ModelCard(content)


def card_for_hub(text: str, repository: str) -> str:
    """Return a run's card with the repository in the place of the folder in its examples; the rest is as it was.

    It is changed, not made again, so that what people have written into it stays.

    Args:
        repository: Its name on the Hub, `owner/name`.
    """
    loading = re.search(r'OnnxClassifier\.from_run\(("(?:[^"\\]|\\.)*")\)', text)
    if loading is None:
        return text
    folder, name = loading[1], json.dumps(repository)
    import_classifier = "from recipe.inference import OnnxClassifier"
    for before, after in (
        (f"From the folder that holds `{json.loads(folder)}`, with", "With"),
        (import_classifier, f"from huggingface_hub import snapshot_download\n\n{import_classifier}"),
        (loading[0], f"OnnxClassifier.from_run(snapshot_download({name}))"),
        (f"from_pretrained({folder}", f"from_pretrained({name}"),
        (f'"text-classification", {folder}', f'"text-classification", {name}'),
    ):
        text = text.replace(before, after)
    return text


def _template() -> jinja2.Template:
    """Return the card's template with the filters that it uses."""
    # `ModelCard.from_template` prints nothing for a misspelt name, and an empty line for each line of control.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, form=".4f": "–" if value is None else format(value, form)
    environment.filters["thousands"] = "{:,}".format
    environment.filters["span"] = span
    environment.filters |= {"plain": plain, "quoted": quoted_label, "code": code, "origin": _describe_origin}
    environment.filters["files"] = lambda parts: _describe_origin(files_origin(parts))
    return environment.get_template("card.md.jinja")


def plain(text: str) -> str:
    """Return Markdown that shows a text as it is, on one line."""
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def quoted_label(name: str) -> str:
    """Return a label's name in quotation marks, as Markdown."""
    return f"‘{plain(name)}’"


def code(text: str) -> str:
    """Return a text as Markdown's code."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def _describe_origin(origin: Origin) -> str:
    return code(origin.name) + (f", {origin.pin}" if origin.pin else "")


def _front_matter(
    name: str, report: Report, weights: Origin, origins: Mapping[str, Origin], model_type: str
) -> ModelCardData:
    """Return what the Hub reads: origin, licence and language where they are known, and the served answers' figures."""
    data, tested, own = origins["train"], origins["test"], weights.facts.get("language")
    # The languages of a multilingual encoder are not those of the reviews.
    language = data.facts.get("language") or (own if isinstance(own, str) else None)
    examples = EXAMPLES.get(language, []) if isinstance(language, str) else []
    facts = {key: value for key, value in weights.facts.items() if key != "language"}
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=[*TAGS, *(tag for tag, types in TAGS_OF_TYPES.items() if model_type in types)],
        base_model=weights.hub_id,
        base_model_relation="finetune" if weights.hub_id else None,
        datasets=[data.hub_id] if data.hub_id else None,
        language=language,
        metrics=list(HUB_METRICS),
        widget=[{"text": text} for text in examples] or None,
        eval_results=_results(report, tested),
        **facts,
    )


def _results(report: Report, tested: Origin) -> list[EvalResult]:
    """Return one result per metric, of the served answers to the test rows."""
    result = partial(
        EvalResult,
        task_type="text-classification",
        task_name="Text Classification",
        # What the cards of the Hub's own libraries say of a dataset that is not on it.
        dataset_type=tested.hub_id or "unknown",
        dataset_name=tested.name,
        dataset_config=tested.config,
        dataset_revision=tested.revision,
        dataset_split="test",
    )
    decision = describe_decision(report.decision, report.labels)
    average = {"average": "binary" if len(report.labels) == 2 else "macro"}
    return [
        result(
            metric_type=metric,
            metric_name=f"{title} ({report.served}, {decision})",
            metric_value=round(share.value, 6),
            metric_args=None if metric == "accuracy" else average,
        )
        for metric, (title, share) in zip(HUB_METRICS, named_shares(report), strict=False)
    ]

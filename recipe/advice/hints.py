"""Say whether longer reviews, another column or a larger encoder would help, from what a finished run knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.stats import fisher_exact

from recipe.advice.answer import Advice
from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.reviews import Reviews, Split
from recipe.data.tokens import flat, texts_of
from recipe.errors import UsageError
from recipe.files.atomic import read_json
from recipe.metrics.intervals import difference_intervals
from recipe.metrics.significance import SIGNIFICANCE
from recipe.model.baseline import fit_baseline
from recipe.run_folder import RunFolder, RunRecord

# A smaller share that is cut cannot cost a point of F1.
FEW_CUT = 0.02
# Unread columns that are compared; a file may have many.
MOST_COLUMNS = 3
# Layers and hidden units of a BERT-base: multiplications for a token grow with the first, and the square of the second.
BASE = 12 * 768**2


def hints(run: RunFolder, reviews: Reviews) -> Advice:
    """Say whether longer reviews, a column that is not read or a larger encoder would help; no test row is read.

    Raises:
        UsageError: A file of the run is damaged.
    """
    args, record = data_arguments_of(run.read_config()), run.read_record()
    found = {"length": _length(run, record), "columns": _columns(args, reviews), "encoder": _encoder(run, record)}
    lines = [line for line, _ in found.values()]
    return Advice(
        "Would longer reviews, the title, or another encoder help?",
        lines,
        None,
        {name: figures for name, (_, figures) in found.items()},
    )


def _length(run: RunFolder, record: RunRecord) -> tuple[str, dict[str, Any]]:
    """Return what longer reviews would bring, and the figures."""
    try:
        data = read_json(run.data)
        cut, length, lengths = data["truncated"], data["max_length"], data["lengths"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{run.data} is missing or damaged: {error}") from error
    figures = {"truncated": cut}
    longer = {int(name): at for name, at in lengths.items() if int(name) > length}
    if cut < FEW_CUT or not longer:
        return f"Longer reviews: no, {cut:.1%} of them are cut at {length} tokens.", figures
    # The first that cuts few, else the longest.
    to = next((name for name, at in longer.items() if at["truncated"] < FEW_CUT), max(longer))
    cost = longer[to]["relative_cost"]
    said, more = _cut_slices(run)
    line = f"Longer reviews: {cut:.0%} are cut at {length} tokens; {said} --max_length {to} would cost some "
    return f"{line}{cost:.1f} × the training, {cost * record.seconds:,.0f} s.", figures | more | {"cost": cost}


def _cut_slices(run: RunFolder) -> tuple[str, dict[str, Any]]:
    """Return what the slices of the evaluation say of reviews that are cut, and the p-value."""
    slices = run.read_report().get("slices", []) if run.report.is_file() else []
    rows = {row["value"]: row for row in slices if row["slice"] == "truncated"}
    if len(rows) < 2:
        return "whether that harms is not known before an evaluation.", {}
    cut, whole = rows["truncated"], rows["whole"]
    right = [round(row["accuracy"] * row["rows"]) for row in (cut, whole)]
    p = float(fisher_exact([right, [cut["rows"] - right[0], whole["rows"] - right[1]]]).pvalue)
    shares = f"{cut['accuracy']:.3f} of the cut test rows are answered right, {whole['accuracy']:.3f} of the whole ones"
    if p >= SIGNIFICANCE:
        return f"{shares}, which may be chance, so probably not.", {"p": p}
    if cut["accuracy"] > whole["accuracy"]:
        return f"{shares}, so no.", {"p": p}
    return f"{shares}, so probably.", {"p": p}


def _columns(args: DataArguments, reviews: Reviews) -> tuple[str, dict[str, Any]]:
    """Return what reading another column would bring, as TF-IDF finds it on the validation rows, and the figures."""
    train, validation = reviews.splits["train"], reviews.splits["validation"]
    unread = unread_columns(train.rows, [*args.text_columns, args.label_column])
    if not unread:
        return "Other columns: the file has no other column of texts.", {}
    if len(args.text_columns) == 2:
        return f"Other columns: {', '.join(unread)}; but two are read already, and no more can be.", {"unread": unread}
    gains = {name: _gain(train, validation, name, len(reviews.label_names)) for name in unread}
    best = max(gains, key=lambda name: sum(gains[name]))
    low, high = gains[best]
    worth = "yes" if low > 0 else "Noise, cannot be told"
    line = f"Column {best!r}: {worth}; TF-IDF changes its F1 by {low:+.3f} to {high:+.3f} with it."
    own, more = (sum(map(len, texts)) for texts in (flat(texts_of(train)), filter(None, train.rows[best][:])))
    cost = f"--text_columns {best} {args.text_columns[0]} costs up to {1 + more / own:.1f} × the training."
    return f"{line} {cost}", {"gains": gains}


def unread_columns(rows: Dataset, read: Sequence[str]) -> list[str]:
    """Return up to three columns that are not read and hold texts: strings, of which most are different."""
    found = []
    for name, type_ in rows.features.items():
        if name not in read and getattr(type_, "dtype", "") in ("string", "large_string"):
            values = [value for value in rows[name][:] if value and any(letter.isspace() for letter in value.strip())]
            # An id has no white space, and a category repeats.
            if len(set(values)) > len(rows) / 2:
                found.append(name)
    return found[:MOST_COLUMNS]


def _gain(train: Split, validation: Split, column: str, classes: int) -> list[float]:
    """Return the interval of what TF-IDF's F1 on the validation rows gains by reading a column too."""

    def texts(split: Split, with_column: bool) -> list[str]:
        own = flat(texts_of(split))
        more = split.rows[column][:]
        return [f"{added or ''} {text}" for added, text in zip(more, own, strict=True)] if with_column else own

    with_it, without = (
        np.asarray(fit_baseline(texts(train, some), train.labels).predict(texts(validation, some)))
        for some in (True, False)
    )
    return difference_intervals(validation.labels, with_it, without, classes)["f1"]


def _encoder(run: RunFolder, record: RunRecord) -> tuple[str, dict[str, Any]]:
    """Return what a larger encoder would bring, and the figures."""
    config = read_json(run.path / "config.json")
    own = config.get("num_hidden_layers", 0) * config.get("hidden_size", 0) ** 2
    millions = record.weights["parameters"] / 1e6
    figures = {"parameters": record.weights["parameters"]}
    if not 0 < own < BASE / 1.5:
        return f"Another encoder: not known; with {millions:,.0f} M parameters it is not a small one.", figures
    cost = BASE / own
    return (
        f"A larger encoder: probably, but not measured here. This one has {millions:,.0f} M parameters; a BERT-base "
        f"has 110 M and {cost:,.0f} × the multiplications: some {cost * record.seconds:,.0f} s of training. It "
        "can teach this one then (train.py --unlabelled_file … --teacher …).",
        figures | {"cost": cost},
    )

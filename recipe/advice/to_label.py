"""Choose the reviews to label next: those that the model is least sure of, and that are unlike each other."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import normalize

from recipe.advice.answer import SECONDS_PER_REVIEW, Advice, in_words
from recipe.advice.vectors import vectors_by
from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.arguments.model import ModelArguments
from recipe.data.labels import label_values
from recipe.data.reviews import Reviews, Split
from recipe.data.tokens import texts_of
from recipe.files.atomic import write_whole
from recipe.files.spreadsheet import PREDICTED, PROBABILITY, sheet
from recipe.files.text_rows import Dialect
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.softmax import softmax
from recipe.run_folder import RunFolder

# Few enough to label in a sitting, after which a new training asks better.
COUNT = 100
# So many times COUNT are unsure enough to choose among: of more, the choice took reviews that the model is sure of
# (docs/advice.md has the figures).
AMONG = 2
# Rows that are scored: of a larger file, evenly spread ones, which take a few minutes.
MOST_SCORED = 10_000
# Where the model is so sure of the least certain reviews, their labels change little.
SURE = 0.95
# Rounding of float32 in the distance of two unit vectors.
EQUAL = 1e-3


def to_label(run: RunFolder, reviews: Reviews, unlabelled: Split, folder: Path) -> Advice:
    """Write `to_label.csv`, reviews whose labels would help most, the one that the model is least sure of first.

    Args:
        reviews: Of the run; neither text nor label of a test row is read.
        unlabelled: As `read_unlabelled` returns it: no text is there twice, nor in the labelled rows.
        folder: Where the file goes.

    Raises:
        UsageError: The run's model cannot be loaded.
    """
    classifier, asked = TorchClassifier.from_run(run.path), unlabelled.spread(MOST_SCORED)
    texts: Any = texts_of(asked)
    probabilities = softmax(classifier.logits(texts, "unlabelled"))
    unsure = least_certain(probabilities, AMONG * COUNT)
    # Of the run's own encoder, which has learned what its labels are about.
    vectors = vectors_by(ModelArguments(str(run.path)), run, [texts[row] for row in unsure], "comparing")
    chosen = unsure[k_center(vectors, COUNT)]
    args = data_arguments_of(run.read_config())
    file, label_column = folder / "to_label.csv", args.label_column
    spelled = spelled_labels(reviews.splits["train"], label_column)
    answers = [spelled[label] for label in probabilities[chosen].argmax(axis=1)]
    columns: dict[str, list[Any]] = {name: asked.take(chosen).texts[name][:] for name in asked.text_columns}
    added = {PREDICTED: answers, PROBABILITY: probabilities[chosen].max(axis=1).round(4).tolist()}
    write_whole(file, sheet(columns | {label_column: [""] * len(chosen)} | added))
    return _answer(run, file, args, spelled, probabilities, chosen, len(unlabelled))


def least_certain(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` rows whose two most probable labels are closest, int64 (rows,), the closest first.

    Args:
        probabilities: float64 (reviews, classes).
    """
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return np.argsort(first - second, kind="stable")[:count]


def k_center(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` rows that are far from each other, int64 (rows,), in ascending order, the first among them.

    Each is the farthest from those chosen before it (k-centre: Gonzalez, *Clustering to Minimize the Maximum
    Intercluster Distance*, 1985; for labels: Sener and Savarese, *Active Learning for Convolutional Neural Networks*,
    2018), by the angle between vectors. Of equal vectors one is chosen.

    Args:
        vectors: float32 (reviews, hidden).
    """
    directions = normalize(vectors)
    chosen, nearest = [0], pairwise_distances(directions, directions[:1])[:, 0]
    while len(chosen) < count and nearest.max() > EQUAL:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, pairwise_distances(directions, directions[chosen[-1:]])[:, 0])
    return np.sort(chosen)


def spelled_labels(train: Split, label_column: str) -> list[str]:
    """Return each label as the train file spells it, so that a filled-in file can be read beside that one."""
    first = np.unique(train.labels, return_index=True)[1]
    rows = train.rows.select(first)
    return [str(value).strip() for value in label_values(rows[label_column][:], rows.features[label_column])]


def _answer(
    run: RunFolder,
    file: Path,
    args: DataArguments,
    spelled: list[str],
    probabilities: np.ndarray,
    chosen: np.ndarray,
    unlabelled: int,
) -> Advice:
    """Return what the screen says of the reviews `chosen`."""
    sure, of_all = probabilities[chosen].max(axis=1), float(probabilities.max(axis=1).mean())
    seconds = len(chosen) * SECONDS_PER_REVIEW
    # Files that go together are of one format and one dialect.
    csv = all(name.lower().endswith((".csv", ".csv.gz", ".csv.zst")) for name in args.train_file or [""])
    together = csv and args.dialect == Dialect()
    how = "train with --train_file and both files" if together else "add them to your train rows"
    scored = f"{len(probabilities):,} of {unlabelled:,}" if len(probabilities) < unlabelled else f"{unlabelled:,}"
    validation = run.read_record().validation
    if validation and validation.notes:
        worth = "Noise: the run has learned too little for its doubts to mean anything, so any reviews will do."
    elif sure.min() > SURE:
        worth = "Noise: it is sure of every one, so that their labels will change little."
    else:
        worth = "With a simpler learner, 400 of them were worth over 800 in random order (docs/advice.md)."
    return Advice(
        "Reviews to label next",
        [
            f"{len(chosen):,} of {scored} unlabelled reviews: the model is {sure.mean():.0%} sure of them on average, "
            f"of all {of_all:.0%}.",
            worth,
            f"Some {in_words(seconds)}: fill in {args.label_column!r} "
            f"({', '.join(spelled[:4])}{', …' * (len(spelled) > 4)}), then {how}.",
        ],
        file,
        {"chosen": len(chosen), "unlabelled": unlabelled, "scored": len(probabilities), "seconds": seconds}
        | {"sure_of_chosen": float(sure.mean()), "sure_of_all": of_all},
    )

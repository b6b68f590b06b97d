"""Measure the advice on a dataset: labels to check, reviews to label next, and what more labels would bring."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import ttest_1samp
from tqdm.auto import tqdm

from recipe.advice.curve import extrapolate, learn, learner, measure
from recipe.advice.to_label import AMONG, k_center, least_certain
from recipe.arguments.parser import parse_arguments
from recipe.benchmarks.suspects import draw_found, find_changed, table_of
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.metrics.scores import score_labels
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import find_pretrained, load_tokenizer
from recipe.pictures.style import GRID, SLICE_COLOUR, STYLES, save_pictures
from recipe.text_table import columns

START, STEP, MOST = 200, 100, 1000
LABELS = np.arange(START, MOST + 1, STEP)
TESTED, VALIDATED = 2000, 250
SIZES = (250, 500, 1000, 2000)


def measure_advice(dataset: str, weights: str, draws: int, tries: int, folder: Path) -> str:
    """Return three tables: changed labels that were found; F1 by labels, chosen and in random order; forecasts held.

    Their pictures are written as `suspects.png`, `to_label.png` and `forecasts.png`.

    The learner of the last two is that of the curve: logistic regression on vectors of an encoder as it was pretrained.

    Args:
        dataset: With the columns title and content, and a test split.
        draws: Of the changed labels, and of the first labels.
        tries: For each number of train rows.
        folder: Where the pictures go.

    Raises:
        UsageError: The dataset is missing or too small.
    """
    argv = ["--dataset_name", dataset, "--text_columns", "title", "content", "--model_name_or_path", weights]
    argv += ["--max_train_samples", "-1", "--max_test_samples", str(TESTED), "--sampling", "random", "--use_cpu"]
    arguments = parse_arguments(argv)
    reviews = load_reviews(arguments.data, arguments.training.seed)
    splits = [reviews.splits["train"], reviews.splits["validation"], reviews.test]
    rows = len(splits[0]) + len(splits[1])
    if rows < MOST + STEP or len(reviews.label_names) != 2:
        raise UsageError(
            f"{dataset} has {rows:,} train rows of {len(reviews.label_names)} labels: {MOST + STEP:,} of two"
        )
    pretrained = find_pretrained(arguments.model, arguments.data.max_length)
    tokenizer, encoder = load_tokenizer(pretrained, arguments.data.max_length), load_encoder(pretrained)
    texts = [texts_of(split) for split in splits]
    vectors = [encode(encoder, tokenizer, some, "encoding") for some in texts]
    pool = np.concatenate(vectors[:2]), np.concatenate([split.labels for split in splits[:2]])
    test = vectors[2], splits[2].labels
    keys = np.concatenate([split.keys.normalised for split in splits[:2]])
    suspects = find_changed([*texts[0], *texts[1]], pool[0], keys, pool[1], draws)
    by_labels = label_in_turn(*pool, *test, draws)
    forecasts = forecast_twice(*pool, *test, tries)
    pictures = {
        folder / "suspects.png": lambda: draw_found(suspects),
        folder / "to_label.png": lambda: draw_saved(by_labels),
        folder / "forecasts.png": lambda: draw_forecasts(forecasts),
    }
    save_pictures(pictures)
    return "\n".join([*table_of(suspects), "", *saved(by_labels), "", *held(forecasts)])


def label_in_turn(
    vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, draws: int
) -> np.ndarray:
    """Return F1 on the test rows, float64 (draws, 2, sizes), of labels in random order and of chosen ones.

    Args:
        vectors, others: Of the rows to label and of the test rows, float32 (rows, hidden).
        labels, truth: Their labels, int64 (rows,).
        draws: Of the first labels.
    """
    seeds = tqdm(range(draws), desc="draws", disable=None, leave=False)
    return np.array(
        [[_grow(vectors, labels, others, truth, seed, chosen) for chosen in (False, True)] for seed in seeds]
    )


def saved(found: np.ndarray) -> list[str]:
    """Return the table of what `label_in_turn` found: gains, and how many labels in random order give the same F1."""
    gains = found[:, 1] - found[:, 0]
    at_random, chosen = found.mean(axis=0)
    lows, highs = ttest_1samp(gains, 0).confidence_interval(0.95)
    rows = [["labels", "random order", "chosen", "gain", "95 % interval", "as many in random order"]]
    # A mean over draws may dip; what was reached stays reached.
    needed = np.interp(chosen, np.maximum.accumulate(at_random), LABELS, right=np.inf)
    for size, first, second, gain, low, high, same in zip(
        LABELS.tolist(), at_random, chosen, gains.mean(axis=0), lows, highs, needed, strict=True
    ):
        rows.append([f"{size:,}", f"{first:.4f}", f"{second:.4f}", f"{gain:+.4f}"])
        rows[-1] += [f"{low:+.4f} to {high:+.4f}"]
        rows[-1] += [f"{same:,.0f}" if np.isfinite(same) else f"over {MOST:,}"]
    return columns(rows)


def draw_saved(found: np.ndarray) -> Figure:
    """Draw F1 by labels, in random order and chosen: the mean of the draws, and each of them."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for order, (name, style) in enumerate({"random order": STYLES["tfidf"], "chosen": STYLES["pytorch"]}.items()):
        axes.plot(LABELS, found[:, order].T, color=style["color"], linewidth=0.5, alpha=0.4)
        axes.plot(LABELS, found[:, order].mean(axis=0), **style, linewidth=2, label=name)
    axes.set(xlabel="labels", ylabel=f"F1 on {TESTED:,} test rows")
    axes.set_title(f"Which reviews to label next, {len(found)} draws", fontsize="medium")
    axes.grid(**GRID)
    axes.legend(frameon=False)
    return figure


def _grow(
    vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, seed: int, chosen: bool
) -> list[float]:
    """Return F1 on the test rows by the number of labels, whose rows are chosen, or drawn, a step at a time."""
    order, f1 = np.random.default_rng(seed).permutation(len(labels)), []
    known, rest = order[:START], order[START:]
    while True:
        model = learner().fit(vectors[known], labels[known])
        f1.append(score_labels(truth, model.predict(others), 2)["f1"])
        if len(known) >= MOST:
            return f1
        picked = np.arange(STEP)
        if chosen:
            unsure = least_certain(model.predict_proba(vectors[rest]), AMONG * STEP)
            picked = unsure[k_center(vectors[rest[unsure]], STEP)]
        known, rest = np.concatenate([known, rest[picked]]), np.delete(rest, picked)


def forecast_twice(
    vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, tries: int
) -> dict[int, np.ndarray]:
    """Return what each try found, float64 (tries, 6), by its number of train rows.

    Of each: F1 on the test rows with as many rows and with twice as many, and the ends of the forecasts of F1 and gain.

    Args:
        vectors, others: Of the rows to learn from and of the test rows, float32 (rows, hidden).
        labels, truth: Their labels, int64 (rows,).
        tries: For each number of train rows.
    """
    sizes = [size for size in SIZES if 2 * size + VALIDATED <= len(labels)]
    bar = tqdm(sizes, desc="forecasts", disable=None, leave=False)
    return {
        size: np.array([_try(vectors, labels, others, truth, size, size + seed) for seed in range(tries)])
        for size in bar
    }


def held(found: dict[int, np.ndarray]) -> list[str]:
    """Return the table of how often a forecast held what came."""
    table = [["train rows", "F1", "F1 with twice", "forecast", "held", "gain", "forecast", "held"]]
    for size, tries in found.items():
        now, twice, low, high, least, most = tries.mean(axis=0)
        row = [f"{size:,}", f"{now:.3f}", f"{twice:.3f}", f"{low:.3f} to {high:.3f}"]
        row += [f"{_within(tries[:, 1], tries[:, 2:4])} of {len(tries)}", f"{twice - now:+.3f}"]
        row += [f"{least:+.3f} to {most:+.3f}", f"{_within(tries[:, 1] - tries[:, 0], tries[:, 4:])} of {len(tries)}"]
        table.append(row)
    return columns(table)


def draw_forecasts(found: dict[int, np.ndarray]) -> Figure:
    """Draw each try: the forecast of F1 with twice the rows, and what came."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes, places = figure.subplots(), np.arange(sum(map(len, found.values())))
    _, twice, low, high, *_ = np.concatenate([*found.values()]).T
    axes.vlines(places, low, high, color=SLICE_COLOUR, linewidth=2, label="forecast (90 %)")
    axes.plot(places, twice, **STYLES["pytorch"] | {"linestyle": ""}, markersize=4, label="what came")
    first = np.cumsum([0, *map(len, found.values())])
    axes.set_xticks((first[:-1] + first[1:] - 1) / 2, [f"{size:,} to {2 * size:,}" for size in found])
    axes.set(xlabel="train rows", ylabel=f"F1 on {TESTED:,} test rows")
    axes.set_title("F1 with twice the labels, foretold and found", fontsize="medium")
    axes.grid(axis="y", **GRID)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _try(
    vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, size: int, seed: int
) -> list[float]:
    """Return F1 on the test rows with `size` rows and with twice as many, and the ends of the forecast's two ranges."""
    order = np.random.default_rng(seed).permutation(len(labels))
    twice, validation = order[: 2 * size], order[2 * size : 2 * size + VALIDATED]
    now = twice[:size]
    rows, answers = learn(vectors[now], labels[now], vectors[validation])
    curve, own = measure(rows, answers, labels[validation], answers[-1], 2)
    forecast = extrapolate(curve, own, score_labels(labels[validation], answers[-1], 2)["f1"])
    models: Any = (learner().fit(vectors[some], labels[some]) for some in (now, twice))
    f1 = [score_labels(truth, model.predict(others), 2)["f1"] for model in models]
    return [*f1, *forecast.twice, *forecast.gain]


def _within(values: np.ndarray, ranges: np.ndarray) -> int:
    """Return how many values lie in their ranges, float64 (values, 2)."""
    return int(((ranges[:, 0] <= values) & (values <= ranges[:, 1])).sum())

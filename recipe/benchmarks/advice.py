"""Measure two answers of the advice on a dataset: which reviews to label next, and what more labels would bring."""

from typing import Any

import numpy as np
from scipy.stats import t as student
from tqdm.auto import tqdm

from recipe.advice.curve import FEWEST, foretell, learn, learner, measure
from recipe.advice.to_label import AMONG, least_certain, unlike
from recipe.arguments.parser import parse_arguments
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.metrics.scores import score_labels
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import find_pretrained, load_tokenizer
from recipe.text_table import columns

START, STEP, MOST = 200, 100, 1000
TESTED, VALIDATED = 2000, 250
SIZES = (250, 500, 1000, 2000)


def measure_advice(dataset: str, weights: str, draws: int, tries: int) -> str:
    """Return two tables: F1 by labels, chosen and in random order; and how often a forecast held the F1 that came.

    The learner is that of the curve: logistic regression on the vectors of an encoder that is not fine-tuned.

    Args:
        dataset: With the columns title and content, and a test split.
        draws: Of the first labels.
        tries: For each number of train rows.

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
    vectors = [encode(encoder, tokenizer, texts_of(split), "encoding") for split in splits]
    pool = np.concatenate(vectors[:2]), np.concatenate([split.labels for split in splits[:2]])
    test = vectors[2], splits[2].labels
    return "\n\n".join(["\n".join(saved(*pool, *test, draws)), "\n".join(held(*pool, *test, tries))])


def saved(vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, draws: int) -> list[str]:
    """Return the table of F1 by labels, from 200 on, and how many labels the choice saves at equal F1.

    Args:
        vectors, others: Of the rows to label and of the test rows, float32 (rows, hidden).
        labels, truth: Their labels, int64 (rows,).
    """
    found = np.array(
        [
            [_grow(vectors, labels, others, truth, seed, chosen) for chosen in (False, True)]
            for seed in tqdm(range(draws), desc="draws", disable=None, leave=False)
        ]
    )
    sizes, gains = np.arange(START, MOST + 1, STEP), found[:, 1] - found[:, 0]
    (at_random, chosen), wide = found.mean(axis=0), student.ppf(0.975, draws - 1) * gains.std(axis=0, ddof=1)
    rows = [["labels", "random order", "chosen", "gain", "95 % interval", "labels for the same in random order"]]
    # A mean over draws may dip; what was reached stays reached.
    needed = np.interp(chosen, np.maximum.accumulate(at_random), sizes, right=np.inf)
    for at, size in enumerate(sizes):
        end = wide[at] / draws**0.5
        gain = gains[:, at].mean()
        same = f"{needed[at]:,.0f}" if np.isfinite(needed[at]) else f"over {MOST:,}"
        rows.append([f"{size:,}", f"{at_random[at]:.4f}", f"{chosen[at]:.4f}", f"{gain:+.4f}"])
        rows[-1] += [f"{gain - end:+.4f} to {gain + end:+.4f}", same]
    return columns(rows)


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
            picked = unsure[unlike(vectors[rest[unsure]], STEP)]
        known, rest = np.concatenate([known, rest[picked]]), np.delete(rest, picked)


def held(vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, tries: int) -> list[str]:
    """Return the table of how often a forecast from some rows held the F1 on the test rows that twice as many gave.

    Args:
        vectors, others: Of the rows to learn from and of the test rows, float32 (rows, hidden).
        labels, truth: Their labels, int64 (rows,).
    """
    table = [["train rows", "F1", "F1 with twice", "forecast", "held", "gain", "forecast", "held"]]
    for size in (size for size in SIZES if 2 * size + VALIDATED <= len(labels) and size >= FEWEST):
        found = np.array([_try(vectors, labels, others, truth, size, size + seed) for seed in range(tries)])
        now, twice, low, high, least, most = found.mean(axis=0)
        f1, gain = (found[:, 1] - start for start in (0, found[:, 0]))
        row = [f"{size:,}", f"{now:.3f}", f"{twice:.3f}", f"{low:.3f} to {high:.3f}"]
        row += [f"{_within(f1, found[:, 2:4])} of {tries}", f"{twice - now:.3f}", f"{least:.3f} to {most:.3f}"]
        table.append([*row, f"{_within(gain, found[:, 4:])} of {tries}"])
    return columns(table)


def _try(
    vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, truth: np.ndarray, size: int, seed: int
) -> list[float]:
    """Return F1 on the test rows with `size` rows and with twice as many, and the ends of the forecast's two ranges."""
    order = np.random.default_rng(seed).permutation(len(labels))
    twice, validation = order[: 2 * size], order[2 * size : 2 * size + VALIDATED]
    now = twice[:size]
    rows, answers = learn(vectors[now], labels[now], vectors[validation])
    curve, own = measure(rows, answers, labels[validation], answers[-1], 2)
    forecast = foretell(curve, own, score_labels(labels[validation], answers[-1], 2)["f1"])
    models: Any = (learner().fit(vectors[some], labels[some]) for some in (now, twice))
    f1 = [score_labels(truth, model.predict(others), 2)["f1"] for model in models]
    return [*f1, *forecast.twice, *forecast.gain]


def _within(values: np.ndarray, ranges: np.ndarray) -> int:
    """Return how many values lie in their ranges, float64 (values, 2)."""
    return int(((ranges[:, 0] <= values) & (values <= ranges[:, 1])).sum())

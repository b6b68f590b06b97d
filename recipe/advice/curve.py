"""Foretell what more labels would bring, from a learning curve on subsets of the train rows."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.optimize import curve_fit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from recipe.advice.answer import SECONDS_PER_REVIEW, Advice
from recipe.advice.vectors import frozen_vectors, labelled_texts
from recipe.data.reviews import Reviews
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.intervals import interval, resample
from recipe.pictures.style import GRID, SLICE_COLOUR, STYLES, save_pictures
from recipe.run_folder import RunFolder, RunRecord

PICTURE = "curve.png"
# Subsets are these parts of the train rows, and each is drawn so often.
PARTS = (8, 4, 2)
DRAWS = 3
RESAMPLES = 200
# The range that a forecast states: in nine of ten tries it should hold what is found then.
LEVEL = 0.9
# Rows of the rarest label, two of which are then in the smallest subset.
FEWEST = 2 * max(PARTS)
# A gain below it would not be noticed.
NOTHING = 0.002


class PowerLaw(NamedTuple):
    """A learning curve, F1 = a - b n^-c, where n is a multiple of all train rows."""

    a: float
    b: float
    c: float

    def __call__(self, n: Any) -> Any:
        """Return F1 at n times the rows."""
        return self.a - self.b * n**-self.c


@dataclass(frozen=True)
class Forecast:
    """What twice the train rows would bring; ranges are `[low, high]` of 90 %.

    Attributes:
        f1: Of the run, on the validation rows as they are.
        now, twice: Ranges of F1 on any reviews, with the rows of today and with twice as many.
        gain: Range of what F1 rises by, which is known better than F1 itself.
    """

    f1: float
    now: list[float]
    twice: list[float]
    gain: list[float]

    @property
    def is_noise(self) -> bool:
        """Return whether the gain cannot be told from none."""
        return self.gain[0] < NOTHING


@dataclass(frozen=True)
class Curve:
    """F1 of learners by the number of their train rows.

    Attributes:
        rows: int64 (learners,), ascending.
        f1: On the validation rows, float64 (learners,).
        resampled: On resamples of them, float64 (resamples, learners).
    """

    rows: np.ndarray
    f1: np.ndarray
    resampled: np.ndarray

    @property
    def law(self) -> PowerLaw:
        """Return the power law of all learners."""
        sizes, counts = np.unique(self.rows, return_counts=True)
        means = [self.f1[self.rows == size].mean() for size in sizes]
        return fit_power_law(sizes / sizes[-1], np.array(means), counts)


def curve(run: RunFolder, reviews: Reviews, folder: Path) -> Advice:
    """Foretell F1 with twice the labels, and write `curve.png`.

    Logistic regression on vectors of the weights that the run started from learns from subsets of the train rows, and
    is measured on the validation rows. The run's own errors are taken to fall as its errors do.

    Args:
        reviews: Of the run; no test row is read.
        folder: Where the picture goes.

    Raises:
        UsageError: The run's weights, or those that it started from, cannot be loaded.
        CheckFailed: The run's F1 on the validation rows is not what training has recorded.
    """
    title, record = "Would more labels help?", run.read_record()
    train, validation = reviews.splits["train"], reviews.splits["validation"]
    rarest = int(np.bincount(train.labels, minlength=len(reviews.label_names)).min())
    if rarest < FEWEST:
        why = f"Not known: the rarest label has {rarest:,} train rows, and a curve needs {FEWEST:,} of each."
        return Advice(title, [why, "With so few rows more labels nearly always help."], None, {"rarest": rarest})
    vectors = frozen_vectors(run, labelled_texts(reviews))
    rows, answers = learn(vectors[: len(train)], train.labels, vectors[len(train) :])
    _, logits = TorchClassifier.from_run(run.path).require_recorded_f1(validation, record, len(validation))
    if record.refit:
        # Of the weights that had not learned from these rows.
        logits = np.array(record.refit.logits)
    found, own = measure(rows, answers, validation.labels, logits.argmax(axis=1), len(reviews.label_names))
    forecast = extrapolate(found, own, record.best.f1)
    save_pictures({folder / PICTURE: lambda: draw_curve(found, forecast)})
    lines = _lines(forecast, record)
    return Advice(title, lines, folder / PICTURE, asdict(forecast) | {"rows": len(train), "law": found.law._asdict()})


def learner() -> Pipeline:
    """Return logistic regression on standardised vectors."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def learn(vectors: np.ndarray, labels: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of rows that learners had, int64 (learners,), and their answers, int64 (learners, others).

    Args:
        vectors, others: Of the train rows and of those to answer, float32 (rows, hidden).
        labels: Of the train rows, int64 (rows,).
    """
    subsets = [np.arange(len(labels))]
    for part in sorted(PARTS):
        split = StratifiedShuffleSplit(DRAWS, train_size=len(labels) // part, random_state=part)
        subsets += [subset for subset, _ in split.split(vectors, labels)]
    bar = tqdm(subsets[::-1], desc="learning curve", unit=" subsets", disable=None, leave=False)
    answers = [learner().fit(vectors[subset], labels[subset]).predict(others) for subset in bar]
    return np.array([len(subset) for subset in subsets[::-1]]), np.array(answers)


def measure(
    rows: np.ndarray, answers: np.ndarray, labels: np.ndarray, own: np.ndarray, classes: int
) -> tuple[Curve, np.ndarray]:
    """Return the learners' curve, and F1 of the run on the same resamples of the validation rows, float64 (resamples,).

    Args:
        rows, answers: As `learn` returns them.
        labels, own: Of the validation rows, and the run's answers to them, int64 (rows,).
        classes: Number of classes.
    """
    resampled, _ = resample(labels, np.vstack([answers, own]), classes=classes, resamples=RESAMPLES)
    # The mean over the resamples is F1 on the rows themselves, as a resample adds no bias.
    return Curve(rows, resampled[:, :-1].mean(axis=0), resampled[:, :-1]), resampled[:, -1]


def fit_power_law(n: np.ndarray, f1: np.ndarray, weights: np.ndarray) -> PowerLaw:
    """Return the power law that comes closest, by weighted least squares.

    Hestness et al., *Deep Learning Scaling is Predictable, Empirically*, 2017: errors fall as a power of the rows, to a
    level that no number of rows gets below.

    Args:
        n: Multiples of all train rows, float64 (sizes,).
        f1, weights: (sizes,); a weight is the number of learners that an F1 is the mean of.
    """
    start = (min(f1.max() + 0.05, 1), max(f1.max() - f1.min(), 0.01), 0.5)
    bounds = ([0, 0, 0.1], [1, 1, 2])
    found, _ = curve_fit(
        lambda n, a, b, c: PowerLaw(a, b, c)(n), n, f1, start, 1 / np.sqrt(weights), bounds=bounds, max_nfev=10_000
    )
    return PowerLaw(*found.tolist())


def extrapolate(curve: Curve, own: np.ndarray, f1: float) -> Forecast:
    """Return what twice the rows would bring, from power laws fitted to resamples of validation rows and learners.

    Args:
        own: F1 of the run on the same resamples, float64 (resamples,).
        f1: Of the run, on the rows as they are.
    """
    draw, kept = np.random.default_rng(0), []
    sizes, counts = np.unique(curve.rows, return_counts=True)
    for row in curve.resampled:
        drawn = [draw.choice(row[curve.rows == size], count) for size, count in zip(sizes, counts, strict=True)]
        law = fit_power_law(sizes / sizes[-1], np.array([values.mean() for values in drawn]), counts)
        kept.append((1 - law(2)) / max(1 - law(1), 1e-9))
    # The share of its errors that the run would keep.
    share = np.array(kept)
    # One training more is as lucky as the learners of as many rows differ among each other.
    spread = [curve.f1[curve.rows == size].var(ddof=1) for size in sizes[:-1]]
    luck = draw.standard_t(len(spread) * (DRAWS - 1), len(share)) * np.mean(spread) ** 0.5
    # Luck carries no F1 past its ends.
    twice = np.clip(1 - (1 - own) * share + luck, 0, 1)
    gain = np.clip((1 - f1) * (1 - share) + luck, -f1, 1 - f1)
    return Forecast(f1, *(interval(drawn, LEVEL) for drawn in (own, twice, gain)))


def draw_curve(curve: Curve, forecast: Forecast) -> Figure:
    """Draw the learners' curve, its power law up to twice the rows, and the run's F1 now and then."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes, all_rows = figure.subplots(), int(curve.rows.max())
    reach = np.geomspace(curve.rows.min(), 2 * all_rows, 50)
    style, run = STYLES["tfidf"] | {"linestyle": ""}, STYLES["pytorch"] | {"linestyle": ""}
    axes.plot(curve.rows, curve.f1, **style, label="frozen encoder with logistic regression")
    axes.plot(reach, curve.law(reach / all_rows), color=SLICE_COLOUR, linestyle="--", label="its power law")
    for rows, (low, high) in ((all_rows, forecast.now), (2 * all_rows, forecast.twice)):
        axes.plot([rows, rows], [low, high], color=run["color"], linewidth=2)
    axes.plot(all_rows, forecast.f1, **run, label="this run, and what twice the labels would give (90 %)")
    ticks = [*np.unique(curve.rows), 2 * all_rows]
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="train rows", ylabel="F1 on validation rows")
    axes.set_title("Would more labels help?", fontsize="medium")
    axes.grid(**GRID)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _lines(forecast: Forecast, record: RunRecord) -> list[str]:
    rows, validation = record.rows["train"], record.rows["validation"]
    (low, high), (least, most) = forecast.twice, forecast.gain
    said = f"Twice the labels, {2 * rows:,}: F1 {low:.3f} to {high:.3f} (90 %); now {forecast.f1:.3f}, "
    said += "{:.3f} to {:.3f} by {:,} validation rows.".format(*forecast.now, validation)
    gain = f"A gain of {least:+.3f} to {most:+.3f}, "
    if forecast.is_noise:
        gain += "which is noise: one training differs from the next by as much."
    else:
        gain += "if its errors fall as those of a simpler learner on subsets do."
    hours = rows * SECONDS_PER_REVIEW / 3600
    cost = f"The cost: {rows:,} labels, some {hours:,.1f} hours, and a training of some {2 * record.seconds:,.0f} s."
    return [said, gain, cost]

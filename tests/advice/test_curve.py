"""Whether more labels would help: power laws, forecasts, and the answer for a run."""

from pathlib import Path

import numpy as np
import pytest

from recipe.advice.curve import Curve, PowerLaw, curve, extrapolate, fit_power_law, learn
from recipe.data import reviews_of
from recipe.run_folder import RunFolder

SIZES = np.repeat([500, 1000, 2000, 4000], [3, 3, 3, 1])


def planted(law: PowerLaw, noise: float, seed: int) -> tuple[Curve, np.ndarray, float]:
    """A curve of learners whose law is known, and a run that is luckier than they are by 0.1; F1 of twice the rows."""
    draw = np.random.default_rng(seed)
    f1 = law(SIZES / 4000) + draw.normal(0, noise, len(SIZES))
    resampled = f1 + draw.normal(0, noise, (30, 1))
    share = (1 - law(2.0)) / (1 - law(1.0))
    own = 1 - (1 - law(1.0)) / 2 + draw.normal(0, noise)
    truth = 1 - (1 - law(1.0)) / 2 * share + draw.normal(0, noise)
    return Curve(SIZES, f1, resampled), own + draw.normal(0, noise, 30), truth


@pytest.mark.parametrize("c", [0.3, 0.6, 0.9])
def test_the_law_of_a_learner_is_found_again(c: float) -> None:
    law, n = PowerLaw(0.95, 0.05, c), np.array([0.06, 0.125, 0.25, 0.5, 1.0])
    found = fit_power_law(n, law(n), np.ones(5))
    assert found == pytest.approx(law, abs=0.02)


def test_learners_that_are_many_count_for_more_than_one() -> None:
    n, f1 = np.array([0.125, 0.25, 0.5, 1.0]), np.array([0.7, 0.75, 0.78, 0.9])
    few, many = (fit_power_law(n, f1, np.array([count] * 3 + [1])) for count in (1, 50))
    assert abs(many(0.5) - 0.78) < abs(few(0.5) - 0.78)


def test_a_forecast_holds_what_twice_the_rows_give_in_sixteen_of_twenty_tries() -> None:
    held = 0
    for seed in range(20):
        found, own, truth = planted(PowerLaw(0.9, 0.08, 0.5), 0.005, seed)
        low, high = extrapolate(found, own, float(own.mean())).twice
        held += low <= truth <= high
        assert high - low < 0.06
    assert held >= 16


def test_a_flat_curve_is_noise_and_a_steep_one_is_not() -> None:
    flat, own, _ = planted(PowerLaw(0.9, 0.0, 0.5), 0.003, 0)
    assert extrapolate(flat, own, 0.95).is_noise
    steep, own, _ = planted(PowerLaw(0.9, 0.2, 0.5), 0.003, 0)
    forecast = extrapolate(steep, own, float(own.mean()))
    assert not forecast.is_noise
    # Half of the learners' errors: (1 - 0.9 + 0.2 / sqrt 2) / (1 - 0.9 + 0.2), of an error of 0.15.
    assert forecast.gain[0] < 0.15 * (1 - 0.2414 / 0.3) < forecast.gain[1]


def test_no_forecast_of_f1_is_above_one_or_below_none() -> None:
    lucky, own, _ = planted(PowerLaw(0.9, 0.08, 0.5), 0.1, 0)
    perfect = extrapolate(lucky, np.ones_like(own), 1.0)
    assert perfect.twice[1] == 1 and perfect.gain[1] == 0 and perfect.is_noise
    assert perfect.twice[0] < 1 and perfect.gain[0] == pytest.approx(perfect.twice[0] - 1)
    hopeless = extrapolate(lucky, np.full_like(own, 0.01), 0.01)
    assert hopeless.twice[0] == 0 and hopeless.gain[0] == -0.01


def test_subsets_are_an_eighth_a_quarter_half_and_all_of_the_rows() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2
    vectors = draw.normal(0, 0.1, (80, 3)) + labels[:, None]
    rows, answers = learn(vectors, labels, vectors)
    assert rows.tolist() == [10] * 3 + [20] * 3 + [40] * 3 + [80]
    assert (answers == labels).all()


def test_a_run_is_told_what_twice_its_labels_would_bring(tiny_run: RunFolder, tmp_path: Path) -> None:
    reviews = reviews_of(tiny_run)
    del reviews.splits["test"]
    answer = curve(tiny_run, reviews, tmp_path)
    assert answer.file == tmp_path / "curve.png" and answer.file.read_bytes().startswith(b"\x89PNG")
    assert len(answer.lines) == 3 and answer.figures["rows"] == 240
    # A model without a mistake has nothing to gain.
    assert "480: F1" in answer.lines[0] and "noise" in answer.lines[1] and "240 labels" in answer.lines[2]


def test_too_few_rows_of_a_label_make_no_curve(tiny_run: RunFolder, tmp_path: Path) -> None:
    reviews = reviews_of(tiny_run)
    train = reviews.splits["train"]
    reviews.splits["train"] = train.take(np.flatnonzero((train.labels == 0) | (np.arange(len(train)) < 20)))
    answer = curve(tiny_run, reviews, tmp_path)
    assert answer.file is None and answer.lines[0].startswith("Not known")
    assert not list(tmp_path.iterdir())

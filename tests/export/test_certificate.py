"""The verdict on a variant is the true one: what is drawn here has a loss of F1 that is known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from recipe.export.certificate import f1_drop_interval, judge, reviews_that_decide
from recipe.run_folder import RunFolder, VariantCertificate

BUDGET = 0.01
TWO, FIVE = [0.5, 0.5], [0.45, 0.3, 0.13, 0.08, 0.04]


class Population:
    """Reviews without end: how frequent each label is, and what PyTorch and a variant answer to it.

    Attributes:
        probabilities: float64 (classes, classes, classes), of a true label, PyTorch's answer and the variant's.
        drop: F1 that the variant loses on all of them.
    """

    def __init__(self, shares: Sequence[float], right: float, flips: float | Sequence[float], harm: bool) -> None:
        """Flip PyTorch's answers, with a probability for each true label; only right ones if `harm`, else any."""
        self.classes = classes = len(shares)
        true, expected, answered = np.indices((classes,) * 3)
        said = np.where(expected == true, right, (1 - right) / (classes - 1))
        flipped = np.broadcast_to(np.asarray(flips), classes)[true] * ((expected == true) | (not harm))
        kept = np.where(answered == expected, 1 - flipped, flipped / (classes - 1))
        self.probabilities = np.asarray(shares)[true] * said * kept
        self.kinds = np.array([true, expected, answered]).reshape(3, -1)
        self.drop = self.f1_drop(np.arange(classes), self.kinds, self.probabilities.ravel())

    def f1_drop(self, present: np.ndarray, kinds: np.ndarray, weights: np.ndarray | None = None) -> float:
        """F1 that the variant loses, with scikit-learn: of label 1, or averaged over the labels that are present."""
        of = {"average": "binary"} if self.classes == 2 else {"average": "macro", "labels": present}
        scores = [f1_score(kinds[0], kinds[model], sample_weight=weights, zero_division=0.0, **of) for model in (1, 2)]
        return float(scores[0] - scores[1])

    def draw(self, reviews: int, generator: np.random.Generator) -> np.ndarray:
        """True labels, PyTorch's answers and the variant's, int64 (3, reviews)."""
        counts = generator.multinomial(reviews, self.probabilities.ravel())
        return np.repeat(self.kinds, counts, axis=1)


@pytest.fixture(scope="module")
def measured(exported_run: RunFolder) -> VariantCertificate:
    """Measurements of an int8 variant that has nothing wrong with it."""
    return exported_run.read_certificate().variants["int8"]


def judged(measured: VariantCertificate, population: Population, rows: np.ndarray) -> VariantCertificate:
    """The verdict on a variant that answers so."""
    true, expected, answered = rows
    found = replace(
        measured,
        labels_flipped=int((expected != answered).sum()),
        f1_drop=population.f1_drop(np.unique(true), rows),
        f1_drop_interval=f1_drop_interval(true, expected, answered, population.classes),
    )
    return judge("int8", found, len(true), BUDGET)


@pytest.mark.parametrize(
    ("drop", "ends", "verdict", "said"),
    [
        (0.0, [-0.004, 0.01], "certified", None),
        (0.0, [-0.058, 0.058], "undecided", "it may cost 0.0580 of F1 (95 % interval -0.0580 to 0.0580, allowed 0.01)"),
        (0.02, [0.01, 0.03], "undecided", "is undecided: on 1,000 validation reviews it may cost 0.0300 of F1"),
        (
            0.02,
            [0.011, 0.03],
            "worse",
            "is worse: on 1,000 validation reviews it costs 0.0200 of F1",
        ),
    ],
)
def test_a_variant_is_worse_only_if_the_whole_interval_is_over_its_budget(
    drop: float, ends: list[float], verdict: str, said: str | None, measured: VariantCertificate
) -> None:
    found = judge("int8", replace(measured, f1_drop=drop, f1_drop_interval=ends), 1000, BUDGET)
    assert found.verdict == verdict
    assert (said in found.objection) if said and found.objection else said is found.objection is None
    assert (found.reviews_needed is not None) == (verdict == "undecided")


def test_what_gives_no_numbers_is_worse_however_wide_its_interval(measured: VariantCertificate) -> None:
    found = judge("int8", replace(measured, finite=False, f1_drop_interval=[-0.1, 0.1]), 60, BUDGET)
    assert (found.verdict, found.objection, found.reviews_needed) == ("worse", "gives NaN or infinite logits", None)


def test_a_drop_too_near_the_budget_is_not_promised_a_number(measured: VariantCertificate) -> None:
    for drop in (BUDGET, BUDGET + 1e-5, BUDGET - 1e-5):
        near = replace(measured, labels_flipped=30, f1_drop=drop, f1_drop_interval=[-0.01, 0.03])
        found = judge("int8", near, 1000, BUDGET)
        assert found.verdict == "undecided" and found.reviews_needed is None
        assert found.objection and found.objection.endswith("allowed 0.01); more than a million would decide")


def test_with_many_flips_the_reviews_needed_are_those_of_a_textbook(measured: VariantCertificate) -> None:
    # Half the interval is 1.96 standard errors. 80 % of draws end within the budget where (1.96 + 0.84) of them are as
    # long as the way to it: 4,000 reviews give 0.01, a way of 0.005 needs (1.4 * 2) ** 2 times as many, 32,700.
    found = replace(measured, labels_flipped=100_000, f1_drop=0.005, f1_drop_interval=[-0.005, 0.015])
    assert reviews_that_decide(found, 4000, BUDGET) == 33_000
    over = replace(found, f1_drop=0.015, f1_drop_interval=[0.005, 0.025])
    assert reviews_that_decide(over, 4000, BUDGET) == 33_000, "as many as tell that it is worse"


@pytest.mark.slow
@pytest.mark.parametrize("reviews", [60, 200, 1000])
@pytest.mark.parametrize(
    "population",
    [
        *(Population(shares, 0.85, flips, True) for shares in (TWO, [0.9, 0.1], FIVE) for flips in (0.003, 0.01, 0.03)),
        Population(TWO, 0.85, 0.01, False),
        Population(FIVE, 0.7, 0.01, False),
        # All in the rarest label, of which 60 reviews hold two or three.
        Population(FIVE, 0.7, [0, 0, 0, 0, 0.2], True),
        Population([0.9, 0.1], 0.85, [0, 0.2], True),
    ],
    ids=lambda population: f"{population.classes} labels, drop {population.drop:.4f}",
)
def test_the_interval_holds_the_true_drop_in_93_of_100_draws(population: Population, reviews: int) -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        rows = population.draw(reviews, generator)
        low, high = f1_drop_interval(*rows, population.classes)
        # What is held is the average over the labels that these reviews have.
        true = population.f1_drop(np.unique(rows[0]), population.kinds, population.probabilities.ravel())
        held += low <= true <= high
    assert held / 400 >= 0.93, held / 400


@pytest.mark.slow
@pytest.mark.parametrize("reviews", [60, 200, 1000])
@pytest.mark.parametrize(
    "population",
    [Population(TWO, 0.85, 0.003, False), Population(TWO, 0.85, 0.03, True), Population(FIVE, 0.7, 0.003, False)],
    ids=lambda population: f"{population.classes} labels, drop {population.drop:.4f}",
)
def test_as_many_reviews_as_are_named_decide_in_most_draws(
    population: Population, reviews: int, measured: VariantCertificate
) -> None:
    generator, decided = np.random.default_rng(1), []
    for _ in range(100):
        found = judged(measured, population, population.draw(reviews, generator))
        if found.reviews_needed:
            more = judged(measured, population, population.draw(found.reviews_needed, generator))
            decided.append(more.verdict != "undecided")
    assert len(decided) < 5 or np.mean(decided) > 0.6, np.mean(decided)


@pytest.mark.slow
def test_measuring_again_does_not_certify_what_is_over_its_budget(measured: VariantCertificate) -> None:
    """A drop just over the budget is certified in at most 1 of 20 runs that have 16,000 validation rows."""
    population, generator, certified = Population(TWO, 0.85, 0.0126, True), np.random.default_rng(2), 0
    assert BUDGET < population.drop < BUDGET + 0.001
    for _ in range(200):
        rows = generator.permutation(population.draw(16_000, generator), axis=1)
        found, seen = judged(measured, population, rows[:, :1000]), 1000
        while found.verdict == "undecided" and seen < 16_000:
            seen = min(found.reviews_needed or 16_000, 16_000)
            found = judged(measured, population, rows[:, :seen])
        certified += found.verdict == "certified"
    assert certified <= 10, certified

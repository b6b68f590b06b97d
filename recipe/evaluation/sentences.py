"""What the screen and the model card say of a report."""

from collections.abc import Callable, Iterator

from recipe.evaluation.thresholds import Share
from recipe.evaluation.types import Report
from recipe.inference.decision import Decision
from recipe.metrics.significance import SIGNIFICANCE

BASELINE = "tfidf"


def named_shares(report: Report) -> Iterator[tuple[str, Share]]:
    """Yield the figures of the served answers, each with its name."""
    answers, macro = report.answers, "" if len(report.labels) == 2 else "macro "
    yield f"{macro}F1", answers.f1
    yield "accuracy", answers.accuracy
    yield f"{macro}precision", answers.precision
    yield f"{macro}recall", answers.recall
    if doubtful := answers.doubtful:
        yield "share left to people", doubtful.share
        if doubtful.accuracy:
            yield "accuracy of the rest", doubtful.accuracy
        if doubtful.precision:
            yield "precision of the rest", doubtful.precision
        if doubtful.accuracy_of_doubtful:
            yield "accuracy of those left", doubtful.accuracy_of_doubtful


def describe_served(report: Report, quote: Callable[[str], str] = repr) -> str:
    """Return the served variant and its decision; `quote` sets off a label's name."""
    said, doubtful = describe_decision(report.decision, report.labels, quote), report.answers.doubtful
    people = f"; {doubtful.reviews:,} of {report.answers.reviews:,} reviews are left to people" if doubtful else ""
    return f"{report.served}, {said}{people}"


def describe_decision(decision: Decision, label_names: list[str], quote: Callable[[str], str] = repr) -> str:
    """Return which answer a decision gives; a review that it leaves to people has an answer too."""
    if decision.threshold is None:
        return "the most probable label"
    return f"{quote(label_names[1])} from {decision.threshold:.4f} on"


def describe_ordinal(report: Report) -> str | None:
    """Return how far off the answers are, where the labels are numbers in order."""
    if (found := report.ordinal) is None:
        return None
    kappa = "undefined" if found.quadratic_kappa is None else f"{found.quadratic_kappa:.4f}"
    return (
        f"Labels as numbers: mean absolute error {found.mean_absolute_error:.4f}, {100 * found.within_one:.1f} % of "
        f"the answers at most one step off, quadratic kappa {kappa}."
    )


def describe_left_out(report: Report) -> str:
    """Return what a model without its decision does not know."""
    parts = ["no temperature"]
    parts += ["no threshold"] * (report.decision.threshold is not None)
    parts += ["no doubtful review"] * (report.decision.certain_from is not None)
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def describe_unlike(report: Report, name: str) -> str:
    """Return how many test reviews get another label from a variant's most probable labels than is served."""
    changed, reviews = report.variants[name].labels_not_served, report.answers.reviews
    if not changed:
        return f"each of the {reviews:,} test reviews gets the label that is served"
    return f"{changed:,} of the {reviews:,} test reviews get{'s' * (changed == 1)} another label than the one served"


def describe_differences(report: Report) -> list[str]:
    """Return a sentence per comparison of most probable labels: is the difference more than noise, and how large.

    More than noise means that an exact McNemar test of accuracy rejects chance at 5 %, shared by all comparisons
    (Bonferroni). So at most one report in twenty takes chance for a difference.
    """
    differences = {(found.first, found.second): found for found in report.intervals.differences}
    sentences = []
    for test in report.mcnemar:
        first, second = f"**{test.first}**", f"**{test.second}**"
        if not test.only_first_right + test.only_second_right:
            sentences.append(f"{first} and {second} are right on the same reviews.")
            continue
        verdict = f"{first} differs from {second} in accuracy by **no more than noise**"
        if test.p_value < SIGNIFICANCE / len(report.mcnemar):
            word = "more" if test.only_first_right > test.only_second_right else "less"
            verdict = f"{first} is {word} accurate than {second} by **more than noise**"
        found = differences[test.first, test.second]
        # Adding 0 makes of -0.0, which would be printed with its sign, a 0.
        ours, theirs = test.only_first_right, test.only_second_right
        # Of many reviews it may be too small for a float.
        chance = f"= {test.p_value:.2g}" if test.p_value else "< 1e-300"
        sentences.append(
            f"{verdict}: only {test.first} is right on {ours:,} review{'s' * (ours != 1)}, only {test.second} on "
            f"{theirs:,} (exact McNemar p {chance}); F1 {round(found.f1, 4) + 0:+.4f}, "
            f"95 % interval {found.f1_interval[0]:+.4f} to {found.f1_interval[1]:+.4f}."
        )
    return sentences

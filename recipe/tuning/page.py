"""A search on the screen, as a page of Markdown, and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution

from recipe.files.atomic import write_json, write_whole
from recipe.metrics.scores import figures_by_label, label_notes
from recipe.pictures.style import GRID, REFERENCE, SLICE_COLOUR, save_pictures
from recipe.text_table import markdown
from recipe.training.job import TrainingJob
from recipe.tuning.record import BEST, TUNING, TrialRecord, Tuning, answers_of, best_of
from recipe.tuning.space import describe, first_of

PICTURE = "trials.png"
# The settings that are searched for, as a table has them.
COLUMNS = {
    "learning_rate": ("rate", ".2g"),
    "num_train_epochs": ("epochs", "g"),
    "global_batch_size": ("batch", "d"),
    "warmup_ratio": ("warm-up", ".2f"),
    "max_length": ("tokens", "d"),
}
NAMES = [name for name, _ in COLUMNS.values()]
ENDED_EARLY = "#D55E00"


def line(cells: Sequence[str]) -> str:
    """Return a line of the table on the screen, whose last cell is a sentence."""
    *figures, note = cells
    return f"{''.join(cell.rjust(9) for cell in figures)}  {note}".rstrip()


HEAD = line(["trial", *NAMES, "val F1", "best", "seconds", "left"])


def opening(job: TrainingJob, space: Mapping[str, BaseDistribution], folder: Path, done: int, wanted: int) -> str:
    """Return the first lines on the screen: the rows, the first trial, and what is tried."""
    rows = {name: f"{len(split):,}" for name, split in job.reviews.splits.items()}
    first = zip(NAMES, values_of(first_of(job.arguments)), strict=True)
    tried = "; ".join(f"{name} {describe(space[key])}" for key, (name, _) in COLUMNS.items())
    return "\n".join(
        [
            f"search     {wanted:,} trials" + (f", {done:,} of them done" if done else ""),
            f"rows       {rows['train']} train; {rows['validation']} validation, which F1 is of. No test row is read",
            f"first      {', '.join(' '.join(pair) for pair in first)}: {job.arguments.reason}",
            f"tried      {tried}",
            f"output     {folder}",
        ]
    )


def line_of(trials: Sequence[TrialRecord], wanted: int) -> str:
    """Return the line of the last of some trials, with the best of them and how long the others will take."""
    trial, best = trials[-1], best_of(trials)
    left = (wanted - trial.number) * sum(other.seconds for other in trials) / len(trials)
    so_far = f"{best.f1:.4f}" if best else "–"
    note = f"{left / 60:,.0f} min" if left >= 90 else f"{left:.0f} s"
    cells = [f"{trial.number}/{wanted}", *values_of(trial.settings), _f1(trial), so_far, f"{trial.seconds:,.1f}"]
    return line([*cells, f"{note}  {trial.ended_early}"])


def values_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the values of what is searched for, as texts."""
    return [format(settings[name], form) for name, (_, form) in COLUMNS.items()]


def findings(tuning: Tuning) -> list[str]:
    """Return what the search has found, and what that is worth, in sentences."""
    best, first, rows = tuning.trial(tuning.best), tuning.trial(1), f"{tuning.rows['validation']:,}"
    low, high = tuning.interval
    known = f"F1 {best.f1:.4f} (95 % interval {low:.4f} to {high:.4f} on {rows} validation rows)"
    if best is first:
        said = [f"No trial was better than the first, which has the settings that train.py takes by itself: {known}."]
    elif first.f1 is None:
        said = [f"Trial {best.number} is the best: {known}. The first, with train.py's own settings, was lost."]
    else:
        within = low <= first.f1
        worth = "which is within the interval: the gain may be chance" if within else "which is below the interval"
        said = [
            f"Trial {best.number} is the best: {known}. "
            f"The first, with the settings that train.py takes by itself, has {first.f1:.4f}, {worth}."
        ]
    figures = figures_by_label(*answers_of(best.confusion or []), len(tuning.labels))
    return said + [
        *label_notes(figures, tuning.labels, "validation"),
        f"The {rows} validation rows have now seen {tuning.seen:,} trials. The best was chosen on them, so its F1 is "
        "flattered; only test rows, which no trial has read, say what it is worth.",
    ]


def page(tuning: Tuning, folder: Path) -> str:
    """Return the search as Markdown, with the picture."""
    rows = [["trial", *NAMES, "validation F1", "epoch", "seconds", ""]]
    for trial in tuning.trials:
        epoch = "–" if trial.epoch is None else f"{trial.epoch:g}"
        note = "**best**" if trial.number == tuning.best else trial.ended_early
        rows.append([str(trial.number), *values_of(trial.settings), _f1(trial), epoch, f"{trial.seconds:,.1f}", note])
    head = [f"# {len(tuning.trials)} trials of {tuning.wanted}", "", *findings(tuning), ""]
    table = markdown(rows, ["--:"] * len(rows[0]))
    tried = [f"- {name}: {tuning.space[key]}" for key, (name, _) in COLUMNS.items()]
    again = ["```sh", f"accelerate launch scripts/train.py --config {folder / BEST}", "```"]
    return "\n".join(
        [*head, f"![F1 by trial and by rate]({PICTURE})", "", *table, "", "## What was tried", "", *tried, ""]
        + ["## Train the best again", "", *again, "", f"In full: [{TUNING}]({TUNING})."]
    )


def draw_trials(tuning: Tuning) -> Figure:
    """Draw the validation F1 of each trial in their order, with the best so far, and against the learning rate."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    seen = [trial for trial in tuning.trials if trial.f1 is not None]
    for early, marker, label in ((False, "o", "trained to its end"), (True, "x", "ended early")):
        some = [trial for trial in seen if bool(trial.ended_early) is early]
        style = {"linestyle": "", "marker": marker, "color": ENDED_EARLY if early else SLICE_COLOUR, "label": label}
        scores = [trial.f1 for trial in some]
        left.plot([trial.number for trial in some], scores, **style)
        right.plot([trial.settings["learning_rate"] for trial in some], scores, **style)
    so_far = [(trial.number, best.f1) for trial in seen if (best := best_of(tuning.trials[: trial.number]))]
    left.step(*zip(*so_far, strict=True), where="post", color=SLICE_COLOUR, linewidth=1, label="best so far")
    first = tuning.trial(1).f1
    for axes, name in ((left, "trial"), (right, "learning rate")):
        if first is not None:
            axes.axhline(first, **REFERENCE, label="the first, train.py's own settings")
        axes.set_xlabel(name)
        axes.grid(**GRID)
    left.set_ylabel(f"F1 on {tuning.rows['validation']:,} validation rows")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    return figure


def write_tuning(tuning: Tuning, settings: Mapping[str, Any], folder: Path) -> None:
    """Write `best.yaml`, `tuning.json`, `README.md` and the picture of a search into its folder."""
    best = tuning.trial(tuning.best)
    head = (
        f"# Trial {best.number} of {len(tuning.trials)}: validation F1 {best.f1:.4f}, chosen on the validation rows.\n"
    )
    write_whole(folder / BEST, head + yaml.safe_dump(dict(settings), allow_unicode=True, sort_keys=True))
    write_json(folder / TUNING, tuning.to_json())
    write_whole(folder / "README.md", page(tuning, folder) + "\n")
    save_pictures({folder / PICTURE: lambda: draw_trials(tuning)})


def _f1(trial: TrialRecord) -> str:
    return "–" if trial.f1 is None else f"{trial.f1:.4f}"

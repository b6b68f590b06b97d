"""Search for settings: Optuna proposes, each trial is a training on the same rows, the validation rows decide.

Optuna is asked directly. `Trainer.hyperparameter_search` keeps one Trainer for all trials, so that it could not search
for `max_length`, which changes the tokens; it sets attributes of the arguments without checking them; and it keeps a
checkpoint per validation. Here a trial is prepared as every run is, so that its settings train the same model again.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from recipe import __version__
from recipe.arguments.parser import Arguments, with_settings
from recipe.data.reviews import load_reviews
from recipe.errors import CheckFailed, UsageError
from recipe.files.atomic import write_whole
from recipe.run_folder import versions
from recipe.training.job import TrainingJob, prepare
from recipe.training.resuming import require_same_run
from recipe.tuning.record import TRIALS, TrialRecord, Tuning, best_of, f1_interval
from recipe.tuning.space import describe, first_of, settings_of, space_of
from recipe.tuning.trial import train_trial

# Trials that are drawn at random before those before them are learned from, the first included.
RANDOM_TRIALS = 5
# Trials that have to be whole before others are held against them.
WHOLE_TRIALS = 3
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class Search:
    """A search in a folder of its own, which holds every trial that is done."""

    def __init__(self, arguments: Arguments, folder: Path) -> None:
        """Read the reviews, and open the folder's trials or begin with none.

        Raises:
            UsageError: The rows, the weights or a setting do not allow it, or the trials are of other ones.
        """
        reviews = load_reviews(arguments.data, arguments.training.seed)
        # No trial may see them. They were needed to keep their texts out of the train rows.
        reviews.splits.pop("test", None)
        settings = arguments.resolved | {"output_dir": str(folder)}
        self.job = prepare(with_settings(arguments, settings, arguments.reason), reviews)
        self.folder, self.space = folder, space_of(self.job)
        self.study = open_study(folder, self.job, self.space)

    @property
    def done(self) -> list[TrialRecord]:
        """Return the trials that are done."""
        return [
            TrialRecord(number, trial.params, **trial.user_attrs["figures"])
            for number, trial in enumerate(self.study.get_trials(deepcopy=False, states=DONE), 1)
        ]

    def run_trial(self, description: str) -> None:
        """Run the next trial; a signal raises `Interrupted`, and the trial is then tried again."""
        begun, seed = time.perf_counter(), [self.job.arguments.training.seed, len(self.done)]
        # A sampler of its own for each trial: after a stop it proposes what it would have proposed without one.
        state = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=state)
        trial = self.study.ask(self.space)
        job = prepare(self.arguments_of(trial.params), self.job.reviews)
        best, ended_early = train_trial(job, trial, description)
        figures = dataclasses.asdict(best) if best else dict.fromkeys(("f1", "loss", "epoch", "confusion"))
        figures |= {"seconds": round(time.perf_counter() - begun, 1), "ended_early": ended_early}
        trial.set_user_attr("figures", figures)
        if ended_early:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, figures["f1"])

    def arguments_of(self, params: dict[str, Any]) -> Arguments:
        """Return the arguments of a trial."""
        settings = settings_of(params, self.job.arguments, len(self.job.reviews.splits["train"]))
        found = with_settings(self.job.arguments, settings, "a trial of tune.py")
        return dataclasses.replace(found, from_rows=frozenset())

    def tuning(self, wanted: int) -> Tuning:
        """Return what the search has found so far; raise `CheckFailed` if no trial came to its end."""
        trials, arguments = self.done, self.job.arguments
        best = best_of(trials)
        if best is None:
            why = "; ".join(sorted({trial.ended_early for trial in trials}))
            raise CheckFailed(f"none of {len(trials)} trials in {self.folder} came to its end: {why}")
        return Tuning(
            recipe=__version__,
            versions=versions() | {"optuna": optuna.__version__},
            labels=self.job.reviews.label_names,
            rows={name: len(split) for name, split in self.job.reviews.splits.items()},
            seed=arguments.training.seed,
            space={name: describe(values) for name, values in self.space.items()},
            wanted=wanted,
            seen=arguments.training.tuned_trials + len(trials),
            trials=trials,
            best=best.number,
            interval=f1_interval(best.confusion or []),
        )

    def best_settings(self, found: Tuning) -> dict[str, Any]:
        """Return the best trial's settings, as `--config` takes them, for a run beside the search's folder."""
        settings = self.arguments_of(found.trial(found.best).settings).resolved
        return settings | {"output_dir": f"{self.folder}_best", "tuned_trials": found.seen}


def require_folder(folder: Path) -> None:
    """Raise a `UsageError` if a folder holds something else than the trials of a search, which goes on there."""
    if folder.is_dir() and not (folder / TRIALS).is_file() and any(path.name != ".lock" for path in folder.iterdir()):
        raise UsageError(f"--output_dir {folder} holds other files than a search: choose another folder")


def open_study(folder: Path, job: TrainingJob, space: dict[str, BaseDistribution]) -> optuna.Study:
    """Return the study of a folder, whose next trial is one that was cut off, if any, or the first of all.

    Raises:
        UsageError: Its trials are damaged, or of other rows, weights or settings.
    """
    path = folder / TRIALS
    if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
        # The line that a full disk or a power cut has left incomplete; the next would be appended to it.
        write_whole(path, content[: content.rfind(b"\n") + 1])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    identity = job.trainer.identity | {"space": {name: str(values) for name, values in space.items()}}
    try:
        study = optuna.create_study(
            study_name="tune",
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WHOLE_TRIALS),
            direction="maximize",
            load_if_exists=True,
        )
        known, cut_off = study.user_attrs.get("identity"), study.get_trials(states=(TrialState.RUNNING,))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UsageError(f"{path} is damaged ({error}): choose another --output_dir") from error
    if known:
        # What is tried follows from the rest, unless it was begun with an earlier version.
        for expected in (job.trainer.identity, identity):
            require_same_run(folder, {"run": known}, expected)
    else:
        study.enqueue_trial(first_of(job.arguments), skip_if_exists=True)
        study.set_user_attr("identity", identity)
    for trial in cut_off:
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)
    return study

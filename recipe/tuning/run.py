"""Run a search for settings, with a line per trial."""

from pathlib import Path
from signal import SIGINT

from recipe.arguments.parser import Arguments
from recipe.errors import Interrupted
from recipe.files.lock import holding
from recipe.tuning.page import HEAD, line_of, opening, write_tuning
from recipe.tuning.record import Tuning
from recipe.tuning.search import Search, require_folder
from recipe.tuning.space import require_searchable


def tune(arguments: Arguments, n_trials: int, folder: Path) -> Tuning:
    """Search until `n_trials` are done, earlier ones in the folder included, and write what was found into it.

    Raises:
        UsageError: A setting, the rows, the weights or the folder do not allow it; nothing was trained.
        CheckFailed: No trial came to its end.
        Interrupted: A signal came. The trials that are done are kept, and what they have found is written.
    """
    require_searchable(arguments)
    with holding(folder / ".lock", f"{folder} is being written", "--output_dir"):
        require_folder(folder)
        search = Search(arguments, folder)
        print(opening(search.job, search.space, folder, len(search.done), n_trials), flush=True)
        try:
            run_trials(search, n_trials)
        except (Interrupted, KeyboardInterrupt, SystemExit) as end:
            done = len(search.done)
            if done:
                found = search.tuning(n_trials)
                write_tuning(found, search.best_settings(found), folder)
            number = SIGINT if isinstance(end, KeyboardInterrupt) else int(end.code or 0) - 128
            message = f"stopped after {done} of {n_trials} trials, which are kept in {folder}. The same command goes on"
            raise Interrupted(message, number) from None
        found = search.tuning(n_trials)
        write_tuning(found, search.best_settings(found), folder)
        return found


def run_trials(search: Search, n_trials: int) -> None:
    """Run trials until so many are done, and print a line for each, those of an earlier start first."""
    print(HEAD)
    for number in range(1, n_trials + 1):
        if number > len(search.done):
            search.run_trial(f"trial {number} of {n_trials}")
        print(line_of(search.done[:number], n_trials), flush=True)

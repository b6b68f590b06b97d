"""Run a search for settings, with a line per trial."""

from pathlib import Path

from recipe.arguments.parser import Arguments
from recipe.errors import Interrupted, signal_of
from recipe.files.lock import holding
from recipe.tuning.page import HEAD, line_of, opening, write_tuning
from recipe.tuning.record import Tuning, best_of
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
        wanted = max(n_trials, len(search.done))
        print(opening(search.job, search.space, folder, len(search.done), wanted), flush=True)
        try:
            run_trials(search, wanted)
        except (Interrupted, KeyboardInterrupt, SystemExit) as end:
            done = search.done
            if best_of(done):
                write_found(search, wanted)
            kept = f"{len(done)} of {wanted} trials are done and kept in {folder}"
            raise Interrupted(f"stopped: {kept}. The same command goes on", signal_of(end)) from None
        return write_found(search, wanted)


def run_trials(search: Search, n_trials: int) -> None:
    """Run trials until so many are done, and print a line for each, those of an earlier start first."""
    print(HEAD)
    for number in range(1, n_trials + 1):
        if number > len(search.done):
            search.run_trial(f"trial {number} of {n_trials}")
        print(line_of(search.done[:number], n_trials), flush=True)


def write_found(search: Search, wanted: int) -> Tuning:
    """Write what a search has found into its folder, and return it."""
    found = search.tuning(wanted)
    write_tuning(found, search.best_settings(found), search.folder)
    return found

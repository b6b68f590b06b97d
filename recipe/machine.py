"""The machine a process runs on: its cores, its rank among other processes, and quiet libraries."""

import os
import sys


def silence_libraries() -> None:
    """Keep the libraries' progress, advice and deprecation notes off the screen; their errors still raise.

    Set in the environment, before any of them is imported, so that worker processes inherit it. What the user has
    already set is left alone.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # It logs as errors what it then raises, on a second line.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # The tokenizer is used before data-loader workers fork; without a choice made here it warns in each of them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


def is_main_process() -> bool:
    """Return whether this is the process, of several that train together, that speaks and writes for all."""
    return int(os.environ.get("RANK", 0)) == 0


def usable_cores() -> int:
    """Return how many cores this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Describe the machine a process runs on (cores, rank) and quiet the libraries."""

import os
import sys
import warnings


def silence_libraries() -> None:
    """Hide the libraries' progress, advice and deprecation notes; their errors still raise.

    Sets the environment before any library is imported, so that worker processes inherit it. Variables that the user
    has set stay.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # datasets logs an error and then raises it, which would make two lines.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # The tokenizer is used before data-loader workers fork; without a choice made here it warns in each of them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def is_main_process() -> bool:
    """Return whether this is the main process (rank 0), which alone prints and writes."""
    return int(os.environ.get("RANK", 0)) == 0


def usable_cores() -> int:
    """Return how many cores this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

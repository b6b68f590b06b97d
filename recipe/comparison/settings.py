"""Settings in which runs differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe.comparison.runs import EvaluatedRun
from recipe.evaluation.sentences import describe_decision

# They say where a run was written and how it was shown, not what it is.
NO_SETTINGS = {"output_dir", "overwrite_output_dir", "disable_tqdm"}


def differing_settings(runs: Sequence[EvaluatedRun]) -> dict[str, list[str]]:
    """Return each run's value, as text, of the settings in which two of them differ, by the setting's name.

    First come what is no setting and differs all the same: train rows, decision and version. A path is shortened to the
    name of its file or folder, unless that would make two of them look alike. A `–` is a library's default.
    """
    keys = sorted({key for run in runs for key in run.settings} - NO_SETTINGS)
    found = {
        "train rows": [f"{run.record.rows['train']:,} ({run.record.rows_sha256['train'][:8]})" for run in runs],
        "decision": [_decision(run) for run in runs],
        "version": [run.record.recipe for run in runs],
    }
    found |= {key: _texts([run.settings.get(key) for run in runs]) for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _decision(run: EvaluatedRun) -> str:
    people = f", {run.doubtful:,} left to people" if run.doubtful else ""
    return describe_decision(run.evaluation.decision, run.evaluation.labels) + people


def _texts(values: Sequence[Any]) -> list[str]:
    """Return values as texts, with paths shortened where the texts are as different as the values."""
    parts = [list(map(str, value)) if isinstance(value, list) else [_text(value)] for value in values]
    whole = [" ".join(some) for some in parts]
    short = [" ".join(Path(part).name or part for part in some) for some in parts]
    return short if len(set(short)) == len(set(whole)) else whole


def _text(value: Any) -> str:
    return "–" if value is None else str(value)

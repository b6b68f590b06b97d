"""The settings that a search tries, and the first of them: those that train.py would take."""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recipe.arguments.parser import Arguments
from recipe.arguments.schedule import BATCHES, FEW_STEPS, VALIDATED, steps_per_epoch, validated
from recipe.arguments.training import share_batch
from recipe.errors import UsageError
from recipe.files.parts import joined_name
from recipe.model.pretrained import readable_tokens
from recipe.training.job import TrainingJob

# Around what BERT's authors (Devlin et al., 2019) and Mosbach et al. (2021) chose from.
LOW_RATE, HIGH_RATE = 1e-5, 1e-4
WARMUP = 0.2
LENGTHS = (64, 96, 128, 192, 256)
SEARCHED = ("learning_rate", "num_train_epochs", "global_batch_size", "warmup_ratio", "max_length")
# What a search cannot have: where it is so, and why.
FOREIGN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_steps": (lambda value: value > 0, "fixes what is searched for: leave it out"),
    "warmup_steps": (lambda value: value > 0, "fixes what is searched for: leave it out"),
    "num_train_epochs": (lambda value: value != int(value), "is no whole number, as the trials have: give one"),
    "eval_strategy": (lambda value: value != "epoch", "does not go with epochs that differ by trial: leave it out"),
    "metric_for_best_model": (lambda value: value.removeprefix("eval_") != "f1", "is not searched by: leave it out"),
    "resume": (bool, "is not needed, as a search goes on by itself: leave it out"),
    "overwrite_output_dir": (bool, "would remove the trials: choose another --output_dir"),
    "inspect_data": (bool, "is of train.py: leave it out"),
    "seeds": (lambda value: value > 1, "is for the best settings: give it to train.py with best.yaml"),
    "unlabelled_file": (bool, "is for the best settings: give it to train.py with best.yaml"),
}


def require_searchable(arguments: Arguments) -> None:
    """Raise a `UsageError` for a setting that a search cannot have, or several devices."""
    args = arguments.training
    chosen = vars(args) | vars(arguments.data)
    for name, (is_foreign, reason) in FOREIGN.items():
        if name in chosen and name not in arguments.from_rows and is_foreign(chosen[name]):
            value = chosen[name]
            given = joined_name(value) if isinstance(value, list) else str(getattr(value, "value", value))
            raise UsageError(" ".join([f"--{name}", *([] if value is True else [given]), reason]))
    if args.world_size > 1 or args.n_gpu > 1:
        raise UsageError("a search runs in one process: CUDA_VISIBLE_DEVICES=0 python scripts/tune.py")


def first_of(arguments: Arguments) -> dict[str, Any]:
    """Return what is searched for as train.py would have it, of arguments with their schedule."""
    args = arguments.training
    found = {name: getattr(args, name) for name in SEARCHED if name != "max_length"}
    return found | {"num_train_epochs": int(args.num_train_epochs), "max_length": arguments.data.max_length}


def space_of(job: TrainingJob) -> dict[str, BaseDistribution]:
    """Return what is tried of each setting, by its name; the job's own value is always among it."""
    first, rows = first_of(job.arguments), len(job.reviews.splits["train"])
    rate, epochs = first["learning_rate"], first["num_train_epochs"]
    batches = {batch for batch in BATCHES.values() if _is_worth_a_trial(batch, 2 * epochs, rows, job.arguments)}
    return {
        "learning_rate": FloatDistribution(min(LOW_RATE, rate / 2), max(HIGH_RATE, 2 * rate), log=True),
        "num_train_epochs": IntDistribution(-(-epochs // 2), 2 * epochs),
        "global_batch_size": CategoricalDistribution(sorted(batches | {first["global_batch_size"]})),
        "warmup_ratio": FloatDistribution(0, max(WARMUP, first["warmup_ratio"])),
        "max_length": CategoricalDistribution(_lengths(job, first["max_length"])),
    }


def settings_of(params: dict[str, Any], arguments: Arguments, rows: int) -> dict[str, Any]:
    """Return all settings of a trial on so many train rows, from those that are searched for and the others."""
    settings = {name: value for name, value in arguments.resolved.items() if name not in VALIDATED}
    settings |= params | {"num_train_epochs": float(params["num_train_epochs"])}
    if arguments.from_rows.issuperset(VALIDATED):
        steps = steps_per_epoch(rows, params["global_batch_size"])
        return settings | validated(params["num_train_epochs"], steps)
    return settings | {name: arguments.resolved[name] for name in VALIDATED if name in arguments.resolved}


def describe(values: Any) -> str:
    """Return what is tried of a setting, in words."""
    if isinstance(values, CategoricalDistribution):
        return ", ".join(map(str, values.choices))
    return f"{values.low:.2g} to {values.high:.2g}"


def _is_worth_a_trial(batch: int, most_epochs: int, rows: int, arguments: Arguments) -> bool:
    """Return whether batches of that size can be made, and leave as many steps as a training needs."""
    chosen = arguments.resolved
    try:
        share_batch(batch, 1, chosen.get("per_device_train_batch_size"), chosen.get("gradient_accumulation_steps"))
    except UsageError:
        return False
    return batch <= rows and most_epochs * steps_per_epoch(rows, batch) >= FEW_STEPS


def _lengths(job: TrainingJob, own: int) -> list[int]:
    """Return the lengths that cut reviews otherwise than each other, below the encoder's limit."""
    rows: Any = job.trainer.train_dataset
    longest, limit = max(rows["tokens"][:]), readable_tokens(job.model)
    lengths = {own, *(length for length in LENGTHS if limit is None or length <= limit)}
    uncut = own if own >= longest else min((length for length in lengths if length >= longest), default=own)
    return sorted(length for length in lengths if length < longest or length in (own, uncut))

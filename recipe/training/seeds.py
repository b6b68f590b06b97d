"""Several trainings of one run, on the same rows, which differ in their seed alone; the best of them is kept."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from recipe.arguments.training import TrainingArguments
from recipe.run_folder import RunFolder, RunRecord, SeedFigures
from recipe.training.checkpoints import drop_states


def folders_by_seed(run: RunFolder, args: TrainingArguments) -> dict[int, RunFolder]:
    """Return the folder of each training of a run by its seed: the run's own, or where there are several one for each.

    The first seed is that of the rows, so that the first training is the one that the run would be without the others.
    """
    if args.seeds == 1:
        return {args.seed: run}
    return {seed: RunFolder(run.seeds / str(seed)) for seed in range(args.seed, args.seed + args.seeds)}


def finished(folders: Mapping[int, RunFolder]) -> dict[int, RunRecord]:
    """Return the records of the trainings that are finished, by seed."""
    return {seed: folder.read_record() for seed, folder in folders.items() if folder.record.is_file()}


def best_seed(records: Mapping[int, RunRecord], args: TrainingArguments) -> int:
    """Return the seed of the best validation metric; a tie is broken by validation loss, then by order."""
    metric, sign = str(args.metric_for_best_model).removeprefix("eval_"), 1 if args.greater_is_better else -1
    return max(records, key=lambda seed: (sign * getattr(records[seed].best, metric), -records[seed].best.loss))


def drop_all_but_best(folders: Mapping[int, RunFolder], args: TrainingArguments) -> str:
    """Remove the models of the finished trainings but the best one's, and return a line on the last one."""
    records = finished(folders)
    for seed in records.keys() - {best_seed(records, args)}:
        folders[seed].remove_model()
    seed, record = list(records.items())[-1]
    left = len(folders) - len(records)
    ahead = mean(one.seconds for one in records.values()) * left
    said = f"validation F1 {record.best.f1:.4f} in epoch {record.best.epoch:g}, loss {record.best.loss:.4f}"
    return f"seed {seed:<5} {said}; {record.seconds} s" + (f"; {left} to go, some {ahead:,.0f} s" if left else "")


def keep_best(run: RunFolder, folders: Mapping[int, RunFolder], args: TrainingArguments) -> None:
    """Make the best training's files the run's own, and write the record of all, which makes the run finished.

    It may be stopped at any moment, and called again.
    """
    records = finished(folders)
    kept = best_seed(records, args)
    for path in [*folders[kept].path.iterdir()]:
        if path != folders[kept].record:
            path.replace(run.path / path.name)
    figures = [
        SeedFigures(seed, record.best.epoch, record.best.loss, record.best.f1, record.seconds)
        for seed, record in records.items()
    ]
    seconds = round(sum(record.seconds for record in records.values()), 1)
    run.write_record(replace(records[kept], seconds=seconds, seeds=figures, kept_seed=kept))
    drop_states(run)

"""Fine-tuning: from arguments to a run folder with a checkpoint per epoch and the best of them on top."""

import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler, SequentialSampler
from tqdm.auto import tqdm
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, has_length

from recipe import __version__
from recipe.arguments import METRICS, Arguments, TrainingArguments
from recipe.command_line import usable_cores
from recipe.data import Reviews, load_reviews, tokenize
from recipe.errors import CheckFailed, UsageError
from recipe.inspection import as_block, inspect
from recipe.metrics import metrics_hook
from recipe.model import Pretrained, find_pretrained, load_model, load_tokenizer
from recipe.quickstart import is_package
from recipe.run_folder import RunFolder, versions, write_json

# A reloaded checkpoint computes what it computed before, up to the order of a GPU's additions.
RELOAD_TOLERANCE = 1e-4
FULL_COMMAND = "accelerate launch scripts/train.py --config amazon_polarity"


@dataclass
class Job:
    """A run that is ready to start."""

    arguments: Arguments
    pretrained: Pretrained
    reviews: Reviews
    model: PreTrainedModel
    trainer: "ReviewTrainer"


def train(arguments: Arguments) -> RunFolder:
    """Fine-tune and return the run's folder, finished.

    Nothing is written before every argument, the data and the weights have been found good.

    Raises:
        UsageError: Something that was asked for cannot be done.
        CheckFailed: The best epoch could not be proven to be the one reloaded.
    """
    args = arguments.training
    run = RunFolder(str(args.output_dir))
    run.require_free(args.overwrite_output_dir)
    require_one_process_per_gpu(args.n_gpu)
    job = prepare(arguments)
    trainer = job.trainer
    # Not before every process has seen the folder as it was.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        print(_header(job), flush=True)
        report = inspect(job.reviews, trainer.train_dataset, arguments)
        print(as_block(report), flush=True)
        run.clear()
        run.write_config(arguments.resolved)
        write_json(run.data, report)
    trainer.accelerator.wait_for_everyone()
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    best = prove_best_reloaded(trainer)
    _save(job, run, best, seconds)
    return run


def prepare(arguments: Arguments) -> Job:
    """Return the run with its reviews, weights and Trainer, everything found and read.

    Raises:
        UsageError: Something that was asked for cannot be done.
    """
    max_length, seed = arguments.data.max_length, arguments.training.seed
    pretrained = find_pretrained(arguments.model, max_length)
    tokenizer = load_tokenizer(pretrained, max_length)
    # The others of this machine then find on disk what the first has read and tokenized.
    with arguments.training.main_process_first(local=True):
        reviews = load_reviews(arguments.data, seed)
        tokens = {name: tokenize(reviews.splits[name], tokenizer) for name in ("train", "validation")}
    use_all_cores(arguments.training)
    set_seed(seed)
    model = load_model(pretrained, reviews.label_names)
    return Job(arguments, pretrained, reviews, model, make_trainer(arguments, model, tokenizer, tokens))


def require_one_process_per_gpu(visible_gpus: int) -> None:
    """Refuse to start where Trainer would wrap the model in the slow, deprecated `nn.DataParallel`.

    Args:
        visible_gpus: GPUs this one process would use.

    Raises:
        UsageError: There is more than one; says how to start one process for each.
    """
    if visible_gpus > 1:
        raise UsageError(
            f"{visible_gpus} GPUs but one process: start it with accelerate launch --multi_gpu --num_processes "
            f"{visible_gpus} scripts/train.py, or show it a single GPU with CUDA_VISIBLE_DEVICES=0"
        )


def use_all_cores(args: TrainingArguments) -> None:
    """Let a run on the CPU use the cores it may use, shared between this machine's processes.

    `accelerate launch` sets OMP_NUM_THREADS=1 when nobody set it, which would halve the speed of two cores. Any other
    value is the user's and stands.
    """
    if args.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def make_trainer(
    arguments: Arguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: dict[str, Dataset]
) -> "ReviewTrainer":
    """Return the Trainer of a run, which has written nothing yet but made its folder.

    Args:
        arguments: Of the run.
        model: To be trained.
        tokenizer: Goes into every checkpoint, and pads.
        tokens: The train and validation splits, tokenized.

    Raises:
        UsageError: Trainer or Accelerate refuses a setting (a logger that is not installed, say), or the folder cannot
            be made.
    """
    try:
        trainer = ReviewTrainer(
            model=model,
            args=arguments.training,
            train_dataset=tokens["train"],
            eval_dataset=tokens["validation"].sort("length"),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=metrics_hook(model.config.num_labels),
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise UsageError(f"these settings do not go together: {error}") from error
    except OSError as error:
        raise UsageError(f"--output_dir {arguments.training.output_dir} cannot be made: {error.strerror}") from error
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    trainer.add_callback(EpochTable())
    return trainer


class ReviewTrainer(Trainer):
    """A Trainer that batches reviews of like length.

    Trainer's own samplers read lengths one row at a time before the first step (transformers#28069), and draw from the
    global generator, whose state differs between processes as soon as their batches do.
    """

    args: TrainingArguments

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        """Return the order of the train rows: new in every epoch, like lengths together unless that is switched off."""
        # Not `train_dataset`: from that one Trainer has removed what the model does not take, `length` with it.
        rows: Any = self.train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return WholeBatches(
            self.args.global_batch_size,
            lengths=rows["length"][:] if self.args.group_by_length else [1] * len(rows),
            generator=torch.Generator().manual_seed(seed),
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler:
        """Return the order of the validation rows: as they are."""
        # The validation rows are sorted by length already.
        return SequentialSampler(eval_dataset)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Validate, with the cross-entropy averaged over the rows, each counted once.

        Trainer's own loss is a mean over batches, where on several processes some rows stand twice to fill the last.
        """
        output = super().evaluation_loop(*args, **kwargs)
        logits, labels = (torch.from_numpy(np.asarray(part)) for part in (output.predictions, output.label_ids))
        exact = {f"{kwargs.get('metric_key_prefix', 'eval')}_loss": cross_entropy(logits.double(), labels).item()}
        return output._replace(metrics=(output.metrics or {}) | exact)


class WholeBatches(LengthGroupedSampler):
    """Like lengths together, in whole batches: up to a batch less one of the rows, others each epoch, wait.

    A last batch that is not whole would be another one on one process, on two and under accumulation.
    """

    def __len__(self) -> int:
        """Return the number of rows of an epoch."""
        return len(self.lengths) // self.batch_size * self.batch_size or len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the rows of an epoch, by number."""
        return islice(super().__iter__(), len(self))


class EpochTable(ProgressCallback):
    """A progress bar, and above it a row per validation: losses, F1, accuracy, seconds. On the main process alone."""

    columns = ("epoch", "train loss", "val loss", "val F1", "val acc", "seconds")

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the table's head and open the bar."""
        self.since = time.perf_counter()
        self.current_step = 0
        if state.is_world_process_zero:
            tqdm.write(" ".join(f"{name:>10}" for name in self.columns))
            self.training_bar = tqdm(total=state.max_steps, desc="training", unit="step", **_bar_options(args))

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Move the validation's own bar, which leaves no trace."""
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                self.prediction_bar = tqdm(
                    total=len(eval_dataloader), desc="validation", unit="batch", leave=False, **_bar_options(args)
                )
            self.prediction_bar.update(1)  # type: ignore[attr-defined]

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        """Print nothing: the row has it."""

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Print the row of the validation that has just ended."""
        super().on_evaluate(args, state, control, **kwargs)
        now = time.perf_counter()
        state.log_history[-1]["seconds"] = round(now - self.since, 1)
        self.since = now
        if self.training_bar is not None:
            row = epoch_rows(state.log_history)[-1]
            values = (row[name] for name in ("epoch", "train_loss", "loss", "f1", "accuracy", "seconds"))
            formats = ("10.2f", "10.4f", "10.4f", "10.4f", "10.4f", "10.1f")
            tqdm.write(" ".join(format(value, form) for value, form in zip(values, formats, strict=True)))


def _bar_options(args: TrainingArguments) -> dict[str, Any]:
    """Return what every progress bar is drawn with; few lines where the output is a log file."""
    return {"dynamic_ncols": True, "mininterval": 0.5, "disable": True if args.disable_tqdm else None}


def epoch_rows(log_history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return a row per validation from Trainer's log: `epoch`, `step`, `train_loss`, `loss`, the metrics and `seconds`.

    `train_loss` is the mean since it was last logged, 0 before that; `seconds` count training and validation.
    """
    rows, train_loss = [], 0.0
    for entry in log_history:
        train_loss = entry.get("loss", train_loss)
        if "eval_loss" in entry:
            row = {name: entry[f"eval_{name}"] for name in ("loss", *METRICS)}
            head = {"epoch": entry["epoch"], "step": entry["step"], "train_loss": train_loss}
            rows.append(head | row | {"seconds": entry["seconds"]})
    return rows


def prove_best_reloaded(trainer: Trainer) -> dict[str, float]:
    """Validate once more, with the weights now in memory, and return the best epoch's row.

    Raises:
        CheckFailed: The loss or a metric is not what it was in the best epoch, or nothing was ever validated.
    """
    rows = epoch_rows(trainer.state.log_history)
    best = next((row for row in rows if row["step"] == trainer.state.best_global_step), None)
    if best is None:
        raise CheckFailed("training ended before the first validation, so there is no best epoch: lower --eval_steps")
    again = trainer.evaluate()
    for name in ("loss", *METRICS):
        if not math.isclose(again[f"eval_{name}"], best[name], rel_tol=RELOAD_TOLERANCE, abs_tol=RELOAD_TOLERANCE):
            raise CheckFailed(
                f"the best epoch ({best['epoch']:g}) was not reloaded: its validation {name} was {best[name]:.6f}, "
                f"now it is {again[f'eval_{name}']:.6f}. The checkpoints are untouched in {trainer.args.output_dir}"
            )
    return best


def _header(job: Job) -> str:
    """Return the first lines that a person sees: what is going to be trained, on what, and where."""
    config = job.arguments.config
    rows = ", ".join(f"{len(split):,} {name}" for name, split in job.reviews.splits.items())
    rows += "" if "test" in job.reviews.splits else "; no test split, so evaluation will ask for one"
    place = _place(job.trainer)
    where = f"{place['device']}, {place['processes']} process(es), {place['threads']} thread(s) each"
    parameters = f"{job.model.num_parameters() / 1e6:.1f} M parameters"
    return "\n".join(
        (
            f"config     {config.stem} ({os.path.relpath(config)})",
            f"weights    {_origin(job.pretrained.source)}: {type(job.model).__name__}, {parameters}",
            f"reviews    {_origin(job.reviews.origin)}: {rows}",
            f"device     {where}; precision {place['precision']}",
            f"output     {job.arguments.training.output_dir}",
            *([f"The full Amazon Polarity: {FULL_COMMAND}"] if is_package(job.reviews.origin["name"]) else []),
        )
    )


def _origin(source: dict[str, Any]) -> str:
    """Return a source's name with what pins it."""
    if "version" in source:
        return f"{source['name']}=={source['version']} (sha256 {source['sha256'][:12]}…)"
    return f"{source['name']}@{source['revision'][:12]}" if source.get("revision") else str(source["name"])


def _place(trainer: Trainer) -> dict[str, Any]:
    """Return the device, its name, processes, threads and precision in effect."""
    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    precision = trainer.accelerator.mixed_precision
    return {
        "device": f"{device.type} ({name})",
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "precision": "fp32" if precision == "no" else precision,
    }


def _record(job: Job, best: dict[str, float], seconds: float) -> dict[str, Any]:
    """Return the content of `run.json`."""
    return {
        "config": job.arguments.config.stem,
        "recipe": __version__,
        "python": platform.python_version(),
        "versions": versions(),
        "seed": job.arguments.training.seed,
        "weights": job.pretrained.source | {"parameters": job.model.num_parameters()},
        "dataset": job.reviews.origin,
        "labels": job.reviews.label_names,
        "rows": {name: len(split) for name, split in job.reviews.splits.items()},
        "rows_sha256": {name: split.sha256 for name, split in job.reviews.splits.items()},
        **_place(job.trainer),
        "epochs": epoch_rows(job.trainer.state.log_history)[:-1],
        "best": best | {"checkpoint": f"checkpoint-{int(best['step'])}"},
        "seconds": round(seconds, 1),
    }


def _save(job: Job, run: RunFolder, best: dict[str, float], seconds: float) -> None:
    """Write the best model with its tokenizer, and last of all the record that makes the run finished."""
    job.trainer.save_model(str(run.path))
    if job.trainer.is_world_process_zero():
        # A pickle that nobody needs; nothing in a folder that is handed on should have to be unpickled.
        (run.path / "training_args.bin").unlink(missing_ok=True)
        write_json(run.record, _record(job, best, seconds))
    job.trainer.accelerator.wait_for_everyone()

"""The recipe's Trainer: batches of like length, losses that count every row once, stops that lose nothing."""

import gc
import inspect
import math
import signal
import time
from pathlib import Path
from typing import Any

import dacite
import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Trainer
from transformers.trainer_utils import EvalLoopOutput

from recipe.arguments.training import TrainingArguments
from recipe.errors import CheckFailed, Interrupted
from recipe.training import checkpoints
from recipe.training.callbacks import AlreadyStoppedEarly, CheckpointCallback, ValidationStopped
from recipe.training.contrast import ContrastCallback, hard_labels, label_contrast
from recipe.training.progress import EpochTable, Mean, RunningTotals
from recipe.training.sampler import StratifiedSampler, WholeBatchSampler
from recipe.training.stop_request import StopRequest, outlive_stop


def free_trainers() -> None:
    """Free the memory of Trainers that have no name any more: each holds its callbacks, and they hold it."""
    gc.collect()


class ReviewTrainer(Trainer):
    """A Trainer that batches reviews of like length, and resumes after a stop as if there had been none.

    Trainer's own samplers read lengths one row at a time before the first step (transformers#28069). They also use the
    global random generator, whose state differs between processes as soon as their batches do.

    Attributes:
        identity: The data, weights and settings that make this run the one it is; written into every checkpoint.
        stopping: Whether some process has a signal, as agreed at the end of the last step.
        validated: The logits and labels of the last validation, in the order of its rows; on every process.
        validation_due: Whether the last checkpoint was written in the middle of its validation.
    """

    args: TrainingArguments
    model: torch.nn.Module
    validated: EvalLoopOutput

    def __init__(self, *args: Any, identity: dict[str, Any], **kwargs: Any) -> None:
        """Prepare the training of one run; `args` and `kwargs` are Trainer's."""
        super().__init__(*args, **kwargs)
        self.identity = identity
        self.totals = RunningTotals()
        self.stop_request = StopRequest()
        self.stopping = self.validation_due = False
        # On the device, since the last step of the optimiser.
        self.losses: list[torch.Tensor] = []
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.checkpointing = CheckpointCallback(self)
        self.add_callback(self.checkpointing)
        if self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))
        self.add_callback(EpochTable(self))
        self.contrast = ContrastCallback(self) if self.args.contrast_labels else None
        if self.contrast:
            self.add_callback(self.contrast)

    def restore(self, manifest: dict[str, Any]) -> None:
        """Take over the totals of the checkpoint that training resumes from."""
        self.totals = dacite.from_dict(RunningTotals, manifest["passed"])
        self.validation_due = manifest["validation_due"]

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train as Trainer does, but stop by `Interrupted` at the end of the step on SIGTERM and the first Ctrl-C."""
        self.totals.counted_until = time.perf_counter()
        self.stopping = False
        with self.stop_request:
            try:
                super().train(*args, **kwargs)
            except AlreadyStoppedEarly:
                self.is_in_train = False
                load_model(self.model, Path(str(self.state.best_model_checkpoint), "model.safetensors"))
            except Exception:
                # Of any type: safetensors and torch raise their own when a write fails.
                if checkpoints.remove_incomplete(self.run_path):
                    checkpoints.require_space(self.run_path, self.checkpoint_bytes())
                raise
        # A signal may have come while the last checkpoint was being written; another validation is still to come.
        if any(self.gather_scalar(self.stop_request.signal)):
            raise self.interrupted()

    def get_train_dataloader(self) -> DataLoader:
        """Return this process's train batches: another order every epoch, like lengths together unless switched off.

        Where labels are contrasted, each batch has them in their shares instead.

        The batch size is this run's. Trainer 4.57 takes the checkpoint's on resume, which may be of other processes.
        """
        rows: Any = self.train_dataset
        size = self.args.global_batch_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if self.contrast:
            sampler: WholeBatchSampler = StratifiedSampler(size, hard_labels(np.asarray(rows["labels"][:])), seed)
        else:
            sampler = WholeBatchSampler(size, rows["length"][:] if self.args.group_by_length else [1] * len(rows), seed)
        return self.make_dataloader(rows, self.args.train_batch_size, sampler)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return this process's validation batches in the order of the rows, which are sorted by length already."""
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        return self.make_dataloader(rows, self.args.eval_batch_size, SequentialSampler(rows))

    def make_dataloader(self, rows: Dataset, batch_size: int, sampler: Sampler) -> DataLoader:
        """Return batches of the columns that the model takes, shared out between the processes."""
        args, taken = self.args, inspect.signature(self.model.forward).parameters
        loader = DataLoader(
            rows.select_columns([name for name in rows.column_names if name in taken]),
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=self.data_collator,
            # Every row is to be answered.
            drop_last=args.dataloader_drop_last and isinstance(sampler, WholeBatchSampler),
            num_workers=args.dataloader_num_workers or 0,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=outlive_stop,
        )
        return self.accelerator.prepare(loader)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute gradients as Trainer does, and keep the loss, which Trainer rounds, on the device."""
        loss = super().training_step(*args, **kwargs)
        self.losses.append(loss)
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return Trainer's loss; while training with `contrast_labels`, the contrast of the batch is added to it."""
        # Trainer takes them out where they are smoothed, weighted or soft.
        labels = inputs["labels"]
        if labels.ndim == 2 and num_items_in_batch is not None:
            # Trainer counts each probability of a soft label.
            num_items_in_batch = num_items_in_batch / labels.shape[1]
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.contrast and model.training:
            # Trainer divides by the accumulation steps afterwards, but not where the loss is the recipe's own.
            items = num_items_in_batch if self.compute_loss_func else None
            share = 1.0 if items is None else len(labels) / items
            if items is not None and self.args.average_tokens_across_devices:
                # They are of all processes then, whose gradients are averaged.
                share *= self.accelerator.num_processes
            loss = loss + share * label_contrast(self.contrast.vectors, labels)
        return (loss, outputs) if return_outputs else loss

    def end_step(self) -> None:
        """Add the step's loss, if finite, to the totals, and agree on whether to stop: one collective, one wait."""
        stop = self.losses[0].new_full((), bool(self.stop_request.signal))
        gathered: torch.Tensor = self.accelerator.gather(torch.stack([*self.losses, stop])[None])
        self.losses.clear()
        *losses, stops = gathered.T.tolist()
        loss = float(np.sum(losses, axis=0).mean())
        self.require_finite(loss, "loss", self.state.global_step + 1)
        self.totals.loss_since_log.add(loss)
        self.totals.loss_since_validation.add(loss)
        self.stopping = any(stops)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the unrounded train loss of all steps since the last log, also those before a stop."""
        if "loss" in logs:
            logs["loss"] = float(self.totals.loss_since_log)
            self.totals.loss_since_log = Mean()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate, without using up random numbers of training; during training a signal ends it by `Interrupted`."""
        try:
            with torch.random.fork_rng(devices=[]):
                return super().evaluate(*args, **kwargs)
        except ValidationStopped:
            # If it was due already, the checkpoint that was resumed from says so and is still the newest.
            if not self.validation_due:
                self.validation_due = True
                self.checkpointing.prepare(self.state)
                # Trainer has no public way to save a checkpoint with its optimiser from within a validation. Its own
                # JITCheckpointCallback (transformers 5) makes this very call. It must write to checkpoint-N below
                # output_dir and leave `on_save` to its caller (4.57: trainer.py, `_maybe_log_save_evaluate`).
                self._save_checkpoint(self.model, trial=None)
                self.callback_handler.on_save(self.args, self.state, self.control)
            raise self.interrupted() from None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Validate, with the cross-entropy averaged over the rows, each counted once; it must be finite.

        Trainer's own loss is a mean over batches, where on several processes some rows stand twice to fill the last.
        """
        self.validated = output = super().evaluation_loop(*args, **kwargs)
        logits, labels = (torch.from_numpy(np.asarray(part)) for part in (output.predictions, output.label_ids))
        loss = cross_entropy(logits.double(), labels).item()
        self.require_finite(loss, "validation loss", self.state.global_step)
        exact = {f"{kwargs.get('metric_key_prefix', 'eval')}_loss": loss}
        return output._replace(metrics=(output.metrics or {}) | exact)

    def save_model(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        """Write the model and its tokenizer, but not the pickled arguments: they are in config.yaml."""
        super().save_model(output_dir, *args, **kwargs)
        if self.args.should_save:
            Path(output_dir or str(self.args.output_dir), "training_args.bin").unlink(missing_ok=True)

    @property
    def run_path(self) -> Path:
        """Return the run's folder."""
        return Path(str(self.args.output_dir))

    @property
    def precision(self) -> str:
        """Return the precision in effect: fp32, bf16 or fp16."""
        mixed = self.accelerator.mixed_precision
        return "fp32" if mixed == "no" else str(mixed)

    def checkpoint_bytes(self) -> int:
        """Return about how many bytes a checkpoint takes: the weights, and AdamW's two moments of each."""
        return 3 * sum(weights.numel() * weights.element_size() for weights in self.model.parameters())

    def gather_scalar(self, value: float) -> list[float]:
        """Return `value` of every process."""
        return self.accelerator.gather(torch.tensor([float(value)], device=self.args.device)).tolist()

    def require_finite_weights(self) -> None:
        """Raise `CheckFailed` if some weights are NaN or infinite."""
        sums = torch.stack([weights.detach().float().sum() for weights in self.model.parameters()])
        for value in sums.tolist():
            self.require_finite(value, "sum of some weights", self.state.global_step)

    def require_finite(self, value: float, what: str, step: int) -> None:
        """Raise `CheckFailed` if `value` is NaN or infinite, as the model is then lost."""
        if math.isfinite(value):
            return
        rate = f"{self.lr_scheduler.get_last_lr()[0]:g}, " if self.lr_scheduler is not None else ""
        kept = checkpoints.sorted_checkpoints(self.run_path)
        raise CheckFailed(
            f"the {what} is {value} at step {step} (learning rate {rate}precision {self.precision}): training has "
            f"stopped; {f'{kept[-1].name} is kept' if kept else 'no checkpoint was written yet'}. Lower "
            "--learning_rate, add --warmup_ratio 0.1, or look for odd reviews with --inspect_data"
        )

    def interrupted(self) -> Interrupted:
        """Return the error that ends a run after a signal and its checkpoint."""
        advice = checkpoints.how_to_resume(self.run_path, self.args)
        message = f"stopped after step {self.state.global_step} of {self.state.max_steps}. {advice}"
        # The signal may have come to another process alone.
        return Interrupted(message, self.stop_request.signal or signal.SIGTERM)

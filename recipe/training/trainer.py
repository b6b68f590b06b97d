"""The recipe's Trainer: batches of like length, losses that count every row once, checkpoints that are whole."""

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import EvalLoopOutput

from recipe.arguments.training import TrainingArguments
from recipe.errors import CheckFailed, Interrupted
from recipe.training import checkpoints
from recipe.training.callbacks import AlreadyStoppedEarly, StepEnd, ValidationStopped
from recipe.training.progress import EpochTable, Mean, Passed
from recipe.training.sampler import WholeBatches
from recipe.training.stop_request import StopRequest


class ReviewTrainer(Trainer):
    """A Trainer that batches reviews of like length, and goes on after a stop as if there had been none.

    Trainer's own samplers read lengths one row at a time before the first step (transformers#28069), and draw from the
    global generator, whose state differs between processes as soon as their batches do.
    """

    args: TrainingArguments

    def __init__(self, *args: Any, identity: dict[str, Any], **kwargs: Any) -> None:
        """Prepare.

        Args:
            args: As Trainer's.
            identity: What makes this run the one it is; goes into every checkpoint.
            kwargs: As Trainer's.
        """
        super().__init__(*args, **kwargs)
        self.identity = identity
        self.passed = Passed()
        self.stop = StopRequest()
        # Of this process, since the last step of the optimiser.
        self.loss_of_step = 0.0
        self.validation_due = False
        for printing in (ProgressCallback, PrinterCallback):
            self.remove_callback(printing)
        self.add_callback(StepEnd(self))
        if self.args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))
        self.add_callback(EpochTable(self.passed))

    def go_on_from(self, manifest: dict[str, Any]) -> None:
        """Take over what a checkpoint's manifest says has passed."""
        vars(self.passed).update(vars(Passed.from_state(manifest["passed"])))
        self.validation_due = manifest["validation_due"]

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train as Trainer does, but stop where the step ends: on SIGTERM, and on the first Ctrl-C.

        Raises:
            Interrupted: After a checkpoint was written.
            CheckFailed: The loss is NaN or infinite.
            UsageError: The disk is full.
        """
        self.passed.begin()
        with self.stop:
            try:
                super().train(*args, **kwargs)
            except AlreadyStoppedEarly:
                self._load_best_model()
        # While the last checkpoint was being written: what is left to do takes as long as a validation.
        if self.agree(self.stop.signal).any():
            raise self.interrupted()

    def _inner_training_loop(self, batch_size: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train in batches of this run's size, not of the checkpoint's, which may be of other processes."""
        return super()._inner_training_loop(self.args.train_batch_size, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        """Return the order of the train rows: new in every epoch, like lengths together unless that is switched off."""
        # Not `train_dataset`: from that one Trainer has removed what the model does not take, `length` with it.
        rows: Any = self.train_dataset
        return WholeBatches(
            self.args.global_batch_size,
            lengths=rows["length"][:] if self.args.group_by_length else [1] * len(rows),
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler:
        """Return the order of the validation rows: as they are."""
        # The validation rows are sorted by length already.
        return SequentialSampler(eval_dataset)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute gradients as Trainer does, and note the loss, of which Trainer keeps a rounded mean alone."""
        loss = super().training_step(*args, **kwargs)
        self.loss_of_step += loss.item()
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the train loss not rounded, and of all steps since the last log, also those before a stop."""
        if "loss" in logs:
            logs["loss"] = float(self.passed.loss_since_log)
            self.passed.loss_since_log = Mean()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate, without a trace in the random numbers that training draws."""
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Validate, with the cross-entropy averaged over the rows, each counted once.

        Trainer's own loss is a mean over batches, where on several processes some rows stand twice to fill the last.

        Raises:
            CheckFailed: It is NaN or infinite.
        """
        output = super().evaluation_loop(*args, **kwargs)
        logits, labels = (torch.from_numpy(np.asarray(part)) for part in (output.predictions, output.label_ids))
        loss = cross_entropy(logits.double(), labels).item()
        self.require_finite(loss, "validation loss", self.state.global_step)
        exact = {f"{kwargs.get('metric_key_prefix', 'eval')}_loss": loss}
        return output._replace(metrics=(output.metrics or {}) | exact)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate during training; a wish to stop does not wait for the end of it.

        Raises:
            Interrupted: After a checkpoint was written, from which a resumed run validates first.
        """
        try:
            return super()._evaluate(*args, **kwargs)
        except ValidationStopped:
            self.validation_due = True
            self._save_checkpoint(self.model, None)
            raise self.interrupted() from None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint that is whole or not there, with no pickle in it that a restart does not need.

        Raises:
            UsageError: The disk is full; the checkpoint before this one is kept.
            CheckFailed: The weights are not finite; likewise.
        """
        run = self.run_path
        folder = checkpoints.checkpoint_path(run, self.state.global_step)
        for parameter in self.weights():
            self.require_finite(parameter.detach().sum().item(), "sum of some weights", self.state.global_step)
        needed = self.checkpoint_bytes()
        if self.is_world_process_zero():
            checkpoints.remove_staged(run)
            checkpoints.require_space(run, needed)
        self.accelerator.wait_for_everyone()
        self.store_flos()
        self._locate_best()
        stateful: Any = self.state.stateful_callbacks
        for callback in (*self.callback_handler.callbacks, self.control):
            if isinstance(callback, ExportableState):
                stateful[type(callback).__name__] = callback.state()
        with checkpoints.space_named(run, needed):
            staged = checkpoints.staging_path(folder)
            self.save_model(str(staged), _internal_call=True)
            self._save_optimizer_and_scheduler(str(staged))
            self._save_scaler(str(staged))
            self._save_rng_state(str(staged))
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                self.state.save_to_json(str(staged / "trainer_state.json"))
                manifest = {"run": self.identity, "passed": self.passed.state(), "validation_due": self.validation_due}
                checkpoints.publish(folder, manifest)
                self._rotate_checkpoints(use_mtime=False, output_dir=str(run))
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the model and its tokenizer, but not the pickled arguments: they are in config.yaml."""
        super()._save(output_dir, state_dict)
        (Path(output_dir or str(self.args.output_dir)) / "training_args.bin").unlink(missing_ok=True)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Read the optimiser's and the schedule's state, numbers only.

        As Trainer does, except that it reads onto a device that torch cannot name where several processes share a CPU.
        """
        if checkpoint is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return super()._load_optimizer_and_scheduler(checkpoint)
        stateful: Any
        for stateful, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
            stateful.load_state_dict(torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True))

    def _load_best_model(self) -> None:
        """Reload the best checkpoint, wherever the run's folder is by now."""
        self._locate_best()
        super()._load_best_model()

    def _locate_best(self) -> None:
        """Let Trainer's state name the best checkpoint where the run's folder is now."""
        if best := self.state.best_global_step:
            self.state.best_model_checkpoint = str(checkpoints.checkpoint_path(self.run_path, best))

    @property
    def run_path(self) -> Path:
        """Return the run's folder."""
        return Path(str(self.args.output_dir))

    def checkpoint_bytes(self) -> int:
        """Return about how many bytes a checkpoint takes: the weights, and AdamW's two moments of each."""
        return 3 * sum(parameter.numel() * parameter.element_size() for parameter in self.weights())

    def weights(self) -> list[torch.nn.Parameter]:
        """Return the model's parameters."""
        assert self.model is not None
        return list(self.model.parameters())

    def agree(self, value: float) -> torch.Tensor:
        """Return every process's value, float64 (processes,)."""
        if self.args.world_size == 1:
            return torch.tensor([value], dtype=torch.float64)
        return self.accelerator.gather(torch.tensor([value], dtype=torch.float64, device=self.args.device))

    def end_step(self) -> bool:
        """Count the step's loss, and return whether some process was asked to stop.

        Raises:
            CheckFailed: The loss is NaN or infinite.
        """
        loss = self.agree(self.loss_of_step).mean().item()
        self.loss_of_step = 0.0
        self.require_finite(loss, "loss", self.state.global_step + 1)
        self.passed.loss_since_log.add(loss)
        self.passed.loss_since_validation.add(loss)
        return bool(self.agree(self.stop.signal).any())

    def require_finite(self, value: float, what: str, step: int) -> None:
        """Refuse to go on with a model that is lost.

        Raises:
            CheckFailed: `value` is NaN or infinite.
        """
        if math.isfinite(value):
            return
        rate = f"{self._get_learning_rate():g}, " if self.lr_scheduler is not None else ""
        kept = checkpoints.sorted_checkpoints(self.run_path)
        raise CheckFailed(
            f"the {what} is {value} at step {step} (learning rate {rate}precision {precision(self)}): training has "
            f"stopped; {f'{kept[-1].name} is kept' if kept else 'no checkpoint was written yet'}. Lower "
            "--learning_rate, add --warmup_ratio 0.1, or look for odd reviews with --inspect_data"
        )

    def interrupted(self) -> Interrupted:
        """Return the end that a signal asks for, after a checkpoint."""
        saved = checkpoints.sorted_checkpoints(self.run_path)
        go_on = f"The same command with --resume goes on from {saved[-1]}" if saved else "No checkpoint was due yet"
        return Interrupted(
            f"stopped after step {self.state.global_step} of {self.state.max_steps}. {go_on}",
            # Another process's wish, where this one saw no signal.
            self.stop.signal or signal.SIGTERM,
        )


def precision(trainer: Trainer) -> str:
    """Return the precision in effect: fp32, bf16 or fp16."""
    mixed = trainer.accelerator.mixed_precision
    return "fp32" if mixed == "no" else str(mixed)

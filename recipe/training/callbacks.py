"""The callbacks that make Trainer's checkpoints whole, or write none, and answer a request to stop."""

import shutil
from dataclasses import asdict
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy

from recipe.training import checkpoints
from recipe.training.progress import EpochTable, progress_bar


class CheckpointCallback(TrainerCallback):
    """Asks for checkpoints between validations, finishes each with its manifest, then ends a run that is to stop."""

    def __init__(self, trainer: Any) -> None:
        """Serve one `ReviewTrainer`."""
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Make up for a validation that was cut short; raise `AlreadyStoppedEarly` where a resumed run had done so."""
        if self.trainer.validation_due:
            metrics = self.trainer.evaluate()
            self.trainer.validation_due = False
            value = metrics[f"eval_{args.metric_for_best_model.removeprefix('eval_')}"]
            if isinstance(kwargs["lr_scheduler"], ReduceLROnPlateau):
                kwargs["lr_scheduler"].step(value)
            best = state.best_metric
            if best is None or (value > best if args.greater_is_better else value < best):
                state.best_metric, state.best_global_step = value, state.global_step
        if state.best_global_step:
            # Trainer loads it at the end. The run's folder may have been moved since the checkpoint was written.
            best_path = checkpoints.checkpoint_path(self.trainer.run_path, state.best_global_step)
            state.best_model_checkpoint = str(best_path)
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                if callback.early_stopping_patience_counter >= callback.early_stopping_patience:
                    raise AlreadyStoppedEarly

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Look at the loss before the weights take it in, and at the signals of all processes."""
        self.trainer.end_step()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint between validations, where one is due or the run is to stop."""
        due = args.checkpoint_steps and state.global_step % args.checkpoint_steps == 0
        end_of_epoch = control.should_training_stop or float(state.epoch or 0).is_integer()
        # At the end of an epoch its own checkpoint follows, after the validation.
        if (due or self.trainer.stopping) and not (end_of_epoch and args.save_strategy == "epoch"):
            control.should_save = True
        if control.should_save:
            self.prepare(state)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check the weights and the disk before Trainer writes a checkpoint."""
        if control.should_save:
            self.prepare(state)

    def prepare(self, state: TrainerState) -> None:
        """Clear the next checkpoint's folder; raise `CheckFailed` for lost weights, `UsageError` for a full disk."""
        trainer = self.trainer
        trainer.require_finite_weights()
        if state.is_world_process_zero:
            shutil.rmtree(checkpoints.checkpoint_path(trainer.run_path, state.global_step), ignore_errors=True)
            checkpoints.require_space(trainer.run_path, trainer.checkpoint_bytes())
        trainer.accelerator.wait_for_everyone()

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """Leave a validation during training, by `ValidationStopped`, if a process was asked to stop."""
        if self.trainer.is_in_train and any(self.trainer.gather_scalar(self.trainer.stop_request.signal)):
            raise ValidationStopped

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the manifest, once every process has written its files; only then remove older checkpoints or stop."""
        trainer = self.trainer
        trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            trainer.totals.count_seconds()
            checkpoints.write_manifest(
                checkpoints.checkpoint_path(trainer.run_path, state.global_step),
                {"run": trainer.identity, "passed": asdict(trainer.totals), "validation_due": trainer.validation_due},
            )
            if args.checkpoint_limit:
                checkpoints.rotate(trainer.run_path, args.checkpoint_limit, {state.global_step, state.best_global_step})
        trainer.accelerator.wait_for_everyone()
        if trainer.stopping:
            raise trainer.interrupted()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the best checkpoint alone if the limit is one; until now a restart needed the newest as well."""
        if args.checkpoint_limit == 1 and state.best_global_step and state.is_world_process_zero:
            checkpoints.rotate(self.trainer.run_path, 1, {state.best_global_step})


class UnsavedCallback(TrainerCallback):
    """Watches a training that writes nothing: its progress bar, and the signals, which end it at once."""

    def __init__(self, trainer: Any, description: str) -> None:
        """Take the place of the callbacks that save and print, with a progress bar that says `description`."""
        self.trainer, self.description = trainer, description
        trainer.remove_callback(CheckpointCallback)
        trainer.remove_callback(EpochTable)
        trainer.add_callback(self)
        trainer.args.save_strategy, trainer.args.load_best_model_at_end = SaveStrategy.NO, False

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Open the bar."""
        total = state.max_steps * args.global_batch_size
        self.bar = progress_bar(args, total=total, desc=self.description, unit=" reviews", leave=False)

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Look at the loss before the weights take it in, and at the signals."""
        self.trainer.end_step()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar; raise `Interrupted` after a signal."""
        self.bar.update(args.global_batch_size)
        if self.trainer.stopping:
            raise self.trainer.interrupted()

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """Raise `Interrupted` after a signal to any process."""
        if any(self.trainer.gather_scalar(self.trainer.stop_request.signal)):
            raise self.trainer.interrupted()

    def train(self) -> None:
        """Train, and close the bar however it ends."""
        try:
            self.trainer.train()
        finally:
            if hasattr(self, "bar"):
                self.bar.close()


class ValidationStopped(Exception):
    """A validation was left before its end."""


class AlreadyStoppedEarly(Exception):
    """A resumed run had stopped early already."""

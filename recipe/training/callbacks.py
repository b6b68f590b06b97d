"""What happens at the end of a training step."""

from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from recipe.training import checkpoints


class StepEnd(TrainerCallback):
    """What the trainer does at the end of each step, through Trainer's own door for it."""

    def __init__(self, trainer: Any) -> None:
        """Belong to `trainer`."""
        self.trainer = trainer
        self.stopping = False

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Validate first where a run was stopped during its validation; end where it had stopped early.

        Raises:
            AlreadyStoppedEarly: It had.
        """
        trainer = self.trainer
        if trainer.validation_due:
            trainer.validation_due = False
            # The checkpoint is about to be replaced, by one that must hold the same.
            trainer._load_rng_state(str(checkpoints.checkpoint_path(trainer.run_path, state.global_step)))
            trainer._determine_best_metric(trainer._evaluate(None, None), None)
            trainer._save_checkpoint(trainer.model, None)
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                if callback.early_stopping_patience_counter >= callback.early_stopping_patience:
                    raise AlreadyStoppedEarly

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Look at the loss before the weights take it in."""
        self.stopping = self.trainer.end_step()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint between validations, where one is due or the run is to stop."""
        due = args.checkpoint_steps and state.global_step % args.checkpoint_steps == 0
        end_of_epoch = control.should_training_stop or float(state.epoch or 0).is_integer()
        # There the epoch's own checkpoint follows, once it was validated.
        if (due or self.stopping) and not (end_of_epoch and args.save_strategy == "epoch"):
            control.should_save = True

    def on_prediction_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave a validation during training, if asked to stop.

        Raises:
            ValidationStopped: Some process was.
        """
        if self.trainer.is_in_train:
            if self.trainer.agree(self.trainer.stop.signal).any():
                raise ValidationStopped

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End here, if asked to stop.

        Raises:
            Interrupted: Some process was.
        """
        if self.stopping:
            raise self.trainer.interrupted()


class ValidationStopped(Exception):
    """A validation was left."""


class AlreadyStoppedEarly(Exception):
    """A resumed run had stopped early already."""

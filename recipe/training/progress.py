"""The progress bar, the table of epochs, and the running totals behind them."""

import time
from dataclasses import dataclass, field
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerControl, TrainerState

from recipe.arguments.training import METRICS

HEAD = "     epoch train loss   val loss     val F1    val acc    seconds"
ROW = "{epoch:10.2f} {train_loss:10.4f} {loss:10.4f} {f1:10.4f} {accuracy:10.4f} {seconds:10.1f}"


@dataclass
class Mean:
    """A running mean."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Add a value."""
        self.total += value
        self.count += 1

    def __float__(self) -> float:
        """Return the mean, 0 before the first value."""
        return self.total / self.count if self.count else 0.0


@dataclass
class RunningTotals:
    """Mean train losses per step, and seconds; saved with each checkpoint so that a resumed run continues them."""

    loss_since_log: Mean = field(default_factory=Mean)
    loss_since_validation: Mean = field(default_factory=Mean)
    seconds: float = 0.0
    seconds_since_validation: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.counted_until = time.perf_counter()

    def count_seconds(self) -> float:
        """Add the seconds since the last call, and return those that the run has taken, however often started."""
        passed = time.perf_counter() - self.counted_until
        self.counted_until += passed
        self.seconds += passed
        self.seconds_since_validation += passed
        return self.seconds

    def end_validation(self) -> dict[str, float]:
        """Return the train loss and the seconds since the last validation, and reset both."""
        self.count_seconds()
        row = {"train_loss": float(self.loss_since_validation), "seconds": round(self.seconds_since_validation, 1)}
        self.loss_since_validation, self.seconds_since_validation = Mean(), 0.0
        return row


class EpochTable(ProgressCallback):
    """A progress bar below a table with a row per validation, on the main process only."""

    def __init__(self, trainer: Any) -> None:
        """Show the totals of one `ReviewTrainer`."""
        super().__init__()
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the table's head and a resumed run's earlier rows, and open the bar."""
        if state.is_world_process_zero:
            tqdm.write("\n".join([HEAD, *(ROW.format(**row) for row in epoch_rows(state.log_history))]))
            total, initial = (steps * args.global_batch_size for steps in (state.max_steps, state.global_step))
            title = "training" if args.seeds == 1 else f"seed {args.seed}"
            self.training_bar = progress_bar(args, total=total, initial=initial, desc=title, unit=" reviews")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar by a step's reviews, and show the loss since the last validation and the learning rate."""
        if self.training_bar is not None:
            loss, rate = float(self.trainer.totals.loss_since_validation), kwargs["lr_scheduler"].get_last_lr()[0]
            self.training_bar.set_postfix_str(f"loss {loss:.4f}, lr {rate:.1e}", refresh=False)
            self.training_bar.update(args.global_batch_size)

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Advance the validation's own bar, which disappears at its end."""
        if state.is_world_process_zero:
            if self.prediction_bar is None:
                total = len(eval_dataloader)
                self.prediction_bar = progress_bar(args, total=total, desc="validation", unit=" batches", leave=False)
            self.prediction_bar.update(1)  # type: ignore[attr-defined]

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing: the table's row shows it."""

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the row of the validation that has just ended."""
        super().on_evaluate(args, state, control, **kwargs)
        state.log_history[-1] |= self.trainer.totals.end_validation()
        if self.training_bar is not None:
            tqdm.write(ROW.format(**epoch_rows(state.log_history)[-1]))


def progress_bar(args: Any, **options: Any) -> Any:
    """Return a progress bar, which is off where the output is a log file."""
    return tqdm(dynamic_ncols=True, mininterval=0.5, disable=args.disable_tqdm or None, **options)


def epoch_rows(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per validation from Trainer's log: `epoch`, `step`, `train_loss`, `loss`, the metrics and `seconds`.

    `train_loss` is the mean over the steps since the validation before; `seconds` count training and validation.
    """
    return [
        {name: entry[name] for name in ("epoch", "step", "train_loss", "seconds")}
        | {name: entry[f"eval_{name}"] for name in ("loss", *METRICS)}
        for entry in log_history
        if "eval_loss" in entry
    ]

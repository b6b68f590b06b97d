"""The progress bar, the table of epochs, and the running totals behind them."""

import time
from dataclasses import dataclass, field
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerControl, TrainerState
from transformers.trainer_utils import has_length

from recipe.arguments.training import METRICS, TrainingArguments


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
    """Loss sums and elapsed time, saved with each checkpoint so that a resumed run continues them.

    Attributes:
        loss_since_log, loss_since_validation: Mean train loss per step.
        seconds: Of this run before it was last started.
        seconds_since_validation: Of those, since the last validation.
    """

    loss_since_log: Mean = field(default_factory=Mean)
    loss_since_validation: Mean = field(default_factory=Mean)
    seconds: float = 0.0
    seconds_since_validation: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.start_clock()

    def start_clock(self) -> None:
        """Count the seconds from now on."""
        self.started = self.validated = time.perf_counter()

    def total_seconds(self) -> float:
        """Return the seconds that the run has taken, however often it was started."""
        return self.seconds + time.perf_counter() - self.started

    def validation_seconds(self) -> float:
        """Return the seconds since the last validation."""
        return self.seconds_since_validation + time.perf_counter() - self.validated

    def end_validation(self) -> dict[str, float]:
        """Return the train loss and the seconds since the last validation, and reset both."""
        row = {"train_loss": float(self.loss_since_validation), "seconds": round(self.validation_seconds(), 1)}
        self.loss_since_validation = Mean()
        self.validated, self.seconds_since_validation = time.perf_counter(), 0.0
        return row

    def state(self) -> dict[str, Any]:
        """Return the totals as JSON takes them."""
        return {
            "loss_since_log": vars(self.loss_since_log),
            "loss_since_validation": vars(self.loss_since_validation),
            "seconds": self.total_seconds(),
            "seconds_since_validation": self.validation_seconds(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "RunningTotals":
        """Return the totals that `state` saved."""
        means = {name: Mean(**state[name]) for name in ("loss_since_log", "loss_since_validation")}
        return cls(**state | means)


class EpochTable(ProgressCallback):
    """A progress bar below a table with a row per validation, on the main process only."""

    columns = ("epoch", "train loss", "val loss", "val F1", "val acc", "seconds")

    def __init__(self, totals: RunningTotals) -> None:
        """Read the loss and the time from `totals`."""
        super().__init__()
        self.totals = totals

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the table's head and a resumed run's earlier rows, and open the bar."""
        if state.is_world_process_zero:
            tqdm.write(" ".join(f"{name:>10}" for name in self.columns))
            for row in epoch_rows(state.log_history):
                self._write(row)
            self.training_bar = tqdm(
                total=state.max_steps * args.global_batch_size,
                initial=state.global_step * args.global_batch_size,
                desc="training",
                unit=" reviews",
                **_bar_options(args),
            )

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar by a step's reviews, and show the loss since the last validation and the learning rate."""
        if self.training_bar is not None:
            rate = kwargs["lr_scheduler"].get_last_lr()[0]
            self.training_bar.set_postfix_str(
                f"loss {float(self.totals.loss_since_validation):.4f}, lr {rate:.1e}", refresh=False
            )
            self.training_bar.update(args.global_batch_size)

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Advance the validation's own bar, which disappears at its end."""
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                self.prediction_bar = tqdm(
                    total=len(eval_dataloader), desc="validation", unit=" batches", leave=False, **_bar_options(args)
                )
            self.prediction_bar.update(1)  # type: ignore[attr-defined]

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        """Print nothing: the table's row shows it."""

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Print the row of the validation that has just ended."""
        super().on_evaluate(args, state, control, **kwargs)
        state.log_history[-1] |= self.totals.end_validation()
        if self.training_bar is not None:
            self._write(epoch_rows(state.log_history)[-1])

    def _write(self, row: dict[str, float]) -> None:
        """Print a row of the table."""
        values = (row[name] for name in ("epoch", "train_loss", "loss", "f1", "accuracy", "seconds"))
        formats = ("10.2f", "10.4f", "10.4f", "10.4f", "10.4f", "10.1f")
        tqdm.write(" ".join(format(value, form) for value, form in zip(values, formats, strict=True)))


def _bar_options(args: TrainingArguments) -> dict[str, Any]:
    """Return the options of every progress bar: it is off where the output is a log file."""
    return {"dynamic_ncols": True, "mininterval": 0.5, "disable": True if args.disable_tqdm else None}


def epoch_rows(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per validation from Trainer's log: `epoch`, `step`, `train_loss`, `loss`, the metrics and `seconds`.

    `train_loss` is the mean over the steps since the validation before; `seconds` count training and validation.
    """
    return [
        {"epoch": entry["epoch"], "step": entry["step"], "train_loss": entry["train_loss"]}
        | {name: entry[f"eval_{name}"] for name in ("loss", *METRICS)}
        | {"seconds": entry["seconds"]}
        for entry in log_history
        if "eval_loss" in entry
    ]

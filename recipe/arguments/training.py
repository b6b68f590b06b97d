"""How a run is trained: transformers' `TrainingArguments` with the recipe's defaults."""

import math
import os
from dataclasses import dataclass, field
from typing import Literal

import torch
import transformers

from recipe.errors import UsageError
from recipe.machine import usable_cores

# What validation computes, and so what the best epoch can be picked by.
METRICS = ("f1", "accuracy", "precision", "recall")


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """Everything that transformers' `TrainingArguments` has, with the original recipe's defaults."""

    num_train_epochs: float = field(default=5.0, metadata={"help": "Epochs to train for."})
    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    global_batch_size: int = field(
        default=16, metadata={"help": "Reviews per step of the optimiser, whatever the number of devices."}
    )
    # None until `_share_batch`; transformers, which reads them later, has plain numbers here.
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Reviews that a device computes at once. By default its share of global_batch_size; with fewer it "
            "accumulates gradients until the step is whole."
        },
    )
    gradient_accumulation_steps: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Follows from the two above; where given, the size per device follows."}
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Reviews per device and validation batch."})
    precision: Literal["auto", "bf16", "fp16", "fp32"] = field(
        default="auto",
        metadata={"help": "auto: bf16 where the GPU has it, else fp16 on a GPU, fp32 on the CPU."},
    )
    optim: str = field(default="adamw_torch_fused", metadata={"help": "The optimiser: AdamW, in one kernel."})
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata={"help": "balanced: reviews of a rare label weigh more in the train loss."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after N validations in a row without a better one."}
    )
    # How often in a row no validation was better, above all.
    restore_callback_states_from_checkpoint: bool = field(default=True, metadata={"help": "On --resume, theirs too."})
    resume: bool = field(
        default=False, metadata={"help": "Go on from the newest whole checkpoint in output_dir, as if never stopped."}
    )
    save_steps: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "A checkpoint every N steps as well, between those of the validations."}
    )
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Processes that pad batches ahead: by default up to 4 on a GPU, none on a CPU."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate: epoch, steps or no."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: as eval_strategy."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log the training loss."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Reload the best epoch at the end."})
    metric_for_best_model: str = field(default="f1", metadata={"help": "Validation metric that picks the best epoch."})
    group_by_length: bool = field(default=True, metadata={"help": "Batch reviews of like length: less padding."})
    # Trainer does not recognise every label column by itself, and then skips `compute_metrics` without a word
    # (transformers#40217, #28530).
    label_names: list[str] = field(
        default_factory=lambda: ["labels"], metadata={"help": "The label's name in a batch."}
    )
    # By default transformers takes the silence asked of its logging for a wish to see no progress bar.
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})
    # Every parameter takes part in every step, and looking for others costs one more walk over the graph.
    ddp_find_unused_parameters: bool = field(default=False, metadata={"help": "As PyTorch's DistributedDataParallel."})
    report_to: str = field(default="none", metadata={"help": "Where to send logs: none, tensorboard, …"})

    def __post_init__(self) -> None:
        """Let transformers check and complete its own arguments, then refuse what would break the recipe.

        Raises:
            UsageError: A number is not positive, or the best epoch could not be found or reloaded.
        """
        for name in (
            *("num_train_epochs", "learning_rate", "gradient_accumulation_steps", "global_batch_size"),
            *("per_device_train_batch_size", "per_device_eval_batch_size", "early_stopping_patience"),
        ):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name} {value} must be more than 0, and finite")
        self._share_batch(int(os.environ.get("WORLD_SIZE", "1")))
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed} must be from 0 to {2**32 - 1}")
        if (metric := self.metric_for_best_model.removeprefix("eval_")) not in (*METRICS, "loss"):
            raise UsageError(f"--metric_for_best_model {metric} is not one of {', '.join(METRICS)}, loss")
        self._set_hardware(0 if self.use_cpu else torch.cuda.device_count())
        self._set_checkpoint_steps()
        super().__post_init__()
        if not self.load_best_model_at_end:
            raise UsageError("--load_best_model_at_end False would keep the last epoch, not the best: leave it on")
        if self.eval_strategy == "no":
            raise UsageError("--eval_strategy no leaves nothing to pick the best epoch by: use epoch or steps")
        if self.save_strategy == "best":
            # It reloads the last checkpoint instead of the best (transformers PR #40221).
            raise UsageError("--save_strategy best does not reload the best epoch: use epoch or steps")
        if self.resume_from_checkpoint is not None:
            raise UsageError(
                "--resume_from_checkpoint does not look at what it resumes: give --output_dir and --resume"
            )
        if self.resume and self.overwrite_output_dir:
            raise UsageError("--resume goes on with a run, --overwrite_output_dir removes it: give one of them")
        if self.eval_on_start:
            raise UsageError("--eval_on_start would validate once more on every --resume: leave it out")
        if self.auto_find_batch_size:
            raise UsageError("--auto_find_batch_size would change the batch: give --per_device_train_batch_size")

    def _set_hardware(self, gpus: int) -> None:
        """Choose precision, TF32, compiling and workers as the device has them, unless told otherwise.

        Raises:
            UsageError: There are more processes than GPUs, or the device does not have the precision.
        """
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if gpus and processes > gpus:
            raise UsageError(f"{processes} processes but {gpus} GPU(s) on this machine: give --num_processes {gpus}")
        if not gpus and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Accelerate would not join processes on a CPU that it was not told of: each would train alone.
            self.use_cpu = True
        # By flag, or by `accelerate launch` and its configuration through the environment.
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        asked = "bf16" if self.bf16 else "fp16" if self.fp16 else "auto" if launched == "no" else launched
        has_bf16 = bool(gpus) and torch.cuda.is_bf16_supported(including_emulation=False)
        chosen = effective_precision(asked if self.precision == "auto" else self.precision, bool(gpus), has_bf16)
        self.bf16, self.fp16 = chosen == "bf16", chosen == "fp16"
        os.environ["ACCELERATE_MIXED_PRECISION"] = chosen if chosen in ("bf16", "fp16") else "no"
        if self.tf32 is None and gpus and torch.cuda.get_device_capability() >= (8, 0):
            self.tf32 = True
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = min(4, usable_cores() // processes) if gpus else 0
        if self.torch_compile:
            # Lengths change from batch to batch; without it each new one is compiled until the limit is reached.
            os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"] = "true"

    def _set_checkpoint_steps(self) -> None:
        """Read `save_steps` as the distance of checkpoints between validations, where those decide when to save.

        Raises:
            UsageError: It is not a whole number.
        """
        given, self.save_steps = self.save_steps, 500 if self.save_steps is None else self.save_steps
        self.checkpoint_steps = 0
        if given is not None and self.save_strategy == "epoch":
            if not math.isfinite(given) or given != int(given) or given < 1:
                raise UsageError(f"--save_steps {given:g} must be a whole number of steps, from 1")
            self.checkpoint_steps = int(given)

    def _share_batch(self, processes: int) -> None:
        """Set the size per device and the accumulation steps so that a step sees `global_batch_size` reviews.

        Raises:
            UsageError: It cannot be shared out; names the nearest that can.
        """
        per_device, steps = self.per_device_train_batch_size, self.gradient_accumulation_steps
        share = processes * (per_device or 1) * (steps or 1)
        if per_device and steps and share != self.global_batch_size:
            raise UsageError(
                f"{processes} process(es) with --per_device_train_batch_size {per_device} and "
                f"--gradient_accumulation_steps {steps} make a batch of {share}, not --global_batch_size "
                f"{self.global_batch_size}: leave one of the three out"
            )
        if self.global_batch_size % share:
            lower = self.global_batch_size // share * share
            raise UsageError(
                f"--global_batch_size {self.global_batch_size} does not divide by {share} ({processes} process(es)"
                + (f" of {per_device} reviews" if per_device else "")
                + (f", {steps} accumulation steps" if steps else "")
                + f"): the nearest that do are {f'{lower} and ' if lower else ''}{lower + share}"
            )
        self.per_device_train_batch_size = per_device or self.global_batch_size // share
        self.gradient_accumulation_steps = self.global_batch_size // (processes * self.per_device_train_batch_size)


def effective_precision(asked: str, has_gpu: bool, has_bf16: bool) -> str:
    """Return bf16, fp16 or fp32: what was asked for, or with "auto" the fastest that the device has.

    Raises:
        UsageError: The device does not have it.
    """
    if asked == "auto":
        return "bf16" if has_bf16 else "fp16" if has_gpu else "fp32"
    if asked in ("bf16", "fp16") and not has_gpu:
        raise UsageError(f"{asked} needs a GPU, and there is none: leave --precision and mixed precision out")
    if asked == "bf16" and not has_bf16:
        raise UsageError("this GPU has no bf16: use --precision fp16, or leave it out")
    return asked

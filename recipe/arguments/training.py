"""Settings of a training: transformers' `TrainingArguments` with the recipe's defaults."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
import transformers

from recipe.arguments.setting import setting
from recipe.errors import UsageError
from recipe.machine import connecting, usable_cores

# The metrics of a validation, any of which can pick the best epoch.
METRICS = ("f1", "accuracy", "precision", "recall")
# Settings that must be more than 0, and finite.
POSITIVE = (
    *("num_train_epochs", "learning_rate", "gradient_accumulation_steps", "global_batch_size"),
    *("per_device_train_batch_size", "per_device_eval_batch_size", "early_stopping_patience"),
    *("threads", "seeds"),
)
# Settings from 0 on, and their most.
NOT_NEGATIVE = {
    **{"weight_decay": math.inf, "max_grad_norm": math.inf, "tuned_trials": math.inf},
    **{"label_smoothing_factor": 1, "warmup_ratio": 1},
}
# Values that would break the recipe, and the reason to give.
REFUSED = {
    "load_best_model_at_end": (False, "False would keep the last epoch, not the best: leave it on"),
    "eval_strategy": ("no", "no leaves nothing to pick the best epoch by: use epoch or steps"),
    # It reloads the last checkpoint instead (transformers PR #40221).
    "save_strategy": ("best", "best does not reload the best epoch: use epoch or steps"),
    "save_only_model": (True, "leaves nothing to resume from: leave it out"),
    "eval_on_start": (True, "would validate once more on every --resume: leave it out"),
    "auto_find_batch_size": (True, "would change the batch: give --per_device_train_batch_size"),
    "remove_unused_columns": (False, "False would give the model columns that it does not take: leave it on"),
    "prediction_loss_only": (True, "would leave no metric to pick the best epoch by: leave it out"),
    "batch_eval_metrics": (True, "would average F1 over batches, which is another figure: leave it out"),
    "use_legacy_prediction_loop": (True, "would average the loss over batches, not rows: leave it out"),
    "do_predict": (True, "does nothing here: python scripts/evaluate.py measures the test rows"),
    "push_to_hub": (True, "is not done while training: python scripts/publish.py sends the finished run"),
}


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """Everything that transformers' `TrainingArguments` has, with the original recipe's defaults."""

    output_dir: str | None = setting(None, "The run's folder (default: runs/ and the name of the config or file).")
    overwrite_output_dir: bool = setting(False, "Replace the run that the folder holds.")
    num_train_epochs: float = setting(5.0, "Epochs to train for.")
    learning_rate: float = setting(2e-5, "Peak learning rate of AdamW.")
    global_batch_size: int = setting(16, "Reviews per step of the optimiser, whatever the number of devices.")
    # None until `share_batch`; transformers, which reads them later, has plain numbers here.
    per_device_train_batch_size: int | None = setting(  # type: ignore[assignment]
        None,
        "Reviews that a device computes at once. By default its share of global_batch_size; with fewer, gradients "
        "are accumulated.",
    )
    gradient_accumulation_steps: int | None = setting(  # type: ignore[assignment]
        None, "Follows from the two above; where given, the size per device follows."
    )
    per_device_eval_batch_size: int = setting(64, "Reviews per device and validation batch.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "auto: bf16 where the GPU has it, else fp16 on a GPU, fp32 on the CPU."
    )
    optim: str = setting("adamw_torch_fused", "The optimiser: AdamW, in one kernel.")
    class_weights: Literal["none", "balanced"] = setting(
        "none", "balanced: reviews of a rare label weigh more in the train loss."
    )
    contrast_labels: bool = setting(
        False,
        "For few labels, with BERT: begin with the mean of the tokens and a head fitted to it, and learn to bring "
        "reviews of a label together.",
    )
    refit: bool = setting(
        False,
        "For few labels, or with unlabelled_file: train once more, on the validation rows too, when it is known how "
        "good that is.",
    )
    seeds: int = setting(1, "Trainings, with --seed and the seeds after it, of which the best by validation is kept.")
    tuned_trials: int = setting(0, "Trials that these settings were chosen from on the validation rows: by tune.py.")
    early_stopping_patience: int | None = setting(None, "Stop after N validations in a row without a better one.")
    # Above all how often in a row no validation was better.
    restore_callback_states_from_checkpoint: bool = setting(True, "On --resume, restore callbacks.")
    resume: bool = setting(False, "Go on from the newest whole checkpoint in output_dir, as if never stopped.")
    save_steps: float | None = setting(  # type: ignore[assignment]
        None, "A checkpoint every N steps as well, between those of the validations."
    )
    dataloader_num_workers: int | None = setting(  # type: ignore[assignment]
        None, "Processes that pad batches ahead: by default up to 4 on a GPU, none on a CPU."
    )
    threads: int | None = setting(None, "CPU threads of each process: by default, on a CPU, its share of the cores.")
    eval_strategy: str = setting("epoch", "When to validate: epoch, steps or no.")
    save_strategy: str = setting("epoch", "When to save a checkpoint: as eval_strategy.")
    logging_strategy: str = setting("epoch", "When to log the training loss.")
    load_best_model_at_end: bool = setting(True, "Reload the best epoch at the end.")
    metric_for_best_model: str = setting("f1", "Validation metric that picks the best epoch.")
    group_by_length: bool = setting(True, "Batch reviews of like length: less padding.")
    # Trainer does not recognise every label column by itself, and then skips `compute_metrics` without a word
    # (transformers#40217, #28530).
    label_names: list[str] = setting(["labels"], "The label's name in a batch.")
    # By default transformers shows no progress bar where its logging is quiet.
    disable_tqdm: bool = setting(False, "Show no progress bars.")
    # Two waits for the device per batch; the recipe stops the run at such a loss.
    logging_nan_inf_filter: bool = setting(False, "Leave losses of NaN out of Trainer's log.")
    # One collective per step; every device has the same number of reviews.
    average_tokens_across_devices: bool = setting(False, "Count the labels of all devices.")
    # Every parameter takes part in every step, and a search for others costs one more walk over the graph.
    ddp_find_unused_parameters: bool = setting(False, "As PyTorch's DistributedDataParallel.")
    report_to: str = setting("none", "Where to send logs: none, tensorboard, …")

    def __post_init__(self) -> None:
        """Complete the arguments, let transformers check its own, then refuse what would break the recipe.

        Raises:
            UsageError: A value is out of its range, or the best epoch could not be found or reloaded.
        """
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name} {value} must be more than 0, and finite")
        if not 0 <= self.seed <= 2**32 - self.seeds:
            raise UsageError(f"--seed {self.seed} must be from 0 to {2**32 - self.seeds}")
        if (metric := self.metric_for_best_model.removeprefix("eval_")) not in (*METRICS, "loss"):
            raise UsageError(f"--metric_for_best_model {metric} is not one of {', '.join(METRICS)}, loss")
        processes, local_processes = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        self.per_device_train_batch_size, self.gradient_accumulation_steps = share_batch(
            self.global_batch_size, processes, self.per_device_train_batch_size, self.gradient_accumulation_steps
        )
        self._choose_device(processes, local_processes)
        self._space_checkpoints()
        if self.logging_steps != 500 and self.logging_strategy == "epoch":
            self.logging_strategy = "steps"
        if self.gradient_checkpointing and self.gradient_checkpointing_kwargs is None:
            # PyTorch's older way, Trainer's default, fails on models whose layers take keyword arguments (DeBERTa).
            self.gradient_checkpointing_kwargs = {"use_reentrant": False}
        self._refuse()
        with connecting(processes):
            super().__post_init__()

    def _choose_device(self, processes: int, local_processes: int) -> None:
        """Choose what computes, in what precision, and how many processes load data; the last are this machine's."""
        gpus = 0 if self.use_cpu else torch.cuda.device_count()
        require_gpu_per_process(gpus, local_processes)
        # Accelerate joins processes on a CPU only if it is told of it; otherwise each would train alone.
        self.use_cpu = self.use_cpu or (gpus == 0 and processes > 1)
        has_bf16 = gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False)
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        asked = requested_precision(self.precision, self.bf16, self.fp16, launched)
        chosen = effective_precision(asked, gpus > 0, has_bf16)
        self.bf16, self.fp16 = chosen == "bf16", chosen == "fp16"
        if self.tf32 is None and gpus and torch.cuda.get_device_capability() >= (8, 0):
            self.tf32 = True
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = min(4, usable_cores() // local_processes) if gpus else 0

    def _space_checkpoints(self) -> None:
        """Tell Trainer of the checkpoints after validations, and keep the distance of those between them."""
        # `save_steps` is the distance of checkpoints between those of the validations; Trainer knows only the latter.
        by_steps, between = self.save_strategy == "steps", self.save_steps
        if by_steps:
            self.eval_steps = self.eval_steps or self.save_steps or 500
            between = None if self.save_steps == self.eval_steps else self.save_steps
        if between is not None and (between < 1 or not float(between).is_integer()):
            raise UsageError(f"--save_steps {between:g} must be a whole number of steps, from 1")
        self.checkpoint_steps = int(between or 0)
        self.save_steps = self.eval_steps if by_steps else between or 500
        # The recipe removes old checkpoints itself, once the new one is known to be whole.
        self.checkpoint_limit, self.save_total_limit = self.save_total_limit, None

    def _refuse(self) -> None:
        for name, (refused, reason) in REFUSED.items():
            if getattr(self, name) == refused:
                raise UsageError(f"--{name} {reason}")
        if self.save_strategy == "no":
            raise UsageError("--save_strategy no leaves no best epoch to reload: use epoch or steps")
        for name, most in NOT_NEGATIVE.items():
            if not 0 <= (value := getattr(self, name)) <= most:
                raise UsageError(f"--{name} {value} must be from 0{f' to {most}' if most < math.inf else ' on'}")
        if self.label_names != ["labels"]:
            raise UsageError("--label_names is always labels here: --label_column names the column of your reviews")
        if self.deepspeed is not None:
            raise UsageError("--deepspeed is not supported, as its checkpoints have a form of their own: use --fsdp")
        if self.resume_from_checkpoint is not None:
            raise UsageError(
                "--resume_from_checkpoint does not look at what it resumes: give --output_dir and --resume"
            )
        if self.resume and self.overwrite_output_dir:
            raise UsageError("--resume goes on with a run, --overwrite_output_dir removes it: give one of them")

    @property
    def device(self) -> torch.device:
        """Return this process's device, a CPU without its index.

        Trainer 4.57 loads the optimiser's state onto `args.device` on resume, and torch cannot load onto the cpu:0 of
        one CPU process among several.
        """
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


def share_batch(global_batch_size: int, processes: int, per_device: int | None, steps: int | None) -> tuple[int, int]:
    """Return the batch size per device and the accumulation steps that make up the global batch.

    `processes` are those of all machines, a device each; `per_device` and `steps` are the two if the user chose them.

    Raises:
        UsageError: The batch cannot be shared out so; names the nearest that can.
    """
    share = processes * (per_device or 1) * (steps or 1)
    if per_device and steps and share != global_batch_size:
        raise UsageError(
            f"{processes} process(es) with --per_device_train_batch_size {per_device} and "
            f"--gradient_accumulation_steps {steps} make a batch of {share}, not --global_batch_size "
            f"{global_batch_size}: leave one of the three out"
        )
    if global_batch_size % share:
        lower = global_batch_size // share * share
        raise UsageError(
            f"--global_batch_size {global_batch_size} does not divide by {share} ({processes} process(es)"
            + (f" of {per_device} reviews" if per_device else "")
            + (f", {steps} accumulation steps" if steps else "")
            + f"): the nearest that do are {f'{lower} and ' if lower else ''}{lower + share}"
        )
    per_device = per_device or global_batch_size // share
    return per_device, global_batch_size // (processes * per_device)


def require_gpu_per_process(gpus: int, processes: int) -> None:
    """Raise `UsageError` if a machine with GPUs has fewer of them than processes."""
    if gpus and processes > gpus:
        raise UsageError(f"{processes} processes but {gpus} GPU(s) on this machine: give --num_processes {gpus}")


def requested_precision(precision: str, bf16: bool, fp16: bool, launched: str) -> str:
    """Return what was asked for: by `--precision`, else by transformers' flags, else by `accelerate launch`."""
    by_flag = "bf16" if bf16 else "fp16" if fp16 else "auto" if launched == "no" else launched
    return by_flag if precision == "auto" else precision


def effective_precision(asked: str, has_gpu: bool, has_bf16: bool) -> str:
    """Return bf16, fp16 or fp32: the one asked for, which the device must have, or with "auto" the fastest it has."""
    if asked == "auto":
        return "bf16" if has_bf16 else "fp16" if has_gpu else "fp32"
    if asked in ("bf16", "fp16") and not has_gpu:
        raise UsageError(f"{asked} needs a GPU, and there is none: leave --precision and mixed precision out")
    if asked == "bf16" and not has_bf16:
        raise UsageError("this GPU has no bf16: use --precision fp16, or leave it out")
    return asked


def set_environment(args: TrainingArguments) -> None:
    """Tell Accelerate the precision and the kind of compiling, which it reads from the environment alone."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    if args.torch_compile:
        # Lengths change from batch to batch; without it each new one is compiled until the limit is reached.
        os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"] = "true"

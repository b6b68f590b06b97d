"""Speed and memory of training: the original's loop, `run_classification.py`'s Trainer and ours, in turn."""

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import profile
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from recipe import quickstart
from recipe.arguments.parser import Arguments, parse_arguments
from recipe.benchmarks.cost import operations, operations_of
from recipe.benchmarks.turns import Worker, peak_resident
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.machine import usable_cores
from recipe.model.pretrained import Pretrained, find_pretrained, load_tokenizer
from recipe.training.progress import EpochTable
from recipe.training.run import prepare, use_all_cores

LENGTH, BATCH, LEARNING_RATE = 128, 16, 2e-5
# The same optimisation for all: AdamW at a constant rate, no decay, gradients clipped at 1.
OPTIMISATION: dict[str, Any] = {
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "constant",
    "num_train_epochs": 1,
    "max_grad_norm": 1.0,
    "logging_strategy": "steps",
    "logging_steps": 1,
}
# Points of a loss curve, each the mean of as many steps.
CURVE = 5
MATRIX = 2048
# Of the profile, the most costly ones.
OPERATORS = 12


@dataclass
class Pass:
    """One pass over the rows.

    Attributes:
        seconds: From the first step's begin to the last one's end.
        losses: Of each step.
        batches: Each batch's reviews, padded length and word pieces.
    """

    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    batches: list[tuple[int, int, int]] = field(default_factory=list)

    def note(self, batch: dict[str, torch.Tensor]) -> None:
        """Remember a batch's size."""
        self.batches.append((*batch["input_ids"].shape, int(batch["attention_mask"].sum())))


class Stopwatch(TrainerCallback):
    """Takes the time of a Trainer's steps, without what comes before and after."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin anew."""
        self.begun = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the first."""
        self.begun = self.begun or time.perf_counter()

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Note the last: to log a step's loss is to wait for it, on a GPU too."""
        self.seconds = time.perf_counter() - self.begun


def original(arguments: Arguments) -> tuple[Callable[[], Pass], PreTrainedModel]:
    """Return a pass of the original's loop: every review tokenized when it is its turn, and padded to the maximum."""
    pretrained, texts, labels, tokenizer = _plain(arguments)
    device = arguments.training.device

    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        """Return a batch of what the original's Dataset gives for a row."""
        encoded = [tokenizer(texts[row], truncation=True, padding="max_length", return_tensors="pt") for row in rows]
        batch = {name: torch.cat([review[name] for review in encoded]) for name in encoded[0]}
        return batch | {"labels": torch.tensor([int(labels[row]) for row in rows])}

    def run() -> Pass:
        done, model = Pass(), _plain_model(pretrained).to(device).train()  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        order = torch.randperm(len(texts))[: len(texts) // BATCH * BATCH].tolist()
        begun = time.perf_counter()
        for batch in DataLoader(order, batch_size=BATCH, collate_fn=collate):  # type: ignore[arg-type]
            done.note(batch)
            optimizer.zero_grad()
            loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done.losses.append(loss.item())
        done.seconds = time.perf_counter() - begun
        return done

    return run, _plain_model(pretrained)


def run_classification(arguments: Arguments) -> tuple[Callable[[], Pass], PreTrainedModel]:
    """Return a pass of Trainer as `run_classification.py` sets it up: tokenized before, padded to the maximum."""
    pretrained, texts, labels, tokenizer = _plain(arguments)
    encoded = tokenizer(texts, truncation=True, padding="max_length")
    rows = [
        {name: values[row] for name, values in encoded.items()} | {"label": int(labels[row])}
        for row in range(len(texts) // BATCH * BATCH)
    ]

    def run() -> Pass:
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                folder,
                per_device_train_batch_size=BATCH,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=arguments.training.use_cpu,
                **OPTIMISATION,
            )
            data: Any = rows
            trainer = Trainer(_plain_model(pretrained), args, default_data_collator, train_dataset=data)
            trainer.remove_callback(PrinterCallback)
            return _timed(trainer)

    return run, _plain_model(pretrained)


def ours(arguments: Arguments) -> tuple[Callable[[], Pass], PreTrainedModel]:
    """Return a pass of this recipe's trainer, as `scripts/train.py` prepares it."""
    job = prepare(arguments)
    trainer = job.trainer
    initial = {name: value.clone() for name, value in job.model.state_dict().items()}
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    # Two lines that nobody reads here.
    trainer.remove_callback(EpochTable)

    def run() -> Pass:
        job.model.load_state_dict(initial)
        trainer.optimizer = trainer.lr_scheduler = None
        return _timed(trainer)

    return run, job.model


def _plain(arguments: Arguments) -> tuple[Pretrained, list[Any], np.ndarray, PreTrainedTokenizerBase]:
    """Return the weights' place, the train rows' texts and labels, and the tokenizer."""
    pretrained = find_pretrained(arguments.model, LENGTH)
    train = load_reviews(arguments.data, arguments.training.seed).splits["train"]
    return pretrained, list(texts_of(train)), train.labels, load_tokenizer(pretrained, LENGTH)


def _plain_model(pretrained: Pretrained) -> PreTrainedModel:
    """Return the untouched class, with a new head."""
    return AutoModelForSequenceClassification.from_pretrained(pretrained.location, num_labels=2, use_safetensors=True)


WAYS = {"original loop": original, "run_classification.py": run_classification, "ours": ours}


def _timed(trainer: Trainer) -> Pass:
    """Train once and return the pass."""
    done, collate, stopwatch = Pass(), trainer.data_collator, Stopwatch()

    def noted(rows: Any) -> Any:
        """Return the batch, noted."""
        batch = collate(rows)
        done.note(batch)
        return batch

    # Its workers would note the batches in processes of their own.
    trainer.args.dataloader_num_workers = 0
    trainer.data_collator = noted
    trainer.add_callback(stopwatch)
    trainer.train()
    trainer.remove_callback(stopwatch)
    trainer.data_collator = collate
    done.seconds = stopwatch.seconds
    done.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return done


def measure(dataset: str, model: str | None, rows: int, rounds: int, more: list[str]) -> dict[str, Any]:
    """Let each way pass over the same rows, in turn, and return the medians.

    Every way has a process of its own, that waits while the others work.

    Args:
        dataset: A folder, or a name on the Hub, with column content.
        model: Weights to start from; `None` is a BERT-base of random weights, for speed alone.
        rows: To be trained on in one pass.
        rounds: Passes of each way.
        more: Flags for our way alone (`--torch_compile`).

    Returns:
        `machine`, `limit_gflops` (a matrix multiplication of 2,048 by 2,048), `profile` (the
        operators that a pass of ours spends most time in), and by way `reviews_per_second`, `ratio`
        to the original, both medians with the ratio taken round by round; `tokens_per_second`, padding not counted;
        `padding`, its share; `share_of_limit`, of what was computed, padding counted; `peak_gib`; and `losses`, the
        means of each fifth of the steps.
    """
    passes: dict[str, list[Pass]] = {way: [] for way in WAYS}
    limits, peaks = [], {}
    with tempfile.TemporaryDirectory() as work, ExitStack() as ended:
        flags = _flags(dataset, rows, Path(work))
        workers = {
            way: ended.enter_context(Worker(_passes, way, flags + (more if way == "ours" else []), model))
            for way in WAYS
        }
        for _ in tqdm(range(rounds), unit=" rounds", disable=None):
            for way, worker in workers.items():
                done, limit, peaks[way] = worker.ask("pass")
                passes[way].append(done)
                limits.append(limit)
        shares = workers["ours"].ask("profile")
    costs = {way: worker.first[0] for way, worker in workers.items()}
    limit = median(limits)
    original_seconds = [done.seconds for done in passes["original loop"]]
    return {
        "machine": workers["ours"].first[1],
        "rows": sum(size for size, _, _ in passes["ours"][0].batches),
        "rounds": rounds,
        "limit_gflops": round(limit / 1e9),
        "profile": shares,
        "ways": {way: _summary(done, costs[way], limit, original_seconds, peaks[way]) for way, done in passes.items()},
    }


def _flags(dataset: str, rows: int, folder: Path) -> list[str]:
    """Return the flags of our trainer for a pass over `rows` rows."""
    held_out = max(rows // 10, BATCH)
    flags = f"""--max_train_samples {rows + held_out} --validation_fraction {held_out / (rows + held_out)}
        --max_test_samples 16 --max_length {LENGTH} --global_batch_size {BATCH} --warmup_ratio 0 --disable_tqdm True"""
    chosen = [word for name, value in OPTIMISATION.items() for word in (f"--{name}", str(value))]
    return ["--dataset_name", dataset, "--output_dir", str(folder / "run"), *flags.split(), *chosen]


def _passes(way: str, flags: list[str], model_name: str | None) -> Generator[Any, Any, None]:
    """Be the process of one way: prepare, then make a pass whenever asked.

    Yields:
        What a step costs and the machine's name; then a pass, the limit and the peak of memory, or a profile.

    Raises:
        UsageError: The dataset or the model cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = model_name or _random_bert_base(Path(folder))
        arguments = parse_arguments([*flags, "--model_name_or_path", weights])
        device = arguments.training.device
        use_all_cores(arguments.training)
        set_seed(0)
        run, model = WAYS[way](arguments)
        machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{usable_cores()} CPU cores"
        wish = yield _cost(model), machine
        while True:
            if wish == "profile":
                wish = yield _profile(run, device)
            else:
                wish = yield run(), _limit(device, arguments.training), _peak(device)


def _random_bert_base(folder: Path) -> str:
    """Write a BERT-base of random weights, with the quickstart's tokenizer, and return its folder."""
    package = quickstart.find_package(f"{quickstart.PREFIX}{quickstart.WEIGHTS.name}", quickstart.WEIGHTS)
    AutoTokenizer.from_pretrained(package).save_pretrained(folder)
    BertModel(BertConfig()).save_pretrained(folder)
    return str(folder)


def _profile(run: Callable[[], Pass], device: torch.device) -> dict[str, float]:
    """Return the operators that a pass spends most of its time in, with their shares of it."""
    with profile(acc_events=True) as profiler:
        run()
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spent = {event.key: float(getattr(event, name)) for event in profiler.key_averages()}
    total = sum(spent.values())
    return {key: round(spent[key] / total, 3) for key in sorted(spent, key=spent.__getitem__)[: -OPERATORS - 1 : -1]}


def _cost(model: PreTrainedModel) -> np.ndarray:
    """Return what a step costs, forward and backward, as `operations` does."""

    def step(batch: torch.Tensor) -> None:
        """Compute the gradients."""
        model.train()(input_ids=batch, attention_mask=batch, labels=batch[:, 0]).loss.backward()
        model.zero_grad()

    return operations(step, model.device)


def _limit(device: torch.device, args: Any) -> float:
    """Return the floating-point operations per second of the best of 20 large matrix multiplications."""
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    one, best = torch.randn(MATRIX, MATRIX, device=device, dtype=dtype), float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * MATRIX**3 / best


def _peak(device: torch.device) -> int:
    """Return the most bytes that this process has held: on the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()


def _summary(
    done: list[Pass], cost: np.ndarray, limit: float, original_seconds: list[float], peak: int
) -> dict[str, Any]:
    """Return one way's figures, as in `measure`."""
    seconds = median(one.seconds for one in done)
    sizes = np.array(done[0].batches)
    reviews, padded, real = sizes[:, 0].sum(), (sizes[:, 0] * sizes[:, 1]).sum(), sizes[:, 2].sum()
    flops = operations_of(sizes, cost)
    return {
        "reviews_per_second": round(reviews / seconds, 1),
        "ratio": round(median(one / mine.seconds for one, mine in zip(original_seconds, done, strict=True)), 2),
        "tokens_per_second": round(real / seconds),
        "padding": round(1 - real / padded, 3),
        "share_of_limit": round(flops / seconds / limit, 2),
        "peak_gib": round(peak / 2**30, 2),
        "losses": [round(float(np.mean(part)), 3) for part in np.array_split(done[0].losses, CURVE)],
    }

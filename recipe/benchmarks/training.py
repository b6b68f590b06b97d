"""Speed and memory of training: the original's loop, `run_classification.py`'s Trainer and ours, taking turns."""

import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.arguments.training import TrainingArguments
from recipe.benchmarks import backends
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.hub import local_folder
from recipe.model.pretrained import find_pretrained, load_tokenizer
from recipe.training.job import prepare, use_all_cores
from recipe.training.progress import EpochTable

LENGTH, BATCH, LEARNING_RATE = 128, 16, 2e-5
# The same optimisation for all: AdamW at a constant rate, no decay, gradients clipped at 1.
OPTIMISATION: dict[str, Any] = {
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "constant",
    "num_train_epochs": 1,
    "max_grad_norm": 1.0,
    # A logged loss is waited for, so that a pass ends with its last step on a GPU too.
    "logging_strategy": "steps",
    "logging_steps": 1,
    "disable_tqdm": True,
}


class Pass(NamedTuple):
    """Seconds and reviews of one pass, padding's share of all positions, and the peak of memory so far in bytes."""

    seconds: float
    reviews: int
    padding: float
    peak: int


# One pass, prepared; returns all of a `Pass` but its peak.
Run = Callable[[], tuple[float, int, float]]


def original_loop(model: Any, encode: Callable[[int], Any], count: int, args: TrainingArguments) -> float:
    """Run the original's loop: each review tokenized when its turn comes. Return the seconds."""

    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        # The original's Dataset encodes a row when it is read.
        return transformers.default_data_collator([encode(row) for row in rows])

    model.to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    start = time.perf_counter()
    for batch in DataLoader(range(count), BATCH, shuffle=True, collate_fn=collate):  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss = model(**{name: value.to(args.device) for name, value in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return time.perf_counter() - start


def run_classification(model: Any, encode: Callable[[int], Any], count: int, args: TrainingArguments) -> float:
    """Run Trainer as `run_classification.py` sets it up: all reviews tokenized before. Return the seconds."""
    more: dict[str, Any] = {"per_device_train_batch_size": BATCH, "save_strategy": "no", "report_to": "none"}
    own = transformers.TrainingArguments(args.output_dir, **more, **OPTIMISATION)
    rows: Any = [encode(row) for row in range(count)]
    trainer = transformers.Trainer(model, own, transformers.default_data_collator, train_dataset=rows)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer.train().metrics["train_runtime"]


def plain(train: Callable[..., float], arguments: Arguments) -> Run:
    """Return a pass of a loop over whole batches with the unmodified class, padded to the maximum."""
    reviews = load_reviews(arguments.data, arguments.training.seed).splits["train"]
    texts, count = texts_of(reviews), len(reviews) // BATCH * BATCH
    pretrained = find_pretrained(arguments.model, LENGTH)
    tokenizer = load_tokenizer(pretrained, LENGTH)

    def encode(row: int) -> dict[str, Any]:
        return {**tokenizer(texts[row], truncation=True, padding="max_length"), "label": int(reviews.labels[row])}

    def run() -> tuple[float, int, float]:
        unmodified = transformers.AutoModelForSequenceClassification
        model = unmodified.from_pretrained(pretrained.location, num_labels=2, use_safetensors=True)
        return train(model, encode, count, arguments.training), count, padding

    padding = 1 - float(np.mean([encode(row)["attention_mask"] for row in range(count)]))
    return run


def ours(arguments: Arguments) -> Run:
    """Return a pass of this recipe's trainer, as `scripts/train.py` prepares it; it leaves an incomplete batch out."""
    job = prepare(arguments)
    trainer: Any = job.trainer
    initial = {name: value.clone() for name, value in job.model.state_dict().items()}
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    # Trainer counts padding among them.
    trainer.args.include_num_input_tokens_seen = "all"
    trainer.remove_callback(EpochTable)
    lengths = trainer.train_dataset["length"][:]
    count = len(lengths) // BATCH * BATCH

    def run() -> tuple[float, int, float]:
        job.model.load_state_dict(initial)
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.train()
        padding = 1 - float(np.mean(lengths)) * count / trainer.state.num_input_tokens_seen
        return trainer.state.log_history[-1]["train_runtime"], count, padding

    return run


LOOPS: dict[str, Callable[[Arguments], Run]] = {
    "original loop": partial(plain, original_loop),
    "run_classification.py": partial(plain, run_classification),
    "ours": ours,
}


def measure(dataset: str, model: str, rows: int, rounds: int) -> dict[str, Any]:
    """Let each loop pass over the same rows of a dataset, in turn and in a process of its own.

    Returns:
        `machine`, `rows`, `rounds`, and under `ways` by loop `reviews_per_second`, `ratio` to the original, `padding`
        (its share of all positions) and `peak_gib` (memory that the process held: on the GPU, or resident).

    Raises:
        UsageError: The dataset or the model cannot be read.
    """
    local_folder(dataset)
    flags = f"""--max_train_samples {rows * 5 // 4} --validation_fraction 0.2 --max_test_samples 16
        --max_length {LENGTH} --global_batch_size {BATCH} --warmup_ratio 0""".split()
    flags += [word for name, value in OPTIMISATION.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as work:
        argv = (*flags, "--dataset_name", dataset, "--model_name_or_path", model, "--output_dir", work)
        turns: list[dict[str, Pass]] = backends.take_turns(LOOPS, pass_over, [(argv,)] * rounds)
    ways = {
        name: backends.compare_speed(turns, name, last.reviews)
        | {"padding": round(last.padding, 3), "peak_gib": round(last.peak / 2**30, 2)}
        for name, last in turns[-1].items()
    }
    gpus = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    machine = " and ".join([backends.describe_machine(), *gpus])
    return {"machine": machine, "rows": turns[-1]["ours"].reviews, "rounds": rounds, "ways": ways}


def pass_over(name: str, argv: tuple[str, ...]) -> Pass:
    """Let a loop, which this process keeps, train once over the rows."""
    done = _prepare(name, argv)()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else backends.peak_resident()
    return Pass(*done, peak)


@cache
def _prepare(name: str, argv: tuple[str, ...]) -> Run:
    arguments = parse_arguments(list(argv))
    use_all_cores(arguments.training)
    transformers.set_seed(0)
    return LOOPS[name](arguments)

"""Speed and memory of training: the original's loop, `run_classification.py`'s Trainer and ours, taking turns."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
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
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from recipe import quickstart
from recipe.arguments.parser import Arguments, parse_arguments
from recipe.benchmarks import backends
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.hub import local_folder
from recipe.model.pretrained import Pretrained, find_pretrained, load_tokenizer
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
}
# Points of a loss curve, each the mean of as many steps.
CURVE = 5


@dataclass(frozen=True)
class Pass:
    """One pass over the rows: its seconds, the loss of each step, and the sizes of each batch as `_size` gives them."""

    seconds: float
    losses: list[float]
    batches: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Figures:
    """Median figures of a training loop, compared with the original's speed.

    Attributes:
        tokens_per_second: Padding not counted.
        padding: Its share of all positions.
        peak_gib: Memory that the process held: on the GPU, or resident.
        losses: Means of each fifth of the first pass's steps.
    """

    reviews_per_second: float
    ratio: float
    tokens_per_second: int
    padding: float
    peak_gib: float
    losses: list[float]


def original(arguments: Arguments) -> Callable[[], Pass]:
    """Return a pass of the original's loop: each review tokenized when its turn comes, and padded to the maximum."""
    pretrained, texts, labels, tokenizer = _load_plain(arguments)
    device = arguments.training.device

    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        # The original's Dataset encodes a row when it is read.
        encoded = [tokenizer(texts[row], truncation=True, padding="max_length", return_tensors="pt") for row in rows]
        batch = {name: torch.cat([review[name] for review in encoded]) for name in encoded[0]}
        return batch | {"labels": torch.tensor([int(labels[row]) for row in rows])}

    def run() -> Pass:
        losses, batches, model = [], [], _load_model(pretrained).to(device).train()  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        order = torch.randperm(len(texts))[: len(texts) // BATCH * BATCH].tolist()
        start = time.perf_counter()
        for batch in DataLoader(order, batch_size=BATCH, collate_fn=collate):  # type: ignore[arg-type]
            batches.append(_size(batch))
            optimizer.zero_grad()
            loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        return Pass(time.perf_counter() - start, losses, batches)

    return run


def run_classification(arguments: Arguments) -> Callable[[], Pass]:
    """Return a pass of Trainer as `run_classification.py` sets it up: tokenized before, padded to the maximum."""
    pretrained, texts, labels, tokenizer = _load_plain(arguments)
    encoded = tokenizer(texts, truncation=True, padding="max_length")
    rows: Any = [
        {name: values[row] for name, values in encoded.items()} | {"label": int(labels[row])}
        for row in range(len(texts) // BATCH * BATCH)
    ]
    args = TrainingArguments(
        f"{arguments.training.output_dir}-run_classification",
        per_device_train_batch_size=BATCH,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=arguments.training.use_cpu,
        **OPTIMISATION,
    )

    def run() -> Pass:
        trainer = Trainer(_load_model(pretrained), args, default_data_collator, train_dataset=rows)
        trainer.remove_callback(PrinterCallback)
        return _train(trainer)

    return run


def ours(arguments: Arguments) -> Callable[[], Pass]:
    """Return a pass of this recipe's trainer, as `scripts/train.py` prepares it."""
    job = prepare(arguments)
    trainer = job.trainer
    initial = {name: value.clone() for name, value in job.model.state_dict().items()}
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    # Its workers would note the batches in processes of their own.
    trainer.args.dataloader_num_workers = 0
    trainer.remove_callback(EpochTable)

    def run() -> Pass:
        job.model.load_state_dict(initial)
        trainer.optimizer = trainer.lr_scheduler = None
        return _train(trainer)

    return run


LOOPS = {"original loop": original, "run_classification.py": run_classification, "ours": ours}


def _load_plain(arguments: Arguments) -> tuple[Pretrained, list[Any], np.ndarray, PreTrainedTokenizerBase]:
    """Return where the weights are, the train rows' texts and labels, and the tokenizer."""
    pretrained = find_pretrained(arguments.model, LENGTH)
    train = load_reviews(arguments.data, arguments.training.seed).splits["train"]
    return pretrained, list(texts_of(train)), train.labels, load_tokenizer(pretrained, LENGTH)


def _load_model(pretrained: Pretrained) -> PreTrainedModel:
    """Return the unmodified class, with a new head."""
    return AutoModelForSequenceClassification.from_pretrained(pretrained.location, num_labels=2, use_safetensors=True)


def _size(batch: Mapping[str, torch.Tensor]) -> tuple[int, int, int]:
    """Return a batch's reviews, padded length and tokens without padding."""
    reviews, length = batch["input_ids"].shape
    return reviews, length, int(batch["attention_mask"].sum())


def _train(trainer: Trainer) -> Pass:
    """Train once and return the pass."""
    batches, collate = [], trainer.data_collator

    def noted(rows: Any) -> Any:
        batch = collate(rows)
        batches.append(_size(batch))
        return batch

    trainer.data_collator = noted
    trainer.train()
    trainer.data_collator = collate
    history = trainer.state.log_history
    return Pass(history[-1]["train_runtime"], [entry["loss"] for entry in history if "loss" in entry], batches)


def measure(dataset: str, model: str | None, rows: int, rounds: int, more: list[str]) -> dict[str, Any]:
    """Let each loop pass over the same rows, in turn and in a process of its own, and return its figures.

    Args:
        dataset: A folder, or a name on the Hub, with columns content and label.
        model: Weights to start from; `None` is a BERT-base of random weights, for speed alone.
        rows: Reviews of one pass.
        rounds: Passes of each loop.
        more: Flags for our loop alone (`--torch_compile`).

    Returns:
        `machine`, `rows`, `rounds`, and under `ways` the `Figures` by loop.

    Raises:
        UsageError: The dataset or the model cannot be read.
    """
    local_folder(dataset)
    passes: dict[str, list[Pass]] = {name: [] for name in LOOPS}
    peaks = {}
    with tempfile.TemporaryDirectory() as work:
        flags = _flags(dataset, model or _random_bert_base(Path(work) / "weights"), rows, Path(work))
        arguments = {name: (name, flags + (more if name == "ours" else [])) for name in LOOPS}
        with backends.start_workers(prepare_loop, arguments) as workers:
            for _ in tqdm(range(rounds), unit=" rounds", desc="training", disable=None):
                for name, ask in workers.items():
                    done, peaks[name] = ask(None)
                    passes[name].append(done)
    gpus = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return {
        "machine": " and ".join([backends.describe_machine(), *gpus]),
        "rows": sum(reviews for reviews, _, _ in passes["ours"][0].batches),
        "rounds": rounds,
        "ways": {name: asdict(_figures(done, passes["original loop"], peaks[name])) for name, done in passes.items()},
    }


def _flags(dataset: str, weights: str, rows: int, folder: Path) -> list[str]:
    """Return the flags of our trainer for a pass over `rows` rows."""
    held_out = max(rows // 10, BATCH)
    flags = f"""--max_train_samples {rows + held_out} --validation_fraction {held_out / (rows + held_out)}
        --max_test_samples 16 --max_length {LENGTH} --global_batch_size {BATCH} --warmup_ratio 0 --disable_tqdm True"""
    chosen = [word for name, value in OPTIMISATION.items() for word in (f"--{name}", str(value))]
    places = ["--dataset_name", dataset, "--model_name_or_path", weights, "--output_dir", str(folder / "run")]
    return [*places, *flags.split(), *chosen]


def _random_bert_base(folder: Path) -> str:
    """Write a BERT-base of random weights, with the quickstart's tokenizer, and return its folder."""
    package = quickstart.find_package(f"{quickstart.PREFIX}{quickstart.WEIGHTS.name}", quickstart.WEIGHTS)
    AutoTokenizer.from_pretrained(package).save_pretrained(folder)
    BertModel(BertConfig()).save_pretrained(folder)
    return str(folder)


def prepare_loop(name: str, flags: list[str]) -> Callable[[Any], tuple[Pass, int]]:
    """Prepare a loop, and return a function that makes a pass and gives the peak of memory in bytes beside it.

    Raises:
        UsageError: The dataset or the model cannot be read.
    """
    arguments = parse_arguments(flags)
    device = arguments.training.device
    use_all_cores(arguments.training)
    set_seed(0)
    run = LOOPS[name](arguments)

    def answer(_: Any) -> tuple[Pass, int]:
        done = run()
        return done, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else backends.peak_resident()

    return answer


def _figures(passes: list[Pass], first: list[Pass], peak: int) -> Figures:
    """Return a loop's figures; `first` are the original's passes."""
    seconds = [done.seconds for done in passes]
    sizes = np.array(passes[0].batches)
    reviews, padded, tokens = sizes[:, 0].sum(), (sizes[:, 0] * sizes[:, 1]).sum(), sizes[:, 2].sum()
    return Figures(
        reviews_per_second=round(float(reviews / median(seconds)), 1),
        ratio=backends.median_ratio([done.seconds for done in first], seconds),
        tokens_per_second=round(tokens / median(seconds)),
        padding=round(float(1 - tokens / padded), 3),
        peak_gib=round(peak / 2**30, 2),
        losses=[round(float(np.mean(part)), 3) for part in np.array_split(passes[0].losses, CURVE)],
    )

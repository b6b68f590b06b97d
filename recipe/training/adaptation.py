"""Adapt the encoder to reviews without labels, before it learns from those that have some."""

import time
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup, set_seed

from recipe.data.unlabelled import Unlabelled
from recipe.errors import UsageError
from recipe.training import checkpoints
from recipe.training.progress import progress_bar
from recipe.training.sampler import WholeBatchSampler
from recipe.training.trainer import ReviewTrainer

# Each title is told apart from the contents of so many reviews.
BATCH = 32
# On a CPU they take about as long as the 200 steps of a training on few labels.
MOST_PAIRS = 2_000
RATE, WARMUP = 5e-5, 0.1
# Of the cosines, whose softmax would be flat otherwise: a temperature of 0.05 (Gao et al., *SimCSE*, 2021).
SCALE = 20.0


def pairs_of(unlabelled: Unlabelled, seed: int) -> list[tuple[str, str]]:
    """Return the reviews that have both title and content, at most `MOST_PAIRS` of them, drawn by the seed.

    Raises:
        UsageError: There is one text column, or there are too few such reviews for a batch.
    """
    columns = unlabelled.text_columns
    if len(columns) < 2:
        raise UsageError(
            "--unlabelled_file adapts the encoder by matching each title to its content, and --text_columns names one "
            f"column, {columns[0]!r}: give two, or leave the file out"
        )
    # One row at a time, as a large file does not fit into memory.
    order = np.random.default_rng(seed).permutation(len(unlabelled)).tolist()
    rows = map(unlabelled.texts.__getitem__, order)
    found = ((row[columns[0]], row[columns[1]]) for row in rows)
    pairs = list(islice((pair for pair in found if all(map(str.strip, pair))), MOST_PAIRS))
    if len(pairs) < BATCH:
        raise UsageError(
            f"--unlabelled_file has {len(pairs)} new reviews with both {' and '.join(columns)}: adapting the encoder "
            f"takes {BATCH}"
        )
    return pairs


def require_cls(config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a `UsageError` for a model that does not classify by its first position, which is what adapts."""
    if tokenizer.cls_token is None or config.is_encoder_decoder:
        raise UsageError(
            f"--unlabelled_file adapts the vector of [CLS], and a {config.model_type!r} classifies by another: leave "
            "the file out"
        )


def adapt(trainer: ReviewTrainer, pairs: list[tuple[str, str]]) -> None:
    """Adapt the encoder in place, in every process alike, and keep it as the checkpoint before the first step."""
    started, args = time.perf_counter(), trainer.args
    model: Any = trainer.model
    contrast(model, trainer.processing_class, pairs, args)  # type: ignore[arg-type]
    trainer.require_finite_weights()
    trainer.totals.adaptation_seconds = round(time.perf_counter() - started, 1)
    # A run that resumes from the checkpoint begins so.
    set_seed(args.seed)
    if trainer.is_world_process_zero():
        folder = checkpoints.checkpoint_path(trainer.run_path, 0)
        model.save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)  # type: ignore[union-attr]
        # Trainer compares it on resume.
        trainer.state.train_batch_size = args.train_batch_size
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        checkpoints.write_manifest(
            folder, {"run": trainer.identity, "passed": asdict(trainer.totals), "validation_due": False}
        )
    trainer.accelerator.wait_for_everyone()


def contrast(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, str]], args: Any
) -> None:
    """Train the encoder for an epoch to find each title's own content among those of its batch, and the reverse.

    The loss is the mean of both directions' cross-entropy over the cosines of the `[CLS]` vectors (InfoNCE: van den
    Oord et al., 2018). Heads and poolers stay as they are.

    Args:
        model: The classifier.
        tokenizer: As `load_tokenizer` returns it; it truncates.
        pairs: Title and content of each review.
        args: `TrainingArguments`: the seed, the precision, and whether a progress bar is shown.
    """
    rows = list(WholeBatchSampler(BATCH, [len(content) for _, content in pairs], args.seed))
    steps = len(rows) // BATCH
    optimizer = torch.optim.AdamW(model.base_model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)
    own = torch.arange(BATCH, device=model.device)

    def vectors(texts: Any) -> torch.Tensor:
        batch = tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt").to(model.device)
        return normalize(model.base_model(**batch)[0][:, 0].float(), dim=-1)

    model.train()
    with progress_bar(args, total=steps * BATCH, desc="adapting", unit=" reviews", leave=False) as bar:
        for step in range(steps):
            batch = [pairs[row] for row in rows[step * BATCH : (step + 1) * BATCH]]
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=args.bf16):
                titles, contents = map(vectors, zip(*batch, strict=True))
            cosines = SCALE * titles @ contents.T
            loss = (cross_entropy(cosines, own) + cross_entropy(cosines.T, own)) / 2
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.base_model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            bar.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
            bar.update(BATCH)

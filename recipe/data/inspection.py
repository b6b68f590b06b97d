"""Report on the dataset before training."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from recipe.arguments.data import describe_truncation
from recipe.arguments.parser import Arguments
from recipe.data.duplicates import contradictory, repeated
from recipe.data.reviews import Reviews, Split

LENGTHS = (64, 128, 256, 512)
PERCENTILES = (50, 90, 95, 99, 100)
# Share of unknown tokens above which the weights may have been trained on other texts than these.
MANY_UNKNOWN = 0.05


def inspect(reviews: Reviews, tokens: Dataset, arguments: Arguments) -> dict[str, Any]:
    """Return the content of `<run>/data.json`, from the reviews and the tokens of their train split.

    Returns:
        `splits`: each split's `rows`, `labels` (rows by label name), `empty_texts`, `duplicates_exact` and
        `duplicates_normalised` (rows that repeat an earlier one; normalised ignores case and white space) and
        `contradictory_texts` (texts with two labels). `dropped`: rows left out, by reason.
        `corrected`: rows with another label by `--corrections`, by split.
        `validation_rows_also_in_test`: not dropped, because the user's own validation split stays as it is. For train:
        `tokens` (percentiles of the length before truncation), `unknown_tokens` (share of the texts' tokens that the
        tokenizer's vocabulary lacks), `truncated` (share of reviews at `max_length`), and `lengths`: for other values
        of `max_length`, the share truncated and `relative_cost`, padded tokens per epoch divided by those of the run.
    """
    args, batch_size = arguments.data, arguments.training.global_batch_size
    columns = tokens.select_columns(["tokens", "text_tokens", "unknown"]).with_format("numpy")[:]
    lengths = columns["tokens"]
    own_cost = padded_tokens(lengths, args.max_length, batch_size)
    test_texts = reviews.test.keys.normalised if "test" in reviews.splits else np.empty(0, np.uint64)
    shared = np.isin(reviews.splits["validation"].keys.normalised, test_texts)
    return {
        "splits": {name: _describe(split, reviews.label_names) for name, split in reviews.splits.items()},
        "dropped": reviews.dropped,
        "corrected": reviews.origin.get("corrections", {}).get("rows", {}),
        "validation_rows_also_in_test": int(shared.sum()),
        "tokens": {str(p): int(np.percentile(lengths, p, method="higher")) for p in PERCENTILES},
        "unknown_tokens": round(float(columns["unknown"].sum() / max(columns["text_tokens"].sum(), 1)), 4),
        "max_length": args.max_length,
        "truncation_side": args.truncation_side,
        "truncated": _truncated(lengths, args.max_length),
        "lengths": {
            str(length): {
                "truncated": _truncated(lengths, length),
                "relative_cost": round(padded_tokens(lengths, length, batch_size) / own_cost, 3),
            }
            for length in LENGTHS
        },
    }


def padded_tokens(lengths: np.ndarray, max_length: int, batch_size: int) -> int:
    """Return the number of tokens in one epoch, batched as in training, each batch padded to its longest review.

    Args:
        lengths: int64 (rows,), tokens of each review before truncation at `max_length`.
        batch_size: Reviews per step.
    """
    kept = np.minimum(lengths, max_length)
    order = get_length_grouped_indices(kept.tolist(), batch_size, generator=torch.Generator().manual_seed(0))
    batches = (kept[order[start : start + batch_size]] for start in range(0, len(order), batch_size))
    return sum(int(batch.max()) * len(batch) for batch in batches)


def as_block(report: dict[str, Any]) -> str:
    """Return the report for the screen."""
    notable = {"empty_texts": "empty", "duplicates_normalised": "repeated", "contradictory_texts": "with two labels"}
    lines = []
    for name, split in report["splits"].items():
        balance = ", ".join(f"{label} {rows / split['rows']:.1%}" for label, rows in split["labels"].items())
        notes = ", ".join(f"{split[key]:,} {words}" for key, words in notable.items() if split[key])
        lines.append(f"{name:10} {split['rows']:,} rows: {balance}" + (f"; {notes}" if notes else ""))
    if "test" not in report["splits"]:
        lines.append("test       none: evaluation will ask for one")
    if dropped := [f"{rows:,} {reason.replace('_', ' ')}" for reason, rows in report["dropped"].items() if rows]:
        lines.append(f"dropped    {', '.join(dropped)}")
    if any((corrected := report["corrected"]).values()):
        lines.append(f"corrected  labels of {', '.join(f'{rows:,} {name}' for name, rows in corrected.items())} rows")
    if shared := report["validation_rows_also_in_test"]:
        lines.append(f"warning    {shared:,} validation rows stand in test too, where they flatter the model")
    percentiles = ", ".join(f"{p} % {tokens}" for p, tokens in report["tokens"].items())
    truncation = describe_truncation(report["max_length"], report["truncation_side"])
    lines.append(f"length     tokens: {percentiles}; {report['truncated']:.1%} {truncation}")
    lines.append(f"unknown    {report['unknown_tokens']:.1%} of the tokens")
    if report["unknown_tokens"] > MANY_UNKNOWN:
        lines.append("warning    the weights lack many of these words: are they for this language, and for this case?")
    costs = ", ".join(
        f"{length}: {at['truncated']:.1%} truncated, cost {at['relative_cost']:.2f}"
        for length, at in report["lengths"].items()
    )
    return "\n".join([*lines, f"max_length {costs}"])


def _describe(split: Split, label_names: list[str]) -> dict[str, Any]:
    counts = np.bincount(split.labels, minlength=len(label_names)).tolist()
    return {
        "rows": len(split),
        "labels": dict(zip(label_names, counts, strict=True)),
        "empty_texts": int(split.keys.empty.sum()),
        "duplicates_exact": repeated(split.keys.exact),
        "duplicates_normalised": repeated(split.keys.normalised),
        "contradictory_texts": contradictory(split.keys.normalised, split.labels),
    }


def _truncated(lengths: np.ndarray, max_length: int) -> float:
    return round(float((lengths > max_length).mean()), 4)

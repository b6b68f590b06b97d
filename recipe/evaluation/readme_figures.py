"""The README's figures of a run, read from what the run has left."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from recipe.errors import UsageError
from recipe.evaluation.model_card import describe_differences, measured_tables
from recipe.files.atomic import write_whole
from recipe.run_folder import RunFolder

# Two of a report's pictures, which say most at a glance.
PICTURES = ("reliability.png", "slices.png")


def fill_in(readme: Path, run: RunFolder, pictures: Path) -> list[str]:
    """Put a run's figures into the README, and copies of its pictures where the README shows them from.

    A block begins with a line `<!-- NAME KIND -->` and ends with `<!-- end -->`. NAME is the run folder's; KIND is
    `report`, `variants`, `speed` or `pictures`, as of the functions below.

    Args:
        readme: The file to change.
        run: An evaluated run.
        pictures: The folder for the copies.

    Returns:
        The kinds of the blocks that were filled in.

    Raises:
        UsageError: The README has no block of this run, or the run lacks what one shows.
    """
    name, filled = run.path.resolve().name, []
    kinds = {"report": report_block, "variants": variants_block, "speed": speed_block}

    def replaced(block: re.Match[str]) -> str:
        """Return a block with its figures."""
        filled.append(block[2])
        if block[2] == "pictures":
            content = _copy_pictures(run, name, pictures, readme.parent)
        else:
            content = kinds[block[2]](run)
        return f"{block[1]}\n{content}\n{block[3]}"

    kind = "|".join([*kinds, "pictures"])
    pattern = rf"(<!-- {re.escape(name)} ({kind}) -->)\n.*?(<!-- end -->)"
    text = re.sub(pattern, replaced, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    if not filled:
        raise UsageError(f"{readme} has no block of the run {name!r}, as <!-- {name} report -->")
    write_whole(readme, text)
    return filled


def report_block(run: RunFolder) -> str:
    """Return the tables of an evaluation, and what in them is more than noise."""
    report = _read(run.report)
    sentences = "\n".join(f"- {sentence}" for sentence in describe_differences(report))
    return "\n" + "\n\n".join([*measured_tables(report), sentences]) + "\n"


def variants_block(run: RunFolder) -> str:
    """Return the table of a certificate."""
    certificate = run.read_certificate()
    lines = [
        "| | MB | nodes, 8-bit | logits differ: largest, mean | labels changed | F1 | drop (95 % interval) | alone |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in (certificate["variants"] | certificate["refused"]).items():
        low, high = found["f1_drop_interval"]
        difference = found["logit_difference"]
        lines.append(
            f"| {name} | {found['bytes'] / 1e6:.1f} | {found['nodes']}, {found['quantized_nodes']} "
            f"| {difference['largest']:.1e}, {difference['mean']:.1e} | {found['labels_flipped']} of "
            f"{certificate['reviews']:,} | {found['f1']:.4f} | {found['f1_drop']:+.4f} ({low:+.4f} to {high:+.4f}) "
            f"| {found['alone']['largest_drift']:.1e} |"
        )
    return "\n" + "\n".join(lines) + "\n"


def speed_block(run: RunFolder) -> str:
    """Return the tables of the inference benchmark, one for each kind of reviews."""
    found = _read(run.path / "benchmark" / "inference.json")
    parts = []
    for of, part in found["reviews"].items():
        rows = [
            f"| {name} | {way['reviews_per_second']:.0f} | {way['ratio']:.2f} "
            f"| {way['p50_ms']:.1f}, {way['p95_ms']:.1f} | {way['peak_mib']:,} | {way['share_of_limit']:.0%} "
            f"| {way['labels_flipped']} | {way['logit_difference']['mean']:.1e} |"
            for name, way in part["ways"].items()
        ]
        head = f"| {part['rows']:,} {of} | reviews/s | × | one alone: p50, p95 ms | MiB | of limit | flipped | mean |"
        parts.append("\n".join([head, "|---|--:|--:|--:|--:|--:|--:|--:|", *rows]))
    fp32, int8 = (found["limits"][f"{name}_giga_per_second"] for name in ("fp32", "int8"))
    parts.append(
        f"Medians of {found['rounds']} rounds in turn on {found['machine']}, each way in a process of its own; × is "
        "the ratio to the original, round by round. The limit is that of a large matrix multiplication in the same "
        f"session, {fp32} GFLOP/s in fp32 and {int8} GOP/s in int8; flipped and mean are labels and logits against "
        "PyTorch's."
    )
    return "\n" + "\n\n".join(parts) + "\n"


def _copy_pictures(run: RunFolder, name: str, pictures: Path, root: Path) -> str:
    """Copy a report's pictures and return the lines that show them."""
    pictures.mkdir(exist_ok=True)
    lines = []
    for file in PICTURES:
        if not (run.report_folder / file).is_file():
            raise UsageError(f"{run} has no {run.report_folder / file}: run python scripts/evaluate.py --run {run}")
        copy = pictures / f"{name}_{file}"
        shutil.copyfile(run.report_folder / file, copy)
        lines.append(f"![{file.removesuffix('.png').replace('_', ' ')} of {name}]({copy.relative_to(root)})")
    return "\n" + "\n".join(lines) + "\n"


def _read(file: Path) -> dict[str, Any]:
    """Return a file's content.

    Raises:
        UsageError: It is not there.
    """
    if not file.is_file():
        raise UsageError(f"no {file}: make it first, with scripts/evaluate.py or scripts/benchmark.py inference")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content

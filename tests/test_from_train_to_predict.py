"""Whole runs on reviews made in code, from train.py to predict.py, which answers as the card's first table says."""

import csv
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import NEGATIVE, NEUTRAL, POSITIVE, files_under, run_script

from recipe.run_folder import RunFolder

STARS = {"1": 8, "2": 7, "3": 10, "4": 25, "5": 50}
# A formula, a table's border, and letters that matplotlib's own font lacks.
PRICES = {"$20-$30": 5, "a|b": 3, "好评": 2}
PICTURES = {"learning_curve.png", "confusion.png", "reliability.png", "trade_off.png"}


def write_reviews(file: Path, shares: dict[str, int], rows: int, seed: int) -> None:
    """Write reviews, of which the higher labels praise more; some have no word that the tiny BERT knows."""
    draw, names = random.Random(seed), list(shares)
    with file.open("w", newline="", encoding="utf-8") as content:
        writer = csv.writer(content)
        writer.writerow(["answer", "text"])
        for row, label in enumerate(draw.choices(range(len(names)), list(shares.values()), k=rows)):
            praise = draw.gauss(label / (len(names) - 1), 0.1)
            telling = [draw.choice(POSITIVE if draw.random() < praise else NEGATIVE) for _ in range(8)]
            words = [*telling, *draw.choices(NEUTRAL, k=draw.randint(2, 12))]
            draw.shuffle(words)
            writer.writerow([names[label], f"zebra{seed}x{row}" if row % 50 == 7 else " ".join(words)])


@dataclass(frozen=True)
class Finished:
    """A run that went from train.py to predict.py, and what the scripts printed."""

    run: RunFolder
    scored: list[dict[str, str]]
    printed: dict[str, str]

    @property
    def card(self) -> str:
        """The model card."""
        return self.run.card.read_text(encoding="utf-8")

    def counts(self) -> list[list[int]]:
        """Rows true labels, columns labels that predict.py gave, counted in its output."""
        names = self.run.read_record().labels
        counts = Counter((row["answer"], row["label"]) for row in self.scored)
        return [[counts[true, said] for said in names] for true in names]


def from_train_to_predict(folder: Path, weights: Path, shares: dict[str, int], rows: int, *wishes: str) -> Finished:
    """Run the four scripts one after another, on so many reviews, and on others, half as many, to test."""
    for name, count, seed in (("mine", rows, 1), ("held_out", rows // 2, 2)):
        write_reviews(folder / f"{name}.csv", shares, count, seed)
    train = f"""--train_file mine.csv --text_columns text --label_column answer --model_name_or_path {weights}
        --max_length 32 --num_train_epochs 3 --global_batch_size 16 --learning_rate 2e-3 --use_cpu
        --disable_tqdm True"""
    commands = {
        "train": train.split(),
        "export_onnx": ["--max_f1_drop", "0.2", "--run", "runs/mine"],
        "evaluate": ["--run", "runs/mine", "--test_file", "held_out.csv", *wishes],
        "predict": ["--run", "runs/mine", "--input", "held_out.csv", "--output", "scored.csv"],
    }
    printed = {}
    for name, flags in commands.items():
        answer = run_script(name, *flags, cwd=folder)
        assert (answer.returncode, answer.stderr) == (0, ""), f"{name}: {answer.stderr}"
        printed[name] = answer.stdout
    with (folder / "scored.csv").open(newline="", encoding="utf-8") as content:
        return Finished(RunFolder(folder / "runs" / "mine"), list(csv.DictReader(content)), printed)


def first_counts(card: str) -> list[list[int]]:
    """The counts in a card's first table of true and answered labels."""
    table = card.split("| true label, answered as → |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [re.split(r"(?<!\\)\|", line)[2:-1] for line in table]
    return [[int(cell.replace(",", "")) for cell in row] for row in rows]


@pytest.mark.slow
def test_unbalanced_stars_go_from_train_to_predict(tiny_bert: Path, tmp_path: Path) -> None:
    done = from_train_to_predict(tmp_path, tiny_bert, STARS, 1500)
    assert first_counts(done.card) == done.counts() and sum(map(sum, done.counts())) == 750
    assert files_under(done.run.report_folder) == {*PICTURES, "answers.csv", "mistakes.csv"}
    stars = [int(row["answer"]) - int(row["label"]) for row in done.scored]
    error, near = sum(map(abs, stars)) / 750, 100 * sum(abs(step) <= 1 for step in stars) / 750
    said = f"mean absolute error {error:.4f}, {near:.1f} % of the answers at most one step off"
    assert said in done.card and said in done.printed["evaluate"] and error < 0.6


@pytest.mark.slow
def test_three_labels_with_a_wish_go_from_train_to_predict(tiny_bert: Path, tmp_path: Path) -> None:
    done = from_train_to_predict(tmp_path, tiny_bert, PRICES, 1000, "--target_accuracy", "0.9")
    assert first_counts(done.card) == done.counts() and sum(map(sum, done.counts())) == 500
    assert files_under(done.run.report_folder) == {*PICTURES, "answers.csv", "mistakes.csv"}
    assert done.run.read_record().labels == list(PRICES)
    doubtful = [row["doubtful"] == "true" for row in done.scored]
    right = [row["answer"] == row["label"] for row, left in zip(done.scored, doubtful, strict=True) if not left]
    unread = [left for row, left in zip(done.scored, doubtful, strict=True) if row["text"].startswith("zebra")]
    assert all(unread) and f"without a word that the model knows: {len(unread)} of these" in done.card
    with done.run.answers.open(newline="", encoding="utf-8") as content:
        kept = [(row["predicted"], row["doubtful"] == "true") for row in csv.DictReader(content)]
    assert kept == [(row["label"], left) for row, left in zip(done.scored, doubtful, strict=True)]
    said = f"; {sum(doubtful)} of 500 reviews are left to people"
    assert said in done.card and said in done.printed["evaluate"]
    assert f"| accuracy of the rest | {sum(right) / len(right):.4f} |" in done.card

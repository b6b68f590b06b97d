"""What a title, and longer reviews, are worth: the same rows, seeds and test rows, read in three ways."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from recipe.data.reviews import reviews_of
from recipe.data.tokens import texts_of
from recipe.files.atomic import write_json
from recipe.inference.pytorch import TorchClassifier
from recipe.metrics.intervals import interval, resampled_f1
from recipe.run_folder import RunFolder
from recipe.training.compute_metrics import ClassificationMetrics

# Text columns and word pieces; the first is the original recipe's, which the others are compared with.
READINGS = ((("content",), 128), (("title", "content"), 128), (("title", "content"), 256))
TRAINING = """--max_train_samples 5000 --max_test_samples 5000 --global_batch_size 16 --learning_rate 5e-5
    --num_train_epochs 2 --overwrite_output_dir""".split()
TRAIN_SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train.py"


def compare(dataset: str, seeds: list[int], output: Path) -> dict[str, Any]:
    """Train the quickstart's weights on each reading with each seed, and return how they do on the same test rows.

    A run that is finished already is not trained again.

    Args:
        dataset: A folder, or a name on the Hub, with columns title, content and label.
        seeds: One run each.
        output: Folder of the runs' folders.

    Returns:
        By reading, `f1_by_seed`, `f1` (their mean), `interval` (95 %, over the test rows), and `gain` over the first
        reading with its own `gain_interval`, paired by test row.
    """
    labels, predicted = np.empty(0), []
    for seed in seeds:
        for columns, length in READINGS:
            run = RunFolder(output / f"{'_'.join(columns)}-{length}-seed-{seed}")
            if not run.record.is_file():
                flags = ["--dataset_name", dataset, "--text_columns", *columns, "--max_length", str(length)]
                flags += ["--seed", str(seed), "--output_dir", str(run)]
                if code := subprocess.run([sys.executable, str(TRAIN_SCRIPT), *TRAINING, *flags]).returncode:
                    sys.exit(code)
            labels, answers = _test_answers(run)
            predicted.append(answers)
    return summarise(labels, np.array(predicted).reshape(len(seeds), len(READINGS), -1))


def _test_answers(run: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """Return the test rows' labels and a run's predictions, int64 (rows,) each, which its folder keeps."""
    kept = run.path / "test_answers.json"
    if not kept.is_file():
        test = reviews_of(run).test
        predicted = TorchClassifier.from_run(run.path).logits(texts_of(test), run.path.name).argmax(axis=1)
        write_json(kept, {"labels": test.labels.tolist(), "predicted": predicted.tolist()})
    answers = json.loads(kept.read_text(encoding="utf-8"))
    return np.array(answers["labels"]), np.array(answers["predicted"])


def summarise(labels: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return the comparison, as in `compare`.

    Args:
        labels: int64 (rows,).
        predicted: int64 (seeds, readings, rows).
    """
    metric = ClassificationMetrics(len(np.unique(labels)))
    f1 = np.array(
        [[metric.compute(predictions=row, references=labels)["f1"] for row in of_seed] for of_seed in predicted]
    )
    flat = predicted.reshape(-1, predicted.shape[-1])
    resampled = resampled_f1(labels, flat).reshape(-1, *predicted.shape[:2]).mean(axis=1)
    return {
        f"{' '.join(columns)} at {length}": {
            "f1_by_seed": [round(value, 4) for value in f1[:, number].tolist()],
            "f1": round(float(f1[:, number].mean()), 4),
            "interval": _rounded(resampled[:, number]),
            "gain": round(float((f1[:, number] - f1[:, 0]).mean()), 4),
            "gain_interval": _rounded(resampled[:, number] - resampled[:, 0]),
        }
        for number, (columns, length) in enumerate(READINGS)
    }


def _rounded(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of resampled values, rounded."""
    return [round(end, 4) for end in interval(values)]

"""A pass over many rows, by several processes, gives what one process gives over few, and is made once."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import ROOT, files_under, run_script, separable_reviews
from datasets import Dataset, Features, Value, load_dataset
from transformers import AutoTokenizer

from recipe.data import parallel_map as passes
from recipe.data.duplicates import text_keys
from recipe.data.reviews import Split
from recipe.data.tokens import tokenize


@pytest.fixture
def texts(reviews_folder: Path, tmp_path: Path) -> Dataset:
    """300 rows of two columns on disk, every other one of them picked."""
    rows = load_dataset(str(reviews_folder), split="train", cache_dir=str(tmp_path))
    return rows.select_columns(["title", "content"]).select(range(0, 300, 2))


def test_several_processes_and_blocks_give_the_same_rows_in_the_same_order(
    texts: Dataset, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both() -> tuple[np.ndarray, list[dict[str, object]]]:
        keys = text_keys(texts)
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert, model_max_length=12)
        return keys.exact, tokenize(Split(texts, np.arange(150), keys), tokenizer).to_list()

    keys, tokens = both()
    monkeypatch.setattr(passes, "PARALLEL_FROM_ROWS", 100)
    monkeypatch.setattr(passes, "ROWS_PER_PROCESS", 20)
    in_blocks, tokens_in_blocks = both()
    assert keys.tolist() == in_blocks.tolist() and tokens == tokens_in_blocks
    assert [row["labels"] for row in tokens] == list(range(150)) and max(len(row["input_ids"]) for row in tokens) == 12


def test_a_pass_is_found_again_for_the_same_length_alone(texts: Dataset, tiny_bert: Path) -> None:
    splits = [Split(some, np.zeros(len(some), dtype=int), text_keys(some)) for some in (texts, texts.select([1, 5]))]

    def files(length: int) -> list[object]:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert, model_max_length=length)
        return [tokenize(split, tokenizer).cache_files for split in splits]

    first = files(12)
    assert files(20) != first == files(12)


def test_a_pass_is_made_anew_when_its_code_has_changed(texts: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    lengths = []
    monkeypatch.syspath_prepend(tmp_path)
    for expression in ("len(text)", "2 * len(text)"):
        body = f"{{'length': [{expression} for text in batch['title']]}}"
        (tmp_path / "changing.py").write_text(f"def function(batch):\n    return {body}\n")
        sys.modules.pop("changing", None)
        importlib.invalidate_caches()
        function = importlib.import_module("changing").function
        lengths.append(passes.map_rows(texts, function, Features({"length": Value("int32")}), "")["length"][:])
    assert lengths[1] == [2 * length for length in lengths[0]]


def test_a_pass_is_made_once_and_found_again_by_the_next_process(tiny_flags: list[str], tmp_path: Path) -> None:
    kept = []
    for run in ("one", "two"):
        result = run_script(
            *("train", "--inspect_data", *tiny_flags, "--output_dir", run),
            cwd=tmp_path,
            HF_DATASETS_CACHE=str(tmp_path / "cache"),
        )
        assert result.returncode == 0, result.stderr
        kept.append({file for file in files_under(tmp_path / "cache") if file.endswith(".arrow")})
    assert kept[0] == kept[1] and len(kept[0]) > 2


@pytest.mark.parametrize(
    ("sent", "code", "said", "seconds"),
    [
        (signal.SIGINT, 130, "interrupted", 1),
        (signal.SIGINT, 130, "interrupted", 0),
        (signal.SIGTERM, 143, "ended by SIGTERM", 1),
    ],
)
def test_a_pass_that_is_ended_takes_its_workers_along_and_says_no_more_than_a_line(
    sent: signal.Signals, code: int, said: str, seconds: int, tmp_path: Path
) -> None:
    separable_reviews(1000, seed=1).to_parquet(tmp_path / "reviews" / "train.parquet")
    command = [
        sys.executable,
        str(ROOT / "scripts" / "benchmark.py"),
        *"data --dataset_name reviews --rows 300000".split(),
    ]
    with (tmp_path / "stderr").open("w+") as stderr:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=stderr, start_new_session=True)
        workers: list[psutil.Process] = []
        while len(workers) < 3:  # Two that work, and the one that passes on how far they are.
            workers = psutil.Process(process.pid).children(recursive=True)
        time.sleep(seconds)
        # As a terminal does it for Ctrl-C, and whoever ends a preempted machine's main process.
        os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
        assert process.wait(timeout=60) == code
        _, alive = psutil.wait_procs(workers, timeout=10)
        stderr.seek(0)
        lines = stderr.read().splitlines()
    assert not alive and len(lines) == (1 if said else 0) and said in "".join(lines), lines

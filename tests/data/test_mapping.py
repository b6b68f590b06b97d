"""Work on many rows is done once, found again by the next process, and ends when it is asked to."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files_under, run_script, separable_reviews, write_dataset
from datasets import Dataset, Features, Value, are_progress_bars_disabled, concatenate_datasets, load_dataset

from recipe.data.mapping import map_rows, progress_bars

LENGTH = Features({"length": Value("int32")})


@pytest.fixture
def texts(reviews_folder: Path, tmp_path: Path) -> Dataset:
    """150 rows of two columns on disk, every other one of a file."""
    rows = load_dataset(str(reviews_folder), split="train", cache_dir=str(tmp_path))
    return rows.select_columns(["title", "content"]).select(range(0, 300, 2))


def test_rows_are_mapped_again_when_the_code_has_changed(texts: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    lengths = []
    monkeypatch.syspath_prepend(tmp_path)
    for expression in ("len(text)", "2 * len(text)"):
        body = f"{{'length': [{expression} for text in batch['title']]}}"
        (tmp_path / "changing.py").write_text(f"def function(batch):\n    return {body}\n")
        sys.modules.pop("changing", None)
        importlib.invalidate_caches()
        function = importlib.import_module("changing").function
        lengths.append(map_rows(texts, function, LENGTH, "")["length"][:])
    assert lengths[1] == [2 * length for length in lengths[0]]


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(texts: Dataset) -> None:
    many = concatenate_datasets([texts] * 20)
    main_process, batches = os.getpid(), []

    def lengths(batch: dict[str, list[str]]) -> dict[str, list[int]]:
        batches.append(len(batch["title"]))
        if os.getpid() != main_process and len(batches) == 3:
            os._exit(9)
        return {"length": [len(text) for text in batch["title"]]}

    if not (child := os.fork()):
        map_rows(many, lengths, LENGTH, "")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was killed halfway"
    assert map_rows(many, lengths, LENGTH, "")["length"][:] == [len(text) for text in many["title"]]
    assert sum(batches) == len(many)


def test_progress_bars_are_left_as_they_were() -> None:
    hidden = are_progress_bars_disabled()
    with progress_bars(True), progress_bars(False):
        assert are_progress_bars_disabled()
    assert are_progress_bars_disabled() == hidden


@pytest.mark.slow
def test_work_is_found_again_by_the_next_process(tiny_flags: list[str], tmp_path: Path) -> None:
    found = []
    for run in ("one", "two"):
        result = run_script(
            *("train", "--inspect_data", *tiny_flags, "--output_dir", run),
            cwd=tmp_path,
            HF_DATASETS_CACHE=str(tmp_path / "cache"),
        )
        assert result.returncode == 0, result.stderr
        found.append({file for file in files_under(tmp_path / "cache") if file.endswith(".arrow")})
    assert found[0] == found[1] and len(found[0]) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said", "seconds"),
    [
        (signal.SIGINT, 130, "interrupted", 0.0),
        (signal.SIGINT, 130, "interrupted", 2.5),
        (signal.SIGTERM, 143, "ended by SIGTERM", 1.0),
    ],
)
def test_a_signal_ends_the_data_step_with_one_line(
    sent: signal.Signals, code: int, said: str, seconds: float, tiny_flags: list[str], tmp_path: Path
) -> None:
    many = concatenate_datasets([separable_reviews(10_000, seed=1)] * 60)
    write_dataset(tmp_path / "many", train=many)
    flags = [*tiny_flags, "--dataset_name", "many", "--inspect_data", "--output_dir", "run"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *flags]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    with (tmp_path / "stderr").open("w+") as stderr:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=stderr, env=environment, start_new_session=True)
        begun = time.monotonic()
        while not (tmp_path / "cache").exists() and time.monotonic() < begun + 120:
            time.sleep(0.05)
        time.sleep(seconds)
        # A terminal sends Ctrl-C to the whole group; whoever preempts a machine ends the main process.
        os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
        assert process.wait(timeout=60) == code
        stderr.seek(0)
        lines = stderr.read().splitlines()
    assert len(lines) == 1 and said in lines[0], lines
    assert not (tmp_path / "run").exists()

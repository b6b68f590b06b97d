"""One process, two, and accumulated gradients train the same model: real processes on the CPU."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script, separable_reviews, write_dataset
from safetensors.torch import load_file

from recipe.arguments.parser import parse_arguments
from recipe.inference.pytorch import TorchClassifier
from recipe.training.run import train

pytestmark = pytest.mark.slow

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
PORT = 29517
# A contrast is of the pairs of one device's share.
FLAGS = """--contrast_labels False --max_train_samples -1 --max_length 32 --use_cpu --learning_rate 5e-3
    --num_train_epochs 3 --global_batch_size 8 --per_device_eval_batch_size 7 --disable_tqdm True""".split()


@pytest.fixture(scope="module")
def workplace(bert_without_dropout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run made in each way, without dropout, whose masks depend on the batch's shape."""
    cwd = tmp_path_factory.mktemp("processes")
    shutil.copytree(bert_without_dropout, cwd / "bert")
    # 99 train and 25 validation rows: the last batch of either is not whole.
    write_dataset(cwd / "reviews", train=separable_reviews(124, seed=1), test=separable_reviews(20, seed=2))
    flags = ["--model_name_or_path", str(cwd / "bert"), "--dataset_name", str(cwd / "reviews"), *FLAGS]
    for name, more in {"one": [], "accumulated": ["--per_device_train_batch_size", "2"]}.items():
        train(parse_arguments([*flags, *more, "--output_dir", str(cwd / name)]))
    result = run_script("train", *flags, "--output_dir", "two", cwd=cwd, launcher=TWO)
    assert result.returncode == 0, result.stderr
    return cwd


@pytest.mark.parametrize("way", ["two", "accumulated"])
def test_the_losses_are_the_same_however_the_batch_is_shared(way: str, workplace: Path) -> None:
    expected, found = (json.loads((workplace / name / "run.json").read_text())["epochs"] for name in ("one", way))
    for one, other in zip(expected, found, strict=True):
        assert one["step"] == other["step"]
        for name in ("train_loss", "loss"):
            assert other[name] == pytest.approx(one[name], abs=1e-4)
        for name in ("f1", "accuracy", "precision", "recall"):
            assert other[name] == one[name], "every validation row counts once"
    assert 0 < expected[1]["f1"] < 1, "the test needs an F1 that a wrong count would move"


def test_two_processes_learn_the_same_from_a_teachers_answers(workplace: Path) -> None:
    separable_reviews(50, seed=3).remove_columns("label").to_parquet(workplace / "new.parquet")
    flags = ["--model_name_or_path", str(workplace / "bert"), "--dataset_name", str(workplace / "reviews"), *FLAGS]
    flags += ["--unlabelled_file", str(workplace / "new.parquet"), "--teacher", str(workplace / "one")]
    alone = train(parse_arguments([*flags, "--output_dir", str(workplace / "taught_alone")]))
    result = run_script("train", *flags, "--output_dir", "taught", cwd=workplace, launcher=TWO)
    assert result.returncode == 0, result.stderr
    texts = separable_reviews(20, seed=4)["content"]
    found, expected, before = (
        TorchClassifier.from_run(path).logits(texts) for path in (workplace / "taught", alone.path, workplace / "two")
    )
    assert np.abs(found - expected).max() < 0.02 < np.abs(found - before).max()


def test_two_processes_that_were_killed_go_on_as_if_they_had_not_been(workplace: Path) -> None:
    flags = ["--model_name_or_path", "bert", "--dataset_name", "reviews", *FLAGS, "--save_steps", "7"]
    flags += ["--output_dir", "killed"]
    probe = [str(ROOT / "tests" / "kill_probe.py"), "step", "16", str(int(signal.SIGKILL))]
    killed = subprocess.run([*TWO, *probe, *flags], cwd=workplace, capture_output=True, text=True, timeout=300)
    assert killed.returncode != 0 and not (workplace / "killed" / "run.json").exists()
    result = run_script("train", *flags, "--resume", cwd=workplace, launcher=TWO)
    assert result.returncode == 0 and "resumed    from killed/checkpoint-14\n" in result.stdout, result.stderr
    found, expected = (load_file(workplace / name / "model.safetensors") for name in ("killed", "two"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    rows = [json.loads((workplace / name / "run.json").read_text())["epochs"] for name in ("killed", "two")]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_machines_that_do_not_share_the_folder_are_refused(workplace: Path, tmp_path: Path) -> None:
    """Two launchers on one machine, as on two; the second one's output folder is another."""
    flags = [str(workplace / "bert"), *FLAGS, "--dataset_name", str(workplace / "reviews")]
    launched = []
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
        machine = f"""--multi_gpu --num_machines 2 --num_processes 2 --machine_rank {rank} --main_process_ip 127.0.0.1
            --main_process_port {PORT}""".split()
        command = [sys.executable, "-m", "accelerate.commands.launch", *machine, str(ROOT / "scripts" / "train.py")]
        command += ["--model_name_or_path", *flags, "--output_dir", "run"]
        launched.append(
            subprocess.Popen(
                command, cwd=tmp_path / str(rank), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    first, second = (process.communicate(timeout=240)[1] for process in launched)
    assert "error: --output_dir run must be the same folder on every machine: a shared file system" in first
    assert all(process.returncode != 0 for process in launched) and "error: --output_dir" not in second

"""Two launches never write to one run's folder at a time, whichever scripts they run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, copy_of, files_under, load_script, run_script

from recipe.arguments.parser import Arguments
from recipe.errors import UsageError
from recipe.inference import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.training.run import inspect_only, train

SECONDS = 200
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.mark.parametrize("more", [[], ["--overwrite_output_dir"], ["--resume"]])
@pytest.mark.parametrize("begin", [train, inspect_only])
def test_a_folder_that_is_being_written_is_refused_before_anything_is_read(
    begin: Callable[[Arguments], RunFolder], more: list[str], tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    arguments = tiny_arguments("--dataset_name", "./nowhere", *more)
    with RunFolder(tmp_path / "run").hold("--output_dir"):
        said = f"run is being written by process {os.getpid()} on host .*: wait for it, or choose another --output_dir"
        with pytest.raises(UsageError, match=said):
            begin(arguments)
        assert files_under(tmp_path) == {"run/.lock"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["export_onnx", "evaluate"])
def test_export_and_evaluation_wait_their_turn_and_predictions_need_not(
    name: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    run = copy_of(exported_run, tmp_path)
    before = files_under(run.path)
    with run.hold("--run"):
        with pytest.raises(UsageError, match=f"{run} is being written by process {os.getpid()} .*another --run"):
            load_script(name).main(["--run", str(run)])
        assert OnnxClassifier.from_run(run.path, "fp32")(["a good film"])[0].label == "positive"
    assert files_under(run.path) == before


def test_an_evaluation_names_whoever_still_trains_the_run_and_makes_no_folder(tmp_path: Path) -> None:
    run, evaluate = RunFolder(tmp_path / "run"), load_script("evaluate").main
    with run.hold("--output_dir"), pytest.raises(UsageError, match=f"run is being written by process {os.getpid()}"):
        evaluate(["--run", str(run)])
    with pytest.raises(UsageError, match="no run at"):
        evaluate(["--run", str(run)])
    assert not list(tmp_path.iterdir())


def stopped_in_step(number: int, flags: list[str], folder: Path) -> subprocess.Popen[str]:
    """A training that has sent itself SIGSTOP in a step."""
    probe = [sys.executable, str(ROOT / "tests" / "kill_probe.py"), "step", str(number), str(int(signal.SIGSTOP))]
    process = subprocess.Popen([*probe, *flags], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            return process
        assert not found, "it ended"
        time.sleep(0.05)
    process.kill()
    raise TimeoutError(f"not in step {number} after {SECONDS} s")


@pytest.mark.slow
def test_of_two_trainings_into_one_folder_the_second_is_refused_and_the_first_ends_well(
    tiny_flags: list[str], tmp_path: Path
) -> None:
    flags = [*tiny_flags, "--num_train_epochs", "1", "--save_steps", "5", "--output_dir", "run"]
    first = stopped_in_step(8, flags, tmp_path)
    try:
        before = files_under(tmp_path)
        for launcher in ((), TWO):
            second = run_script("train", *flags, "--resume", cwd=tmp_path, launcher=launcher)
            said = f"train.py: error: run is being written by process {first.pid} on host "
            assert second.stderr.count(said) == second.stderr.count("error: run is") == 1, second.stderr
            assert second.returncode == 2 if not launcher else second.returncode
            assert "Traceback" not in second.stderr or launcher, second.stderr
        assert files_under(tmp_path) == before
        first.send_signal(signal.SIGCONT)
        _, errors = first.communicate(timeout=SECONDS)
    finally:
        first.kill()
    assert first.returncode == 0 and "run/run.json" in files_under(tmp_path), errors
    assert "run/.lock" not in files_under(tmp_path)

"""A run that was stopped, at whatever moment, goes on as if it had not been: the same weights, to the bit."""

import json
import multiprocessing
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, files_under, separable_reviews, write_dataset
from kill_probe import die
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.errors import CheckFailed, UsageError
from recipe.run_folder import RunFolder
from recipe.training import checkpoints
from recipe.training.job import prepare
from recipe.training.run import train
from recipe.training.stop_request import outlive_stop
from recipe.training.trainer import ReviewTrainer

# 96 train rows: 12 steps an epoch, checkpoints after 5, 10, 12, 15, 20, 24, 25, 30, 35 and 36.
# Their labels are contrasted, which has a beginning of its own.
STEPS = "--num_train_epochs 3 --save_steps 5 --max_train_samples 120 --contrast_labels".split()

# 12 steps an epoch, in which an F1 of 1 is reached before the sixth.
QUICK = "--max_train_samples 120 --learning_rate 1e-2".split()


@pytest.fixture(scope="module")
def never_killed(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that nobody stopped."""
    return train(parse_arguments([*tiny_flags, *STEPS, "--output_dir", str(tmp_path_factory.mktemp("runs") / "run")]))


def assert_the_same(run: RunFolder, expected: RunFolder) -> None:
    """Check weights to the bit, metrics, and which files stand there."""
    for name in (
        "model.safetensors",
        *(f"{path.name}/model.safetensors" for path in expected.path.glob("checkpoint-*")),
    ):
        ours, theirs = load_file(run.path / name), load_file(expected.path / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    found, wanted = run.read_record().to_json(), expected.read_record().to_json()
    for record in (found, wanted):
        record.pop("seconds")
        for row in (*record["epochs"], record["best"]):
            row.pop("seconds")
    assert found == wanted
    logged = []
    for folder in (run.path, expected.path):
        state = json.loads((folder / f"checkpoint-{wanted['epochs'][-1]['step']}" / "trainer_state.json").read_text())
        logged.append([entry["loss"] for entry in state["log_history"] if "loss" in entry])
    assert logged[0] == logged[1] and len(logged[0]) == len(wanted["epochs"])


def newest(folder: Path) -> str | None:
    """The name of the newest whole checkpoint."""
    checkpoint, _, _ = checkpoints.newest_checkpoint(folder)
    return checkpoint.name if checkpoint else None


@pytest.mark.slow
def test_a_run_that_was_killed_again_and_again_ends_as_if_it_had_not_been(
    tiny_flags: list[str], never_killed: RunFolder, tmp_path: Path
) -> None:
    flags = [*tiny_flags, *STEPS, "--output_dir", str(tmp_path / "run")]
    resume: list[str] = []
    for moment, number, whole in (
        ("step", 8, "checkpoint-5"),
        ("weights are written, the rest is not", 2, "checkpoint-10"),
        ("validation", 1, "checkpoint-10"),
        ("all is written but the manifest", 2, "checkpoint-12"),
        ("step", 16, "checkpoint-25"),
        ("trained but not saved", 1, "checkpoint-36"),
        ("saved but not recorded", 1, "checkpoint-36"),
    ):
        end = die(moment, number, signal.SIGKILL, [*flags, *resume], tmp_path)
        assert end.code == -signal.SIGKILL, f"{moment}: {end.stderr}"
        assert newest(tmp_path / "run") == whole, moment
        assert not (tmp_path / "run" / "run.json").exists()
        resume = ["--resume"]
    run = train(parse_arguments([*flags, "--resume"]))
    assert_the_same(run, never_killed)
    assert files_under(run.path) == files_under(never_killed.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number", "number_of_signal", "times"),
    [("step", 8, signal.SIGTERM, 1), ("validation", 1, signal.SIGTERM, 2), ("step", 12, signal.SIGINT, 1)],
)
def test_a_signal_is_answered_with_a_checkpoint(
    moment: str,
    number: int,
    number_of_signal: int,
    times: int,
    tiny_flags: list[str],
    never_killed: RunFolder,
    tmp_path: Path,
) -> None:
    flags = [*tiny_flags, *STEPS, "--dataloader_num_workers", "1", "--output_dir", str(tmp_path / "run")]
    step = 8 if number == 8 else 12
    for time in range(times):
        # The second time it is the validation with which the resumed run begins.
        end = die(moment, number, number_of_signal, [*flags, *(["--resume"] if time else [])], tmp_path)
        assert end.code == 128 + number_of_signal, end.stderr
        assert newest(tmp_path / "run") == f"checkpoint-{step}"
        assert end.stderr.splitlines()[-1].endswith(
            f"stopped after step {step} of 36. The same command with --resume goes on from "
            f"{tmp_path}/run/checkpoint-{step}"
        )
    run = train(parse_arguments([*flags, "--resume"]))
    if step == 8:
        # The run that nobody stopped has none after this step.
        shutil.rmtree(run.path / "checkpoint-8")
    assert_the_same(run, never_killed)


@pytest.fixture(scope="module")
def stopped_once(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that failed in step 12, with checkpoints after 5 and 10."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    calls, end_step = iter(range(11)), ReviewTrainer.end_step

    def fail(trainer: ReviewTrainer) -> None:
        if next(calls, None) is None:
            raise RuntimeError("stopped")
        end_step(trainer)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ReviewTrainer, "end_step", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            train(parse_arguments([*tiny_flags, *STEPS, "--output_dir", str(folder)]))
    assert newest(folder) == "checkpoint-10"
    return folder


@pytest.fixture
def stopped(tiny_flags: list[str], stopped_once: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """The flags and a copy of the folder of the run that stopped."""
    shutil.copytree(stopped_once, tmp_path / "run")
    return [*tiny_flags, *STEPS, "--output_dir", str(tmp_path / "run")], tmp_path / "run"


def damage_weights(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)


def damage_by_cutting(checkpoint: Path) -> None:
    content = (checkpoint / "optimizer.pt").read_bytes()
    (checkpoint / "optimizer.pt").write_bytes(content[: len(content) // 2])


def damage_manifest(checkpoint: Path) -> None:
    (checkpoint / "checkpoint.json").write_text("{")


def forget_files(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest | {"files": {}}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(damage_weights, "its model.safetensors is not what was written", marks=pytest.mark.slow),
        (damage_by_cutting, "its optimizer.pt is not what was written"),
        (damage_manifest, "its checkpoint.json cannot be read"),
        (
            lambda checkpoint: (checkpoint / "checkpoint.json").write_text('{"files": {}}'),
            "its checkpoint.json cannot be read",
        ),
        (forget_files, "its model.safetensors is not what was written"),
        (lambda checkpoint: (checkpoint / "rng_state.pth").unlink(), "its rng_state.pth is missing"),
        (lambda checkpoint: (checkpoint / "checkpoint.json").unlink(), "it has no checkpoint.json"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    damage: Callable[[Path], None],
    message: str,
    stopped: tuple[list[str], Path],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    flags, folder = stopped
    damage(folder / "checkpoint-10")
    if damage is not damage_weights:
        # One of them goes all the way.
        _, manifest, damaged = checkpoints.newest_checkpoint(folder)
        assert damaged == [f"checkpoint-10 is damaged ({message})"] and newest(folder) == "checkpoint-5"
        return
    run = train(parse_arguments([*flags, "--resume"]))
    assert f"warning: checkpoint-10 is damaged ({message}), going back to checkpoint-5" in capsys.readouterr().err
    assert_the_same(run, request.getfixturevalue("never_killed"))


def test_with_no_whole_checkpoint_there_is_nothing_to_resume(
    stopped: tuple[list[str], Path], tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    flags, folder = stopped
    with pytest.raises(UsageError, match=f"nothing to resume: {tmp_path}/none holds no run"):
        train(tiny_arguments("--resume", "--output_dir", str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(folder / "config.yaml", begun)
    with pytest.raises(UsageError, match=f"nothing to resume in {begun}, no checkpoint was written yet"):
        train(tiny_arguments("--resume", "--output_dir", str(begun)))
    for checkpoint in folder.glob("checkpoint-*"):
        damage_manifest(checkpoint)
    with pytest.raises(
        UsageError, match="nothing to resume in .*: checkpoint-10 is damaged .*; checkpoint-5 is damaged"
    ):
        train(parse_arguments([*flags, "--resume"]))


def test_a_finished_run_is_not_resumed(tiny_run: RunFolder, tiny_flags: list[str]) -> None:
    with pytest.raises(UsageError, match="holds a finished run, so there is nothing to resume"):
        train(parse_arguments([*tiny_flags, "--output_dir", str(tiny_run.path), "--resume"]))


def test_resuming_is_never_done_unasked(stopped: tuple[list[str], Path]) -> None:
    flags, folder = stopped
    before = files_under(folder)
    with pytest.raises(UsageError, match="already holds an unfinished run .*: give --resume to go on with it"):
        train(parse_arguments(flags))
    assert files_under(folder) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning_rate", "1e-3"], r"learning_rate \(0.003, now 0.001\)"),
        (["--seed", "7"], r"rows of train \(.{12}…, now .{12}…\); .*seed \(42, now 7\)"),
        (["--global_batch_size", "4"], r"global_batch_size \(8, now 4\)"),
        (["--num_train_epochs", "5"], r"num_train_epochs \(3.0, now 5.0\)"),
        (["--max_length", "16"], r"max_length \(32, now 16\)"),
        (["--truncation_side", "left"], r"truncation_side \(the default, now left\)"),
        (["--max_train_samples", "80"], "rows of train .*rows of validation"),
        (["--weight_decay", "0.1"], r"weight_decay \(the default, now 0.1\)"),
    ],
)
def test_another_run_s_checkpoint_is_refused_and_left(
    more: list[str], message: str, stopped: tuple[list[str], Path]
) -> None:
    flags, folder = stopped
    before = files_under(folder)
    with pytest.raises(UsageError, match=f"checkpoint-10 is of another run: .*{message}.* changed since"):
        train(parse_arguments([*flags, *more, "--resume"]))
    assert files_under(folder) == before


def test_another_model_or_changed_reviews_are_refused(
    stopped: tuple[list[str], Path], tiny_bert: Path, tmp_path: Path
) -> None:
    flags, _ = stopped
    other = tmp_path / "other"
    shutil.copytree(tiny_bert, other)
    damage_weights(other)
    with pytest.raises(UsageError, match=r"of another run: sha256 \(.*model.safetensors.*\) changed since"):
        train(parse_arguments([*flags, "--model_name_or_path", str(other), "--resume"]))
    changed = write_dataset(
        tmp_path / "reviews", train=separable_reviews(300, seed=9), test=separable_reviews(60, seed=2)
    )
    with pytest.raises(UsageError, match="of another run: rows of train .*; rows of validation .* changed since"):
        train(parse_arguments([*flags, "--dataset_name", str(changed), "--resume"]))


def test_a_checkpoint_of_another_architecture_is_refused(stopped: tuple[list[str], Path]) -> None:
    flags, folder = stopped
    manifest = json.loads((folder / "checkpoint-10" / "checkpoint.json").read_text())
    manifest["run"]["model"]["architecture"] = "DistilBertForSequenceClassification"
    (folder / "checkpoint-10" / "checkpoint.json").write_text(json.dumps(manifest))
    named = r"architecture \(DistilBertForSequenceClassification, now BertForSequenceClassification\)"
    with pytest.raises(UsageError, match=named):
        train(parse_arguments([*flags, "--resume"]))


@pytest.mark.slow
def test_a_run_moved_elsewhere_and_other_batches_per_device_go_on(
    stopped: tuple[list[str], Path], never_killed: RunFolder, tmp_path: Path
) -> None:
    flags, folder = stopped
    folder.rename(tmp_path / "moved")
    more = ["--output_dir", str(tmp_path / "moved"), "--resume", "--per_device_train_batch_size", "4"]
    record = train(parse_arguments([*flags, *more])).read_record().to_json()
    # Smaller batches get other dropout masks, but there are as many steps of as many reviews.
    assert [row["step"] for row in record["epochs"]] == [12, 24, 36]


class Malice:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def pickled(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("form", [torch.save, pytest.param(pickled, marks=pytest.mark.slow)])
def test_nothing_is_unpickled_from_a_checkpoint(
    name: str, form: Callable[..., object], stopped: tuple[list[str], Path], tmp_path: Path
) -> None:
    flags, folder = stopped
    checkpoint = folder / "checkpoint-10"
    form(Malice(tmp_path / "ran"), checkpoint / name)
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    manifest["files"][name] = checkpoints.file_sha256(checkpoint / name)
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="checkpoint-10 holds more than weights and numbers, and is not read"):
        train(parse_arguments([*flags, "--resume"]))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "others"), [("2", {"checkpoint-72"}), ("1", set())])
def test_the_limit_keeps_the_best_and_the_newest(
    limit: str, others: set[str], tiny_arguments: Callable[..., Arguments]
) -> None:
    run = train(tiny_arguments(*QUICK, "--num_train_epochs", "6", "--save_total_limit", limit, "--save_steps", "10"))
    record = run.read_record().to_json()
    assert record["best"]["step"] < 72, "the test needs a best checkpoint before the last"
    assert {path.name for path in run.path.glob("checkpoint-*")} == {record["best"]["checkpoint"], *others}


def test_an_old_checkpoint_goes_only_once_the_new_one_is_whole(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate, whole = checkpoints.rotate, []

    def recorded(run: Path, *args: Any) -> None:
        whole.append(newest(run))
        rotate(run, *args)

    monkeypatch.setattr(checkpoints, "rotate", recorded)
    train(tiny_arguments("--save_total_limit", "2", "--num_train_epochs", "3", "--max_train_samples", "20"))
    assert whole == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_everything_is_on_the_disk_before_the_manifest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush each file and folder, then the manifest, then the names."""
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / "shards").mkdir(parents=True)
    for name in ("model.safetensors", "shards/0"):
        (checkpoint / name).write_bytes(b"weights")
    flushed: list[tuple[str, bool]] = []

    def record(path: Path) -> None:
        flushed.append((path.name, (checkpoint / "checkpoint.json").exists()))

    monkeypatch.setattr(checkpoints, "flush", record)
    checkpoints.write_manifest(checkpoint, {"run": {}})
    before = {name for name, manifest in flushed if not manifest}
    after = [name for name, manifest in flushed if manifest]
    assert before == {"model.safetensors", "shards", "0", "checkpoint-3"}
    assert after == ["checkpoint.json", "checkpoint-3", tmp_path.name]
    assert set(json.loads((checkpoint / "checkpoint.json").read_text())["files"]) == {"model.safetensors", "shards/0"}


def test_a_loss_that_is_not_finite_stops_at_once(tiny_arguments: Callable[..., Arguments]) -> None:
    arguments = tiny_arguments("--learning_rate", "1e30", "--warmup_steps", "40", "--save_steps", "1")
    with pytest.raises(CheckFailed, match=r"the loss is (nan|inf) at step \d+ .learning rate .*, precision fp32.: "):
        train(arguments)
    folder = Path(str(arguments.training.output_dir))
    kept = checkpoints.sorted_checkpoints(folder)
    for checkpoint in kept:
        assert all(value.isfinite().all() for value in load_file(checkpoint / "model.safetensors").values())


def test_weights_that_are_not_finite_are_never_saved(stopped: tuple[list[str], Path]) -> None:
    flags, folder = stopped
    trainer = prepare(parse_arguments(flags)).trainer

    class Spoil(TrainerCallback):
        def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
            if state.global_step == 14:
                with torch.no_grad():
                    trainer.model.classifier.bias[0] = float("inf")

    trainer.add_callback(Spoil())
    with pytest.raises(CheckFailed, match="sum of some weights is inf at step 15 .*; checkpoint-12 is kept"):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-10"))
    assert newest(folder) == "checkpoint-12" and not (folder / "checkpoint-15").exists()


@pytest.mark.slow
def test_a_folder_without_a_manifest_is_no_checkpoint_and_is_removed(stopped: tuple[list[str], Path]) -> None:
    flags, folder = stopped
    shutil.copytree(folder / "checkpoint-10", folder / "checkpoint-11")
    (folder / "checkpoint-11" / "checkpoint.json").unlink()
    assert newest(folder) == "checkpoint-10"
    run = train(parse_arguments([*flags, "--resume", "--num_train_epochs", "3"]))
    assert run.record.is_file() and not (folder / "checkpoint-11").exists()


@pytest.mark.slow
def test_early_stopping_stops_and_is_remembered(tiny_flags: list[str], tmp_path: Path) -> None:
    # The first epoch to reach an F1 of 1 stays the best.
    flags = [*tiny_flags, *QUICK, "--num_train_epochs", "12", "--early_stopping_patience", "2"]
    run = train(parse_arguments([*flags, "--output_dir", str(tmp_path / "run")]))
    record = run.read_record().to_json()
    assert len(record["epochs"]) < 12 and record["epochs"][-1]["step"] == record["best"]["step"] + 24
    # Killed after it had stopped early, and told to stop during the validation that would stop it early.
    validation_batches = len(record["epochs"])
    for name, moment, number, number_of_signal in (
        ("after", "trained but not saved", 1, signal.SIGKILL),
        ("during", "validation", validation_batches, signal.SIGTERM),
    ):
        again = [*flags, "--output_dir", str(tmp_path / name)]
        end = die(moment, number, number_of_signal, again, tmp_path)
        assert end.code == (-signal.SIGKILL if number_of_signal == signal.SIGKILL else 128 + signal.SIGTERM), end.stderr
        assert newest(tmp_path / name) == f"checkpoint-{record['epochs'][-1]['step']}"
        (tmp_path / name).rename(tmp_path / f"{name} moved")
        moved = [*flags, "--output_dir", str(tmp_path / f"{name} moved"), "--resume"]
        assert_the_same(train(parse_arguments(moved)), run)


@pytest.mark.parametrize(("metric", "greater"), [("f1", True), ("loss", False)])
def test_a_validation_made_up_for_at_the_start_finds_the_best_as_trainer_does(
    metric: str, greater: bool, tiny_arguments: Callable[..., Arguments]
) -> None:
    """The best step of five validations with given metrics is an oracle's, whichever of them is made up for."""
    values = [0.5, 0.7, 0.7, 0.6, 0.4] if greater else [0.5, 0.3, 0.3, 0.4, 0.6]
    flags = ["--metric_for_best_model", metric, "--early_stopping_patience", "9"]
    trainer = prepare(tiny_arguments("--max_train_samples", "40", *flags)).trainer
    for due in range(len(values)):
        state = TrainerState(global_step=due + 1)
        if due:
            state.best_metric = (max if greater else min)(values[:due])
            state.best_global_step = values.index(state.best_metric) + 1
        trainer.validation_due, trainer.state = True, state
        trainer.evaluate = partial(dict, {f"eval_{metric}": values[due]})
        trainer.checkpointing.on_train_begin(trainer.args, state, TrainerControl(), lr_scheduler=None)
        best = (max if greater else min)(values[: due + 1])
        assert (state.best_metric, state.best_global_step) == (best, values.index(best) + 1)
        assert state.best_model_checkpoint == f"{trainer.args.output_dir}/checkpoint-{values.index(best) + 1}"
        assert not trainer.validation_due


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting a small disk needs root")
@pytest.mark.parametrize(("size", "foreseen"), [("18m", True), ("2m", False)])
def test_a_full_disk_keeps_the_checkpoint_before_and_says_how_much_is_needed(
    size: str, foreseen: bool, tiny_flags: list[str], tmp_path: Path
) -> None:
    """Once found too small before anything is written, and once filled by others while it is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # Room for the first checkpoints, each of some 0.3 MB, but not for all.
    flags = [*tiny_flags, *STEPS, "--output_dir", str(disk / "run")]
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from recipe.training import checkpoints, run as training; "
    )
    if not foreseen:
        # It looks only once a write has failed.
        program += "check = checkpoints.require_space; "
        program += "checkpoints.require_space = lambda *args: sys.exc_info()[0] and check(*args); "
    program += "from recipe.command_line import run; from recipe.arguments import parse_arguments; "
    program += "run(lambda argv: training.train(parse_arguments(argv)) and None)"
    command = [sys.executable, "-c", program, str(ROOT), *flags]
    script = (
        f"mount -t tmpfs -o size={size} none {disk} && {shlex.join(command)}; code=$?; ls -d {disk}/run/*/*; exit $code"
    )
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    result = subprocess.run(shell, capture_output=True, text=True, timeout=300)
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip("no small disk can be mounted here")
    assert result.returncode == 2, result.stderr
    message = result.stderr.splitlines()[-1]
    found = re.search(
        r"no space left for a checkpoint: .* needs (\d+) MB and has (\d+); (checkpoint-\d+) is kept", message
    )
    assert found and int(found[1]) >= int(found[2])
    files = re.findall(r"^\S+/(checkpoint-\d+)/(\S+)$", result.stdout, re.MULTILINE)
    whole = {folder for folder, name in files if name == "checkpoint.json"}
    assert found[3] in whole and {folder for folder, _ in files} == whole, "nothing half-written is left"


@pytest.mark.slow
def test_a_worker_outlives_a_stop_but_not_its_parents_end() -> None:
    loader = DataLoader(range(8), num_workers=1, worker_init_fn=outlive_stop, persistent_workers=True)  # type: ignore[arg-type]
    batches, (worker,) = iter(loader), multiprocessing.active_children()
    next(batches)
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert [batch.item() for batch in batches] == list(range(1, 8))
    # What Python does at its own end, before it waits for ever.
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0

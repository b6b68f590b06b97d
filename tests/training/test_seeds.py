"""Several seeds: each is a training on the same rows, the best one becomes the run, and the run says so."""

import re
import signal
import statistics
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import copy_of, files_under, run_script, same_weights, weights_of
from kill_probe import die
from oracles import run_record

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.errors import Interrupted, UsageError
from recipe.run_folder import RunFolder, SeedFigures
from recipe.training import job
from recipe.training import run as training
from recipe.training.refit import refit
from recipe.training.run import train
from recipe.training.seeds import best_seed, drop_all_but_best, folders_by_seed, keep_best

# 64 train and 16 validation rows: eight steps an epoch.
SHORT = "--max_train_samples 80 --num_train_epochs 2 --learning_rate 4e-3".split()
THREE = [*SHORT, "--seeds", "3"]


@pytest.fixture(scope="module")
def three(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of three seeds; not to be changed."""
    return train(parse_arguments([*tiny_flags, *THREE, "--output_dir", str(tmp_path_factory.mktemp("seeds") / "run")]))


def without_seconds(run: RunFolder) -> dict[str, Any]:
    """A run's record but for the time that it took."""
    record = run.read_record().to_json()
    for part in (record, record["best"], *record["epochs"], *record["seeds"]):
        del part["seconds"]
    return record


def test_the_run_of_several_seeds_is_a_run_as_every_other(three: RunFolder, tiny_run: RunFolder) -> None:
    three.require_finished()
    files = {re.sub(r"\d+", "N", name) for name in files_under(three.path)}
    assert files == {re.sub(r"\d+", "N", name) for name in files_under(tiny_run.path)}, "nothing of the others is left"
    kept = weights_of(three.path / three.read_record().best.checkpoint)
    assert all(torch.equal(kept[name], value) for name, value in weights_of(three.path).items())


def test_the_first_seed_is_the_run_without_the_others_to_the_bit(
    three: RunFolder, tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = train(tiny_arguments(*SHORT))
    record, first = alone.read_record(), three.read_record().seeds[0]
    assert (record.seeds, record.kept_seed) == ([], None)
    assert (first.seed, first.epoch, first.loss, first.f1) == (42, record.best.epoch, record.best.loss, record.best.f1)
    # Where it is kept, its weights are the same too.
    monkeypatch.setattr("recipe.training.seeds.best_seed", lambda records, args: 42)
    kept = train(tiny_arguments(*SHORT, "--seeds", "2", "--output_dir", str(tmp_path / "two")))
    assert same_weights(kept, alone)
    assert kept.read_record().rows_sha256 == record.rows_sha256


def test_the_kept_one_is_the_best_on_the_same_validation_rows(three: RunFolder) -> None:
    record = three.read_record()
    assert [one.seed for one in record.seeds] == [42, 43, 44] and record.seed == 42
    assert len({one.loss for one in record.seeds}) == 3, "each seed trains another model"
    assert len({one.f1 for one in record.seeds}) > 1, "the test needs seeds that differ"
    best = sorted(record.seeds, key=lambda one: (-one.f1, one.loss))[0]
    assert (record.kept_seed, record.best.f1, record.best.loss) == (best.seed, best.f1, best.loss)
    assert record.seconds == pytest.approx(sum(one.seconds for one in record.seeds), abs=0.1)


@pytest.mark.parametrize(
    ("metric", "figures", "kept"),
    [
        ("f1", [(0.8, 0.5), (0.9, 0.7), (0.9, 0.6), (0.9, 0.6)], 2),
        ("loss", [(0.8, 0.5), (0.9, 0.7), (0.9, 0.4)], 2),
        ("eval_loss", [(0.8, 0.3), (0.9, 0.7)], 0),
    ],
)
def test_the_best_is_that_of_the_metric_and_of_equals_the_lower_loss(
    metric: str, figures: list[tuple[float, float]], kept: int, tiny_arguments: Callable[..., Arguments]
) -> None:
    best = vars(run_record().best)
    records = {
        seed: run_record(best=type(run_record().best)(**best | {"f1": f1, "loss": loss}))
        for seed, (f1, loss) in enumerate(figures)
    }
    assert best_seed(records, tiny_arguments("--metric_for_best_model", metric).training) == kept


def test_mean_and_spread_are_those_counted_by_hand() -> None:
    # Mean 0.84; deviations -0.04, 0.02 and 0.02: the root of (16 + 4 + 4) / 2 is 3.4641 hundredths.
    seeds = [SeedFigures(seed, 1.0, 0.5, f1, 1.0) for seed, f1 in ((42, 0.80), (43, 0.86), (44, 0.86))]
    record = run_record(seeds=seeds, kept_seed=43)
    assert record.seed_spread == pytest.approx(statistics.stdev([0.80, 0.86, 0.86]))
    assert record.describe_seeds().startswith(
        "3 seeds: validation F1 mean 0.8400, spread (standard deviation) 0.0346, lowest 0.8000, highest 0.8600; "
        "kept seed 43, the best on 1,000 validation rows"
    )
    note = record.seed_note()
    assert "the best of 3 seeds by validation" in note
    assert "moves that F1 by 0.0346 (standard deviation of the 3)" in note
    assert "4,000 train rows was not measured" in run_record().seed_note()


def test_the_seconds_of_refits_are_in_those_of_the_run_and_in_the_estimate(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def long(*args: Any) -> Any:
        again, trainer = refit(*args)
        return replace(again, seconds=1000.0), trainer

    monkeypatch.setattr("recipe.training.run.refit", long)
    record = train(tiny_arguments("--seeds", "2", "--refit", "--max_train_samples", "60")).read_record()
    assert record.seconds > 2000 and all(1000 < figures.seconds < 1100 for figures in record.seeds)
    assert re.search(r"; 1 to go, some 1,0\d\d s$", capsys.readouterr().out, re.MULTILINE)


def test_the_estimate_is_the_mean_of_the_seeds_so_far(tiny_arguments: Callable[..., Arguments], tmp_path: Path) -> None:
    args, run = tiny_arguments("--seeds", "3").training, RunFolder(tmp_path / "run")
    folders = folders_by_seed(run, args)
    for (seed, folder), seconds in zip(folders.items(), (103.0, 153.0), strict=False):
        folder.path.mkdir(parents=True)
        folder.write_record(run_record(seed=seed, seconds=seconds))
    assert drop_all_but_best(folders, args).endswith("; 153.0 s; 1 to go, some 128 s")
    keep_best(run, folders, args)
    assert run.read_record().seconds == 256.0


def press(*args: Any) -> None:
    """Stop in place of the function that is patched."""
    raise KeyboardInterrupt


def test_a_stop_between_seeds_names_where_the_run_goes_on(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--seeds", "2", "--max_steps", "2", "--max_train_samples", "60"]
    ends = {"free_trainers": "the start of seed 43", "keep_best": "where all seeds are trained"}
    for number, (name, place) in enumerate(ends.items()):
        with monkeypatch.context() as patched:
            patched.setattr(f"recipe.training.run.{name}", press)
            message = f"^stopped. The same command with --resume goes on from {place}$"
            with pytest.raises(Interrupted, match=message):
                train(tiny_arguments(*flags, *(["--resume"] if number else [])))
    with monkeypatch.context() as patched:
        patched.setattr("recipe.training.run.keep_best", press)
        with pytest.raises(Interrupted, match="goes on from where all seeds are trained$"):
            train(tiny_arguments(*flags, "--resume"))
    assert train(tiny_arguments(*flags, "--resume")).is_finished


def test_a_checkpoint_that_was_cut_off_is_none_to_go_on_from(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A finished run next to it is not one of its seeds.
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "run.json").write_text("{}")
    monkeypatch.setattr("recipe.training.checkpoints.write_manifest", press)
    again = "tart again with --overwrite_output_dir"
    with pytest.raises(Interrupted, match=f"^stopped. No checkpoint was written yet: s{again}$"):
        train(tiny_arguments())
    with pytest.raises(UsageError, match="holds an unfinished run .*: choose another --output_dir, or give --over"):
        train(tiny_arguments())
    with pytest.raises(UsageError, match=f"checkpoint.json.. S{again} in place of --resume$"):
        train(tiny_arguments("--resume"))


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_stop_while_states_are_dropped_is_made_good_by_resuming(
    seeds: int, tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = ["--seeds", str(seeds), "--max_steps", "2", "--max_train_samples", "60"]
    with monkeypatch.context() as patched:
        patched.setattr("recipe.training.checkpoints.drop_states", press)
        # A finished run has nothing to go on with.
        with pytest.raises(Interrupted if seeds > 1 else KeyboardInterrupt):
            train(tiny_arguments(*flags))
    run = RunFolder(tiny_arguments().training.output_dir)
    assert [*run.path.rglob("optimizer.pt")] and run.is_finished == (seeds == 1)
    if seeds > 1:
        train(tiny_arguments(*flags, "--resume"))
    else:
        run.seeds.symlink_to(tmp_path)
        with pytest.raises(UsageError, match="holds a finished run, so there is nothing to resume"):
            train(tiny_arguments(*flags, "--resume"))
    assert run.is_finished and not run.seeds.exists()
    assert not [*run.path.rglob("optimizer.pt"), *run.path.rglob("checkpoint.json")]


@pytest.mark.slow
def test_the_screen_tells_of_each_seed_once_and_of_all_at_the_end(
    three: RunFolder, tiny_flags: list[str], tmp_path: Path
) -> None:
    result = run_script("train", *tiny_flags, *THREE, "--output_dir", "again", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "seeds      42 to 44; kept is the best by validation f1" in lines
    told = [line for line in lines if re.match(r"seed 4\d ", line)]
    assert [line.split()[1] for line in told] == ["42", "43", "44"]
    assert re.search(r"; 2 to go, some \d+ s$", told[0]) and told[2].endswith(" s") and "to go" not in told[2]
    record = RunFolder(tmp_path / "again").read_record()
    assert record.describe_seeds() in lines
    assert without_seconds(RunFolder(tmp_path / "again")) == without_seconds(three)
    assert same_weights(RunFolder(tmp_path / "again"), three)


@pytest.mark.slow
def test_the_settings_written_train_the_same_seeds_again(three: RunFolder, tmp_path: Path) -> None:
    assert three.read_config()["seeds"] == 3
    again = train(parse_arguments(["--config", str(three.config), "--output_dir", str(tmp_path / "again")]))
    found, expected = without_seconds(again), without_seconds(three)
    assert found["config"] == "config" and found | {"config": "quickstart"} == expected
    assert same_weights(again, three)


def test_the_reviews_are_read_once_and_a_model_leaves_the_memory_before_the_next_is_loaded(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_of, read, models, alive, reads = training.job_of, job.load_reviews, [], [], []

    def counted(*args: Any) -> Any:
        alive.append(sum(model() is not None for model in models))
        found = job_of(*args)
        models.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(job, "load_reviews", lambda *args: reads.append(args) or read(*args))
    monkeypatch.setattr(training, "job_of", counted)
    train(tiny_arguments(*SHORT, "--seeds", "2"))
    assert alive == [0, 0] and len(reads) == 1


def test_the_disk_holds_the_best_model_alone_beside_the_one_in_training(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop, held = training.drop_all_but_best, []

    def watched(folders: dict[int, RunFolder], *args: Any) -> str:
        said = drop(folders, *args)
        held.append(sum((folder.path / "model.safetensors").is_file() for folder in folders.values()))
        return said

    monkeypatch.setattr(training, "drop_all_but_best", watched)
    train(tiny_arguments(*THREE))
    assert held == [1, 1, 1]


def test_each_seed_logs_to_a_folder_of_its_own(tiny_arguments: Callable[..., Arguments]) -> None:
    material = job.read_material(tiny_arguments(*SHORT, "--seeds", "2"))
    folders = [Path(job.job_of(material, seed).trainer.args.logging_dir) for seed in (42, 43)]
    assert [folder.name for folder in folders] == ["42", "43"] and folders[0].parent == folders[1].parent


@pytest.mark.parametrize(("value", "message"), [("0", "--seeds 0 must be more than 0"), ("2.5", "invalid int value")])
def test_a_number_of_seeds_that_makes_no_sense_is_refused(
    value: str, message: str, tiny_arguments: Callable[..., Arguments]
) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_arguments("--seeds", value)


def test_a_last_seed_that_is_too_large_is_refused(tiny_arguments: Callable[..., Arguments]) -> None:
    most = 2**32 - 3
    assert tiny_arguments("--seeds", "3", "--seed", str(most)).training.seed == most
    with pytest.raises(UsageError, match=f"--seed {most + 1} must be from 0 to {most}"):
        tiny_arguments("--seeds", "3", "--seed", str(most + 1))


@pytest.fixture(scope="module")
def stopped_once(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Three seeds of which the second failed before its first checkpoint."""
    folder, fit = tmp_path_factory.mktemp("stopped") / "run", training.job_of

    def fail(material: Any, seed: int) -> Any:
        if seed == 43:
            raise RuntimeError("stopped")
        return fit(material, seed)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "job_of", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            train(parse_arguments([*tiny_flags, *THREE, "--output_dir", str(folder)]))
    return RunFolder(folder)


@pytest.mark.parametrize("damaged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_seed_without_a_whole_checkpoint_begins_again_and_finished_ones_are_not_trained_again(
    damaged: bool,
    stopped_once: RunFolder,
    three: RunFolder,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, job_of, drop = copy_of(stopped_once, tmp_path), training.job_of, training.drop_all_but_best
    trained, left = [], []

    def watched(folders: dict[int, RunFolder], *args: Any) -> str:
        left.extend(folders[43].path.glob("checkpoint-99"))
        return drop(folders, *args)

    if damaged:
        (run.seeds / "43" / "checkpoint-99").mkdir(parents=True)
        (run.seeds / "43" / "checkpoint-99" / "checkpoint.json").write_text("{")
    flags = [*tiny_flags, *THREE, "--output_dir", str(run)]
    with pytest.raises(UsageError, match="already holds an unfinished run .*: give --resume to go on with it"):
        train(parse_arguments(flags))
    monkeypatch.setattr(training, "job_of", lambda material, seed: trained.append(seed) or job_of(material, seed))
    monkeypatch.setattr(training, "drop_all_but_best", watched)
    train(parse_arguments([*flags, "--resume"]))
    said = capsys.readouterr()
    assert trained == [43, 44] and not left and "resumed    from the start of seed 43\n" in said.out
    assert damaged == ("warning: checkpoint-99 is damaged" in said.err)
    assert ("going back to the start of seed 43\n" in said.err) == damaged
    assert same_weights(run, three) and without_seconds(run) == without_seconds(three)
    assert files_under(run.path) == files_under(three.path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "2"], "was begun with --seeds 3, not 2: give what it was begun with"),
        (["--seeds", "1"], "was begun with --seeds 3, not 1: give what it was begun with"),
        (["--seed", "50"], r"seeds is of another run: .*seed \(42, now 50\) changed since"),
        (["--learning_rate", "2e-3"], r"seeds is of another run: learning_rate \(0.004, now 0.002\) changed since"),
    ],
)
def test_other_seeds_or_settings_are_not_resumed(
    more: list[str], message: str, stopped_once: RunFolder, tiny_flags: list[str]
) -> None:
    before = files_under(stopped_once.path)
    with pytest.raises(UsageError, match=message):
        train(parse_arguments([*tiny_flags, *THREE, "--output_dir", str(stopped_once), *more, "--resume"]))
    assert files_under(stopped_once.path) - {".lock"} == before - {".lock"}


@pytest.mark.slow
def test_a_stop_while_the_best_becomes_the_run_loses_nothing(
    three: RunFolder, tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first file and the second, then before the record."""
    with monkeypatch.context() as patched:
        moved, replace = [], Path.replace

        def stop(path: Path, target: Path) -> Path:
            if path.parent.parent.name == "seeds" and not path.name.startswith("."):
                if len(moved) == 1:
                    raise OSError("stopped")
                moved.append(path.name)
            return replace(path, target)

        patched.setattr(Path, "replace", stop)
        with pytest.raises(OSError, match="stopped"):
            train(tiny_arguments(*THREE))
    run = RunFolder(str(tiny_arguments().training.output_dir))
    assert moved and not run.record.is_file()
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_record", lambda *_: (_ for _ in ()).throw(OSError("stopped")))
        with pytest.raises(OSError, match="stopped"):
            train(tiny_arguments(*THREE, "--resume"))
    train(tiny_arguments(*THREE, "--resume"))
    assert same_weights(run, three) and files_under(run.path) == files_under(three.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number", "signal_number"),
    [
        ("step", 19, signal.SIGTERM),
        ("step", 30, signal.SIGKILL),
        ("saved but not recorded", 2, signal.SIGKILL),
    ],
)
def test_seeds_that_were_stopped_end_as_if_they_had_not_been(
    moment: str, number: int, signal_number: int, three: RunFolder, tiny_flags: list[str], tmp_path: Path
) -> None:
    """Sixteen steps a seed: each moment is in the second."""
    flags = [*tiny_flags, *THREE, "--output_dir", str(tmp_path / "run")]
    end = die(moment, number, signal_number, flags, tmp_path)
    assert end.code == (143 if signal_number == signal.SIGTERM else -signal.SIGKILL), end.stderr
    if signal_number == signal.SIGTERM:
        assert end.stderr.splitlines()[-1].endswith(f"--resume goes on from {tmp_path}/run/seeds/43/checkpoint-3")
    assert (tmp_path / "run" / "seeds" / "42" / "run.json").is_file()
    run = train(parse_arguments([*flags, "--resume"]))
    assert same_weights(run, three) and without_seconds(run) == without_seconds(three)
    assert not run.seeds.exists()


@pytest.mark.slow
def test_two_processes_train_the_same_seeds(bert_without_dropout: Path, tiny_flags: list[str], tmp_path: Path) -> None:
    flags = [*tiny_flags, *THREE, "--model_name_or_path", str(bert_without_dropout)]
    one = train(parse_arguments([*flags, "--output_dir", str(tmp_path / "one")])).read_record()
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    result = run_script("train", *flags, "--output_dir", "two", cwd=tmp_path, launcher=launcher)
    assert result.returncode == 0, result.stderr
    two = RunFolder(tmp_path / "two").read_record()
    assert two.kept_seed == one.kept_seed and two.processes == 2
    for ours, theirs in zip(two.seeds, one.seeds, strict=True):
        assert (ours.seed, ours.f1) == (theirs.seed, theirs.f1) and ours.loss == pytest.approx(theirs.loss, abs=1e-4)
    assert sum(line.startswith("seed 4") for line in result.stdout.splitlines()) == 3

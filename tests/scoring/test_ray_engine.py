"""Many files on a Ray cluster: the parts are those of one machine, whatever dies and wherever the files are."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pytest
from conftest import ROOT, copy_of, files_under, run_script, separable_reviews

from recipe.errors import UsageError
from recipe.inference import Scorer
from recipe.inference.decision import Decision
from recipe.run_folder import RunFolder
from recipe.scoring import Request, score
from recipe.scoring.ray_engine import _expected_rows, score_on_ray

# A storage of its own kind, which every process finds as it would find s3fs.
SHELF = """
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

class Shelf(DirFileSystem):
    protocol = "shelf"

    def __init__(self, **settings):
        super().__init__(path=FOLDER, fs=LocalFileSystem(), **settings)
"""

# The script, which tells of its progress as often as it looks.
TELLING = """
import runpy, sys
from recipe.scoring import progress

progress.SECONDS_BETWEEN_LINES = 0.0
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    small = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    context = ray.init(address="local", log_to_driver=False, logging_level="ERROR", **small)
    yield context.address_info["gcs_address"]
    ray.shutdown()


def write_parts(folder: Path, parts: int, rows: int) -> None:
    """Write csv files of which every hundredth row has a field too many."""
    folder.mkdir(parents=True)
    for part in range(parts):
        with (folder / f"part-{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "content"])
            for row, text in enumerate(separable_reviews(rows, seed=part)["content"][:]):
                writer.writerow([row, text, *(["more"] if row % 100 == 99 else [])])


def contents(folder: Path) -> dict[str, bytes]:
    """The content of each file below a folder."""
    return {name: (folder / name).read_bytes() for name in files_under(folder)}


def kill_a_worker(folder: Path) -> None:
    """Kill a process that scores a part, once some of its rows are on the disk."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        scoring = [child for child in psutil.Process().children(recursive=True) if "ray::_score_part" in name_of(child)]
        if scoring and list(folder.glob(".*.parts/*.window")):
            scoring[0].kill()
            return
        time.sleep(0.01)
    raise AssertionError("no worker has scored a window")


def name_of(process: psutil.Process) -> str:
    """What a process calls itself; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.slow
def test_the_parts_are_those_of_one_machine_though_a_worker_is_killed(
    cluster: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    write_parts(tmp_path / "in", parts=2, rows=6_200)
    flags = ["--run", exported_run.path, "--variant", "fp32", "--on_error", "skip", "--input", "in/*.csv", "--output"]
    command = [sys.executable, "-c", TELLING, ROOT / "scripts" / "predict.py", "--engine", "ray", *flags, "by_ray/"]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        list(map(str, command)), cwd=tmp_path, env=os.environ | {"RAY_ADDRESS": cluster}, **streams
    ) as launched:
        kill_a_worker(tmp_path / "by_ray")
        output, errors = launched.communicate(timeout=200)
    assert launched.returncode == 0 and all(line.startswith("scoring: ") for line in errors.splitlines()), errors
    # Of both files, though only those that a worker has opened are known.
    assert re.search(r"scoring: \d,\d{3} of 12,400 rows, [1-9][\d,]* rows per second, 0:\d\d:\d\d left", errors)
    # Ray may say before that a worker was killed.
    last = output.splitlines()[-1]
    assert re.fullmatch(r"12,276 rows in .* per second, 0\.0% truncated, 124 skipped: .*by_ray \(2 parts\)", last)
    score(Request(exported_run.path, str(tmp_path / "in"), f"{tmp_path}/alone/", variant="fp32", on_error="skip"))
    assert contents(tmp_path / "by_ray") == contents(tmp_path / "alone")
    # Nobody is asked: all parts are there.
    again = run_script("predict", "--engine", "ray", *flags, "by_ray/", cwd=tmp_path, RAY_ADDRESS="nowhere:1")
    assert again.stdout.startswith("12,276 rows (12,276 of them were there) in "), again.stderr


def test_rows_of_files_that_nobody_has_opened_are_expected_by_their_bytes() -> None:
    sizes = {"a": 1000, "b": 3000, "c": 0}
    assert _expected_rows({}, sizes) == 0
    assert _expected_rows({"a": 10}, sizes) == 40
    assert _expected_rows({"a": 10, "b": 90, "c": 0}, sizes) == 100
    assert _expected_rows({"c": 0}, sizes) == 0, "a storage that tells no sizes"


@pytest.mark.slow
def test_files_elsewhere_are_read_and_written_through_fsspec(
    cluster: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    write_parts(tmp_path / "shelf" / "in", 2, 150)
    installed = tmp_path / "site" / "shelf-1.dist-info"
    installed.mkdir(parents=True)
    (tmp_path / "site" / "shelf.py").write_text(f"FOLDER = {str(tmp_path / 'shelf')!r}\n{SHELF}")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[fsspec.specs]\nshelf = shelf:Shelf\n")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "RAY_ADDRESS": cluster}
    flags = ["--run", exported_run.path, "--variant", "fp32", "--engine", "ray"]

    def predict(source: str, *more: str) -> subprocess.CompletedProcess[str]:
        given = [*flags, "--input", source, "--output", "shelf://out", *more]
        return run_script("predict", *given, cwd=tmp_path, **environment)

    refused = predict("shelf://in/*.csv")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.search(r"error: shelf://in/part-\d.csv, line 101: .*--on_error skip", refused.stderr)
    assert predict("shelf://nothing/*.csv").stderr == "predict.py: error: no file at shelf://nothing/*.csv\n"
    done = predict("shelf://in/*.csv", "--on_error", "skip", "--overwrite")
    assert done.returncode == 0 and done.stdout.endswith("2 skipped: shelf://out (2 parts)\n"), done.stderr
    alone = Request(exported_run.path, str(tmp_path / "shelf" / "in"), f"{tmp_path}/alone/", "fp32", on_error="skip")
    score(alone)
    found, expected = contents(tmp_path / "shelf" / "out"), contents(tmp_path / "alone")
    # Only what a part was made of is named otherwise.
    for record in (".part-0.csv.json", ".part-1.csv.json"):
        named, other = json.loads(found.pop(record)), json.loads(expected.pop(record))
        assert named.pop("input") != other.pop("input") and named == other
    assert found == expected
    assert "(298 of them were there)" in predict("shelf://in/*.csv", "--on_error", "skip").stdout
    (tmp_path / "shelf" / "in" / "part-1.csv").write_text("id,content\n1,good\n")
    assert "holds part-1.csv of another input" in predict("shelf://in/*.csv", "--on_error", "skip").stderr
    renewed = predict("shelf://in/*.csv", "--on_error", "skip", "--overwrite")
    assert renewed.stdout.startswith("150 rows (149 of them were there) in "), renewed.stderr
    assert len((tmp_path / "shelf" / "out" / "part-1.csv").read_text().splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("by_class", [True, False])
def test_ray_data_takes_a_scorer(by_class: bool, cluster: str, exported_run: RunFolder, tmp_path: Path) -> None:
    import ray

    rows = separable_reviews(300, seed=23).remove_columns("label")
    rows.to_parquet(tmp_path / "rows.parquet")
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    settings: dict[str, Any] = {"variant": "fp32", "threads": 1}
    data = ray.data.read_parquet(str(tmp_path / "rows.parquet"))
    if by_class:
        how: dict[str, Any] = {"fn_constructor_args": [exported_run.path], "fn_constructor_kwargs": settings}
        # Two actors of a core each would leave Ray none to read with.
        how |= {"concurrency": 2, "num_cpus": 0.5}
        scored = data.map_batches(Scorer, batch_size=64, runtime_env=environment, **how)
    else:
        scorer = Scorer(exported_run.path, **settings)
        scored = data.map_batches(scorer, batch_size=64, batch_format="pyarrow", runtime_env=environment)
    found = pyarrow.Table.from_pandas(scored.to_pandas(), preserve_index=False).sort_by("content").to_pydict()
    expected = Scorer(exported_run.path, **settings)(pyarrow.table(rows.to_dict())).sort_by("content").to_pydict()
    assert list(found) == ["title", "content", "label", "probability", "truncated"]
    assert found["label"] == expected["label"] and found["content"] == expected["content"]
    assert found["probability"] == pytest.approx(expected["probability"], abs=1e-5)


@pytest.mark.slow
def test_a_machine_with_another_run_is_refused(cluster: str, exported_run: RunFolder, tmp_path: Path) -> None:
    # A worker reads the run only when its task begins; here the test changes it between.
    run = copy_of(exported_run, tmp_path)
    write_parts(tmp_path / "in", 1, 20)
    code = f"""
from pathlib import Path
from recipe.scoring import Request, ray_engine
begin = ray_engine.PartFolder.begin
def begin_and_change(folder, settings):
    begin(folder, settings)
    Path({str(run.decision)!r}).write_text({json.dumps(json.dumps(Decision(temperature=2.0).to_json()))})
ray_engine.PartFolder.begin = begin_and_change
ray_engine.score_on_ray(Request(Path({str(run.path)!r}), "in", "out/", "fp32"))
"""
    environment = os.environ | {"RAY_ADDRESS": cluster, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert re.search(r"UsageError: on \S+ the decision has changed from .*: machines must have the same", found.stderr)
    assert not list((tmp_path / "out").glob("*.csv"))


@pytest.mark.slow
def test_without_a_cluster_this_machine_is_one(exported_run: RunFolder, tmp_path: Path) -> None:
    write_parts(tmp_path / "in", 1, 50)
    flags = ["--run", exported_run.path, "--variant", "fp32", "--input", "in/part-0.csv", "--output"]
    by_ray = run_script("predict", "--engine", "ray", *flags, "by_ray", cwd=tmp_path)
    alone = run_script("predict", *flags, "alone", cwd=tmp_path)
    assert (by_ray.returncode, alone.returncode) == (0, 0), by_ray.stderr
    assert by_ray.stderr == "" and len(by_ray.stdout.splitlines()) == 1
    assert contents(tmp_path / "by_ray") == contents(tmp_path / "alone")


def test_what_ray_cannot_do_is_refused_in_one_line(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parts(tmp_path / "in", 1, 20)
    separable_reviews(5, seed=1).to_csv("other.csv")

    def refusal(source: str | list[str] = "in", target: str = "out/", **more: Any) -> str:
        with pytest.raises(UsageError) as error:
            score_on_ray(Request(exported_run.path, source, target, variant="fp32", **more))
        return str(error.value)

    assert refusal(target="out.csv") == "--engine ray writes a folder of parts: give --output a folder, not out.csv"
    assert "not standard input" in refusal("-") and "not standard input" in refusal(target="-")
    assert refusal(limit=5).startswith("--limit does not go with --engine ray")
    assert refusal(skip_scored="id").startswith("--skip_scored does not go with --engine ray")
    assert refusal("no/*.csv").startswith("the pattern 'no/*.csv' finds no file")
    assert refusal("s4://bucket/a.csv").startswith("s4://bucket/a.csv cannot be read or written: Protocol not known")
    assert "has no column 'text'" in refusal(text_columns=["text"])
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "no Ray cluster at RAY_ADDRESS=127.0.0.1:1: Connection refused; unset it" in refusal()
    monkeypatch.delitem(sys.modules, "ray")
    monkeypatch.setattr(sys, "path", [])
    assert refusal() == "ray is not installed: run pip install -e '.[ray]'"

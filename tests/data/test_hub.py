"""The Hub's own code paths, over real HTTP, against a server on this machine that speaks its protocol."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files_under, run_script, separable_reviews
from datasets import Dataset
from loopback_hub import COMMIT, LoopbackHub

pytestmark = pytest.mark.slow
DATASET, MODEL = "fancyzhx/amazon_polarity", "tiny/bert"
CONFIG = ["--config", "amazon_polarity", "--model_name_or_path", MODEL, "--max_length", "32"]


def write_repository(folder: Path, train: Dataset, row_group: int) -> Path:
    """Two train files and a test file, in small row groups, as a large dataset has them."""
    folder.mkdir(parents=True)
    half = len(train) // 2
    for number, rows in enumerate((train.select(range(half)), train.select(range(half, len(train))))):
        rows.to_parquet(folder / f"train-{number:05}-of-00002.parquet", batch_size=row_group)
    separable_reviews(600, seed=2).to_parquet(folder / "test-00000-of-00001.parquet", batch_size=row_group)
    # The Hub counts on a README being there; the columns' types stand in the parquet files.
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.fixture(scope="module")
def hub(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    root = tmp_path_factory.mktemp("hub")
    # Two files of 80 MB in row groups of 1.6 MB; Arrow reads ahead by up to 32 MB. Random titles do not compress away.
    train = separable_reviews(2000, seed=1).map(lambda _: {"title": os.urandom(40_000).hex()})
    whole = write_repository(root / "whole", train, row_group=20)
    cut = write_repository(root / "cut", separable_reviews(600, seed=3), row_group=200)
    for file in cut.glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-500])
    repositories = {
        ("datasets", DATASET): whole,
        ("datasets", "cut/short"): cut,
        ("datasets", "dies/midway"): whole,
        ("datasets", "own/reviews"): write_repository(root / "own", separable_reviews(800, seed=5), row_group=100),
        ("models", MODEL): tiny_bert,
    }
    moved = {"amazon_polarity": DATASET}
    with LoopbackHub(repositories, moved, gated={"gated/reviews"}, dying={"dies/midway"}) as server:
        yield server


def probe(hub: LoopbackHub, home: Path, *command_lines: list[str], offline: str = "0") -> list[dict[str, Any]]:
    """What `tests/hub_probe.py` says of each command line, with a cache of its own."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "hub_probe.py")],
        input=json.dumps([[*CONFIG, *argv] for argv in command_lines]),
        env=os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout))


def test_the_first_rows_cost_the_first_row_groups_and_come_from_the_pinned_commit(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.requests.clear()
    argv = ["--max_train_samples", "100", "--max_test_samples", "100"]
    first, again, former_name = probe(
        hub, tmp_path, argv, argv, ["--dataset_name", "amazon_polarity", "--max_train_samples", "100"]
    )
    assert first["rows"] == {"train": 80, "validation": 20, "test": 100} and again == first
    assert first["dataset"]["revision"] == first["weights"]["revision"] == COMMIT
    total = (hub.repositories["datasets", DATASET] / "train-00000-of-00002.parquet").stat().st_size
    rows = [path for _, path, _ in hub.requests if path.endswith(".parquet")]
    assert rows and all(COMMIT in path for path in rows), "no rows but the pinned commit's"
    assert hub.sent("train-00001-of-00002.parquet") == 0, "the second file is not touched"
    assert 0 < hub.sent("train-00000-of-00002.parquet") < total, "asked for under two names, and less than one file"
    assert former_name["rows"]["train"] == 80 and former_name["dataset"]["revision"] == COMMIT


def test_a_random_sample_says_what_it_downloads_and_is_stratified_and_seeded(hub: LoopbackHub, tmp_path: Path) -> None:
    own = ["--dataset_name", "own/reviews", "--sampling", "random", "--max_train_samples", "101"]
    own += ["--max_test_samples", "51"]
    online = probe(hub, tmp_path, own, [*own, "--seed", "7"], [*own, "--max_train_samples", "-1"])
    first, other_seed, whole = online
    assert re.fullmatch(r"downloads  own/reviews: 3 files, 0\.\d MB\n", first["said"]) and not other_seed["said"]
    assert first["rows"]["train"] + first["rows"]["validation"] == 101 and first["rows"]["test"] == 51
    assert all(abs(share - 0.5) < 0.03 for share in first["positive"].values())
    assert first["sha256"]["train"] != other_seed["sha256"]["train"], "another seed, another sample of train"
    assert first["sha256"]["test"] == other_seed["sha256"]["test"], "but never of test"
    assert whole["rows"] == {"train": 640, "validation": 160, "test": 51}
    hub.requests.clear()
    assert probe(hub, tmp_path, own) == [first | {"said": ""}]
    asked = len(hub.requests)
    assert not [path for _, path, _ in hub.requests if "own" in path and not re.search("/revision/|README", path)]
    again, other_commit = probe(hub, tmp_path, own, [*own, "--dataset_revision", "0" * 40], offline="1")
    assert again == first | {"said": ""} and "was not downloaded before" in other_commit["error"]
    assert len(hub.requests) == asked


def test_what_the_hub_cannot_give_is_one_line_and_leaves_nothing(hub: LoopbackHub, tmp_path: Path) -> None:
    asked = {
        "nobody/nothing": "the Hub has no dataset 'nobody/nothing' that you may read",
        "gated/reviews": "the dataset 'gated/reviews' is gated: ask for access",
        "cut/short": "cannot read the dataset 'cut/short'",
        "dies/midway": "cannot read the train split of 'dies/midway'",
    }
    other = {
        ("--dataset_revision", "v9"): f"the dataset '{DATASET}' has no revision 'v9' on the Hub",
        ("--model_revision", "v9"): f"the model '{MODEL}' has no revision 'v9' on the Hub",
        ("--text_columns", "body"): "has no column 'body'; it has label, title, content",
    }
    lines = [*(["--dataset_name", name] for name in asked), *map(list, other)]
    answers = probe(hub, tmp_path, *lines)
    for answer, message in zip(answers, [*asked.values(), *other.values()], strict=True):
        assert message in answer["error"] and "\n" not in answer["error"].strip(), answer
        assert answer["seconds"] < 60
    rows = {file for file in files_under(tmp_path / "datasets") if file.endswith(".arrow")}
    assert len(rows) == 1, "the train rows that lack a column are whole, and nothing else is left"


def test_a_second_run_asks_the_network_for_nothing(hub: LoopbackHub, tmp_path: Path) -> None:
    flags = """--max_train_samples 100 --max_test_samples 50 --num_train_epochs 1 --use_cpu --disable_tqdm True
        --global_batch_size 8""".split()
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    first = run_script("train", *CONFIG, *flags, cwd=tmp_path, HF_HUB_OFFLINE="0", **environment)
    assert first.returncode == 0, first.stderr
    asked = len(hub.requests)
    second = run_script(
        "train", *CONFIG, *flags, "--output_dir", "again", cwd=tmp_path, HF_HUB_OFFLINE="1", **environment
    )
    assert second.returncode == 0, second.stderr
    assert len(hub.requests) == asked
    records = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("runs/amazon_polarity", "again")]
    for name in ("dataset", "weights", "rows_sha256", "rows"):
        assert records[0][name] == records[1][name]
    assert records[0]["weights"]["revision"] == records[0]["dataset"]["revision"] == COMMIT


FROM_THE_HUB = """
import sys
from recipe.machine import silence_libraries
silence_libraries()
from recipe.arguments.parser import parse_arguments
from recipe.evaluation import evaluate_run
from recipe.export import export
from recipe.training import train
run = train(parse_arguments(sys.argv[1:]))
print("trained", flush=True)
sys.stdin.readline()
export(run, max_f1_drop=1.0)
evaluate_run(run)
"""


def test_a_run_from_the_hub_needs_no_hub_afterwards(tiny_bert: Path, tmp_path: Path) -> None:
    flags = f"""--max_train_samples 100 --max_test_samples 50 --num_train_epochs 1 --use_cpu --disable_tqdm True
        --global_batch_size 8 --output_dir {tmp_path / "run"} --dataset_name own/reviews""".split()
    repositories = {("datasets", "own/reviews"): write_repository(tmp_path / "own", separable_reviews(300, 5), 100)}
    with LoopbackHub(repositories | {("models", MODEL): tiny_bert}) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        process = subprocess.Popen(
            [sys.executable, "-c", FROM_THE_HUB, *CONFIG, *flags],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line != "trained\n":
            pass
    # The server is gone, and nobody has said that there is none.
    _, errors = process.communicate("go on\n", timeout=120)
    assert process.returncode == 0, errors

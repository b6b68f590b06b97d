"""The four scripts as a user runs them: real processes, from another working directory."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from conftest import ROOT, files_under, run_script
from test_export import ONNX_FILES, change_weights

from recipe.run_folder import RunFolder

SCRIPTS = ["train", "export_onnx", "evaluate", "predict"]
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml"))


def assert_one_line_error(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit code 2, one line on standard error that says `message`, nothing else."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "error: " in line and message in line


@pytest.fixture(scope="module")
def chain(
    tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Train under accelerate with data-loader workers, export, evaluate and predict, all with the default folder."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    flags = [*tiny_flags, "--dataloader_num_workers", "2"]
    results = {"train": run_script("train", *flags, cwd=cwd, launcher=ACCELERATE)}
    assert results["train"].returncode == 0, results["train"].stderr
    results["export_onnx"] = run_script("export_onnx", cwd=cwd)
    results["evaluate"] = run_script("evaluate", cwd=cwd, launcher=ACCELERATE)
    results["predict"] = run_script("predict", "a lovely film", "an awful plot", cwd=cwd)
    results["cwd"] = cwd  # type: ignore[assignment]
    return results


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_succeeds_without_library_chatter(
    name: str, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert chain[name].returncode == 0, chain[name].stderr
    assert chain[name].stderr == ""


def test_training_first_says_what_is_used(chain: dict[str, subprocess.CompletedProcess[str]]) -> None:
    lines = chain["train"].stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["config", "weights", "reviews", "device", "output"]
    assert "quickstart" in lines[0] and "tiny_bert" in lines[1] and "240 train, 60 validation, 60 test" in lines[2]
    assert "cpu" in lines[3] and "precision fp32" in lines[3]
    assert lines[5].endswith("accelerate launch scripts/train.py --config amazon_polarity")
    assert [line.split()[0] for line in lines[7:11]] == ["1.00", "2.00", "3.00", "4.00"], "a row per epoch"


def test_the_chain_leaves_its_files_where_the_user_stands(chain: dict[str, subprocess.CompletedProcess[str]]) -> None:
    run = Path(str(chain["cwd"])) / "runs" / "quickstart"
    assert files_under(run / "onnx") == ONNX_FILES
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["variants"]["onnx"]["f1"] == 1.0 and report["labels_changed"] == 0
    assert "pytorch" in chain["evaluate"].stdout and "tfidf" in chain["evaluate"].stdout


def test_predictions_are_label_probability_and_review(chain: dict[str, subprocess.CompletedProcess[str]]) -> None:
    rows = [line.split("\t") for line in chain["predict"].stdout.splitlines()]
    assert [(label, text) for label, _, text in rows] == [("positive", "a lovely film"), ("negative", "an awful plot")]
    assert all(0.5 <= float(probability) <= 1 for _, probability, _ in rows)


def test_lines_on_standard_input_become_json_lines(chain: dict[str, subprocess.CompletedProcess[str]]) -> None:
    cwd = Path(str(chain["cwd"]))
    result = run_script("predict", "--json", cwd=cwd, stdin='a great "film" é\n\nan awful plot')
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == ['a great "film" é', "", "an awful plot"]
    assert (answers[0]["label"], answers[2]["label"]) == ("positive", "negative")
    assert set(answers[0]) == {"text", "label", "probability"}


def test_a_finished_run_is_refused_in_one_line(
    chain: dict[str, subprocess.CompletedProcess[str]], tiny_flags: list[str]
) -> None:
    cwd = Path(str(chain["cwd"]))
    before = files_under(cwd)
    assert_one_line_error(run_script("train", *tiny_flags, cwd=cwd), "already holds a finished run")
    assert files_under(cwd) == before


def test_an_export_that_fails_its_check_exits_1_and_leaves_nothing(tiny_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "run"))
    change_weights(run, "classifier.bias", float("nan"))
    result = run_script("export_onnx", "--run", run.path, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "NaN or infinite logits" in line and not run.onnx.exists()


@pytest.mark.parametrize("name", SCRIPTS[1:])
def test_a_folder_without_a_run_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    assert_one_line_error(run_script(name, "--run", "nowhere", cwd=tmp_path, stdin=""), "no run at nowhere")
    assert_one_line_error(run_script(name, "--rum", "x", cwd=tmp_path, stdin=""), "did you mean '--run'?")
    assert files_under(tmp_path) == set()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "nope"], "no config 'nope'"),
        (["--learning_rat", "1"], "did you mean '--learning_rate'?"),
        (["--dataset_name", "./nowhere"], "no folder './nowhere' here"),
    ],
)
def test_a_mistake_in_training_is_one_line(argv: list[str], message: str, tmp_path: Path) -> None:
    assert_one_line_error(run_script("train", *argv, cwd=tmp_path), message)
    assert files_under(tmp_path) == set()


def test_input_that_is_not_utf8_is_refused(chain: dict[str, subprocess.CompletedProcess[str]]) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "predict.py")]
    result = subprocess.run(command, cwd=str(chain["cwd"]), input=b"caf\xe9\n", capture_output=True, timeout=120)
    assert result.returncode == 2 and b"standard input is not UTF-8" in result.stderr


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "never answers"])
def test_a_hub_that_cannot_be_reached_is_said_at_once(silent: bool, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = run_script(
            "train", "--config", "amazon_polarity", cwd=tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0"
        )
    assert_one_line_error(result, f"cannot reach the Hub at {endpoint} for the model 'google-bert/bert-base-uncased'")
    assert "HF_HUB_OFFLINE=1" in result.stderr and "--config quickstart" in result.stderr
    assert files_under(tmp_path) == set()


class NoSuchRepository(BaseHTTPRequestHandler):
    """Answers as the Hub does for a repository that is not there, or is private."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_that_the_hub_does_not_have_is_named(kind: str, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), NoSuchRepository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flag = {"model": "--model_name_or_path", "dataset": "--dataset_name"}[kind]
    endpoint = f"http://127.0.0.1:{server.server_port}"
    result = run_script("train", flag, "nobody/nothing", cwd=tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
    server.shutdown()
    assert_one_line_error(result, f"the Hub has no {kind} 'nobody/nothing' that you may read")
    assert files_under(tmp_path) == set()


def test_offline_without_a_download_is_said(tmp_path: Path) -> None:
    result = run_script(
        "train", "--config", "amazon_polarity", cwd=tmp_path, HF_HOME=str(tmp_path / "cache"), HF_HUB_OFFLINE="1"
    )
    assert_one_line_error(result, "cannot read the model 'google-bert/bert-base-uncased'")


@pytest.mark.parametrize("name", SCRIPTS[1:])
def test_help_does_not_wait_for_heavy_libraries(name: str, tmp_path: Path) -> None:
    result = run_script(name, "--help", cwd=tmp_path, launcher=(sys.executable, "-X", "importtime"))
    assert result.returncode == 0 and f"python scripts/{name}.py" in result.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "recipe" in imported, "the list of imports is there"
    assert not imported & {"torch", "transformers", "sklearn", "scipy", "numpy", "datasets", "optimum", "onnxruntime"}


def test_no_script_hides_the_library_evaluate() -> None:
    import evaluate

    command = [sys.executable, str(ROOT / "tests" / "name_probe.py"), *(f"scripts/{name}.py" for name in SCRIPTS)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [evaluate.__file__] * len(SCRIPTS) * 3, (
        "the script, forked and spawned workers"
    )

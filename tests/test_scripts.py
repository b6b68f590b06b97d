"""The scripts as a user runs them: real processes, from another working directory."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ONNX_FILES, ROOT, files_under, run_script, separable_reviews

from recipe.run_folder import RunFolder

# Those that work on one run, and all.
SCRIPTS = ["train", "export_onnx", "evaluate", "predict", "advise"]
ALL_SCRIPTS = [*SCRIPTS, "compare", "publish"]
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml"))


def assert_one_line_error(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit code 2, one line on standard error that says `message`, nothing else."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "error: " in line and message in line


@dataclass(frozen=True)
class Chain:
    """The folder in which the scripts ran one after another, and what each of them answered."""

    cwd: Path
    answers: dict[str, subprocess.CompletedProcess[str]]

    @property
    def run(self) -> Path:
        """The run's folder, the default one."""
        return self.cwd / "runs" / "quickstart"


@pytest.fixture(scope="module")
def chain(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Train under accelerate with data-loader workers, then the other scripts, all with the default folder."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    flags = [*tiny_flags, "--dataloader_num_workers", "2", "--output_dir", "runs/quickstart"]
    answers = {"train": run_script("train", *flags, cwd=cwd, launcher=ACCELERATE)}
    assert answers["train"].returncode == 0, answers["train"].stderr
    answers["export_onnx"] = run_script("export_onnx", "--max_f1_drop", "0.2", cwd=cwd)
    answers["evaluate"] = run_script("evaluate", cwd=cwd)
    answers["predict"] = run_script("predict", "a lovely film", "an awful plot", cwd=cwd)
    answers["advise"] = run_script("advise", cwd=cwd)
    return Chain(cwd, answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_succeeds_without_library_chatter(name: str, chain: Chain) -> None:
    assert chain.answers[name].returncode == 0, chain.answers[name].stderr
    assert chain.answers[name].stderr == ""


@pytest.mark.slow
def test_training_first_says_what_is_used(chain: Chain) -> None:
    lines = chain.answers["train"].stdout.splitlines()
    assert [line.split()[0] for line in lines[:6]] == "config weights reviews device schedule output".split()
    assert "quickstart" in lines[0] and "tiny_bert" in lines[1] and "240 train, 60 validation, 60 test" in lines[2]
    assert "cpu" in lines[3] and "precision fp32" in lines[3]
    head = next(number for number, line in enumerate(lines) if line.split()[0] == "epoch")
    block = [line.split()[0] for line in lines[6:head]]
    assert block == ["train", "validation", "test", "length", "unknown", "max_length"]
    assert [line.split()[0] for line in lines[head + 1 :][:4]] == ["1.00", "2.00", "3.00", "4.00"], "a row per epoch"


@pytest.mark.slow
def test_the_chain_leaves_its_files_where_the_user_stands(chain: Chain) -> None:
    assert files_under(chain.run / "onnx") == ONNX_FILES | {"decision.json"}, "which the evaluation has chosen"
    report = json.loads((chain.run / "report.json").read_text(encoding="utf-8"))
    assert report["variants"]["fp32"]["f1"] == 1.0 and report["variants"]["fp32"]["labels_changed"] == 0
    assert "pytorch" in chain.answers["evaluate"].stdout and "tfidf" in chain.answers["evaluate"].stdout


@pytest.mark.slow
def test_predictions_are_label_probability_and_review(chain: Chain) -> None:
    rows = [line.split("\t") for line in chain.answers["predict"].stdout.splitlines()]
    assert [(label, text) for label, _, text in rows] == [("positive", "a lovely film"), ("negative", "an awful plot")]
    assert all(0.5 <= float(probability) <= 1 for _, probability, _ in rows)


@pytest.mark.slow
def test_lines_on_standard_input_become_json_lines(chain: Chain) -> None:
    result = run_script("predict", "--json", cwd=chain.cwd, stdin='\ufeffa great "film" é\n\nan awful plot')
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == ['a great "film" é', "", "an awful plot"]
    assert (answers[0]["label"], answers[2]["label"]) == ("positive", "negative")
    assert set(answers[0]) == {"text", "label", "probability"}


@pytest.mark.slow
def test_a_finished_run_is_refused_in_one_line(chain: Chain, tiny_flags: list[str]) -> None:
    before = files_under(chain.cwd)
    result = run_script("train", *tiny_flags, "--output_dir", "runs/quickstart", cwd=chain.cwd)
    assert_one_line_error(result, "already holds a finished run")
    assert files_under(chain.cwd) == before


@pytest.mark.slow
def test_two_processes_train_one_run_and_speak_once(tiny_flags: list[str], tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    # The launcher alone says that there are two; on a CPU Accelerate would not join them by itself.
    flags = [flag for flag in tiny_flags if flag != "--use_cpu"]
    result = run_script("train", *flags, "--num_train_epochs", "2", cwd=tmp_path, launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best epoch") == result.stdout.count("\nweights ") == 1
    assert "find_unused_parameters" not in result.stderr
    record = RunFolder(tmp_path / "runs" / "separable").read_record().to_json()
    assert record["processes"] == 2 and record["rows"]["train"] == 240


def read_to_the_end(terminal: int) -> bytes:
    """Read a terminal until its process has closed it."""
    seen = b""
    # Linux says so with an error, not with an empty answer.
    with suppress(OSError):
        while chunk := os.read(terminal, 4096):
            seen += chunk
    return seen


@pytest.mark.slow
def test_a_terminal_sees_progress_and_an_interrupted_run_says_how_to_go_on(
    tiny_flags: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *tiny_flags, "--num_train_epochs", "500"]
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [*command, "--disable_tqdm", "False"], cwd=tmp_path, stdout=follower, stderr=follower, close_fds=True
    )
    os.close(follower)
    seen = b""
    while b"lr " not in seen and (chunk := os.read(leader, 4096)):
        seen += chunk
    process.send_signal(signal.SIGINT)
    rest = read_to_the_end(leader)
    assert process.wait(timeout=60) == 130
    # Time passed and left, then reviews per second, mean loss and learning rate.
    assert re.search(rb"training: .*/120000 \[\d\d:\d\d<.*, .* ?reviews/s, loss 0\.\d{4}, lr \d\.\de-0\d\]", seen)
    assert re.search(rb"stopped after step \d+ of 15000. The same command with --resume goes on from", rest)
    assert RunFolder(tmp_path / "runs" / "separable").read_config()["max_length"] == 32


@pytest.mark.slow
def test_a_first_pipeline_on_400_rows_goes_through_and_says_why_int8_is_not_there(
    tiny_flags: list[str], tmp_path: Path
) -> None:
    separable_reviews(400, seed=7).to_csv(tmp_path / "mine.csv", index=False)
    own = [*"--train_file mine.csv --text_columns title content --label_column label".split(), "--output_dir", "run"]
    steps = [
        ["train", *(flag for flag in tiny_flags if flag != "--dataset_name" and "separable" not in flag), *own],
        ["export_onnx", "--run", "run"],
        ["evaluate", "--run", "run", "--test_file", "mine.csv"],
        ["predict", "--run", "run", "a lovely film"],
    ]
    commands = [shlex.join([sys.executable, str(ROOT / "scripts" / f"{name}.py"), *flags]) for name, *flags in steps]
    result = subprocess.run(
        ["sh", "-ec", "\n".join(commands)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0 and result.stdout.endswith("\ta lovely film\n"), result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("int8 is ")]
    assert re.fullmatch(
        r"int8 is undecided: on \d+ validation reviews it may cost 0\.\d{4} of F1 \(95 % interval -0\.\d+ to 0\.\d+, "
        r"allowed 0\.01\); some [\d,]+0 would decide\. Written to run/onnx: fp32",
        line,
    )
    assert files_under(tmp_path / "run" / "onnx") == ONNX_FILES - {"model_quantized.onnx"} | {"decision.json"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--variants", "fp8"], "invalid choice: 'fp8'"),
        (["--target", "amiga"], "invalid choice: 'amiga'"),
        (["--max_f1_drop", "-1"], "--max_f1_drop -1.0 is not a difference of F1"),
    ],
)
def test_an_export_that_cannot_be_made_is_one_line(
    flags: list[str], message: str, tiny_run: RunFolder, tmp_path: Path
) -> None:
    assert_one_line_error(run_script("export_onnx", "--run", tiny_run.path, *flags, cwd=tmp_path), message)


@pytest.mark.parametrize("name", SCRIPTS[1:])
def test_a_folder_without_a_run_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    assert_one_line_error(run_script(name, "--run", "nowhere", cwd=tmp_path, stdin=""), "no run at nowhere")
    assert_one_line_error(run_script(name, "--rum", "x", cwd=tmp_path, stdin=""), "did you mean '--run'?")
    assert files_under(tmp_path) == set()


@pytest.mark.slow
def test_input_that_is_not_utf8_is_refused(chain: Chain) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "predict.py")]
    result = subprocess.run(command, cwd=chain.cwd, input=b"caf\xe9\n", capture_output=True, timeout=120)
    assert result.returncode == 2 and b"standard input is not UTF-8" in result.stderr


@pytest.mark.slow
def test_a_hub_that_never_answers_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = run_script(
            "train", "--config", "amazon_polarity", cwd=tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0"
        )
    assert_one_line_error(result, f"cannot reach the Hub at {endpoint} for the model 'google-bert/bert-base-uncased'")
    assert "HF_HUB_OFFLINE=1" in result.stderr and "--config quickstart" in result.stderr
    assert files_under(tmp_path) == set()


@pytest.mark.slow
def test_offline_without_a_download_is_said(tmp_path: Path) -> None:
    result = run_script(
        "train", "--config", "amazon_polarity", cwd=tmp_path, HF_HOME=str(tmp_path / "cache"), HF_HUB_OFFLINE="1"
    )
    assert_one_line_error(result, "the model 'google-bert/bert-base-uncased' was not downloaded before")


@pytest.mark.parametrize("name", ALL_SCRIPTS[1:])
def test_help_does_not_wait_for_heavy_libraries(name: str, tmp_path: Path) -> None:
    result = run_script(name, "--help", cwd=tmp_path, launcher=(sys.executable, "-X", "importtime"))
    assert result.returncode == 0 and f"python scripts/{name}.py" in result.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "recipe" in imported, "the list of imports is there"
    assert not imported & {"torch", "transformers", "sklearn", "scipy", "numpy", "datasets", "optimum", "onnxruntime"}


@pytest.mark.slow
def test_no_script_hides_the_library_evaluate() -> None:
    import evaluate

    command = [sys.executable, str(ROOT / "tests" / "name_probe.py"), *(f"scripts/{name}.py" for name in ALL_SCRIPTS)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [evaluate.__file__] * len(ALL_SCRIPTS) * 3, (
        "the script, forked and spawned workers"
    )

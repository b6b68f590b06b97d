"""A command's end: its exit code, its one line, and what it leaves running."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, separable_reviews


def end_of(body: str, cwd: Path, **environment: str) -> tuple[int, list[str]]:
    """Return exit code and standard error's lines of a program whose `main` has this body."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = (
        f"import os, signal, sys\nfrom recipe.command_line import run\n\ndef main(argv):\n{indented}\n\nrun(main)\n"
    )
    (cwd / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stderr.splitlines()


@pytest.mark.parametrize(
    ("body", "code", "lines"),
    [
        ("pass", 0, []),
        ("from recipe.errors import CheckFailed; raise CheckFailed('F1\\nfell')", 1, ["program.py: error: F1 fell"]),
        ("from recipe.errors import UsageError; raise UsageError('no run')", 2, ["program.py: error: no run"]),
        ("raise OSError(28, 'No space left on device')", 2, None),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, ["program.py: error: interrupted"]),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, ["program.py: error: ended by SIGTERM"]),
        ("from recipe.errors import Interrupted; raise Interrupted('use --resume', 15)", 143, None),
        ("sys.exit(5)", 5, []),
    ],
)
def test_each_end_has_its_exit_code_and_at_most_one_line(
    body: str, code: int, lines: list[str] | None, tmp_path: Path
) -> None:
    found, said = end_of(body, tmp_path)
    assert found == code and (said == lines if lines is not None else len(said) == 1), said


FREED = {
    "a method": """
class Freed:
    def __del__(self):
        come()
Freed()
""",
    "a weak reference's callback": """
class Freed:
    pass
freed = Freed()
reference = weakref.ref(freed, lambda _: come())
del freed
""",
    "a generator's end": """
def freed():
    try:
        yield
    finally:
        come()
one = freed()
next(one)
del one
""",
}


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("freeing", FREED.values(), ids=FREED)
def test_a_signal_while_an_object_is_freed_is_not_lost(freeing: str, number: str, code: int, tmp_path: Path) -> None:
    # The wait is longer than the time limit of `end_of`.
    body = f"import time, weakref\ncome = lambda: signal.raise_signal(signal.{number})\n{freeing}\ntime.sleep(300)"
    found, said = end_of(body, tmp_path)
    assert found == code and len(said) == 1, said


def test_what_is_dropped_else_is_told_as_python_tells_it(tmp_path: Path) -> None:
    body = "class Freed:\n    def __del__(self):\n        1 / 0\nFreed()"
    found, said = end_of(body, tmp_path)
    assert found == 0 and said[-1] == "ZeroDivisionError: division by zero"


def test_a_signal_ends_a_defect_whose_threads_go_on(tmp_path: Path) -> None:
    body = "import threading, time\npress = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
    # The wait is longer than the time limit of `end_of`.
    body += "threading.Thread(target=time.sleep, args=[300]).start()\nthreading.Timer(2, press).start()\n1 / 0"
    found, said = end_of(body, tmp_path)
    assert found == -signal.SIGTERM and said[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("end", "code", "lines"), [("raise KeyboardInterrupt", 130, 1), ("raise SystemExit(143)", 143, 1), ("pass", 0, 0)]
)
def test_a_second_signal_at_the_end_adds_no_line(end: str, code: int, lines: int, tmp_path: Path) -> None:
    body = f"import atexit\natexit.register(lambda: signal.raise_signal(signal.SIGINT))\n{end}"
    found, said = end_of(body, tmp_path)
    assert (found, len(said)) == (code, lines), said


LATE = """
import recipe.command_line as line
at_signals = line._at_signals
def late(handler):
    line._at_signals = at_signals
    signal.raise_signal(signal.SIGTERM)
line._at_signals = late
"""


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "1 / 0", "pass"])
def test_a_signal_just_before_they_are_ignored_is_one_line(end: str, tmp_path: Path) -> None:
    assert end_of(LATE + end, tmp_path) == (143, ["program.py: error: ended by SIGTERM"])


def test_a_signal_does_not_cut_off_the_line(tmp_path: Path) -> None:
    body = """
from recipe.errors import UsageError
class Slow(UsageError):
    def __str__(self):
        signal.raise_signal(signal.SIGTERM)
        return super().__str__()
raise Slow("no run")
"""
    assert end_of(body, tmp_path) == (2, ["program.py: error: no run"])


@pytest.mark.parametrize("given", ["", "ACTIVE"])
def test_threads_that_wait_sleep_unless_the_user_says_how(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment = {"OMP_WAIT_POLICY": given} if given else {}
    code, said = end_of("print(os.environ['OMP_WAIT_POLICY'], file=sys.stderr)", tmp_path, **environment)
    assert (code, said) == (0, [given or "PASSIVE"])


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves_early_is_no_error(lines: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        f"from recipe.command_line import run\nimport sys\nrun(lambda argv: print('review\\n' * {lines}))"
    )
    command = f"{sys.executable} program.py | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("0\n", "")


def test_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    code, lines = end_of("1 / 0", tmp_path)
    assert code == 1 and lines[0].startswith("Traceback") and lines[-1] == "ZeroDivisionError: division by zero"


def test_of_several_processes_only_the_main_one_speaks(tmp_path: Path) -> None:
    body = "from recipe.errors import UsageError; raise UsageError('no')"
    assert end_of(body, tmp_path, RANK="1", WORLD_SIZE="2") == (2, [])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_inherits_the_handler_runs_no_cleanup(sent: signal.Signals, tmp_path: Path) -> None:
    body = f"""
child = os.fork()
if child == 0:
    try:
        os.kill(os.getpid(), {int(sent)})
        signal.pause()
    finally:
        open("cleaned up", "w").close()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)
"""
    assert end_of(body, tmp_path) == (0, [str(128 + sent)])
    assert not (tmp_path / "cleaned up").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code"), [("os.kill(os.getpid(), signal.SIGINT)", 130), ("raise UsageError('too long')", 2), ("break", 0)]
)
def test_a_parquet_read_that_stops_early_does_not_abort_the_interpreter(end: str, code: int, tmp_path: Path) -> None:
    separable_reviews(20_000, seed=1).to_parquet(tmp_path / "reviews" / "train.parquet", batch_size=100)
    body = f"""
from datasets import load_dataset
from recipe.errors import UsageError
for row in load_dataset("reviews", split="train", streaming=True):
    {end}
"""
    found, lines = end_of(body, tmp_path, HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert found == code and len(lines) == (code > 0), lines


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": ""},
        {"RANK": "3"},
        {"WORLD_SIZE": "4"},
        {"LOCAL_RANK": "1"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": ""},
        {"RANK": "a", "WORLD_SIZE": "b"},
    ],
)
def test_leftovers_of_a_launcher_neither_crash_nor_silence(environment: dict[str, str], tmp_path: Path) -> None:
    body = """
from recipe.errors import UsageError
assert os.environ.get("WORLD_SIZE", "1") == "1"
raise UsageError("no run")
"""
    assert end_of(body, tmp_path, **environment) == (2, ["program.py: error: no run"])


def test_a_warning_is_one_line(tmp_path: Path) -> None:
    body = """
import warnings
from recipe.errors import RecipeWarning
warnings.warn("another variant is used", RecipeWarning)
warnings.warn("a library's advice")
"""
    assert end_of(body, tmp_path) == (0, ["program.py: warning: another variant is used"])


def test_a_cache_that_cannot_be_written_names_hf_home(tmp_path: Path) -> None:
    environment = {"HF_HOME": str(tmp_path / "cache")}
    body = f"raise PermissionError(13, 'Permission denied', {str(tmp_path / 'cache' / 'hub')!r})"
    code, lines = end_of(body, tmp_path, **environment)
    assert code == 2 and len(lines) == 1 and "set HF_HOME to a folder that you may write to" in lines[0]
    code, lines = end_of("raise PermissionError(13, 'Permission denied', '/elsewhere')", tmp_path, **environment)
    assert code == 2 and "HF_HOME" not in lines[0]


def start_waiting(folder: Path) -> "subprocess.Popen[str]":
    """Start the first of two processes, and never the second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--use_cpu", "--output_dir", "run"]
    return subprocess.Popen(command, cwd=folder, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_process_that_waits_for_others_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    waiting = {number: start_waiting(tmp_path) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, process in waiting.items():
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "waiting for the other 1 process(es): RANK=0 and WORLD_SIZE=2 are set" in line
            process.send_signal(number)
            assert process.wait(timeout=10) == -number
    finally:
        for process in waiting.values():
            process.kill()
            process.communicate()
    assert not (tmp_path / "run").exists()

"""The service of docs/serving.md, started as the page says, and the packages of its Dockerfile."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from configparser import RawConfigParser
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import pytest
import yaml
from conftest import ROOT, separable_reviews
from packaging.requirements import Requirement

from recipe.errors import UsageError
from recipe.inference import OnnxClassifier, Prediction
from recipe.run_folder import RunFolder

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
CLIENTS = 8
# What the page says that a run needs to serve int8.
SERVED_FILES = (
    *("config.yaml", "run.json", "onnx/certificate.json", "onnx/config.json", "onnx/tokenizer.json"),
    *("onnx/tokenizer_config.json", "onnx/model_quantized.onnx"),
)


def block(language: str, word: str) -> str:
    """The one code block of the page, in a language, that holds a word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    (found,) = [code for code in blocks if word in code]
    return found


def served_run(run: RunFolder, folder: Path, columns: list[str]) -> RunFolder:
    """A copy of what an exported run needs to serve int8, as if it were trained on some columns."""
    for name in SERVED_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((run.path / name).read_bytes())
    certificate = json.loads((folder / "onnx/certificate.json").read_text())
    certificate["variants"]["int8"]["reviews_per_second"] = 1e9
    (folder / "onnx/certificate.json").write_text(json.dumps(certificate))
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"text_columns": columns}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return RunFolder(folder)


class Service(NamedTuple):
    """A service that answers, and what it serves."""

    process: "subprocess.Popen[bytes]"
    port: int
    run: RunFolder
    pairs: bool
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        """A connection, which one worker answers as long as it is kept."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def ask(connection: http.client.HTTPConnection, path: str, body: object = None) -> tuple[int, Any]:
    """The status and the content of an answer; a body is posted."""
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.fixture(scope="module", params=[["content"], ["title", "content"]], ids=["one column", "two columns"])
def service(
    request: pytest.FixtureRequest, exported_run: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "service.py").write_text(block("python", "FastAPI"), encoding="utf-8")
    run = served_run(exported_run, folder / "run", request.param)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (line,) = re.findall(r"^ +RUN=\S+ gunicorn (.*)$", PAGE, flags=re.MULTILINE)
    command = [sys.executable, "-m", "gunicorn", *line.split(), "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    environment = os.environ | {"RUN": str(run), "PYTHONPATH": str(ROOT)}
    log = folder / "log"
    with log.open("wb") as file, subprocess.Popen(command, cwd=folder, env=environment, stderr=file) as process:
        started = Service(process, port, run, len(request.param) == 2, log)
        try:
            wait_for(started)
            yield started
        finally:
            process.kill()


def wait_for(service: Service) -> None:
    """Return when the service answers; fail with its log if it has ended, or after a minute."""
    for _ in range(600):
        assert service.process.poll() is None, service.log.read_text()
        try:
            assert ask(service.connect(), "/health")[0] == 200
            return
        except ConnectionError:
            time.sleep(0.1)
    raise AssertionError(service.log.read_text())


def as_json(answer: Prediction) -> object:
    """What the service makes of an answer; what it was computed beside may move its last digits."""
    return answer._asdict() | {"probability": pytest.approx(answer.probability, abs=1e-6)}


@pytest.mark.slow
def test_both_workers_give_eight_clients_the_classifiers_answers(service: Service) -> None:
    texts: list[Any] = separable_reviews(CLIENTS * 5, seed=21)["content"][:]
    texts = [(text.split()[0], text) for text in texts] if service.pairs else texts
    classifier = OnnxClassifier.from_run(service.run.path, "int8")
    expected = [as_json(answer) for answer in classifier(texts)]
    together = Barrier(CLIENTS, timeout=60)

    def client(number: int) -> int:
        connection = service.connect()
        health = ask(connection, "/health")[1]
        assert health["variant"] == "int8"
        together.wait()
        for row in range(number, len(texts), CLIENTS):
            assert ask(connection, "/predict", {"texts": texts[row : row + 1]}) == (200, expected[row : row + 1])
        assert ask(connection, "/predict", {"texts": texts}) == (200, expected)
        return health["process"]

    workers: set[int] = set()
    with ThreadPoolExecutor(CLIENTS) as clients:
        # Which worker takes a connection is the kernel's choice.
        for _ in range(20):
            workers |= {*clients.map(client, range(CLIENTS))}
            if len(workers) == 2:
                break
    assert len(workers) == 2 and service.process.pid not in workers


@pytest.mark.slow
def test_a_body_of_another_form_gets_422_and_the_place(service: Service) -> None:
    good: Any = ("a", "good film") if service.pairs else "a good film"
    other: Any = "a good film" if service.pairs else ("a", "good film")
    long: Any = ("a", "x" * 20_001) if service.pairs else "x" * 20_001
    assert ask(service.connect(), "/predict", {"texts": [good] * 64})[0] == 200
    assert ask(service.connect(), "/predict", {"texts": []}) == (200, [])
    for body, place in (
        ([good], ["body"]),
        ({"texts": "a good film"}, ["body", "texts"]),
        ({"texts": [good] * 65}, ["body", "texts"]),
        ({"texts": [good, other]}, ["body", "texts", 1]),
        ({"texts": [good, None]}, ["body", "texts", 1]),
        ({"texts": [long]}, ["body", "texts", 0]),
    ):
        status, content = ask(service.connect(), "/predict", body)
        assert status == 422 and content["detail"][0]["loc"][: len(place)] == place


@pytest.mark.slow
def test_sigterm_ends_every_worker_cleanly(service: Service) -> None:
    # Clients that keep their connections, as a proxy does, must not hold it up.
    kept = [service.connect() for _ in range(CLIENTS)]
    workers = {ask(connection, "/health")[1]["process"] for connection in kept}
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=60) == 0
    # gunicorn says which signal has ended a worker, and what a worker has raised.
    assert not re.search("SIG|Traceback|terminate|ERROR|WARNING", log := service.log.read_text()), log
    assert workers <= set(map(int, re.findall(r"Worker exiting \(pid: (\d+)\)", log))), log


@pytest.mark.slow
def test_the_dockerfile_installs_what_the_service_loads(exported_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(block("python", "FastAPI"), encoding="utf-8")
    code = """
import sys, service
service.predict(service.Reviews(texts=[("a", "b") if service.pairs else "a"]))
print(*{name.split(".")[0] for name in sys.modules})
"""
    environment = os.environ | {"RUN": str(exported_run), "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    loaded = {{"yaml": "pyyaml", "sklearn": "scikit-learn"}.get(name, name) for name in found.stdout.split()}
    setup = RawConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    sections = setup["options"]["install_requires"], setup["options.extras_require"]["serve"]
    declared = [Requirement(line) for section in sections for line in section.split("\n") if line]
    wanted = {str(package) for package in declared if package.name in loaded | {"gunicorn"}}
    lines = re.findall(r'"([a-z]+[<>=][^"]*)"', block("dockerfile", "FROM"))
    assert {str(Requirement(line)) for line in lines} == wanted


def test_a_run_that_serves_needs_no_trained_weights(exported_run: RunFolder, tmp_path: Path) -> None:
    run = served_run(exported_run, tmp_path / "run", ["content"])
    texts = ["a good film", "an awful plot"]
    assert OnnxClassifier.from_run(run.path)(texts) == OnnxClassifier.from_run(exported_run.path, "int8")(texts)
    for name in SERVED_FILES:
        content = (run.path / name).read_bytes()
        (run.path / name).unlink()
        with pytest.raises(UsageError, match="missing|no onnx|has no"):
            OnnxClassifier.from_run(run.path)
        (run.path / name).write_bytes(content)


@pytest.mark.slow
def test_a_process_forked_beside_a_loaded_model_exits(exported_run: RunFolder) -> None:
    # Not by `multiprocessing`, which leaves out the destructors where ONNX Runtime's threads are waited for.
    code = f"""
import os, sys
from recipe.inference import OnnxClassifier
classifier = OnnxClassifier.from_run({str(exported_run)!r})
classifier(["a good film"])
if not os.fork():
    classifier(["a good film"])
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.stdout == "7\n", found.stderr

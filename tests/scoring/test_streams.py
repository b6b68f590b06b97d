"""Answers come while the reviews do, and a log says how far a scoring is."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from conftest import ROOT, copy_of, load_script
from scored_files import write_csv

from recipe.files.atomic import write_json
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.scoring import Request, progress, score
from recipe.scoring.progress import LogLines


@contextmanager
def predict(run: RunFolder, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start `scripts/predict.py` with pipes; it is killed where an answer takes too long, and a read then ends."""
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), "--run", str(run.path), *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        timer = Timer(120, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "spelled"),
    [([], "{}\n"), (["--json"], "{}\n"), (["--input", "-", "--output", "-"], '{{"content": "{}"}}\n')],
)
def test_a_review_is_answered_before_the_next_one_comes(
    flags: list[str], spelled: str, exported_run: RunFolder
) -> None:
    with predict(exported_run, *flags) as process:
        assert process.stdin and process.stdout
        for text, label in (("good film", "positive"), ("awful film", "negative"), ("lovely film", "positive")):
            process.stdin.write(spelled.format(text).encode())
            process.stdin.flush()
            answer = process.stdout.readline().decode()
            assert label in answer and text in answer
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(100) == 0


def test_json_has_all_scores_and_the_doubt(
    exported_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, texts = copy_of(exported_run, tmp_path), ["good film", "awful film"]
    write_json(run.decision, Decision(certain_from=[0.0, 1.0]).to_json())
    argv = ["--run", str(run.path), "--variant", "fp32", "--json", *texts]
    load_script("predict").main(argv)
    load_script("predict").main([*argv, "--all_scores"])
    *short, first, second = map(json.loads, capsys.readouterr().out.splitlines())
    logits = OnnxClassifier.from_run(run.path, "fp32").logits(texts).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, answer in enumerate((first, second)):
        assert list(answer) == ["text", "label", "probability", "doubtful", "confidence", "scores"]
        np.testing.assert_allclose(list(answer["scores"].values()), expected[row], atol=1e-5)
        assert answer["confidence"] == pytest.approx(abs(expected[row][0] - expected[row][1]), abs=1e-5)
        assert answer["probability"] == answer["scores"][answer["label"]]
        assert short[row] == {name: answer[name] for name in ("text", "label", "probability", "doubtful")}
    assert list(first["scores"]) == ["negative", "positive"]
    assert (first["label"], first["doubtful"], second["label"], second["doubtful"]) == (
        *("positive", True),
        *("negative", False),
    )


def test_a_log_has_a_line_now_and_then(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "in.csv", [{"content": "good film"}] * 10)
    request = Request(exported_run.path, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), threads=1)
    score(request)
    assert capsys.readouterr().err == "", "this took less than half a minute"
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    # Four reviews of `[CLS] good film [SEP]`.
    monkeypatch.setattr(OnnxClassifier, "batch_tokens", 16)
    score(Request(request.run, request.input, str(tmp_path / "again.csv"), threads=1))
    first, *_, last = [line for line in capsys.readouterr().err.splitlines() if "scoring: " in line]
    assert re.fullmatch(r"scoring: 4 of 10 rows, [\d,]+ rows per second, 0:00:0\d left", first)
    assert last.startswith("scoring: 10 of 10 rows, ") and last.endswith(", 0:00:00 left")


def test_a_log_line_counts_what_was_there_but_not_in_the_rate() -> None:
    lines = LogLines(total=10_000, done=4_000)
    lines.done += 1_000
    assert lines.line(seconds=10.0) == "scoring: 5,000 of 10,000 rows, 100 rows per second, 0:00:50 left"
    assert LogLines(0, 0).line(2.0) == "scoring: 0 rows, 0 rows per second"

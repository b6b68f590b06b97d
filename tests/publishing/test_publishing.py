"""What is published of a run, and what is not; the real client against a Hub on this machine, and back from there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, copy_of, files_under, load_script, run_script
from datasets import load_dataset
from huggingface_hub import configure_http_backend, constants
from loopback_hub import LoopbackHub

from recipe.errors import UsageError
from recipe.inference import OnnxClassifier
from recipe.publishing.contents import contents
from recipe.run_folder import RunFolder

NAME = "me/reviews"
TOKENIZER = {"special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
SENT = {
    *("README.md", "config.json", "config.yaml", "model.safetensors", "report.json", "run.json"),
    *("sentence_bert_config.json", *TOKENIZER),
    *(f"onnx/{file}" for file in ("certificate.json", "config.json", "decision.json", "model.onnx", *TOKENIZER)),
    "onnx/model_quantized.onnx",
}


@pytest.fixture
def run(evaluated_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A certified run that holds more than that: a changed label with its review, mistakes, advice, own files."""
    run = copy_of(evaluated_run, tmp_path)
    certificate = json.loads(run.certificate.read_text())
    flip = {"label": "negative", "pytorch": {"label": "negative", "probability": 0.5}}
    certificate["variants"]["int8"]["flipped"] = [flip | {"review": ["a secret title", "a secret content"]}]
    certificate["command"] = f"python scripts/export_onnx.py --run '/home/me/own rows/{run.path.name}'"
    run.certificate.write_text(json.dumps(certificate))
    for file in ("report/mistakes.csv", "advice/to_label.csv", "onnx/notes.txt", "notes.txt", ".env"):
        (run.path / file).parent.mkdir(exist_ok=True)
        (run.path / file).write_text("a secret content")
    return run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub on which nothing is, and which this process may ask."""
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with LoopbackHub({}, root=tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        # Its sessions are those of an offline process otherwise.
        configure_http_backend()
        yield server
    monkeypatch.undo()
    configure_http_backend()


def publish(run: RunFolder, *flags: str, name: str = NAME) -> None:
    """What the script does."""
    load_script("publish").main(["--run", str(run.path), "--repo_id", name, *flags])


def read(content: Path | bytes) -> bytes:
    """A published file's bytes."""
    return content.read_bytes() if isinstance(content, Path) else content


def test_what_is_certified_is_sent_and_nothing_else(run: RunFolder) -> None:
    pictures = {f"report/{file}" for file in files_under(run.report_folder) if file.endswith(".png")}
    assert set(contents(run, NAME)) == SENT | pictures and len(pictures) > 3


def test_a_variant_that_is_not_certified_stays(run: RunFolder) -> None:
    certificate = json.loads(run.certificate.read_text())
    certificate["refused"]["int8"] = certificate["variants"].pop("int8")
    run.certificate.write_text(json.dumps(certificate))
    assert "onnx/model_quantized.onnx" not in contents(run, NAME)


def test_no_review_and_no_folder_of_this_machine_is_sent(
    run: RunFolder, reviews_folder: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    rows = load_dataset("parquet", data_dir=str(reviews_folder), cache_dir=str(tmp_path / "cache"))
    reviews = {text.encode() for split in rows.values() for text in split["content"] if len(text.split()) > 5}
    folders = [str(folder.parent).encode() for folder in (run.path, reviews_folder, tiny_bert, tmp_path, ROOT)]
    assert len(reviews) > 200 and any(folders[1] in path.read_bytes() for path in (run.record, run.config))
    for path, content in contents(run, NAME).items():
        sent = read(content)
        assert not [text for text in reviews if text in sent] and b"secret" not in sent, path
        assert not [folder for folder in folders if folder in sent], path


def test_a_measured_file_and_ones_own_files_are_named_without_their_folders(run: RunFolder) -> None:
    record, report = json.loads(run.record.read_text()), json.loads(run.report.read_text())
    own = {"file": "/home/me/mine.csv", "sha256": "0"}
    record["dataset"] = {"name": "/home/me/mine.csv and 1 more", "files": {"train": [own], "test": own}}
    record["weights"] = {"name": "google-bert/bert-base-uncased", "revision": "abc"}
    run.record.write_text(json.dumps(record))
    run.report.write_text(json.dumps(report | {"measured": {"files": [own], "seen": 0}}))
    sent = contents(run, NAME)
    found, measured = (json.loads(read(sent[name])) for name in ("run.json", "report.json"))
    named = {"file": "mine.csv", "sha256": "0"}
    assert found["dataset"] == {"name": "mine.csv and 1 more", "files": {"train": [named], "test": named}}
    assert found["weights"] == record["weights"] and measured["measured"]["files"] == [named]


def test_the_answers_to_single_reviews_stay(run: RunFolder) -> None:
    record = json.loads(run.record.read_text())
    refit = {"rows": 100, "f1": 0.9, "seconds": 1.5}
    run.record.write_text(json.dumps(record | {"refit": refit | {"logits": [[0.125, -0.5]]}}))
    assert json.loads(read(contents(run, NAME)["run.json"]))["refit"] == refit | {"logits": []}


def test_the_rest_of_report_certificate_and_settings_is_as_it_was(run: RunFolder) -> None:
    sent = contents(run, NAME)
    assert json.loads(read(sent["report.json"])) == json.loads(run.report.read_text())
    certificate, before = json.loads(read(sent["onnx/certificate.json"])), json.loads(run.certificate.read_text())
    assert certificate.pop("command") == f"python export_onnx.py --run {run.path.name}" and before.pop("command")
    assert before["variants"]["int8"]["flipped"][0].pop("review")
    assert certificate == before
    settings = yaml.safe_load(read(sent["config.yaml"]))
    assert settings["text_columns"] == ["content"] and settings["max_length"] == 32 and settings["seed"] == 42


def test_a_run_that_is_not_whole_is_refused(run: RunFolder, exported_run: RunFolder, tiny_run: RunFolder) -> None:
    for other, message in ((tiny_run, "run python scripts/export_onnx.py"), (exported_run, "scripts/evaluate.py")):
        with pytest.raises(UsageError, match=message):
            contents(other, NAME)
    for file, message in (
        ("onnx/model_quantized.onnx", "model_quantized.onnx is missing or damaged, it is not the file that was"),
        ("model.safetensors", "cannot read .*model.safetensors"),
        ("report.json", "report.json is damaged"),
        ("onnx/decision.json", "decision.json: .*; evaluate the run again"),
        ("README.md", "was not evaluated since its export, .*README.md is missing"),
    ):
        whole = (run.path / file).read_bytes()
        (run.path / file).write_bytes(whole[:-9])
        if file == "README.md":
            (run.path / file).unlink()
        with pytest.raises(UsageError, match=message):
            contents(run, NAME)
        (run.path / file).write_bytes(whole)


def test_the_first_publication_is_one_commit_and_the_next_needs_to_be_allowed(
    run: RunFolder, hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(run, "--private")
    folder, sent = hub.repositories["models", NAME], contents(run, NAME)
    assert files_under(folder) == set(sent) | {".gitattributes"} and hub.private == {NAME}
    assert all((folder / path).read_bytes() == read(content) for path, content in sent.items())
    assert len(hub.commits) == 1 and capsys.readouterr().out.count(f"{hub.endpoint}/{NAME}/commit/") == 1
    for file in ("onnx/model_fp16.onnx", "report/old.png", "merges.txt", "LICENSE", "examples/one.py"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("there")
    before = files_under(folder)
    with pytest.raises(UsageError, match=rf"{NAME} is on the Hub, with \d+ files: give --overwrite"):
        publish(run)
    assert len(hub.commits) == 1 and files_under(folder) == before
    publish(run, "--overwrite", "--private")
    assert files_under(folder) == set(sent) | {".gitattributes", "LICENSE", "examples/one.py"}, "somebody's own stay"
    gone = {path for kind, path in hub.commits[1] if kind == "deletedFile"}
    assert len(hub.commits) == 2 and gone == {"onnx/model_fp16.onnx", "report/old.png", "merges.txt"}


def test_a_public_repository_does_not_become_private_unasked(run: RunFolder, hub: LoopbackHub) -> None:
    publish(run)
    with pytest.raises(UsageError, match="is on the Hub and public: make it private"):
        publish(run, "--private", "--overwrite")
    assert len(hub.commits) == 1 and not hub.private


REFUSALS = {
    "/api/repos/create": [
        (401, "Invalid username or password."),
        (403, "You don't have the rights to create a model under the namespace 'me'"),
        (409, "You already created this model repo"),
    ],
    "/api/models/.*/preupload/main": [(403, "Forbidden: pass a token that may write")],
    "/.*/info/lfs/objects/batch": [(403, "Private repository storage limit reached")],
    "/api/models/.*/commit/main": [(412, "A commit has happened since"), (500, "Internal Error")],
}


@pytest.mark.parametrize(("path", "refusal"), [(path, one) for path, every in REFUSALS.items() for one in every])
def test_the_hubs_own_reason_is_one_line(
    path: str, refusal: tuple[int, str], run: RunFolder, hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refusing[path] = refusal
    with pytest.raises(UsageError) as caught:
        publish(run)
    status, reason = refusal
    assert str(caught.value) == f"the Hub refuses {NAME}: {status} {reason}"
    assert not hub.commits and capsys.readouterr().out == ""
    # An empty repository that a refusal has left is no obstacle.
    hub.refusing.clear()
    publish(run)
    assert len(hub.commits) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reviews", "'reviews' does not say whose it is on the Hub: give owner/reviews"),
        ("me/re views", "'me/re views' is no model's name on the Hub: "),
        ("me/my/reviews", "'me/my/reviews' is no model's name on the Hub: "),
    ],
)
def test_a_name_that_the_hub_cannot_have_is_refused_before_it_is_asked(
    name: str, message: str, run: RunFolder, hub: LoopbackHub
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        publish(run, name=name)
    assert not hub.requests


def test_without_a_token_a_connection_or_a_hub_nothing_is_tried(
    run: RunFolder, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UsageError, match=f"cannot reach the Hub at http://127.0.0.1:1 to send {NAME}"):
        publish(run)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(UsageError, match="no token for the Hub: `hf auth login`"):
        publish(run)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE=1 is set: unset it to publish"):
        publish(run)
    assert not hub.requests


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(
    run: RunFolder, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = files_under(run.path)
    publish(run, "--dry_run")
    *rows, total, last = (line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    listed = {path: int(size.replace(",", "")) for size, path in rows}
    assert listed == {path: len(read(content)) for path, content in contents(run, NAME).items()}
    assert int(total[0].replace(",", "")) == sum(listed.values()) and " ".join(last) == "Nothing was sent"
    assert not hub.requests and files_under(run.path) - {".lock"} == before - {".lock"}


FROM_THE_HUB = """
import json, sys
from huggingface_hub import hf_hub_download

card = open(hf_hub_download(sys.argv[1], "README.md"), encoding="utf-8").read()
answers = []
for code in (block.split("```")[0] for block in card.split("```python\\n")[1:]):
    *before, last = code.strip().splitlines()
    exec("\\n".join(before), names := {})
    answers.append(eval(last, names))
prediction, logits, labelled = answers
print(json.dumps([prediction[0], logits.tolist()[0], labelled[0]]))
"""


@pytest.mark.slow
def test_what_was_published_loads_from_the_hub_as_its_card_says(run: RunFolder, tmp_path: Path) -> None:
    """With the real client, in other processes; transformers, Optimum and this recipe each answer as the run does."""
    with LoopbackHub({}, root=tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        flags = ["--run", run.path, "--repo_id", NAME]
        sent = run_script("publish", *flags, cwd=tmp_path, HF_TOKEN="hf_ours", **environment)
        assert (sent.returncode, sent.stderr) == (0, "") and len(hub.commits) == 1
        loaded = subprocess.run(
            [sys.executable, "-c", FROM_THE_HUB, NAME],
            cwd=tmp_path,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert loaded.returncode == 0, loaded.stderr
    prediction, logits, labelled = json.loads(loaded.stdout.splitlines()[-1])
    classifier = OnnxClassifier.from_run(run.path)
    (expected,) = classifier(["a lovely film"])
    assert prediction == list(expected) and labelled["label"] == expected.label == "positive"
    assert logits == pytest.approx(classifier.logits(["a lovely film"])[0].tolist(), abs=1e-5)

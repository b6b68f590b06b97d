"""A model's folder that asks for code, kernels or other files is refused before transformers reads it."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from conftest import ROOT, copy_of, run_script
from loopback_hub import LoopbackHub
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from recipe.arguments.model import ModelArguments
from recipe.errors import UsageError
from recipe.inference.onnx import OnnxClassifier
from recipe.inference.optimum import OptimumClassifier
from recipe.inference.pytorch import TorchClassifier
from recipe.model.pretrained import find_pretrained, load_tokenizer, load_trained
from recipe.model.safety import TOKENIZERS, UNPICKLED_TOKENIZERS, is_unsafe_tokenizer, require_safe
from recipe.run_folder import RunFolder

LIGHTGLUE = {"model_type": "lightglue", "trust_remote_code": True}


def plant(folder: Path, marker: Path) -> Path:
    """A repository whose code, where it runs, makes a file."""
    folder.mkdir(parents=True)
    maps = {"AutoConfig": "planted.PlantedConfig", "AutoTokenizer": ["planted.PlantedTokenizer", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "planted", "auto_map": maps}))
    (folder / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from transformers import BertTokenizer, PretrainedConfig\n"
        "class PlantedConfig(PretrainedConfig):\n    model_type = 'planted'\n"
        "class PlantedTokenizer(BertTokenizer):\n    pass\n"
    )
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | changes))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "the planted code ran"


@pytest.fixture
def hostile(tmp_path: Path, marker: Path) -> dict[str, Any]:
    """A config.json that makes transformers 4.57 run the planted code."""
    planted = plant(tmp_path / "planted", marker)
    return LIGHTGLUE | {"keypoint_detector_config": {"model_type": "planted", "_name_or_path": str(planted)}}


@pytest.fixture
def weights(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny weights that a test may change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "weights"))


@pytest.mark.skipif(not transformers.__version__.startswith("4."), reason="transformers 5.5 does not run it")
def test_transformers_itself_runs_the_planted_code(hostile: dict[str, Any], weights: Path, marker: Path) -> None:
    # Without this the tests below would pass with a plant that cannot run.
    (weights / "config.json").write_text(json.dumps(hostile))
    AutoConfig.from_pretrained(weights)
    assert marker.exists()


def test_weights_to_start_from_run_no_code(hostile: dict[str, Any], weights: Path, marker: Path) -> None:
    (weights / "config.json").write_text(json.dumps(hostile))
    with pytest.raises(UsageError, match="'lightglue', which transformers has no classifier for"):
        find_pretrained(ModelArguments(str(weights)), 32)
    assert not marker.exists()


def test_a_run_that_was_handed_over_runs_no_code(
    hostile: dict[str, Any], tiny_run: RunFolder, marker: Path, tmp_path: Path
) -> None:
    run = copy_of(tiny_run, tmp_path)
    change_json(run.path / "config.json", **hostile)
    with pytest.raises(UsageError, match="lightglue"):
        TorchClassifier.from_run(run.path)
    change_json(run.path / "config.json", model_type="bert")
    with pytest.raises(UsageError, match=r"asks to run code \(trust_remote_code\)"):
        TorchClassifier.from_run(run.path)
    assert not marker.exists()


def test_a_tokenizer_of_its_own_code_is_not_loaded(weights: Path, marker: Path, tmp_path: Path) -> None:
    planted = plant(tmp_path / "planted", marker)
    shutil.copy(planted / "planted.py", weights)
    maps = {"AutoTokenizer": ["planted.PlantedTokenizer", None]}
    change_json(weights / "tokenizer_config.json", auto_map=maps, tokenizer_class="PlantedTokenizer")
    with pytest.raises(UsageError, match="names the tokenizer 'PlantedTokenizer'"):
        load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)
    assert not marker.exists()


def test_a_map_to_code_beside_a_known_model_is_ignored(weights: Path, marker: Path, tmp_path: Path) -> None:
    shutil.copy(plant(tmp_path / "planted", marker) / "planted.py", weights)
    change_json(weights / "config.json", auto_map={"AutoConfig": "planted.PlantedConfig"})
    change_json(weights / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.PlantedTokenizer", None]})
    assert load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)("a good film").input_ids
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": None}, "a model of type None"),
        ("config.json", {"model_type": "planted"}, "a model of type 'planted'"),
        ("config.json", {"deep": [{"trust_remote_code": True}]}, r"asks to run code \(deep.0.trust_remote_code\)"),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "a.B"}}}, r"names code .*\(text_config.auto_map\)"),
        ("config.json", {"text_config": {"_name_or_path": "own/er"}}, r"names code .*\(text_config._name_or_path\)"),
        ("config.json", {"_attn_implementation": "own/kernels"}, "asks for 'own/kernels' as _attn_implementation"),
        ("config.json", {"attn_implementation": "own/kernels:attn"}, "asks for 'own/kernels:attn'"),
        ("config.json", {"_attn_implementation_internal": {"text_config": "own/kernels"}}, "asks for 'own/kernels'"),
        ("config.json", {"_experts_implementation": "own/kernels"}, "asks for 'own/kernels'"),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "'configuration_files', so it names other"),
        ("config.json", {"transformers_weights": "../other.safetensors"}, "'transformers_weights', so it names other"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, "quantised weights"),
        ("tokenizer_config.json", {"trust_remote_code": True}, "tokenizer_config.json of .* asks to run code"),
        *(
            (
                file,
                {"tokenizer_class": name},
                f"names the tokenizer {re.escape(repr(name))}, which is none that is safe",
            )
            for file in ("config.json", "tokenizer_config.json")
            for name in (
                "BloomTokenizerFast",
                "TransfoXLTokenizer",
                "RagTokenizer",
                "DetrModel",
                "AutoConfig",
                5,
                ["x"],
            )
        ),
        ("config.json", {"model_type": "bloom"}, "a tokenizer that transformers unpickles"),
        ("config.json", {"model_type": ["bert"]}, r"a model of type \['bert'\]"),
        ("config.json", {"trust_remote_code": "yes"}, "asks to run code"),
        ("config.json", {"attribute_map": {"zz": "_attn_implementation"}, "zz": "own/kernels"}, "sets attribute_map"),
        ("config.json", {"text_config": {"__class__": "x"}}, "sets text_config.__class__"),
        ("config.json", {"get_text_config": 1}, "sets get_text_config"),
        ("config.json", {"label2id": {"a": {"_name_or_path": "own/er"}}}, r"\(label2id.a._name_or_path\)"),
        ("config.json", {"_attn_implementation": ["sdpa"]}, "asks for"),
        ("config.json", {"_attn_implementation": {"a": {"b": "own/kernels"}}}, "asks for"),
        ("model.safetensors.index.json", {"weight_map": ["a"]}, "which is no safetensors file"),
        ("adapter_config.json", {"base_model_name_or_path": "own/er"}, "an adapter for other weights"),
        ("model.safetensors.index.json", {"weight_map": {"a": "pytorch_model.bin"}}, "names 'pytorch_model.bin'"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../a.safetensors"}}, r"names '\.\./a.safetensors'"),
    ],
)
def test_what_could_lead_elsewhere_is_refused(weights: Path, file: str, changes: dict[str, Any], message: str) -> None:
    change_json(weights / file, **changes)
    with pytest.raises(UsageError, match=message):
        require_safe(weights)


@pytest.mark.parametrize("content", ["[]", "{", "\x00"])
def test_a_config_that_is_no_object_costs_one_line(weights: Path, content: str) -> None:
    (weights / "config.json").write_text(content)
    with pytest.raises(UsageError, match="config.json"):
        require_safe(weights)


def test_what_saved_configs_really_hold_is_accepted(weights: Path) -> None:
    names = {"_name_or_path": "bert-base-uncased", "auto_map": {"AutoConfig": "own/er--a.B"}}
    attention = {"_attn_implementation": "sdpa", "_attn_implementation_autoset": True, "trust_remote_code": False}
    labels = {"label2id": {"update": 0, "trust_remote_code": 1}, "id2label": {"0": "update", "1": "trust_remote_code"}}
    change_json(weights / "config.json", text_config={"_name_or_path": ""}, **names, **attention, **labels)
    require_safe(weights)


def test_a_tokenizer_that_reads_other_folders_is_not_loaded(
    weights: Path, marker: Path, hostile: dict[str, Any]
) -> None:
    change_json(weights / "config.json", question_encoder={"model_type": "bert"}, generator={"model_type": "bert"})
    inner = weights / "question_encoder_tokenizer"
    inner.mkdir()
    (inner / "config.json").write_text(json.dumps(hostile))
    (inner / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LightGlueConfig"}))
    (weights / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RagTokenizer"}))
    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(weights)
    assert marker.exists() or not transformers.__version__.startswith("4."), "the plant must be able to run"
    marker.unlink(missing_ok=True)
    with pytest.raises(UsageError, match="names the tokenizer 'RagTokenizer'"):
        load_tokenizer(find_pretrained(ModelArguments(str(weights)), 32), 32)
    assert not marker.exists()


def test_every_tokenizer_that_is_accepted_only_reads_its_own_files() -> None:
    for name in sorted(TOKENIZERS):
        found = getattr(transformers, name, None)
        if found is None or is_unsafe_tokenizer(name):
            continue
        with contextlib.suppress(ImportError):
            assert found.from_pretrained.__func__ is PreTrainedTokenizerBase.from_pretrained.__func__, name


def test_transformers_unpickles_no_other_tokenizer() -> None:
    models = Path(transformers.__file__).parent / "models"
    files = [file for file in models.rglob("tokenization_*.py") if "pickle.load" in file.read_text(encoding="utf-8")]
    found = {re.sub(r"\d|_", "", file.parent.name) for file in files}
    assert found <= set(UNPICKLED_TOKENIZERS), f"transformers {transformers.__version__} unpickles in more tokenizers"


@pytest.mark.slow
def test_the_command_line_says_it_in_one_line(hostile: dict[str, Any], weights: Path, marker: Path) -> None:
    (weights / "config.json").write_text(json.dumps(hostile | {"model_type": "bert"}))
    result = run_script("train", "--model_name_or_path", weights, "--output_dir", "run", cwd=weights.parent)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "asks to run code" in result.stderr
    assert not marker.exists() and not (weights.parent / "run").exists()


def test_a_checkpoint_and_an_exported_folder_run_no_code(
    hostile: dict[str, Any], exported_run: RunFolder, marker: Path, tmp_path: Path
) -> None:
    run = copy_of(exported_run, tmp_path)
    for folder in (next(run.path.glob("checkpoint-*")), run.onnx):
        change_json(folder / "config.json", **hostile)
    with pytest.raises(UsageError, match="lightglue"):
        load_trained(next(run.path.glob("checkpoint-*")))
    with pytest.raises(UsageError, match="lightglue"):
        OptimumClassifier(run.onnx, "fp32", "cpu", batch_tokens=512)
    assert len(OnnxClassifier.from_run(run.path)(["a good film"])) == 1, "it reads label names alone"
    assert not marker.exists()


READ = """
import sys
from pathlib import Path
from transformers import AutoConfig
from recipe.arguments.model import ModelArguments
from recipe.errors import UsageError
from recipe.model.pretrained import find_pretrained
for name in ("own/hostile", "own/bert", "own/code"):
    try:
        find_pretrained(ModelArguments(name), 32)
    except UsageError as error:
        print(error)
print(Path(sys.argv[1]).exists())
AutoConfig.from_pretrained("own/hostile")
"""


@pytest.mark.slow
def test_a_repository_on_the_hub_runs_no_code(tiny_bert: Path, marker: Path, tmp_path: Path) -> None:
    plant(tmp_path / "code", marker)
    for name, model_type in (("hostile", "lightglue"), ("bert", "bert")):
        weights = Path(shutil.copytree(tiny_bert, tmp_path / name))
        nested = {"model_type": "planted", "_name_or_path": "own/code"}
        changes = {"keypoint_detector_config": nested, "trust_remote_code": True, "model_type": model_type}
        change_json(weights / "config.json", **changes)
    names = ("hostile", "bert", "code")
    with LoopbackHub({("models", f"own/{name}"): tmp_path / name for name in names}) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

        command = [sys.executable, "-c", READ, str(marker)]
        said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120).stdout
    hostile, bert, code, ran = said.splitlines()
    assert "'lightglue', which transformers has no classifier for" in hostile
    assert "names code or a model inside it" in bert and "a model of type 'planted'" in code
    assert ran == "False"
    assert marker.exists() or not transformers.__version__.startswith("4."), "the plant must be able to run"

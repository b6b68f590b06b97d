"""A tiny BERT and separable reviews, both built in code, and what a real run of the recipe makes of them.

Fixtures import the rooms that they run: a test that needs none of them starts quickly, and beside any transformers.
"""

import gc
import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# Before any Hugging Face library is imported: these tests must not depend on a network being there, or not there.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Nor on the cores being free: threads that wait for each other spin otherwise, which beside other work makes the tiny
# run below take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.machine import silence_libraries
from recipe.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
POSITIVE, NEGATIVE = ["good", "great", "lovely"], ["bad", "awful", "poor"]
NEUTRAL = "the a film plot actor scene music story end was with and of this very camera".split()
ONNX_FILES = {
    *("certificate.json", "model.onnx", "model_quantized.onnx"),
    *("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
}
FEATURES = Features(
    {"label": ClassLabel(names=["negative", "positive"]), "title": Value("string"), "content": Value("string")}
)

silence_libraries()


def pytest_collection_finish() -> None:
    """Leave the imported libraries out of each garbage collection: Trainer asks for one per training, of 0.3 s."""
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT of 32 hidden units that knows the words above and reads 64 word pieces."""
    folder = tmp_path_factory.mktemp("weights") / "tiny_bert"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *POSITIVE, *NEGATIVE, *NEUTRAL]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        initializer_range=0.1,
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_without_dropout(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with nothing left to chance while it is trained."""
    folder = tmp_path_factory.mktemp("weights") / "no_dropout"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((tiny_bert / "config.json").read_text())
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config | no_dropout))
    return folder


def separable_reviews(rows: int, seed: int) -> Dataset:
    """Reviews whose one telling word decides the label, half of them positive."""
    draw = random.Random(seed)
    labels = [row % 2 for row in range(rows)]
    texts = []
    for label in labels:
        words = draw.choices(NEUTRAL, k=draw.randint(2, 20))
        words.insert(draw.randrange(len(words)), draw.choice((NEGATIVE, POSITIVE)[label]))
        texts.append(" ".join(words))
    columns = {"label": labels, "title": [text.split()[0] for text in texts], "content": texts}
    return Dataset.from_dict(columns, features=FEATURES)


def write_dataset(folder: Path, **splits: Dataset) -> Path:
    """Lay splits out as a repository on the Hub does."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="session")
def reviews_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 train and 60 test reviews in the Hub's own layout."""
    folder = tmp_path_factory.mktemp("reviews") / "separable"
    return write_dataset(folder, train=separable_reviews(300, seed=1), test=separable_reviews(60, seed=2))


@pytest.fixture(scope="session")
def tiny_flags(tiny_bert: Path, reviews_folder: Path) -> list[str]:
    """The flags of a run that learns the separable reviews in seconds."""
    words = f"""--model_name_or_path {tiny_bert} --dataset_name {reviews_folder} --max_train_samples -1
        --max_test_samples -1 --max_length 32 --learning_rate 3e-3 --num_train_epochs 4
        --global_batch_size 8 --contrast_labels False --refit False --use_cpu --disable_tqdm True"""
    return words.split()


@pytest.fixture
def tiny_arguments(tiny_flags: list[str], tmp_path: Path) -> Callable[..., Arguments]:
    """Parse the tiny run's flags, with more of them, into a folder of its own."""
    return lambda *more: parse_arguments([*tiny_flags, "--output_dir", str(tmp_path / "run"), *more])


@pytest.fixture(scope="session")
def tiny_run(tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run; not to be changed."""
    from recipe.training import train

    return train(parse_arguments([*tiny_flags, "--output_dir", str(tmp_path_factory.mktemp("runs") / "tiny")]))


@pytest.fixture(scope="session")
def exported_run(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The finished run, exported; not to be changed: a test that writes takes a `copy_of` it."""
    from recipe.export import export

    run = copy_of(tiny_run, tmp_path_factory.mktemp("exported"))
    # It has 60 validation reviews, too few to tell a small loss of F1 from none.
    export(run, max_f1_drop=0.2)
    return run


@pytest.fixture(scope="session")
def evaluated_run(exported_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The exported run, evaluated; not to be changed."""
    from recipe.evaluation import evaluate_run

    run = copy_of(exported_run, tmp_path_factory.mktemp("evaluated"))
    evaluate_run(run)
    return run


@pytest.fixture
def reads_of_test_rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attributes of a test split that were read since its reviews were loaded; sizes and hashes are no reads."""
    from recipe.data import reviews

    reads: list[str] = []

    class Watched(reviews.Split):
        """A split that tells."""

        def __getattribute__(self, name: str) -> Any:
            if name in ("rows", "texts", "labels", "column", "take", "spread", "where"):
                reads.append(name)
            return super().__getattribute__(name)

        def __len__(self) -> int:
            return len(self.keys)

    load = reviews.load_reviews

    def watched(*args: Any, **settings: Any) -> reviews.Reviews:
        found = load(*args, **settings)
        if test := found.splits.get("test"):
            digest = test.sha256
            found.splits["test"] = type("Test", (Watched,), {"sha256": digest})(**vars(test))
        return found

    for module in list(sys.modules.values()):
        if getattr(module, "load_reviews", None) is load:
            monkeypatch.setattr(module, "load_reviews", watched)
    return reads


def copy_of(run: RunFolder, folder: Path) -> RunFolder:
    """A copy of a run, in a folder, that a test may change."""
    return RunFolder(shutil.copytree(run.path, folder / "run"))


def holds_in_a_forked_child(check: Callable[[], bool]) -> bool:
    """Whether a check holds in a forked process, to which nothing is pickled on the way, and which ends well."""
    child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(not check()))
    child.start()
    child.join(timeout=60)
    alive = child.is_alive()
    child.kill()
    return not alive and child.exitcode == 0


def load_script(name: str) -> ModuleType:
    """Import `scripts/NAME.py` under a name that hides nothing, and return the module whose `main` it runs."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sys.modules.get(module.main.__module__, module)


def run_script(
    name: str,
    *argv: str | Path,
    cwd: Path,
    stdin: str | None = None,
    launcher: tuple[str, ...] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run `scripts/NAME.py` as a user would, from another working directory."""
    command = [*(launcher or (sys.executable,)), str(ROOT / "scripts" / f"{name}.py"), *map(str, argv)]
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, text=True, env=os.environ | environment, timeout=300
    )


def change_weights(run: RunFolder, name: str, value: float) -> None:
    """Set one tensor of the trained model to a value."""
    weights = load_file(run.path / "model.safetensors")
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, run.path / "model.safetensors", metadata={"format": "pt"})


def files_under(folder: Path) -> set[str]:
    """Every file below a folder, by its path from there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights in the folder of a run or a checkpoint, by name."""
    return load_file(folder / "model.safetensors")


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    """Whether two runs kept the same weights, to the bit."""
    ours, theirs = weights_of(one.path), weights_of(other.path)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

"""The private names of transformers that training relies on: each test names what changed when an upgrade breaks it."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import ROOT
from transformers import Trainer, TrainerCallback

from recipe.arguments.parser import Arguments
from recipe.arguments.training import TrainingArguments

VERSION = f"transformers {transformers.__version__}"
CALLED = {"_save_checkpoint"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def private_names_of_trainer() -> set[str]:
    """Every private method and attribute of Trainer."""
    attributes = {
        node.attr for node in ast.walk(ast.parse(inspect.getsource(Trainer))) if isinstance(node, ast.Attribute)
    }
    return {name for name in {*attributes, *dir(Trainer)} if is_private(name)}


def private_uses(source: str) -> Iterator[tuple[str, str]]:
    """Each private name that a module overrides in a class, or reads from an object, and which of the two."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            yield from (("overrides", part.name) for part in node.body if isinstance(part, ast.FunctionDef))
        elif isinstance(node, ast.Attribute):
            yield "reads", node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # getattr(trainer, "_name") and setattr.
            yield "names", node.value


def trainer_names(source: str) -> set[tuple[str, str]]:
    """The uses in a module of what is private to Trainer."""
    known = private_names_of_trainer()
    return {(use, name) for use, name in private_uses(source) if name in known}


def test_training_uses_one_private_name_of_trainer() -> None:
    found = set()
    for file in (ROOT / "recipe" / "training").glob("*.py"):
        found |= trainer_names(file.read_text(encoding="utf-8"))
    assert found == {("reads", name) for name in CALLED}, "find a public way, or argue for it beside the other"


def test_the_scan_sees_what_it_guards() -> None:
    source = """
        class Mine(Trainer):
            def _evaluate(self, trial):
                return getattr(self, "_load_rng_state")

            def train(self):
                super()._inner_training_loop()
                self._train_batch_size = 3
    """
    found = trainer_names(textwrap.dedent(source))
    assert found == {
        ("overrides", "_evaluate"),
        ("names", "_load_rng_state"),
        ("reads", "_inner_training_loop"),
        ("reads", "_train_batch_size"),
    }


def test_save_checkpoint_is_called_as_trainer_calls_it() -> None:
    parameters = list(inspect.signature(Trainer._save_checkpoint).parameters)
    assert parameters == ["self", "model", "trial"], f"{VERSION} changed the parameters of Trainer._save_checkpoint"
    tree = ast.parse(textwrap.dedent(inspect.getsource(Trainer._maybe_log_save_evaluate)))
    blocks = [node.body for node in ast.walk(tree) if isinstance(node, ast.If)]
    saved = [[ast.unparse(line) for line in block] for block in blocks if "_save_checkpoint" in ast.unparse(block[0])]
    assert saved == [
        [
            "self._save_checkpoint(model, trial)",
            "self.control = self.callback_handler.on_save(self.args, self.state, self.control)",
        ]
    ], f"{VERSION} changed how Trainer saves a checkpoint and then calls on_save"


def test_save_checkpoint_writes_all_of_a_checkpoint_and_leaves_on_save_to_its_caller(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    # Not above: where an upgrade breaks this import, the other tests still say what it changed.
    from recipe.training.job import prepare

    trainer = prepare(tiny_arguments("--max_train_samples", "20", "--num_train_epochs", "1")).trainer
    trainer.train()
    events: list[str] = []

    class Watch(TrainerCallback):
        def on_save(self, *args: Any, **kwargs: Any) -> None:
            events.append("on_save")

    trainer.add_callback(Watch())
    trainer.state.global_step = 99
    trainer._save_checkpoint(trainer.model, trial=None)
    assert events == [], f"{VERSION} changed Trainer._save_checkpoint: it calls on_save itself"
    written = {path.name for path in Path(str(trainer.args.output_dir), "checkpoint-99").iterdir()}
    needed = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"}
    assert needed <= written, f"{VERSION} changed what Trainer._save_checkpoint writes: {needed - written} is missing"


def test_trainer_still_loads_the_optimiser_onto_the_device_of_its_arguments() -> None:
    """Otherwise `TrainingArguments.device` is there for nothing."""
    source = inspect.getsource(Trainer._load_optimizer_and_scheduler)
    assert "map_location = self.args.device" in source, f"{VERSION} changed where the optimiser is loaded: see `device`"
    with pytest.raises(RuntimeError, match="cpu:0|location"):
        torch.serialization.default_restore_location(torch.UntypedStorage(1), "cpu:0")
    assert TrainingArguments(output_dir="unused", use_cpu=True).device == torch.device("cpu")

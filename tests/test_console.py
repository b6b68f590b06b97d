"""The command `review-classifier`: the scripts' work under shorter names, from an installed package."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load_script, run_script

from recipe.commands.console import COMMANDS

CONSOLE = [sys.executable, "-m", "recipe.commands.console"]


def console(*argv: str, cwd: Path, command: list[str] = CONSOLE) -> subprocess.CompletedProcess[str]:
    """Run the command as from an installed package."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *argv], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_each_script_has_its_command_and_does_nothing_more() -> None:
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert set(COMMANDS.values()) == scripts
    assert {"train", "export", "evaluate", "predict", "publish"} <= set(COMMANDS)
    for name in scripts:
        assert load_script(name).__name__ == f"recipe.commands.{name}"
        body = ast.parse((ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8")).body
        assert not [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)], name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "review-classifier: error: give a command: train, export, evaluate, "),
        (["expot"], "review-classifier: error: unknown command 'expot'; did you mean 'export'?; there are train, "),
        (["export", "--run", "nowhere"], "review-classifier export: error: no run at nowhere "),
        (["evaluate", "--rum", "x"], "review-classifier evaluate: error: unknown flag '--rum'; did you mean '--run'?"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_command(argv: list[str], message: str, tmp_path: Path) -> None:
    found = console(*argv, cwd=tmp_path)
    (line,) = found.stderr.splitlines()
    assert (found.returncode, found.stdout) == (2, "") and line.startswith(message)


def test_help_lists_the_commands_and_each_has_its_script_s(tmp_path: Path) -> None:
    assert all(name in console("--help", cwd=tmp_path).stdout for name in COMMANDS)
    said, script = console("export", "--help", cwd=tmp_path), run_script("export_onnx", "--help", cwd=tmp_path)
    assert said.stdout.startswith("usage: review-classifier export [-h]") and (said.returncode, said.stderr) == (0, "")
    # The usage is indented by the command's own length.
    assert said.stdout.split("\n\n", 1)[1] == script.stdout.split("\n\n", 1)[1]


@pytest.mark.slow
def test_a_wheel_brings_the_command_and_no_scripts(tmp_path: Path) -> None:
    """Built and installed into a folder of its own, beside the libraries that are here."""
    build = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    source = tmp_path / "source"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "recipe"):
        source.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    subprocess.run([*build, "--target", tmp_path / "site", source], check=True, timeout=200)
    assert not (tmp_path / "site" / "scripts").exists()
    program = "import sys; sys.path.insert(0, 'site'); from recipe.commands import console; console.main()"
    found = console("publish", "--help", cwd=tmp_path, command=[sys.executable, "-c", program])
    assert found.returncode == 0 and found.stdout.startswith("usage: review-classifier publish")
    stub = (tmp_path / "site" / "bin" / "review-classifier").read_text(encoding="utf-8")
    assert "from recipe.commands.console import main" in stub


@pytest.mark.slow
def test_two_launched_processes_train_through_the_command(tiny_flags: list[str], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml")]
    flags = ["train", *tiny_flags, "--num_train_epochs", "1", "--output_dir", "run"]
    found = console(*flags, cwd=tmp_path, command=[*launch, "-m", "recipe.commands.console"])
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "run" / "run.json").is_file()

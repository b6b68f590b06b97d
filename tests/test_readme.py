"""Every command in the README is one that the real scripts take."""

import configparser
import re
import shlex

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from conftest import ROOT, load_script

from recipe.arguments.parser import parse_arguments

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The commands in the README's shell blocks: `&&` and pipes split, continuations joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|(?<!\d)\|", line.split("  #")[0])]
    return [part for part in parts if re.match(r"(?:python|accelerate|pip|pytest|torchrun)\b", part)]


def test_the_readme_shows_every_script_and_both_set_up_commands() -> None:
    text = "\n".join(commands())
    for name in ("train", "export_onnx", "evaluate", "predict", "benchmark", "readme_figures"):
        assert f"scripts/{name}.py" in text
    assert 'pip install -e ".[quickstart]" && accelerate launch scripts/train.py' in README
    assert 'pip install -e ".[test]" && pytest' in README
    assert README.index('pip install -e ".[quickstart]"') < README.index('pip install -e ".[test]"')


@pytest.mark.parametrize("command", commands())
def test_a_command_in_the_readme_is_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in shlex.split(command.split("<")[0].split(">")[0]) if word]
    if words[0] == "pip":
        extra = re.search(r"\[(\w+)\]", command)
        setup = configparser.RawConfigParser()
        setup.read(ROOT / "setup.cfg")
        assert extra and extra[1] in setup["options.extras_require"]
    elif words[0] == "accelerate":
        launched = launch_command_parser().parse_args(words[2:])
        # What `accelerate launch` itself makes of it, before it starts a process.
        monkeypatch.chdir(ROOT)
        _validate_launch_command(launched)
        check_script(launched.training_script, launched.training_script_args)
    elif words[0] == "python":
        check_script(words[1], words[2:])
    elif words[0] == "torchrun":
        # It would take --run for its own --run-path.
        script = words.index("--") + 1
        check_script(words[script], words[script + 1 :])
    else:
        assert words == ["pytest"]


def check_script(path: str, argv: list[str]) -> None:
    """Parse a script's arguments with its own parser."""
    assert (ROOT / path).is_file()
    name = path.removeprefix("scripts/").removesuffix(".py")
    if name == "train":
        parse_arguments(argv)
    else:
        load_script(name).parser().parse_known_flags(argv)

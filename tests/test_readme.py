"""The README and docs/: every command is one that the real scripts take, every link leads somewhere."""

import ast
import configparser
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands import launch
from conftest import ROOT, load_script

from recipe.arguments.parser import parse_arguments
from recipe.run_folder import RunFolder

README = ROOT / "README.md"
PAGES = {str(page.relative_to(ROOT)): page for page in (README, *sorted((ROOT / "docs").rglob("*.md")))}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
SETUP = configparser.RawConfigParser()
SETUP.read(ROOT / "setup.cfg")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|mnt|opt|private|root|scratch|srv|tmp|Users|usr|var|work)/|[A-Z]:\\")


def blocks(text: str, language: str) -> list[str]:
    """The contents of a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands in a page's shell blocks: `&&` and pipes split, continuations joined, comments left out."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|(?<!\d)\|", re.split(r"(?:^|\s)#", line)[0])]
    return [part for part in parts if part]


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures, code left out."""
    prose = re.sub(r"^```.*?^```$|<!--.*?-->|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r"(?:src|href)=[\"']([^\"']+)", prose)


def anchors(text: str) -> set[str]:
    """The names that a page's headings have in a link, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(name: str, link: str) -> str | None:
    """What is wrong with a link of a page; `None` if it leads somewhere, or out of the repository."""
    if re.match(r"https?://|mailto:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (PAGES[name].parent / path).resolve() if path else PAGES[name]
    if not target.is_relative_to(ROOT) or not target.exists():
        return f"{name}: no {link}"
    if anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
        return f"{name}: no heading for {link}"
    return None


EVERY_COMMAND = [pytest.param(command, id=f"{name}: {command}") for name in TEXTS for command in commands(TEXTS[name])]


def test_the_first_two_shell_blocks_are_the_quickstart_and_the_tests() -> None:
    quickstart, tests = blocks(TEXTS["README.md"], "sh")[:2]
    assert [line.split("  #")[0] for line in quickstart.splitlines()] == [
        'pip install -e ".[quickstart]" && accelerate launch scripts/train.py',
        "python scripts/export_onnx.py",
        "python scripts/evaluate.py",
        'python scripts/predict.py "A warm, funny film with a wonderful cast."',
    ]
    assert tests == 'pip install -e ".[test]" && pytest -n auto\n'


def test_the_readme_is_short_and_answers_first() -> None:
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 160
    first = "\n".join(lines[:60])
    for answer in ("Rotten Tomatoes", "Amazon Polarity", "scripts/train.py", "--train_file mine.csv", "OnnxClassifier"):
        assert answer in first
    assert first.count("\n```") % 2 == 0, "line 60 cuts no example in two"


def test_the_pages_show_every_script() -> None:
    text = "\n".join(command for page in TEXTS.values() for command in commands(page))
    assert set(re.findall(r"scripts/(\w+)\.py", text)) == {path.stem for path in (ROOT / "scripts").glob("*.py")}


def test_the_readme_names_every_room() -> None:
    rooms = {path.name for path in (ROOT / "recipe").iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert set(re.findall(r"^[├└]── (\w+)/ {2}.* {2}\S", TEXTS["README.md"], flags=re.MULTILINE)) >= rooms


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_command_is_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(re.split(r"\s[<>]\s", command)[0])
    if words[0] == "pip":
        extra = re.fullmatch(r"\.\[(\w+)\]", words[-1])
        assert words[:3] == ["pip", "install", "-e"] and extra and extra[1] in SETUP["options.extras_require"]
    elif words[0] == "accelerate":
        # As far as `accelerate launch` gets before it starts a process.
        launched: list[object] = []
        for launcher in ("simple_launcher", "multi_gpu_launcher"):
            monkeypatch.setattr(launch, launcher, launched.append)
        monkeypatch.chdir(ROOT)
        asked = launch.launch_command_parser().parse_args(words[2:])
        launch.launch_command(asked)
        assert words[1] == "launch" and len(launched) == 1
        check_script(asked.training_script, asked.training_script_args)
    elif words[0] == "python":
        check_script(words[1], words[2:])
    elif words[0] == "torchrun":
        # It would take --run for its own --run-path.
        script = words.index("--") + 1
        check_script(words[script], words[script + 1 :])
    elif words[0] == "pytest":
        marks = [line.split(":")[0] for line in SETUP["tool:pytest"]["markers"].split("\n") if line]
        assert words[1:] in (all_cores := ["-n", "auto"], *([*all_cores, "-m", f"not {mark}"] for mark in marks))
    else:
        assert words in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"])


def check_script(path: str, argv: list[str]) -> None:
    """Parse a script's arguments with its own parser."""
    assert (ROOT / path).is_file()
    name = Path(path).stem
    if name == "train":
        parse_arguments(argv)
    else:
        load_script(name).parser().parse_known_flags(argv)


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_page_imports_of_the_recipe_is_there(name: str) -> None:
    for block in blocks(TEXTS[name], "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "recipe":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_and_picture_of_a_page_is_there(name: str) -> None:
    assert [found for link in links(TEXTS[name]) if (found := broken(name, link))] == []


@pytest.mark.parametrize("name", TEXTS)
def test_no_line_names_a_path_of_some_machine(name: str) -> None:
    assert [line for line in TEXTS[name].splitlines() if MACHINE_PATH.search(line)] == []


def test_every_picture_is_shown() -> None:
    shown = {(PAGES[name].parent / link).resolve() for name, text in TEXTS.items() for link in links(text)}
    assert {path.resolve() for path in (ROOT / "docs").rglob("*.png")} <= shown


@pytest.mark.slow
def test_the_evaluation_page_names_every_key_of_a_report(evaluated_run: RunFolder) -> None:
    report = json.loads(evaluated_run.report.read_text(encoding="utf-8"))
    keys = {*report, *(key for figures in report["variants"].values() for key in figures)}
    assert {key for key in keys if f"`{key}`" not in TEXTS["docs/evaluation.md"]} == set()


def test_the_reader_of_pages_sees_what_it_guards() -> None:
    page = "# A b: c\n\n```sh\nx \\\n  y && z  # w\n```\n\n[a](docs/data.md#labels) ![b](no.png) `[c](d)`\n"
    assert commands(page) == ["x    y", "z"]
    assert (links(page), anchors(page)) == (["docs/data.md#labels", "no.png"], {"a-b-c"})
    assert [
        broken("README.md", link) for link in ("docs/data.md#labels", "https://a.b", "no.png", "docs/data.md#no")
    ] == [
        *(None, None),
        *("README.md: no no.png", "README.md: no heading for docs/data.md#no"),
    ]
    assert [bool(MACHINE_PATH.search(text)) for text in ("in /tmp/a", "~/work/a", "../shared/a", "C:\\a")] == [
        *(True, False),
        *(False, True),
    ]

"""The rooms of `recipe/`: imports point one way, there is no cycle, and what promises to be light is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

# From the top down: a room imports those below it, never one above.
FLOORS = (
    "commands",
    "publishing",
    "benchmarks",
    "advice",
    "tuning",
    "comparison",
    "evaluation",
    "export",
    "scoring",
    "training",
    "inference",
    "data",
    "model",
    "arguments",
    "metrics",
    "run_folder",
    "quickstart",
    "hub",
    "pictures",
    "files",
    "command_line",
    "text_table",
    "machine",
    "errors",
    "",
)
HEAVY = {"torch", "transformers", "datasets", "pyarrow", "sklearn", "scipy", "matplotlib", "optimum"}
LIGHT = {
    # A backend's memory is that of its own libraries.
    "recipe.benchmarks.backends": HEAVY,
    "recipe.files.text_rows": HEAVY | {"numpy"},
    "recipe.inference": HEAVY,
    "recipe.command_line": HEAVY | {"numpy"},
    "recipe.commands.console": HEAVY | {"numpy"},
    "recipe.run_folder": HEAVY | {"numpy"},
    "recipe.metrics.scores": {"torch", "transformers", "datasets", "matplotlib", "optimum"},
}


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    files = package.rglob("*.py")
    return {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in files}


def for_types_alone(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`, whose imports never run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(file: Path, known: dict[str, Path], types: bool = True) -> Iterator[str]:
    """The modules among `known` that a file imports, wherever in it; without `types`, only imports that run."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    unwanted = [] if types else [node for node in ast.walk(tree) if for_types_alone(node)]
    skipped = {id(child) for node in unwanted for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A name of a package may be a module of it; else the import is of the package's face.
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for name in names:
            if name in known:
                yield name
            elif f"{name}.__init__" in known and not any(other.startswith(f"{name}.") for other in names):
                yield f"{name}.__init__"
            elif f"{name}.__init__" in known and not all(other in known for other in names if other != name):
                yield f"{name}.__init__"


def room(module: str) -> str:
    """The room of a dotted name: the part after `recipe`, nothing for `recipe` itself."""
    part = module.split(".")[1]
    return "" if part == "__init__" else part


def upward(known: dict[str, Path]) -> list[str]:
    """A line for each import that points from a room to one that is not below it."""
    arrows = {(module, other) for module, file in known.items() for other in imports(file, known)}
    return sorted(
        f"{module} imports {other}"
        for module, other in arrows
        if room(module) != room(other) and FLOORS.index(room(module)) > FLOORS.index(room(other))
    )


def test_imports_point_down() -> None:
    known = modules(ROOT / "recipe")
    assert {room(module) for module in known} == set(FLOORS), "every room has its floor"
    assert not upward(known)


def test_no_module_imports_itself_through_others() -> None:
    known = modules(ROOT / "recipe")
    TopologicalSorter({module: set(imports(file, known, types=False)) for module, file in known.items()}).prepare()


def test_the_reader_of_imports_sees_what_it_guards(tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "errors.py": "def late():\n    from recipe.files import read\n",
        "files/__init__.py": "from recipe.files.a import read\n",
        "files/a.py": "from recipe.files import b\n",
        "files/b.py": "import recipe.files.a\n",
    }
    for name, text in files.items():
        (tmp_path / "recipe" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recipe" / name).write_text(text)
    known = modules(tmp_path / "recipe")
    assert upward(known) == ["recipe.errors imports recipe.files.__init__"]
    with pytest.raises(CycleError):
        TopologicalSorter({module: set(imports(file, known)) for module, file in known.items()}).prepare()


# scikit-learn, which the scores may import, takes a second.
@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=pytest.mark.slow if "sklearn" not in LIGHT[name] else ()) for name in LIGHT]
)
def test_a_light_room_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({sorted(LIGHT[module])})))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout.strip()) == (0, ""), found.stderr


def test_the_top_is_small() -> None:
    assert len(list((ROOT / "recipe").glob("*.py"))) <= 8

"""Every library that is imported is declared, with a reason for its bounds."""

import ast
import re
import sys
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def holders() -> dict[str, set[str]]:
    """Return the installed distributions by the modules and packages that they hold.

    `importlib.metadata.packages_distributions` misses scikit-learn and others on Python 3.10.
    """
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        # Once for all files of it: each look at `metadata` reads and parses its file.
        name = canonicalize_name(distribution.metadata["Name"])
        for line in (distribution.read_text("RECORD") or "").splitlines():
            # `package/module.py,sha256,size`; the object for each file that `files` makes takes many times as long.
            found.setdefault(re.split("[/.,]", line)[0], set()).add(name)
    return found


def sections() -> ConfigParser:
    """Return setup.cfg."""
    config = ConfigParser(comment_prefixes="#")
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def declared(lines: str) -> dict[str, Requirement]:
    """Return requirements by their distribution's name."""
    requirements = [Requirement(line) for line in lines.split("\n") if line.strip()]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


HOLDERS = holders()
REQUIRED = declared(sections()["options"]["install_requires"])
EXTRAS = {name: declared(lines) for name, lines in sections()["options.extras_require"].items()}
# Extras that the tests need.
TESTED = ("test", "quickstart", "advise", "tune")
DECLARED = {*REQUIRED, *EXTRAS["advise"], *EXTRAS["tune"], *EXTRAS["ray"]}


def imported(*files: Path) -> dict[str, set[str]]:
    """Return the distributions that may hold each third-party module which the files import, wherever in them."""
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {"recipe", "scripts"}
    # A module that is not installed here, is looked for under its own name.
    return {module: HOLDERS.get(module, {canonicalize_name(module)}) for module in foreign}


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below folders of the repository."""
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def test_each_imported_library_is_declared() -> None:
    for file in python_files("recipe", "scripts"):
        missing = {module for module, holders in imported(file).items() if not holders & DECLARED}
        assert not missing, f"{file.relative_to(ROOT)} imports {missing}: declare them in setup.cfg"


def reasons() -> dict[str, str]:
    """Return the comment right above each required library in setup.cfg."""
    section = (ROOT / "setup.cfg").read_text(encoding="utf-8").split("install_requires =\n")[1].split("\n\n")[0]
    found, comment = {}, ""
    for line in map(str.strip, section.splitlines()):
        if line.startswith("#"):
            comment += line
        else:
            found[canonicalize_name(Requirement(line).name)], comment = comment, ""
    return found


def test_each_bound_has_a_reason_above_it() -> None:
    assert set(reasons()) == set(REQUIRED) and all(reasons().values()), reasons()


def test_each_declared_library_is_imported_or_says_why_not() -> None:
    used = set().union(*imported(*python_files("recipe", "scripts")).values())
    unused = {name for name, reason in reasons().items() if name not in used and "Not imported here" not in reason}
    assert not unused, f"nothing imports {unused}: remove them from setup.cfg, or say there what needs them"


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_each_library_is_bounded_on_both_sides(name: str) -> None:
    operators = {specifier.operator for specifier in REQUIRED[name].specifier}
    assert ">=" in operators and operators & {"<", "<="}


def test_the_versions_that_were_seen_to_work_lie_within_the_bounds() -> None:
    text = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8")
    pinned = declared("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    for name, requirement in REQUIRED.items() | set().union(*(EXTRAS[extra].items() for extra in TESTED)):
        if name != "review-classifier-recipe":
            (pin,) = pinned[name].specifier
            assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{name}: {pin} {requirement}"


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("import os\nfrom . import here\n\ndef f():\n    from numpy.linalg import norm\n")
    assert imported(tmp_path / "late.py") == {"numpy": {"numpy"}}

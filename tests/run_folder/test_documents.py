"""run.json and certificate.json come back as they were written, and a damaged one is named in one line."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_of

from recipe.errors import UsageError
from recipe.run_folder import Certificate, RunFolder, RunRecord
from recipe.run_folder.document import Document

READERS = {"run.json": RunFolder.read_record, "onnx/certificate.json": RunFolder.read_certificate}


@pytest.fixture
def run(exported_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the exported run that a test may change."""
    return copy_of(exported_run, tmp_path)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below a JSON value, through the first of each list."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(children)[: None if isinstance(content, dict) else 1]:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of a JSON object with another value at a path; without that key if the value is `...`."""
    whole = copy.deepcopy(content)
    holder: Any = whole
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return whole


@pytest.mark.parametrize("name", READERS)
def test_a_document_comes_back_as_it_was_written(name: str, exported_run: RunFolder) -> None:
    document = READERS[name](exported_run)
    assert document.to_json() == json.loads((exported_run.path / name).read_text(encoding="utf-8"))
    assert type(document).from_json(json.loads(json.dumps(document.to_json())), name) == document


def test_a_certificate_without_objections_is_read(exported_run: RunFolder) -> None:
    content = exported_run.read_certificate().to_json()
    earlier = changed(content, ("variants", "fp32", "objection"), ...)
    assert Certificate.from_json(earlier, "certificate.json").to_json() == content


def test_a_whole_number_may_be_written_without_a_point(exported_run: RunFolder) -> None:
    content = changed(exported_run.read_record().to_json(), ("best", "f1"), 1)
    found = RunRecord.from_json(content, "run.json").best.f1
    assert found == 1 and isinstance(found, float)


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("run.json", ("config",), ..., "it has no 'config'"),
        ("run.json", ("seed",), 1.5, "'seed' has the wrong type"),
        ("run.json", ("best",), 5, "'best' has the wrong type"),
        ("run.json", ("epochs", 0, "f1"), ..., "it has no 'epochs.f1'"),
        ("run.json", ("epochs", 0, "f1"), "0.5", "'epochs.f1' has the wrong type"),
        ("onnx/certificate.json", ("target",), None, "'target' has the wrong type"),
        ("onnx/certificate.json", ("variants",), {}, "it has no variants"),
        ("onnx/certificate.json", ("variants", "fp32"), "a\nb", "'variants' has the wrong type"),
        ("onnx/certificate.json", ("variants", "int8", "sha256"), ..., "it has no 'variants.sha256'"),
        ("onnx/certificate.json", ("variants", "int8", "alone"), [1], "'variants.alone' has the wrong type"),
    ],
)
def test_a_damaged_place_is_named(name: str, path: tuple[Any, ...], value: Any, message: str, run: RunFolder) -> None:
    content = json.loads((run.path / name).read_text(encoding="utf-8"))
    (run.path / name).write_text(json.dumps(changed(content, path, value)), encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        READERS[name](run)
    assert str(raised.value).startswith(f"{run.path / name} is damaged: {message}")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\ud800"])
def test_a_file_that_holds_no_object_is_named(name: str, content: str, run: RunFolder) -> None:
    (run.path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError) as raised:
        READERS[name](run)
    assert str(raised.value).startswith(f"{run.path / name} is damaged: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", READERS)
def test_any_other_value_is_read_or_refused_in_one_line(name: str, exported_run: RunFolder) -> None:
    kind: type[Document] = type(READERS[name](exported_run))
    content = json.loads((exported_run.path / name).read_text(encoding="utf-8"))
    refused = 0
    for path in places(content):
        for value in (..., None, True, 1, 1.5, "a\nb", [], [1], [{}], {}, {"a": 1}, {"a": "b"}):
            try:
                kind.from_json(changed(content, path, value), name)
            except UsageError as error:
                refused += 1
                assert str(error).startswith(f"{name} is damaged: ") and "\n" not in str(error)
    assert refused > 100

"""Several files are read as if they were one, and every message names the file it is about."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.arguments.parser import Arguments, parse_arguments
from recipe.data.own_files import read_files
from recipe.data.reviews import load_reviews
from recipe.files.atomic import file_sha256
from recipe.files.parts import Place, find_parts
from recipe.files.readers import TextReviewFile


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three parts of 20 rows, and what Spark leaves beside them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in (2, 0, 1):
        rows = [f"{row % 2},film {number} {row}" for row in range(20)]
        (folder / f"part-{number}.csv").write_text("\n".join(["label,content", *rows]))
    for name in ("_SUCCESS", ".part-0.csv.crc"):
        (folder / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return folder


def all_rows(args: DataArguments) -> tuple[str, str]:
    """What identifies the rows of train and validation, with their order."""
    splits = load_reviews(args, seed=42).splits
    return splits["train"].sha256, splits["validation"].sha256


def test_a_folder_a_pattern_and_a_list_are_one_file_in_parts(parts: Path) -> None:
    files = [f"mine/part-{number}.csv" for number in range(3)]
    lines = [line for file in files for line in Path(file).read_text().splitlines()[1:]]
    Path("whole.csv").write_text("\n".join(["label,content", *lines]))
    whole = all_rows(DataArguments(train_file=["whole.csv"]))
    for given in (["mine"], ["mine/part-*.csv"], files, ["mine/part-0.csv", "mine/part-[12].csv"]):
        assert find_parts(given) == [str(Path(file)) for file in files]
        assert all_rows(DataArguments(train_file=given)) == whole
    assert all_rows(DataArguments(train_file=files[::-1])) != whole, "in the order given"


def test_columns_that_some_files_lack_are_empty_there(tmp_path: Path) -> None:
    for name, more in (("train", {}), ("a", {}), ("b", {"source": "web"})):
        rows = [json.dumps({"label": row % 2, "content": f"{name} {row}"} | more) for row in range(10)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    test = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    args = DataArguments(train_file=[str(tmp_path / "train.jsonl")], test_file=test)
    assert load_reviews(args, seed=42).test.column("source") == [None] * 10 + ["web"] * 10


def test_the_record_names_every_file_with_its_sha256(parts: Path) -> None:
    origin = load_reviews(DataArguments(train_file=["mine"], test_file=["mine/part-0.csv"]), seed=42).origin
    train = [{"file": f"mine/part-{n}.csv", "sha256": file_sha256(parts / f"part-{n}.csv")} for n in range(3)]
    assert origin == {"name": "mine", "files": {"train": train, "test": train[0]}}


def test_a_row_is_counted_in_its_own_file() -> None:
    place = Place("all", [("a.csv", 2), ("empty.csv", 0), ("b.csv", 3)])
    assert [place.row(number) for number in range(5)] == [
        *("row 1 of a.csv", "row 2 of a.csv"),
        *("row 1 of b.csv", "row 2 of b.csv", "row 3 of b.csv"),
    ]


@pytest.mark.parametrize("files", ["a.csv", ["a.csv"], ["a.csv", "b.csv"]])
def test_yaml_takes_a_file_or_a_list(files: str | list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"train_file": files}))
    arguments = parse_arguments(["--config", str(tmp_path / "mine.yaml")])
    assert arguments.data.files == {"train": ["a.csv"] if isinstance(files, str) else files}
    # A single file is written as every run's config.yaml has it.
    assert arguments.resolved["train_file"] == ("a.csv" if files in ("a.csv", ["a.csv"]) else files)
    assert data_arguments_of(arguments.resolved).files == arguments.data.files
    assert arguments.resolved["test_file"] is None


def test_a_run_keeps_the_files_of_its_day_and_their_folder_s_name(parts: Path) -> None:
    def parsed(*given: str) -> Arguments:
        return parse_arguments(["--train_file", *given])

    files = [str(parts / f"part-{number}.csv") for number in range(3)]
    for given in (["mine"], ["mine/*.csv"], files):
        assert parsed(*given).resolved["train_file"] == files
        assert parsed(*given).training.output_dir == "runs/mine"
    assert parsed("mine/part-1.csv").training.output_dir == "runs/part-1"


def test_a_file_s_rows_are_read_once_however_they_are_named(parts: Path, reading: Callable[[], int]) -> None:
    for file in parts.glob("*.csv"):
        # No earlier test has read these.
        file.write_text(file.read_text() + f"\n1,{uuid.uuid4()}")
    load_reviews(DataArguments(train_file=["mine"]), seed=42)
    assert reading() == 63
    load_reviews(DataArguments(train_file=["mine/part-0.csv", "mine/part-2.csv"]), seed=42)
    read_files(["mine/part-1.csv"], ["content"], "label")
    assert reading() == 63


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of rows that were read from text files so far."""
    values, count = TextReviewFile.values, [0]

    def counted(self: TextReviewFile, columns: tuple[str, ...]) -> Iterator[object]:
        for row in values(self, columns):
            count[0] += 1
            yield row

    monkeypatch.setattr(TextReviewFile, "values", counted)
    return lambda: count[0]

"""What bad input gets: one line that names the place and what to do, exit code 2, and nothing written."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, files_under, separable_reviews
from datasets import Dataset

from recipe.errors import disk_refusal

ROWS = [f"{row % 2},film number {row}" for row in range(40)]
GOOD = "label,content\n" + "\n".join(ROWS) + "\n"
# Flags, and what the line must say; the files are written by `folder`.
CASES = [
    ("--train_file nowhere.csv", "no file 'nowhere.csv' here"),
    (
        "--train_file good.xlsx",
        "has the extension '.xlsx'; known are .csv, .tsv, .jsonl, .ndjson, .json, .txt",
    ),
    ("--train_file good.csv --text_columns body", "has no column 'body'; it has label, content (--text_columns"),
    ("--train_file good.csv --label_column stars", "has no column 'stars'; it has label, content"),
    (
        "--train_file good.csv --test_file other_label.csv",
        "row 2 of other_label.csv has the label '7', which no train row has: 0, 1",
    ),
    ("--train_file good.csv --validation_file other_label.csv", "row 2 of other_label.csv has the label '7'"),
    (
        "--train_file good.csv --test_file no_label.csv",
        "row 2 of no_label.csv has no label; test rows are never left out",
    ),
    ("--train_file latin1.csv", "latin1.csv, line 3: not UTF-8; convert the file first"),
    ("--train_file fields.csv", "fields.csv, line 3: 3 fields, but the header has 2"),
    ("--train_file quote.csv", "quote.csv, line 42: unexpected end of data; is a quote never closed?"),
    ("--train_file broken.jsonl", "broken.jsonl, line 2: not JSON"),
    ("--train_file broken.txt", "broken.txt, line 2: does not begin with __label__NAME and a space"),
    ("--train_file cut.parquet", "cut.parquet is not a whole parquet file"),
    ("--train_file one_class.csv", "every train row has the same label in 'label' (1): two are needed"),
    ("--train_file good.csv --test_file empty.csv", "empty.csv holds no rows"),
    ("--train_file blank.csv", "no row of blank.csv has both a text and a label"),
    (
        "--train_file few.csv",
        "the label 'negative' has a single row, and --validation_fraction needs two to split",
    ),
    (
        "--train_file few.csv --validation_file good.csv",
        "the label 'negative' has a single train row, and two are needed: correct or remove it",
    ),
    (
        "--train_file good.csv --test_file good.csv",
        "every train row also stands in test: nothing is left to learn from",
    ),
    ("--train_file good.csv --test_file ones.csv", "no train row with the label 'positive' is left: all of them"),
    ("--train_file good.csv --validation_file one_class.csv", "every row of one_class.csv has the same label"),
    ("--train_file twice.csv", "twice.csv, line 1: names the column 'content' 2 times"),
    ("--train_file several.txt", "several.txt, line 2: has several labels"),
    ("--train_file half.jsonl", "half.jsonl, line 2: holds half of a character in 'content'"),
    ("--train_file list.jsonl", 'list.jsonl, line 1: ["good"] is a list, where a text is needed'),
    ("--train_file nested.parquet", "column 'content' of nested.parquet holds list<element: string>, not text"),
    ("--train_file nested.parquet --text_columns title --label_column content", "holds List, not a label for each row"),
    ("--train_file null.parquet", "column 'content' of null.parquet holds null, not text"),
    ("--train_file cut", "cut/train.parquet is not a whole parquet file"),
    ("--train_file layout", "layout is a folder of several splits (test, train): give it as --dataset_name"),
    ("--train_file year", "year holds a folder, 2020: name the files, as with 'year/**/*.csv'"),
    ("--train_file none", "none is a folder without files"),
    ("--train_file *.md", "the pattern '*.md' finds no file"),
    ("--train_file good.csv ./good.csv", "./good.csv is named twice: its rows would count double"),
    ("--train_file good.csv whole.parquet", "whole.parquet is .parquet, and good.csv is .csv: files that go together"),
    ("--train_file good.csv fields.csv", "fields.csv, line 3: 3 fields, but the header has 2"),
    ("--train_file good.csv twice.csv", "twice.csv, line 1: names the column 'content' 2 times"),
    (
        "--train_file good.csv other_columns/test.csv",
        "other_columns/test.csv has no column 'content'; it has label, text",
    ),
    ("--train_file good.csv --test_file ones.csv no_label.csv", "row 2 of no_label.csv has no label; test rows are"),
    ("--train_file good.csv --test_file ones.csv other_label.csv", "row 2 of other_label.csv has the label '7'"),
    ("--train_file whole.parquet nested.parquet", "column 'content' of nested.parquet holds list<element: string>"),
    (
        "--train_file whole.parquet ints.parquet",
        "column 'label' of ints.parquet holds int64, but the labels negative, ",
    ),
    ("--dataset_name good.csv", "good.csv is a file, where a folder is needed"),
    ("--dataset_name other_columns", "no column 'content'"),
    ("--test_file good.csv", "--test_file needs a --train_file beside it"),
    ("--dataset_name ./nowhere", "no folder './nowhere' here"),
    ("--dataset_name cut", "cannot read the dataset"),
    ("--dataset_name nobody/nothing", "HF_HUB_OFFLINE=1, and the dataset 'nobody/nothing' was not downloaded before"),
    ("--train_file good.csv --sampling some", "invalid choice: 'some' (choose from"),
    (
        "--train_file good.csv --sampling random --max_train_samples 1",
        "--max_train_samples 1 does not split 40 rows by label: each of the 2 labels needs",
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the cases name."""
    texts = {
        "good.csv": GOOD,
        "good.xlsx": GOOD,
        "other_label.csv": "label,content\n1,good\n7,bad\n",
        "no_label.csv": "label,content\n1,good\n,bad\n",
        "fields.csv": "label,content\n1,good\n0,bad,worse\n",
        "quote.csv": GOOD + '1,"never closed\n',
        "broken.jsonl": '{"label": 1, "content": "good"}\n{"label": 0,\n',
        "broken.txt": "__label__1 good: film\nno label\n",
        "ones.csv": "label,content\n" + "\n".join(row for row in ROWS if row.startswith("1")) + "\n",
        "twice.csv": "label,content,content\n1,good,bad\n",
        "several.txt": "__label__1 good\n__label__1 __label__0 both\n",
        "half.jsonl": '{"label": 1, "content": "good"}\n{"label": 0, "content": "x \\ud83d"}\n',
        "list.jsonl": '{"label": 1, "content": ["good"]}\n',
        "one_class.csv": "label,content\n1,good\n1,better\n",
        "empty.csv": "label,content\n",
        "blank.csv": "label,content\n1,\n0, \n",
        "few.csv": "label,content\n1,good\n0,bad\n1,better\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin1.csv").write_bytes("label,content\n1,good\n0,déjà vu\n".encode("latin-1"))
    separable_reviews(40, seed=1).to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-200])
    Dataset.from_dict({"label": [0, 1], "title": ["a", "b"], "content": [["a"], ["b"]]}).to_parquet(
        tmp_path / "nested.parquet"
    )
    Dataset.from_dict({"label": [0, 1], "content": [None, None]}).to_parquet(tmp_path / "null.parquet")
    (tmp_path / "other_columns").mkdir()
    (tmp_path / "other_columns" / "train.csv").write_text(GOOD)
    (tmp_path / "other_columns" / "test.csv").write_text(GOOD.replace("content", "text"))
    Dataset.from_dict({"label": [0, 1], "title": ["a", "b"], "content": ["a", "b"]}).to_parquet(
        tmp_path / "ints.parquet"
    )
    for inner in ("layout/train-0.csv", "layout/test-0.csv", "year/2020/a.csv", "none/_SUCCESS"):
        (tmp_path / inner).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / inner).write_text(GOOD)
    (tmp_path / "cut").mkdir()
    shutil.copy(tmp_path / "cut.parquet", tmp_path / "cut" / "train.parquet")
    return tmp_path


def answers_to(command_lines: list[list[str]], cwd: Path, *launcher: str, cache: Path) -> list[dict[str, Any]]:
    """What `tests/fork_probe.py` says of each command line, with a cache of its own."""
    result = subprocess.run(
        [*launcher, sys.executable, str(ROOT / "tests" / "fork_probe.py")],
        input=json.dumps(command_lines),
        env=os.environ | {"HF_DATASETS_CACHE": str(cache)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout))


@pytest.mark.slow
def test_bad_input_costs_one_line_and_exit_code_2_and_writes_nothing(folder: Path, tmp_path_factory: Any) -> None:
    cache, before = tmp_path_factory.mktemp("cache"), files_under(folder)
    answers = answers_to([flags.split() for flags, _ in CASES], folder, cache=cache)
    for (flags, message), answer in zip(CASES, answers, strict=True):
        lines = answer["stderr"].splitlines()
        assert answer["code"] == 2 and len(lines) == 1 and not answer["stdout"], (flags, answer)
        assert lines[0].startswith("train.py: error: ") and message in lines[0], (flags, lines[0])
    assert files_under(folder) == before
    assert not [file for file in files_under(cache) if "incomplete/" in file or file.endswith(".part")]


@pytest.mark.slow
def test_a_full_disk_is_said_in_one_line_and_leaves_no_run(reviews_folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=40k none {small} && exec "$@"'
    in_a_small_disk = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*in_a_small_disk, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    flags = ["--dataset_name", str(reviews_folder), "--output_dir", "run"]
    streamed, whole = [*flags, "--max_train_samples", "280"], [*flags, "--max_train_samples", "-1"]
    for answer in answers_to([streamed, whole], tmp_path, *in_a_small_disk, cache=small / "cache"):
        assert answer["code"] == 2 and len(answer["stderr"].splitlines()) == 1, answer
        assert "No space left on device: free some space, or put --output_dir, or HF_HOME" in answer["stderr"]
    assert not (tmp_path / "run").exists()


def test_a_file_that_this_user_may_not_read_is_named() -> None:
    wrapped = RuntimeError("reading failed")
    wrapped.__cause__ = PermissionError(errno.EACCES, "Permission denied", "mine.csv")
    assert disk_refusal(wrapped) == "Permission denied: mine.csv"
    assert disk_refusal(ValueError("something else")) is None

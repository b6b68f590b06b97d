"""Training and scoring read the same files, and say the same of a mistake in one."""

import gzip
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT

from recipe.data.own_files import read_file
from recipe.errors import UsageError
from recipe.files.readers import TextReviewFile
from recipe.run_folder import RunFolder
from recipe.scoring import Request, score


def as_parquet(**columns: Any) -> bytes:
    """A table as the bytes of a parquet file."""
    sink = pyarrow.BufferOutputStream()
    names = [name.rstrip("_") for name in columns]
    parquet.write_table(pyarrow.table(list(map(pyarrow.array, columns.values())), names=names), sink)
    return bytes(sink.getvalue())


ROWS = [("1", "it's great,\nreally"), ("0", "poor\tand 日本語"), ("1", "")]
CSV = b"label,content\n" + "".join(f'{label},"{text}"\n' for label, text in ROWS).encode()
FILES = {
    "a.csv": CSV,
    "a.tsv": CSV.replace(b"label,", b"label\t").replace(b'1,"', b'1\t"').replace(b'0,"', b'0\t"'),
    "a.jsonl": (
        b'{"label": "1", "content": "it\'s great,\\nreally"}\n'
        + '{"label": "0", "content": "poor\\tand 日本語"}\n'.encode()
        + b'{"label": "1", "content": null}\n'
    ),
    "a.parquet": as_parquet(label=["1", "0", "1"], content=[text for _, text in ROWS]),
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda content: bytes(pyarrow.Codec("zstd").compress(content, asbytes=True)),
}
GOOD = b"label,content\n" + b"1,good\n" * 2000
# A file, its content, and what both must say of it.
MISTAKES = [
    ("a.xlsx", b"x", "has the extension '.xlsx'; known are .csv, .tsv, .jsonl, "),
    ("a.parquet.gz", b"x", "has the extension '.parquet.gz'"),
    ("a.csv", b"", "a.csv is empty: its first line must name the columns"),
    ("a.csv", b"label,text\n1,good\n", "a.csv has no column 'content'; it has label, text"),
    ("a.csv", b"label,content,content\n1,a,b\n", "a.csv, line 1: names the column 'content' 2 times"),
    ("a.csv", b"label,content\n1,good\n0,bad,worse\n", "a.csv, line 3: 3 fields, but the header has 2"),
    ("a.csv", b'label,content\n1,"two\nlines"\n0\n', "a.csv, line 4: 1 fields, but the header has 2"),
    ("a.csv", b'label,content\n1,"never closed\n', "a.csv, line 2: unexpected end of data; is a quote never closed?"),
    ("a.csv", b"label,content\n1,good\n0,caf\xe9\n", "a.csv, line 3: not UTF-8; convert the file first"),
    ("a.csv", gzip.compress(b"label,content\n1,good\n"), "a.csv, line 1: not UTF-8"),
    ("a.csv.gz", gzip.compress(b"label,content\n1,good\n2\n"), "a.csv.gz, line 3: 1 fields, but the header has 2"),
    ("a.csv.gz", GOOD, "a.csv.gz is not a whole gzip file that can be read"),
    ("a.csv.gz", gzip.compress(GOOD)[:-9], "a.csv.gz is not a whole gzip file that can be read"),
    ("a.csv.zst", GOOD, "a.csv.zst is not a whole zstd file that can be read"),
    ("a.csv.zst", COMPRESS[".zst"](GOOD)[:-9], "a.csv.zst is not a whole zstd file that can be read"),
    ("a.tsv", b"label\tcontent\n1\tgood\tx\n", "a.tsv, line 2: 3 fields, but the header has 2"),
    ("a.jsonl", b'{"label": 1, "content": "x"}\n{"label": 0, \n', "a.jsonl, line 2: not JSON"),
    ("a.jsonl", b"[1, 2]\n", "a.jsonl, line 1: a list, where an object is needed"),
    ("a.jsonl", b'{"label": 1, "content": "\xff"}\n', "a.jsonl, line 1: not UTF-8"),
    ("a.jsonl", b'{"label": 1, "content": 5}\n', "a.jsonl, line 1: 5 is a int, where a text is needed"),
    ("a.jsonl", b'{"label": 1, "text": "x"}\n', "a.jsonl has no column 'content'; it has label, text"),
    ("a.parquet", b"PAR1 cut short", "a.parquet is not a whole parquet file that can be read"),
    ("a.parquet", FILES["a.parquet"][:-20], "a.parquet is not a whole parquet file that can be read"),
    ("a.parquet", as_parquet(label=[1], text=["x"]), "a.parquet has no column 'content'; it has label, text"),
    ("a.parquet", as_parquet(label=[1], content=[5]), "column 'content' of {}a.parquet holds int64, not text"),
    ("a.parquet", as_parquet(label=[1], content=["x"], content_=["y"]), "a.parquet has 2 columns 'content': rename"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), MISTAKES)
def test_training_and_scoring_say_the_same_of_a_mistake(
    name: str, content: bytes, sentence: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    request = Request(exported_run.path, str(tmp_path / name), str(tmp_path / f"out{''.join(Path(name).suffixes)}"))
    said = []
    for read in (lambda: read_file(request.input, ["content"], "label"), lambda: score(request)):
        with pytest.raises(UsageError) as refusal:
            read()
        # Each names its own flags: which columns to choose, and how to skip a row.
        said.append(
            re.sub(r" \(--.*\)$", "", str(refusal.value)).removeprefix("--input ").replace(".jsonl, .txt", ".jsonl")
        )
    assert said[0] == said[1] and sentence.format(f"{tmp_path}/") in said[0]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "compression"), [(name, suffix) for name in FILES for suffix in COMPRESS if not suffix or name < "a.p"]
)
def test_training_and_scoring_read_the_same_texts(
    name: str, compression: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    file = tmp_path / (name + compression)
    file.write_bytes(COMPRESS[compression](FILES[name]))
    rows = read_file(str(file), ["content"], "label").to_list()
    assert [(row["label"], row["content"] or "") for row in rows] == ROWS
    output = tmp_path / f"out{Path(name).suffix}"
    score(Request(exported_run.path, str(file), str(output), text_columns=["content"]))
    scored = read_file(str(output), ["content"], "label").to_list()
    assert [(row["label"], row["content"] or "") for row in scored] == ROWS
    assert {"predicted_label", "predicted_probability"} < set(scored[0])


def test_training_takes_compressed_fasttext(tmp_path: Path) -> None:
    file = tmp_path / "train.ft.txt.gz"
    file.write_bytes(gzip.compress(b"__label__2 Great: it works\n"))
    assert read_file(str(file), ["content"], "label").to_list() == [
        {"label": "2", "title": "Great", "content": "it works"}
    ]


def test_all_columns_are_kept_and_text_formats_give_strings(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [
        '{"label": 1, "content": "a", "stars": 4.50, "tags": ["x"]}',
        '{"label": null, "content": "b", "who": "\\ud83d"}',
    ]
    file.write_text("\n".join(rows))
    first, second = read_file(str(file), ["content"], "label").to_list()
    assert first == {"label": "1", "content": "a", "stars": "4.5", "tags": '["x"]', "who": None}
    assert second == {"label": None, "content": "b", "stars": None, "tags": None, "who": "\ufffd"}


def test_parquet_keeps_its_types_and_leaves_out_lists_that_nothing_needs(tmp_path: Path) -> None:
    when = pyarrow.array([1], pyarrow.timestamp("us", "UTC"))
    (tmp_path / "a.parquet").write_bytes(as_parquet(label=[1], content=["a"], stars=[4.5], when=when, tags=[["x"]]))
    rows = read_file(str(tmp_path / "a.parquet"), ["content"], "label")
    kinds = {name: feature.dtype for name, feature in rows.features.items()}
    assert kinds == {"label": "int64", "content": "string", "stars": "float64", "when": "timestamp[us, tz=UTC]"}


def test_the_second_call_finds_the_rows_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    first = read_file(str(tmp_path / "a.csv"), ["content"], "label")
    monkeypatch.setattr(TextReviewFile, "values", lambda *_: pytest.fail("the file was read again"))
    assert read_file(str(tmp_path / "a.csv"), ["content"], "label").to_list() == first.to_list()


@pytest.mark.slow
def test_rows_whose_reading_was_killed_are_never_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,content\n" + "".join(f"1,film {row}\n" for row in range(5000)))
    code = """if True:
        import os, sys
        from recipe.data.own_files import read_file
        from recipe.files.readers import TextReviewFile
        values, die_at = TextReviewFile.values, int(sys.argv[1])

        def deadly(*args):
            for row in values(*args):
                if row[0] == die_at:
                    os.kill(os.getpid(), 9)
                yield row

        TextReviewFile.values = deadly
        rows = read_file("a.csv", ["content"], "label")
        print(len(rows), rows[4999]["content"])
    """
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    killed, resumed = (
        subprocess.run(
            [sys.executable, "-c", code, str(line)], cwd=tmp_path, env=environment, capture_output=True, timeout=120
        )
        for line in (4000, 0)
    )
    assert killed.returncode == -signal.SIGKILL and list((tmp_path / "cache").rglob("*.arrow")), (
        "some rows were written"
    )
    assert (resumed.returncode, resumed.stdout) == (0, b"5000 film 4999\n"), resumed.stderr


def test_importing_the_readers_changes_nothing_for_others() -> None:
    code = "import csv; old = csv.field_size_limit(); import recipe.files.readers; print(csv.field_size_limit() == old)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.stdout == "True\n", found.stderr

"""Training and scoring read the same files, and say the same of a mistake in one."""

import csv
import gzip
import io
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

from recipe.arguments.data import DataArguments
from recipe.data.own_files import read_files
from recipe.errors import UsageError
from recipe.files.readers import TextReviewFile
from recipe.files.text_rows import Dialect, Quoting
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
HIDDEN = b'label\tcontent\n1\t"great film\n0\tbad\n1\tawful"\n'
# As the original csv of Amazon's reviews is, without a header.
AMAZON = b'"2","Great","it is great, ""really"""\n"1","Bad","poor\n film"\n'
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
    ("a.csv", gzip.compress(b"label,content\n1,good\n", mtime=0), "a.csv, line 1: not UTF-8"),
    (
        "a.csv.gz",
        gzip.compress(b"label,content\n1,good\n2\n", mtime=0),
        "a.csv.gz, line 3: 1 fields, but the header has 2",
    ),
    ("a.csv.gz", GOOD, "a.csv.gz is not a whole gzip file that can be read"),
    ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "a.csv.gz is not a whole gzip file that can be read"),
    ("a.csv.zst", GOOD, "a.csv.zst is not a whole zstd file that can be read"),
    ("a.csv.zst", COMPRESS[".zst"](GOOD)[:-9], "a.csv.zst is not a whole zstd file that can be read"),
    ("a.tsv", b"label\tcontent\n1\tgood\tx\n", "a.tsv, line 2: 3 fields, but the header has 2"),
    ("a.jsonl", b'{"label": 1, "content": "x"}\n{"label": 0, \n', "a.jsonl, line 2: not JSON"),
    ("a.jsonl", b"[1, 2]\n", "a.jsonl, line 1: a list, where an object is needed"),
    ("a.jsonl", b'{"label": 1, "content": "\xff"}\n', "a.jsonl, line 1: not UTF-8"),
    ("a.jsonl", b'{"label": 1, "content": 5}\n', "a.jsonl, line 1: 5 is a int, where a text is needed"),
    ("a.jsonl", b'{"label": 1, "text": "x"}\n', "a.jsonl has no column 'content'; it has label, text"),
    ("a.tsv", HIDDEN, "a.tsv, line 2: a quote opens here and is closed in line 4"),
    (
        "a.csv",
        b'label,content\n1,"say \\"good\\""\n',
        'never closed? --escape backslash reads \\" as a quote',
    ),
    ("a.csv", b"label;text\n1;good\n", "a.csv has no column 'content'; it has label, text"),
    ("a.csv", b"a~content\n1~good\n", "a.csv has no column 'content'; it has a~content"),
    ("a.csv", AMAZON, "a.csv has no column 'content', and its first line looks like a row: 2, Great, it is great,"),
    (
        "a.csv",
        ",".join(f"c{n}" for n in range(200)).encode(),
        "it has c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and",
    ),
    ("a.csv", b"x " * 5000, "has no column 'content', and its first line looks like a row: " + "x " * 20 + "…"),
    ("a.json", b'[{"label": 1, "content": "x"},\n{"label": 0, \n', "a.json, line 2: not JSON"),
    ("a.json", b'[{"label": 1, "text": "x"}]', "a.json has no column 'content'; it has label, text"),
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
    output = ".jsonl" if name == "a.json" else "".join(Path(name).suffixes)
    request = Request(exported_run.path, str(tmp_path / name), str(tmp_path / f"out{output}"))
    said = []
    for read in (lambda: read_files([request.input], ["content"], "label").rows, lambda: score(request)):
        with pytest.raises(UsageError) as refusal:
            read()
        # Each names its own flags: which columns to choose, and how to skip a row.
        said.append(re.sub(r" \(--.*\)$", "", str(refusal.value)).removeprefix("--input ").replace(", .txt", ""))
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
    rows = read_files([str(file)], ["content"], "label").rows.to_list()
    assert [(row["label"], row["content"] or "") for row in rows] == ROWS
    output = tmp_path / f"out{Path(name).suffix}"
    score(Request(exported_run.path, str(file), str(output), text_columns=["content"]))
    scored = read_files([str(output)], ["content"], "label").rows.to_list()
    assert [(row["label"], row["content"] or "") for row in scored] == ROWS
    assert {"predicted_label", "predicted_probability"} < set(scored[0])


# A file, its content, the flags that read it, its labels and texts, and what separates columns in the output.
NAMED = {"column_names": ["label", "title", "content"]}
SPELLINGS: list[tuple[str, bytes, dict[str, Any], list[tuple[str, str]], str]] = [
    ("a.tsv", HIDDEN, {"quoting": "none"}, [("1", '"great film'), ("0", "bad"), ("1", 'awful"')], "\t"),
    ("a.tsv", HIDDEN, {"quoting": "trusted"}, [("1", "great film\n0\tbad\n1\tawful")], "\t"),
    (
        *("a.csv", b'label,content\n1,"say \\"good\\", ""really"""\n', {"escape": "backslash"}),
        *([("1", 'say "good", "really"')], ","),
    ),
    ("a.csv", b"label,content,,\n1,good,x,\n", {}, [("1", "good")], ","),
    ("a.csv", b"note,label,note,content\nx,1,y,good\n", {}, [("1", "good")], ","),
    ("a.csv", AMAZON, NAMED, [("2", 'it is great, "really"'), ("1", "poor\n film")], ","),
    ("a.csv", AMAZON.replace(b",", b";"), NAMED, [("2", 'it is great; "really"'), ("1", "poor\n film")], ";"),
    ("a.csv", b"label;content\n1;good, it is\n", {}, [("1", "good, it is")], ";"),
    ("a.csv", b'label\tcontent\n1\t"good;\nit|is"\n', {}, [("1", "good;\nit|is")], "\t"),
    ("a.csv", b"label|content\n1|good\n", {}, [("1", "good")], "|"),
    ("a.tsv", b"label,content\n1,good\n", {}, [("1", "good")], ","),
    ("a.csv", b"sep=;\r\nlabel;content\r\n1;good\r\n", {}, [("1", "good")], ";"),
    ("a.csv", b"label^content\n1^good\n", {"delimiter": "^"}, [("1", "good")], "^"),
    ("a.csv", b"label\tcontent\n1\ta,b\n", {"delimiter": "tab"}, [("1", "a,b")], "\t"),
]


@pytest.mark.parametrize(("name", "content", "flags", "rows", "delimiter"), SPELLINGS)
def test_however_csv_is_spelled_both_read_it_and_its_columns_come_back(
    name: str,
    content: bytes,
    flags: dict[str, Any],
    rows: list[tuple[str, str]],
    delimiter: str,
    exported_run: RunFolder,
    tmp_path: Path,
) -> None:
    (tmp_path / name).write_bytes(content)
    dialect = DataArguments(**flags).dialect
    found = read_files([str(tmp_path / name)], ["content"], "label", dialect).rows.to_list()
    assert [(row["label"], row["content"]) for row in found] == rows
    output = tmp_path / f"out{Path(name).suffix}"
    score(Request(exported_run.path, str(tmp_path / name), str(output), text_columns=["content"], **flags))
    header, *scored = csv.reader(io.StringIO(output.read_text(encoding="utf-8"), newline=""), delimiter=delimiter)
    assert header[-3:] == ["predicted_label", "predicted_probability", "predicted_truncated"]
    place = [header.index("label"), header.index("content")]
    assert [tuple(row[column] for column in place) for row in scored] == rows
    # What nobody used is there too, in its place.
    first = content.decode().splitlines()[1 if b"sep=" in content else 0]
    assert flags == NAMED or delimiter.join(header[:-3]) == first


@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "lines.json", "a.json.gz"])
def test_json_is_read_in_any_shape_and_written_as_lines(name: str, exported_run: RunFolder, tmp_path: Path) -> None:
    rows = FILES["a.jsonl"].strip().split(b"\n")
    spelled = b"[" + b",\n ".join(rows) + b"]" if name.startswith("a.json") else b"\n".join(rows)
    (tmp_path / name).write_bytes(gzip.compress(spelled) if name.endswith(".gz") else spelled)
    found = read_files([str(tmp_path / name)], ["content"], "label").rows.to_list()
    assert [(row["label"], row["content"] or "") for row in found] == ROWS
    outputs = [tmp_path / "out.jsonl", tmp_path / "out.ndjson"]
    for output in outputs:
        score(Request(exported_run.path, str(tmp_path / name), str(output), text_columns=["content"]))
    lines = outputs[0].read_bytes().splitlines()
    assert [line[: line.index(b', "predicted_label"')] + b"}" for line in lines] == rows
    assert outputs[1].read_bytes() == outputs[0].read_bytes()
    with pytest.raises(UsageError, match="out.json must be .jsonl: rows are written one by one"):
        score(Request(exported_run.path, str(tmp_path / name), str(tmp_path / "out.json")))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"delimiter": ";;"}, "--delimiter ';;' is not one character"),
        ({"delimiter": '"'}, "--delimiter '\"' is not one character"),
        ({"column_names": ["a", "b", "a"]}, "--column_names names 'a' 2 times"),
    ],
)
def test_a_spelling_that_makes_no_sense_is_refused(
    flags: dict[str, Any], message: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    with pytest.raises(UsageError, match=message):
        DataArguments(**flags)
    with pytest.raises(UsageError, match=message):
        score(Request(exported_run.path, str(tmp_path / "a.csv"), str(tmp_path / "out.csv"), **flags))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CSV, "a.csv, line 1: names the columns itself: leave --column_names out"),
        (b"1,good\n0,bad,worse\n", "a.csv, line 2: 3 fields, but --column_names has 2"),
    ],
)
def test_names_that_do_not_fit_the_file_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    dialect = DataArguments(column_names=["label", "content"]).dialect
    with pytest.raises(UsageError, match=message):
        read_files([str(tmp_path / "a.csv")], ["content"], "label", dialect)


def test_another_spelling_of_the_same_file_is_no_row_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(HIDDEN)
    quotings: tuple[Quoting, Quoting] = ("trusted", "none")
    found = [read_files([str(tmp_path / "a.tsv")], ["content"], "label", Dialect(quoting=one)).rows for one in quotings]
    assert list(map(len, found)) == [1, 3]


def test_training_takes_compressed_fasttext(tmp_path: Path) -> None:
    file = tmp_path / "train.ft.txt.gz"
    file.write_bytes(gzip.compress(b"__label__2 Great: it works\n"))
    assert read_files([str(file)], ["content"], "label").rows.to_list() == [
        {"label": "2", "title": "Great", "content": "it works"}
    ]


def test_all_columns_are_kept_and_text_formats_give_strings(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [
        '{"label": 1, "content": "a", "stars": 4.50, "tags": ["x"]}',
        '{"label": null, "content": "b", "who": "\\ud83d"}',
    ]
    file.write_text("\n".join(rows))
    first, second = read_files([str(file)], ["content"], "label").rows.to_list()
    assert first == {"label": "1", "content": "a", "stars": "4.5", "tags": '["x"]', "who": None}
    assert second == {"label": None, "content": "b", "stars": None, "tags": None, "who": "\ufffd"}


def test_parquet_keeps_its_types_and_leaves_out_lists_that_nothing_needs(tmp_path: Path) -> None:
    when = pyarrow.array([1], pyarrow.timestamp("us", "UTC"))
    (tmp_path / "a.parquet").write_bytes(as_parquet(label=[1], content=["a"], stars=[4.5], when=when, tags=[["x"]]))
    rows = read_files([str(tmp_path / "a.parquet")], ["content"], "label").rows
    kinds = {name: feature.dtype for name, feature in rows.features.items()}
    assert kinds == {"label": "int64", "content": "string", "stars": "float64", "when": "timestamp[us, tz=UTC]"}


def test_the_second_call_finds_the_rows_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    first = read_files([str(tmp_path / "a.csv")], ["content"], "label").rows
    monkeypatch.setattr(TextReviewFile, "values", lambda *_: pytest.fail("the file was read again"))
    assert read_files([str(tmp_path / "a.csv")], ["content"], "label").rows.to_list() == first.to_list()


@pytest.mark.slow
def test_rows_whose_reading_was_killed_are_never_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,content\n" + "".join(f"1,film {row}\n" for row in range(5000)))
    code = """if True:
        import os, sys
        from recipe.data.own_files import read_files
        from recipe.files.readers import TextReviewFile
        values, die_at = TextReviewFile.values, int(sys.argv[1])

        def deadly(*args):
            for row in values(*args):
                if row[0] == die_at:
                    os.kill(os.getpid(), 9)
                yield row

        TextReviewFile.values = deadly
        rows = read_files(["a.csv"], ["content"], "label").rows
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

"""A file of reviews comes back whole: every row once, in its order, as it was, and however often it was stopped."""

import gzip
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT, copy_of, files_under, load_script, run_script, separable_reviews
from scored_files import probe, read_csv, write_csv

from recipe.command_line import read_lines
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256, write_json
from recipe.inference import classifier as inference
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.scoring import Request, Summary, score
from recipe.scoring.journal import Journal

LABELS = ("negative", "positive")
# Python 3.10's csv module neither reads nor writes this character; a row with it is then malformed.
NUL = "\x00" if sys.version_info >= (3, 11) else ""
# What breaks readers and writers: quotes, line ends, tabs, emoji, other scripts, control characters, nothing at all.
TEXTS = [
    'say "good"',
    "great, really\nsecond line",
    "lone\rreturn",
    "windows\r\nline",
    "poor\tand awful",
    "🎧 日本語 مرحبا Ünïcödé",
    f"{NUL}\x07\x1b[0m",
    "",
    None,
    " lovely ",
    "good " * 200,
    "'; DROP TABLE reviews; --",
    "{}",
]


@pytest.fixture
def score_here(exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Summary]:
    """Score in windows of 8 rows, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inference, "WINDOW", 8)
    return lambda source, target, **more: score(Request(exported_run.path, source, target, variant="fp32", **more))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 300 reviews as csv and as parquet."""
    folder, rows = tmp_path_factory.mktemp("reviews"), separable_reviews(300, seed=5)
    texts = rows["content"][:]
    write_csv(folder / "a.csv", [{"id": str(row), "content": text} for row, text in enumerate(texts)])
    rows.remove_columns("title").to_parquet(folder / "a.parquet", batch_size=70)
    return folder


def uncompressed(file: Path) -> str:
    """A text file's content, read with the system's own tools."""
    tool = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix)
    if tool and shutil.which(tool):
        return subprocess.run([tool, "-dc", str(file)], capture_output=True, check=True).stdout.decode("utf-8")
    if tool == "zstd":
        return str(pyarrow.CompressedInputStream(str(file), "zstd").read().decode("utf-8"))
    return gzip.decompress(file.read_bytes()).decode() if tool else file.read_bytes().decode("utf-8")


def compress(file: Path, suffix: str) -> str:
    """Compress a file in two pieces, as if it were two files one after another; return its name."""
    content = file.read_bytes()
    pieces = content[: len(content) // 2], content[len(content) // 2 :]
    codec = pyarrow.Codec("gzip" if suffix == ".gz" else "zstd")
    target = file.with_name(file.name + suffix)
    target.write_bytes(b"".join(codec.compress(piece, asbytes=True) for piece in pieces))
    return target.name


def assert_answers(exported_run: RunFolder, rows: list[dict[str, Any]], texts: list[str | None]) -> None:
    """The rows' answers are those that the classifier gives to the texts."""
    expected = OnnxClassifier.from_run(exported_run.path, "fp32")([text or "" for text in texts])
    assert [row["label"] for row in rows] == [prediction.label for prediction in expected]
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, [prediction.probability for prediction in expected], atol=2e-5)
    assert [str(row["truncated"]).lower() == "true" for row in rows] == [text == "good " * 200 for text in texts]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("extension", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_values_come_back_as_they_were(
    extension: str, delimiter: str, suffix: str, score_here: Callable[..., Summary], exported_run: RunFolder
) -> None:
    rows = [{"id": f"0{n}", "content": text or "", "note": TEXTS[-n] or ""} for n, text in enumerate(TEXTS)]
    write_csv(Path(f"in{extension}"), rows, delimiter)
    source = compress(Path(f"in{extension}"), suffix) if suffix else f"in{extension}"
    score_here(source, f"out{extension}{suffix}")
    found = read_csv(uncompressed(Path(f"out{extension}{suffix}")), delimiter)
    assert [{name: row[name] for name in ("id", "content", "note")} for row in found] == rows
    assert_answers(exported_run, found, TEXTS)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_json_comes_back_as_it_was_spelled(
    suffix: str, score_here: Callable[..., Summary], exported_run: RunFolder
) -> None:
    spelled = [json.dumps({"id": n, "content": text, "n": [1, {"a": None}]}) for n, text in enumerate(TEXTS)]
    odd = ['{"content": "caf\\u00e9 \\ud83d", "price": 1.10, "big": 12345678901234567890.123}', "  { }  ", '{"x": "{"}']
    Path("in.jsonl").write_text("\n\n".join([*spelled, *odd]), encoding="utf-8")
    score_here(compress(Path("in.jsonl"), suffix) if suffix else "in.jsonl", f"out.jsonl{suffix}")
    lines = uncompressed(Path(f"out.jsonl{suffix}")).splitlines()
    assert [line.rpartition('"label": ')[0] for line in lines] == [
        *(line.removesuffix("}") + ", " for line in spelled),
        odd[0].removesuffix("}") + ", ",
        "  {",
        '{"x": "{", ',
    ]
    assert_answers(exported_run, list(map(json.loads, lines)), [*TEXTS, "café \ufffd", "", ""])


def test_parquet_keeps_types_nulls_and_notes(score_here: Callable[..., Summary], exported_run: RunFolder) -> None:
    count = len(TEXTS)
    columns = {
        "content": pyarrow.array(TEXTS, pyarrow.large_string()),
        "when": pyarrow.array(range(count), pyarrow.timestamp("us", "UTC")),
        "price": pyarrow.array([None, *(f"{n}.10" for n in range(1, count))]).cast(pyarrow.decimal128(10, 2)),
        "kind": pyarrow.array([None, *"abcdefghijkl"]).dictionary_encode(),
        "tags": pyarrow.array([["a", None]] * count),
        "raw": pyarrow.array([b"\xff"] * count),
        "struct": pyarrow.array([{"a": 1}] * count),
    }
    table = pyarrow.table(columns).replace_schema_metadata({"mine": "note"})
    parquet.write_table(table, "in.parquet", row_group_size=5)
    score_here("in.parquet", "out.parquet")
    found = parquet.read_table("out.parquet")
    assert found.select(list(columns)).equals(table) and found.schema.metadata[b"mine"] == b"note"
    added = [found.schema.field(name).type for name in ("label", "probability", "truncated")]
    assert added == [pyarrow.string(), pyarrow.float32(), pyarrow.bool_()]
    assert_answers(exported_run, found.to_pylist(), TEXTS)


def test_texts_of_parquet_may_be_categories_or_not_utf8(score_here: Callable[..., Summary]) -> None:
    texts = ["good", None, "awful"] * 9
    parquet.write_table(pyarrow.table({"content": pyarrow.array(texts).dictionary_encode()}), "in.parquet")
    score_here("in.parquet", "out.parquet")
    found = parquet.read_table("out.parquet")
    assert found["content"].to_pylist() == texts and found["label"].to_pylist()[::3] == ["positive"] * 9
    broken = pyarrow.array([b"good \xff", None]).cast(pyarrow.string(), safe=False).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"content": broken}), "broken.parquet")
    assert score_here("broken.parquet", "scored.parquet").rows == 2


def test_the_order_is_the_inputs_over_many_windows(score_here: Callable[..., Summary], reviews: Path) -> None:
    expected = [LABELS[label] for label in separable_reviews(300, seed=5)["label"]]
    summary = score_here(str(reviews / "a.csv"), "out.csv")
    rows = read_csv(Path("out.csv").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == [str(row) for row in range(300)]
    assert [row["label"] for row in rows] == expected and summary.rows == 300 and not summary.rows_before
    score_here(str(reviews / "a.parquet"), "out.parquet")
    table = parquet.read_table("out.parquet")
    assert table["predicted_label"].to_pylist() == expected and table["label"].type == pyarrow.int64()


def test_only_the_output_is_left(score_here: Callable[..., Summary], reviews: Path, tmp_path: Path) -> None:
    score_here(str(reviews / "a.csv"), "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_csv_may_become_tsv(score_here: Callable[..., Summary], reviews: Path) -> None:
    score_here(str(reviews / "a.csv"), "out.tsv.gz")
    assert len(read_csv(uncompressed(Path("out.tsv.gz")), "\t")) == 300


def test_parts_are_scored_as_one_file_in_their_order(score_here: Callable[..., Summary], reviews: Path) -> None:
    rows = read_csv((reviews / "a.csv").read_text())
    Path("parts").mkdir()
    # Windows end with a file, and a file without rows has none.
    for name, part in {"a": rows[:100], "b": rows[100:101], "d": rows[101:]}.items():
        write_csv(Path(f"parts/{name}.csv"), part)
    Path("parts/c.csv").write_text("id,content\n")
    Path("parts/_SUCCESS").touch()
    whole, again = score_here(str(reviews / "a.csv"), "whole.csv"), score_here("parts", "out.csv")
    converted = score_here(["parts/[a-d].csv"], "out.jsonl")
    assert whole.rows == again.rows == converted.rows == 300
    found, expected = (read_csv(Path(name).read_text()) for name in ("out.csv", "whole.csv"))
    assert [(row["id"], row["content"], row["label"]) for row in found] == [
        (row["id"], row["content"], row["label"]) for row in expected
    ]
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == list(map(str, range(300)))
    assert score_here("parts", "few.csv", limit=101).rows == 101


def test_parquet_parts_keep_their_types(score_here: Callable[..., Summary], reviews: Path) -> None:
    table = parquet.read_table(reviews / "a.parquet")
    parquet.write_table(table.slice(0, 13), "1.parquet")
    parquet.write_table(table.slice(13), "2.parquet")
    score_here(["1.parquet", "2.parquet"], "out.parquet")
    assert parquet.read_table("out.parquet").select(table.column_names).equals(table)


def test_a_row_that_is_skipped_in_a_part_is_reported_with_it(score_here: Callable[..., Summary]) -> None:
    Path("1.jsonl").write_text('{"content": "good"}\n' * 9)
    Path("2.jsonl").write_text('{"content": "good"}\n[]\n')
    assert score_here(["1.jsonl", "2.jsonl"], "out.jsonl", on_error="skip").skipped == 1
    (error,) = map(json.loads, Path("out.jsonl.errors.jsonl").read_text().splitlines())
    assert error == {"line": 2, "error": "2.jsonl: a list, where an object is needed"}


MIXED = [
    {"id": 1, "content": "good", "price": 1.5, "tags": ["a", None], "note": None},
    {"id": 2, "content": None, "price": None, "tags": [], "note": 'say "x", \n日本'},
    {"id": 3, "content": "awful", "price": 0.25, "tags": None, "note": ""},
]
AS_TEXT = [
    {"id": "1", "content": "good", "price": "1.5", "tags": '["a", null]', "note": None},
    {"id": "2", "content": None, "price": None, "tags": "[]", "note": 'say "x", \n日本'},
    {"id": "3", "content": "awful", "price": "0.25", "tags": None, "note": ""},
]


def scored_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a scored file of any format, without what scoring added."""
    if file.suffix == ".parquet":
        rows = parquet.read_table(file).to_pylist()
    elif file.suffix == ".jsonl":
        rows = list(map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    else:
        rows = read_csv(file.read_bytes().decode(), "\t" if file.suffix == ".tsv" else ",")
    assert [row.pop("label") for row in rows][::2] == ["positive", "negative"]
    assert all(0.5 < float(row.pop("probability")) <= 1 and row.pop("truncated") not in (True, "true") for row in rows)
    return rows


@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "in.csv"])
def test_any_format_becomes_any_other(source: str, target: str, score_here: Callable[..., Summary]) -> None:
    Path("in.jsonl").write_text("\n".join(map(json.dumps, MIXED)), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(MIXED), "in.parquet")
    empty = [{name: value or "" for name, value in row.items()} for row in AS_TEXT]
    write_csv(Path("in.csv"), empty)
    score_here(source, target)
    kept = {("in.jsonl", "out.jsonl"), ("in.parquet", "out.parquet"), ("in.parquet", "out.jsonl")}
    expected = MIXED if (source, target) in kept else AS_TEXT
    if source == "in.csv" or target in ("out.csv", "out.tsv"):
        expected = empty
    assert scored_rows(Path(target)) == expected


def test_what_json_lacks_is_spelled_and_numbers_keep_their_digits(score_here: Callable[..., Summary]) -> None:
    columns = {
        "content": pyarrow.array(["good", "bad"]),
        "when": pyarrow.array([0, None], pyarrow.timestamp("us", "UTC")),
        "price": pyarrow.array(["12345678901234567890.10", None]).cast(pyarrow.decimal128(30, 2)),
        "kind": pyarrow.array(["a", None]).dictionary_encode(),
        "raw": pyarrow.array([b"\xff\x00", None]),
        "struct": pyarrow.array([{"a": float("nan"), "b": [b"x"]}, None]),
        "number": pyarrow.array([float("inf"), float("nan")]),
        "yes": pyarrow.array([True, False]),
    }
    parquet.write_table(pyarrow.table(columns), "in.parquet")
    score_here("in.parquet", "out.jsonl")
    first, second = Path("out.jsonl").read_text().splitlines()
    assert first.startswith(
        '{"content": "good", "when": "1970-01-01 00:00:00+00:00", "price": 12345678901234567890.10, "kind": "a", '
        '"raw": "/wA=", "struct": {"a": null, "b": ["eA=="]}, "number": "inf", "yes": true, "label": "positive", '
    )
    assert list(json.loads(second).values())[:8] == ["bad", None, None, None, None, None, None, False]
    score_here("in.parquet", "out.csv")
    first, second = Path("out.csv").read_text().splitlines()[1:]
    assert first.startswith('good,1970-01-01 00:00:00+00:00,12345678901234567890.10,a,/wA=,"{""a"": null, ""b"": [""eA')
    assert ",inf,true,positive," in first and second.startswith("bad,,,,,,nan,false,negative,")
    Path("in.jsonl").write_text('{"content": "good", "price": 1.10, "big": 12345678901234567890.123, "n": [1.5]}\n')
    score_here("in.jsonl", "prices.csv")
    assert (
        Path("prices.csv").read_text().splitlines()[1].startswith("good,1.10,12345678901234567890.123,[1.5],positive")
    )


def test_columns_that_come_late_have_their_place_in_another_format(score_here: Callable[..., Summary]) -> None:
    rows = ['{"content": "good"}'] * 9 + ['{"label": 1, "content": "half \\ud83d"}', "[]"]
    Path("in.jsonl").write_text("\n".join(rows))
    score_here("in.jsonl", "out.parquet", on_error="skip")
    found = parquet.read_table("out.parquet").to_pylist()
    assert [row["label"] for row in found] == [None] * 9 + ["1"] and found[9]["content"] == "half \ufffd"
    assert found[0]["predicted_label"] == "positive"
    assert json.loads(Path("out.parquet.errors.jsonl").read_text())["line"] == 11


@pytest.mark.parametrize("content", ["id,content\n", "\ufeffid,content\r\n\r\n"])
def test_no_rows_are_scored_rows(content: str, score_here: Callable[..., Summary]) -> None:
    Path("in.csv").write_text(content, encoding="utf-8", newline="")
    assert score_here("in.csv", "out.csv").rows == 0
    assert Path("out.csv").read_text() == "id,content,label,probability,truncated\n"
    Path("in.jsonl").write_text("")
    assert score_here("in.jsonl", "out.jsonl").rows == 0 and Path("out.jsonl").read_text() == ""
    parquet.write_table(pyarrow.table({"content": pyarrow.array([], pyarrow.string())}), "in.parquet")
    assert score_here("in.csv", "none.parquet").rows == 0 and parquet.read_table("none.parquet").num_columns == 5
    assert score_here("in.parquet", "out.parquet").rows == 0 and parquet.read_table("out.parquet").num_columns == 4


def test_a_limit_is_of_rows_and_what_is_behind_it_may_be_malformed(score_here: Callable[..., Summary]) -> None:
    Path("in.csv").write_text("content\n" + "good\n" * 20 + "bad,bad\n")
    assert score_here("in.csv", "out.csv", limit=20).rows == 20
    with pytest.raises(UsageError, match="in.csv, line 22: 2 fields"):
        score_here("in.csv", "other.csv", limit=21)


def test_two_columns_are_a_pair(score_here: Callable[..., Summary], exported_run: RunFolder) -> None:
    rows = [{"title": "awful", "content": f"the film {n}"} for n in range(20)]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score_here("in.jsonl", "out.jsonl", text_columns=["title", "content"])
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    expected = OnnxClassifier.from_run(exported_run.path, "fp32")([(row["title"], row["content"]) for row in rows])
    np.testing.assert_allclose([row["probability"] for row in found], [p.probability for p in expected], atol=2e-5)


def test_columns_that_are_there_already_stay_and_others_are_added(
    score_here: Callable[..., Summary], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.jsonl").write_text('{"content": "good"}\n{"content": "bad", "probability": "mine"}\n')
    score_here("in.jsonl", "out.jsonl")
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    added = ["predicted_label", "predicted_probability", "predicted_truncated"]
    assert list(lines[0]) == ["content", *added] and list(lines[1]) == ["content", "probability", *added]
    assert "the added ones are called predicted_label, predicted_probability" in capsys.readouterr().out


def test_rows_are_answered_by_the_runs_decision_and_its_doubt_is_a_column_more(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = copy_of(exported_run, tmp_path)
    texts = separable_reviews(40, seed=12)["content"][:]
    write_csv(Path("in.csv"), [{"content": text} for text in texts])
    logits = OnnxClassifier.from_run(run.path, "fp32", raw=True).logits(texts)
    decision = Decision(3.0, 0.97, [float(np.median(Decision(3.0, 0.97)(logits).probabilities))] * 2)
    write_json(run.decision, decision.to_json())
    score(Request(run.path, "in.csv", "out.csv", "fp32"))
    score(Request(run.path, "in.csv", "raw.csv", "fp32", raw=True))
    rows, raw = (read_csv(Path(name).read_bytes().decode()) for name in ("out.csv", "raw.csv"))
    expected = decision(logits)
    assert [row["label"] for row in rows] == [LABELS[label] for label in expected.labels]
    assert [row["doubtful"] for row in rows] == ["false" if certain else "true" for certain in expected.certain]
    assert 0 < sum(row["doubtful"] == "true" for row in rows) < 40
    assert [row["label"] for row in raw] == [LABELS[label] for label in logits.argmax(axis=1)]
    assert list(raw[0]) == ["content", "label", "probability", "truncated"]


def test_rows_without_a_known_word_are_doubtful_and_counted(
    exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inference, "WINDOW", 8)
    run = copy_of(exported_run, tmp_path)
    texts = ["a good film " * 8] * 10 + ["zebra zebra", "", "日本"]
    write_csv(Path("in.csv"), [{"content": text} for text in texts])
    summary = score(Request(run.path, "in.csv", "out.csv", "fp32"))
    # By hand: 240 known words, two zebras and two characters.
    assert (summary.tokens, summary.unknown) == (244, 4)
    assert ", 0 skipped, 1.6% of the tokens unknown, 3 without a known word: out.csv" in str(summary)
    # The model is sure enough of every row.
    write_json(run.decision, Decision(certain_from=[0.0, 0.0]).to_json())
    score(Request(run.path, "in.csv", "doubt.csv", "fp32"))
    assert [row["doubtful"] for row in read_csv(Path("doubt.csv").read_text())] == ["false"] * 10 + ["true"] * 3
    without = [
        {name: row[name] for name in row if name != "doubtful"} for row in read_csv(Path("doubt.csv").read_text())
    ]
    assert without == read_csv(Path("out.csv").read_text()), "nothing else has changed"
    load_script("predict").main(["--run", str(run.path), "--variant", "fp32", "zebra", "a good film"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("\t")[0].endswith("?") and second.split("\t")[0] == "positive"


def test_files_without_pyarrow_are_refused_in_one_line(
    exported_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A place for scoring single reviews has none.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    files = ["--input", "in.csv", "--output", "out.csv"]
    with pytest.raises(UsageError, match="^pyarrow is not installed: run pip install pyarrow$"):
        load_script("predict").main(["--run", str(exported_run.path), *files])


def test_few_unknown_tokens_are_not_worth_a_word(score_here: Callable[..., Summary]) -> None:
    Path("in.csv").write_text("content\n" + "good film\n" * 60 + "good zebra\n")
    summary = score_here("in.csv", "out.csv")
    assert summary.unknown == 1 and "unknown" not in str(summary) and "known word" not in str(summary)


def test_malformed_rows_are_all_found_before_anything_is_scored(
    score_here: Callable[..., Summary], tmp_path: Path
) -> None:
    Path("in.csv").write_text("content,id\n" + "good,1\n" * 20 + "bad\n" + "good,1\n" * 20 + "bad,1,2\n")
    with pytest.raises(UsageError, match="in.csv, line 22: 1 fields, but the header has 2, as are 1 more rows"):
        score_here("in.csv", "out.csv")
    assert files_under(tmp_path) == {"in.csv"}


def test_malformed_rows_that_are_skipped_are_reported_and_counted(score_here: Callable[..., Summary]) -> None:
    rows = [f"good {n},{n}" for n in range(50)]
    for row, malformed in {7: "bad", 8: 'x,"y"z', 9: "a,b,c", 30: "caf\udce9,1"}.items():
        rows[row] = malformed
    text = "content,id\n" + "\n".join(rows) + "\n"
    Path("in.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    summary = score_here("in.csv", "out.csv", on_error="skip")
    assert (summary.rows, summary.skipped) == (46, 4) and "out.csv.errors.jsonl" in str(summary)
    left = [str(n) for n in range(50) if n not in (7, 8, 9, 30)]
    assert [row["id"] for row in read_csv(Path("out.csv").read_text())] == left
    errors = [json.loads(line) for line in Path("out.csv.errors.jsonl").read_text().splitlines()]
    assert [error["line"] for error in errors] == [9, 10, 11, 32]
    assert errors[0]["error"] == "1 fields, but the header has 2" and "not UTF-8" in errors[3]["error"]


def test_a_window_of_malformed_rows_alone_is_a_window(score_here: Callable[..., Summary]) -> None:
    Path("in.jsonl").write_text("[]\n" * 8 + '{"content": "good"}\n' + '{"content": 5}\n')
    assert score_here("in.jsonl", "out.jsonl", on_error="skip").skipped == 9
    assert len(Path("out.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(
    name: str, exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    def job(target: str, die_at: int = 0) -> dict[str, Any]:
        more = ["--on_error", "skip"] if name == "a.csv" else []
        argv = ["--run", str(exported_run.path), "--input", name, "--output", target, *more]
        return {"argv": argv, "window": 32, "die_at": die_at}

    shutil.copy(reviews / name, tmp_path)
    if name == "a.csv":
        # In most windows a row is malformed.
        (tmp_path / name).write_text(re.sub(r'\n"(\d*7)",', r'\n"\1","",', (reviews / name).read_text()))
    (whole,) = probe([job(f"whole{name}")], tmp_path)
    assert whole["code"] == 0, whole["stderr"]
    expected = (tmp_path / f"whole{name}").read_bytes()
    draw = random.Random(4)
    # The end, where one file takes the place of many, moment by moment.
    moments = [*draw.sample(range(1, whole["moments"] - 16), 6), *range(whole["moments"] - 16, whole["moments"] + 1)]
    jobs = [job(f"{moment}{name}", die) for moment in moments for die in (moment, 0)]
    answers = probe(jobs, tmp_path)
    for moment, killed, resumed in zip(moments, answers[::2], answers[1::2], strict=True):
        assert killed["code"] == -9, (moment, killed)
        finished = resumed["code"] == 2 and f"{moment}{name} exists" in resumed["stderr"]
        assert resumed["code"] == 0 or (finished and moment > whole["moments"] - 4), (moment, resumed)
        assert (tmp_path / f"{moment}{name}").read_bytes() == expected, moment
        if name == "a.csv":
            errors = (tmp_path / f"{moment}{name}.errors.jsonl").read_bytes()
            assert errors == (tmp_path / f"whole{name}.errors.jsonl").read_bytes() and errors
    assert sum(", 0 rows per" not in answer["stdout"] for answer in answers[1::2]) > 3, "something was left to do"


@pytest.mark.slow
def test_killed_between_parts_the_same_command_goes_on(exported_run: RunFolder, reviews: Path, tmp_path: Path) -> None:
    rows = read_csv((reviews / "a.csv").read_text())
    for number in range(3):
        write_csv(tmp_path / f"part-{number}.csv", rows[number * 90 : number * 90 + 90])

    def job(target: str, **settings: int) -> dict[str, Any]:
        argv = ["--run", str(exported_run.path), "--input", "part-*.csv", "--output", target]
        return {"argv": argv, "window": 32} | settings

    whole, killed, resumed = probe([job("whole.parquet"), job("out.parquet", die_at=26), job("out.parquet")], tmp_path)
    assert (whole["code"], killed["code"], resumed["code"]) == (0, -9, 0), resumed["stderr"]
    assert resumed["stdout"].startswith("270 rows (") and "of them were there" in resumed["stdout"]
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    (killed,) = probe([job("new.parquet", die_at=26)], tmp_path)
    (tmp_path / "part-1.csv").write_text("id,content\n1,good\n")
    (refused,) = probe([job("new.parquet")], tmp_path)
    assert (killed["code"], refused["code"]) == (-9, 2) and "the input has changed" in refused["stderr"]


@pytest.mark.slow
def test_killed_again_and_again_it_still_comes_to_its_end(
    exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    argv = ["--run", str(exported_run.path), "--input", str(reviews / "a.csv"), "--output"]
    often = [{"argv": [*argv, "out.csv"], "window": 32, "die_at": 12}] * 8
    *killed, last = probe([*often, {"argv": [*argv, "out.csv"], "window": 32}], tmp_path)
    assert {answer["code"] for answer in killed} == {-9} and last["code"] == 0
    assert "of them were there" in last["stdout"]
    (whole,) = probe([{"argv": [*argv, "whole.csv"], "window": 32}], tmp_path)
    assert whole["code"] == 0 and (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.slow
def test_a_journal_of_something_else_is_refused(exported_run: RunFolder, reviews: Path, tmp_path: Path) -> None:
    shutil.copy(reviews / "a.csv", tmp_path)
    other = copy_of(exported_run, tmp_path / "other")
    (other.onnx / "model.onnx").write_bytes((other.onnx / "model.onnx").read_bytes() + b"\x7a\x01x")
    content = json.loads(other.certificate.read_text())
    content["variants"]["fp32"]["sha256"] = file_sha256(other.onnx / "model.onnx")
    write_json(other.certificate, content)

    def job(run: Path, *more: str, **settings: Any) -> dict[str, Any]:
        argv = ["--run", str(run), "--input", "a.csv", "--output", "out.csv", "--variant", "fp32", *more]
        return {"argv": argv, "window": 32} | settings

    first, *changed = probe(
        [
            job(exported_run.path, die_at=12),
            job(other.path),
            job(exported_run.path, "--text_columns", "id"),
            job(exported_run.path, "--on_error", "skip"),
            job(exported_run.path, "--limit", "5"),
            job(exported_run.path, window=16),
        ],
        tmp_path,
    )
    kept = files_under(tmp_path / ".out.csv.parts")
    before = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(before + b"300,good\n")
    changed += probe([job(exported_run.path)], tmp_path)
    (tmp_path / "a.csv").write_bytes(before)
    decided = copy_of(exported_run, tmp_path / "decided")
    write_json(decided.decision, {"temperature": 2.0, "threshold": None, "certain_from": None})
    changed += probe([job(decided.path)], tmp_path)
    says = [
        "the model has changed",
        "the text columns has changed from ['content'] to ['id']",
        "the on_error has changed from stop to skip",
        "the limit has changed from None to 5",
        "the window has changed from 32 to 16",
        "the input has changed",
        f"the decision has changed from {Decision().to_json()} to {Decision(2.0).to_json()}",
    ]
    for answer, message in zip(changed, says, strict=True):
        assert answer["code"] == 2 and len(answer["stderr"].splitlines()) == 1, answer
        assert f"and since then {message}: undo the change, or give --overwrite to" in answer["stderr"]
    assert files_under(tmp_path / ".out.csv.parts") == kept, "and none of them touched what was there"
    (tmp_path / "a.csv").write_bytes(before + b"300,good\n")
    (anew,) = probe([job(exported_run.path, "--overwrite")], tmp_path)
    assert anew["code"] == 0 and anew["stdout"].startswith("301 rows in ")


def test_an_input_that_changes_meanwhile_is_noticed(
    score_here: Callable[..., Summary], reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(reviews / "a.csv", "a.csv")
    forward = OnnxClassifier._forward

    def touched(self: OnnxClassifier, batch: dict[str, np.ndarray]) -> np.ndarray:
        os.utime("a.csv", ns=(0, 0))
        return forward(self, batch)

    monkeypatch.setattr(OnnxClassifier, "_forward", touched)
    with pytest.raises(UsageError, match="a.csv was changed while it was scored"):
        score_here("a.csv", "out.csv")
    assert not Path("out.csv").exists()


def test_an_output_that_is_being_scored_is_refused_even_to_overwrite_it(
    score_here: Callable[..., Summary], reviews: Path, tmp_path: Path
) -> None:
    with Journal(Path("out.csv")).hold():
        for overwrite in (False, True):
            said = (
                f"out.csv is being scored by process {os.getpid()} on host .*: wait for it, or choose another --output"
            )
            with pytest.raises(UsageError, match=said):
                score_here(str(reviews / "a.csv"), "out.csv", overwrite=overwrite)
        score_here(str(reviews / "a.csv"), "other.csv")
        assert files_under(tmp_path) == {"other.csv", ".out.csv.lock"}
    assert files_under(tmp_path) == {"other.csv"}


@pytest.mark.slow
def test_of_two_scorings_into_one_output_the_second_is_refused_and_the_first_ends_well(
    exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    def command(source: str) -> list[str]:
        flags = ["--run", str(exported_run.path), "--input", source, "--output", "out.csv"]
        return [sys.executable, str(ROOT / "scripts" / "predict.py"), *flags]

    content = (reviews / "a.csv").read_bytes()
    # The first has an input that has not ended, so it goes on for as long as the test wants.
    with subprocess.Popen(command("-"), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin
        end = time.monotonic() + 100
        while not (tmp_path / ".out.csv.lock").exists() and time.monotonic() < end:
            time.sleep(0.02)
        for more in ([], ["--overwrite"]):
            second = [*command(str(reviews / "a.csv")), *more]
            refused = subprocess.run(second, cwd=tmp_path, capture_output=True, text=True, timeout=100)
            assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
            assert f"error: out.csv is being scored by process {first.pid} on host " in refused.stderr
        assert files_under(tmp_path) == {".out.csv.lock"}
        first.stdin.write(content)
        first.stdin.close()
        assert first.wait(100) == 0
    assert files_under(tmp_path) == {"out.csv"} and len(read_csv((tmp_path / "out.csv").read_text())) == 300


def test_several_processes_of_a_launcher_are_refused_in_one_line(
    exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    flags = ["--run", str(exported_run.path), "--input", str(reviews / "a.csv"), "--output", "out.csv"]
    main, other = (run_script("predict", *flags, cwd=tmp_path, RANK=rank, WORLD_SIZE="2") for rank in "01")
    assert main.returncode == other.returncode == 2 and not other.stderr + other.stdout + main.stdout
    (line,) = main.stderr.splitlines()
    assert line.startswith("predict.py: error: one process scores a file") and "--engine ray" in line
    assert not files_under(tmp_path)


@pytest.mark.parametrize("number", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_a_signal_keeps_what_is_done_and_says_how_to_continue(
    number: int, exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    flags = ["--run", str(exported_run.path), "--input", str(reviews / "a.csv"), "--output", "out.csv"]
    job = {"argv": flags, "window": 32}
    stopped, resumed = probe([job | {"die_at": 14, "signal": number}, job], tmp_path)
    assert stopped["code"] == 128 + number and stopped["stdout"] == "", stopped
    (line,) = stopped["stderr"].splitlines()
    assert line.endswith("stopped; .out.csv.parts keeps what is done: the same command goes on from it")
    assert resumed["code"] == 0 and "of them were there" in resumed["stdout"]
    assert files_under(tmp_path) == {"out.csv"}


@pytest.mark.slow
def test_standard_input_and_output_are_files_like_others(
    exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    run = ["--run", str(exported_run.path)]
    content = (reviews / "a.csv").read_text()
    streams = run_script("predict", *run, "--input", str(reviews / "a.csv"), "--output", "-", cwd=tmp_path)
    to_file = run_script("predict", *run, "--input", "-", "--output", "b.csv.gz", cwd=tmp_path, stdin=content)
    to_file_twice = run_script(
        "predict", *run, "--input", "-", "--output", "b.csv.gz", "--overwrite", cwd=tmp_path, stdin=content
    )
    lines = run_script("predict", *run, "--input", "-", "--output", "-", cwd=tmp_path, stdin='{"content": "good"}')
    for result in (streams, to_file, to_file_twice, lines):
        assert result.returncode == 0, result.stderr
    assert streams.stdout == uncompressed(tmp_path / "b.csv.gz") and streams.stdout.count("\n") == 301
    assert streams.stderr.startswith("300 rows in ") and "standard output" in streams.stderr
    assert json.loads(lines.stdout)["label"] == "positive"
    assert files_under(tmp_path) == {"b.csv.gz"}


def test_lines_of_standard_input_are_read_one_by_one() -> None:
    lines = read_lines(io.TextIOWrapper(io.BytesIO(b"good film\n" * 20_000 + b"caf\xe9\n")))
    assert next(lines) == "good film"
    with pytest.raises(UsageError, match="standard input is not UTF-8 after line "):
        list(lines)


@pytest.mark.slow
def test_a_reader_that_leaves_and_rows_that_are_left_out_cost_no_word(
    exported_run: RunFolder, reviews: Path, tmp_path: Path
) -> None:
    flags = ["--run", str(exported_run.path), "--input", str(reviews / "a.csv"), "--output", "-"]
    limited = run_script("predict", *flags, "--limit", "3", cwd=tmp_path)
    assert limited.stdout.count("\n") == 4 and len(limited.stderr.splitlines()) == 1
    predict = [sys.executable, str(ROOT / "scripts" / "predict.py"), *flags]
    command = ["sh", "-c", '"$@" | head -n 1', "sh", *predict]
    left = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert left.stdout.count("\n") == 1 and left.stderr.count("\n") <= 1, left.stderr


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("{", "standard input, line 5001: not JSON"),
        pytest.param('{"label": 1}', "line 5001: has a 'label'", marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_breaks_leaves_nothing(end: str, message: str, exported_run: RunFolder, tmp_path: Path) -> None:
    flags = ["--run", str(exported_run.path), "--input", "-", "--output", "out.jsonl"]
    content = '{"content": "good"}\n' * 5000
    result = run_script("predict", *flags, cwd=tmp_path, stdin=content + end)
    assert result.returncode == 2 and message in result.stderr and files_under(tmp_path) == set()


def test_neither_torch_nor_transformers_is_imported(exported_run: RunFolder, reviews: Path, tmp_path: Path) -> None:
    flags = ["--run", str(exported_run.path), "--input", str(reviews / "a.csv"), "--output", "out.csv"]
    result = run_script("predict", *flags, cwd=tmp_path, launcher=(sys.executable, "-X", "importtime"))
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert result.returncode == 0 and {"recipe", "onnxruntime"} <= imported
    assert not imported & {"torch", "transformers", "datasets", "accelerate", "optimum", "sklearn", "scipy"}


# Flags after --run, and what the line must say; `folder` writes the files. More mistakes inside files are in
# tests/files/test_one_reader.py.
CASES = [
    ("--input good.csv", "--input and --output go together"),
    ("--output out.csv", "--input and --output go together"),
    ("--input good.csv --output out.csv great", "--input does not go with reviews as arguments"),
    ("--input good.csv --output out.csv --json", "--input does not go with --json"),
    ("--limit 5 great", "--limit is for a file of reviews"),
    ("--escape backslash great", "--escape is for a file of reviews"),
    ("--input good.csv --output out.csv --quoting all", "invalid choice: 'all'"),
    ("--input good.csv --output out.csv --delimiter ;;", "--delimiter ';;' is not one character that can separate"),
    ("--input - --output out.json", "--output out.json must be .jsonl"),
    ("--input good.csv --output out.csv --limit 0", "'0' is not a number from 1"),
    ("--input good.csv --output out.csv --threads x", "'x' is not a number from 1"),
    ("--input good.csv --output out.csv --text_columns a b c", "--text_columns takes one column or two, not 3"),
    ("--input good.csv --output out.csv --variant int4", "invalid choice: 'int4'"),
    ("--input good.csv --output out.csv --variant fp16", "no certified variant 'fp16', only fp32"),
    ("--input good.csv --output out.csv --provider cuda", "has no certified variant for cuda, only fp32"),
    ("--input good.csv --output out.csv --provider cuda --variant fp32", "ONNX Runtime has no CUDAExecutionProvider"),
    ("--input nowhere.csv --output out.csv", "no file 'nowhere.csv' here"),
    ("--input folder.csv --output out.csv", "folder.csv is a folder without files"),
    ("--input *.tsv --output out.csv", "the pattern '*.tsv' finds no file"),
    ("--input s3://bucket/good.csv --output out.csv", "s3://bucket/good.csv is not on this machine: --engine ray"),
    ("--input good.csv --output gs://bucket/out", "gs://bucket/out is not on this machine: --engine ray"),
    ("--input good.csv both.csv --output out.csv --text_columns content", "both.csv has other columns than good.csv"),
    ("--input good.csv fields.csv --output out.csv", "fields.csv, line 3: 2 fields, but the header has 1"),
    ("--input good.csv good.parquet --output out.csv", "files that are .csv, and others that are .parquet"),
    ("--input good.csv ./good.csv --output out.csv", "./good.csv is named twice"),
    ("--input - good.csv --output out.csv", "standard input is scored alone, not beside files"),
    ("--input link.csv other.csv --output other.csv --overwrite", "--output other.csv is the input"),
    ("--input good.parquet twice.parquet --output out.parquet", "twice.parquet has other columns than good.parquet"),
    ("--input good.txt --output out.txt", "--input good.txt has the extension '.txt'; known are .csv, .tsv, .jsonl"),
    ("--input good.csv --output out.txt", "--output out.txt has the extension '.txt'"),
    ("--input good.csv --output out --limit 3", "--limit is for one output: give --output a file, not a folder"),
    ("--input good.csv --output out.csv --output_format csv", "--output_format is for a folder"),
    ("--input good.csv --output out/ --output_format xml", "invalid choice: 'xml'"),
    ("--input - --output out/", "standard input has no name for a part in out"),
    ("--input good.csv --output other.csv/", "--output other.csv is a file, and not a folder"),
    ("--input good.csv --output .", "--output . holds the input good.csv"),
    ("--input good.csv --output nowhere/out/", "no folder nowhere for the output nowhere/out"),
    ("--input good.csv named/good.csv --output out/", "good.csv and named/good.csv would both be written to good.csv"),
    (
        "--input good.csv stars.csv --output out/",
        "stars.csv has other columns than good.csv: stars, content: files",
    ),
    ("--input good.csv --output strange/", "strange holds notes.txt, which is no part of this scoring; choose another"),
    ("--input good.csv --output unknown/", "unknown holds good.csv, which no scoring has written; choose another"),
    ("--input good.csv fields.csv --output out/", "fields.csv, line 3: 2 fields, but the header has 1"),
    ("--all_scores great", "--all_scores is for --json, or for a file of reviews"),
    ("--skip_scored id great", "--skip_scored is for a file of reviews"),
    ("--input - --output out.csv --skip_scored id", "--skip_scored is for files"),
    (
        "--input good.csv --output out.csv --skip_scored key",
        "good.csv, line 2 has no column 'key', which --skip_scored",
    ),
    (
        "--input good.parquet --output out.csv --skip_scored key",
        "good.parquet has no column 'key', which --skip_scored",
    ),
    (
        "--input repeated.csv --output out.csv --skip_scored id",
        "repeated.csv, line 3 has the id '1', as an earlier row",
    ),
    ("--input good.csv --output both.csv --skip_scored id", "both.csv has no column 'id'; it has content, label"),
    ("--input good.csv --output ids.csv --skip_scored id", "ids.csv has the columns id, label, and this scoring would"),
    ("--input good.csv --output out.parquet.gz", "has the extension '.parquet.gz'"),
    ("--input twice.parquet --output out.csv", "twice.parquet has several columns 'id', which only parquet can have"),
    ("--input good.parquet --output -", "parquet cannot be read from or written to a standard stream"),
    ("--input - --output out.parquet", "parquet cannot be read from or written to a standard stream"),
    ("--input - --output out.csv", "standard input is empty: its first line must name the columns"),
    ("--input good.csv --output good.csv", "--output good.csv is the input"),
    ("--input good.csv --output link.csv --overwrite", "--output link.csv is the input"),
    ("--input good.csv --output hard.csv --overwrite", "--output hard.csv is the input"),
    ("--input good.csv --output other.csv", "other.csv exists: choose another --output, or give --overwrite"),
    ("--input good.csv --output errors.csv", "errors.csv.errors.jsonl exists"),
    ("--input good.csv --output nowhere/out.csv", "no folder nowhere for the output nowhere/out.csv"),
    ("--input good.csv --output out.csv --text_columns body", "good.csv has no column 'body'; it has id, content"),
    ("--input good.parquet --output out.parquet --text_columns body", "has no column 'body'; it has id, content"),
    ("--input good.parquet --output out.parquet --text_columns id", "column 'id' of good.parquet holds int64"),
    ("--input both.csv --output out.csv", "has the columns label, predicted_truncated, which scoring adds"),
    ("--input fields.csv --output out.csv", "fields.csv, line 3: 2 fields, but the header has 1"),
    ("--input good_as.jsonl --output out.jsonl", "good_as.jsonl, line 1: not JSON"),
    ("--input cut.csv.gz --output out.csv", "cut.csv.gz is not a whole gzip file that can be read"),
    ("--input csv.parquet --output out.parquet", "csv.parquet is not a whole parquet file that can be read"),
    ("--input garbled.parquet --output out.parquet", "garbled.parquet is not a whole parquet file that can be read"),
]


@pytest.fixture
def folder(tmp_path: Path, reviews: Path) -> Path:
    """The files that the cases name."""
    good = "id,content\n" + "".join(f"{n},good film {n}\n" for n in range(40))
    texts = {
        "good.csv": good,
        "good.txt": good,
        "good_as.jsonl": good,
        "csv.parquet": good,
        "other.csv": "precious",
        "errors.csv.errors.jsonl": "precious",
        "good.jsonl": '{"content": "good"}\n',
        "both.csv": "content,label,predicted_truncated\n1,2,3\n",
        "fields.csv": "content\ngood\nbad,worse\n",
        "stars.csv": "stars,content\n5,good\n",
        "repeated.csv": "id,content\n1,good\n1,bad\n",
        "ids.csv": "id,label\n1,good\n",
        "strange/notes.txt": "precious",
        "unknown/good.csv": "precious",
        "named/good.csv": good,
    }
    for name in ("strange", "unknown", "named"):
        (tmp_path / name).mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to("good.csv")
    os.link(tmp_path / "good.csv", tmp_path / "hard.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(good.encode())[:-9])
    table = pyarrow.table({"id": range(40), "content": [f"good film {n}" for n in range(40)]})
    parquet.write_table(table, tmp_path / "good.parquet")
    twice = pyarrow.table([["good"], [1], [2]], names=["content", "id", "id"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "garbled.parquet").write_bytes(whole[:300] + bytes(200) + whole[500:])
    return tmp_path


def test_bad_input_costs_one_line_and_exit_code_2_and_writes_nothing(folder: Path, exported_run: RunFolder) -> None:
    before = {name: (folder / name).read_bytes() for name in files_under(folder)}
    answers = probe([{"argv": ["--run", str(exported_run.path), *flags.split()]} for flags, _ in CASES], folder)
    for (flags, message), answer in zip(CASES, answers, strict=True):
        lines = answer["stderr"].splitlines()
        assert answer["code"] == 2 and len(lines) == 1 and not answer["stdout"], (flags, answer)
        assert lines[0].startswith("predict.py: error: ") and message in lines[0], (flags, lines[0])
    assert {name: (folder / name).read_bytes() for name in files_under(folder)} == before


def test_a_run_without_a_whole_export_is_refused(exported_run: RunFolder, tiny_run: RunFolder, folder: Path) -> None:
    damaged = RunFolder(shutil.copytree(exported_run.path, folder / "damaged"))
    # Each of them, because it depends on the machine's speed which variant is the fastest.
    for file in damaged.onnx.glob("*.onnx"):
        file.write_bytes(b"x")
    flags = ["--input", "good.csv", "--output", "out.csv"]
    bare = RunFolder(shutil.copytree(tiny_run.path, folder / "bare"))
    shutil.rmtree(bare.onnx, ignore_errors=True)
    runs = ["nowhere", str(bare.path), str(damaged.path)]
    answers = probe([{"argv": ["--run", run, *flags]} for run in runs], folder)
    says = ["no run at nowhere", "run python scripts/export_onnx.py", "not the file that was certified"]
    for answer, message in zip(answers, says, strict=True):
        assert answer["code"] == 2 and len(answer["stderr"].splitlines()) == 1 and message in answer["stderr"], answer
    assert not (folder / "out.csv").exists()


def test_odd_texts_are_scored(score_here: Callable[..., Summary]) -> None:
    texts = [
        "",
        " ",
        "x" * 1_000_000,
        "good " * 200_000,
        "日本語 مرحبا 🎧",
        f"{NUL}\x07\t\n",
        "\u202e\ufeff\u0301" * 50,
    ]
    write_csv(Path("in.csv"), [{"content": text} for text in texts])
    score_here("in.csv", "out.csv")
    assert [row["content"] for row in read_csv(Path("out.csv").read_bytes().decode())] == texts


def small_disk(small: Path, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount a small disk at a folder, where the machine lets it."""
    in_a_namespace = ["unshare", "--map-root-user", "--mount"]
    trial = [*in_a_namespace, "mount", "-t", "tmpfs", "-o", "size=40k", "none", str(small)]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    return subprocess.run([*in_a_namespace, "sh", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_full_disk_is_said_and_what_is_done_is_gone_on_from(exported_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    write_csv(tmp_path / "in.csv", [{"content": "good film " * 20, "n": str(n)} for n in range(6000)])
    source = compress(tmp_path / "in.csv", ".zst")
    predict = f"{sys.executable} {ROOT / 'scripts' / 'predict.py'} --run {exported_run.path}"
    script = f"""mount -t tmpfs -o size=900k none small
        {predict} --input in.csv --output small/out.csv; echo $?; ls -A small
        {predict} --input {source} --output small/out.csv; echo $?; ls -A small
        mount -o remount,size=9m none small
        {predict} --input {source} --output small/out.csv; echo $?; ls -A small; cp small/out.csv ."""
    result = small_disk(tmp_path / "small", script, tmp_path)
    too_large, full = result.stderr.splitlines()
    assert "small has 0.9 MB free, and out.csv needs about 2." in too_large and "free some space" in too_large
    assert "No space left on device; small/.out.csv.parts keeps what is done: the same command goes on" in full
    first, second, third, fourth, last, *after = result.stdout.splitlines()
    assert [first, second, third, last] == ["2", "2", ".out.csv.parts", "0"], result.stdout
    assert "of them were there" in fourth and after == ["out.csv"]
    assert len(read_csv((tmp_path / "out.csv").read_text())) == 6000

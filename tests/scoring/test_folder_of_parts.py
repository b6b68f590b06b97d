"""Each input becomes a part of its own, whole or missing, with the bytes that scoring that file alone gives."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.dataset as dataset
import pyarrow.parquet as parquet
import pytest
from conftest import copy_of, files_under
from scored_files import probe, read_csv, write_csv

from recipe.errors import UsageError
from recipe.files.atomic import write_json
from recipe.inference import classifier as inference
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier
from recipe.run_folder import RunFolder
from recipe.scoring import Request, Summary, score
from recipe.scoring.parts import LocalStorage, PartFolder, part_names

NAMES = ("a.csv", "b.csv", "c.csv")


@pytest.fixture
def score_here(exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Summary]:
    """Score in windows of 8 rows, in a folder of the test's own that has three inputs in `in`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inference, "WINDOW", 8)
    write_inputs(Path("in"))
    return lambda source, target, **more: score(Request(exported_run.path, source, target, variant="fp32", **more))


def write_inputs(folder: Path, rows: int = 20) -> None:
    folder.mkdir()
    for number, name in enumerate(NAMES):
        texts = ["good film", "awful film"] * (rows // 2)
        write_csv(folder / name, [{"id": f"{number}-{row}", "content": text} for row, text in enumerate(texts)])


def parts_in(folder: Path) -> dict[str, bytes]:
    """The bytes of each file that readers of the folder see."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] not in "._"}


def test_each_part_is_what_scoring_its_file_alone_gives(score_here: Callable[..., Summary]) -> None:
    summary = score_here("in", "scored")
    for name in NAMES:
        score_here(f"in/{name}", f"alone-{name}")
    assert parts_in(Path("scored")) == {name: Path(f"alone-{name}").read_bytes() for name in NAMES}
    assert summary.rows == 60 and str(summary).endswith(": scored (3 parts)")


@pytest.mark.parametrize("output", ["out", "out/", "there.csv"])
def test_a_name_without_an_extension_or_with_a_slash_or_of_a_folder_is_a_folder(
    output: str, score_here: Callable[..., Summary]
) -> None:
    Path("there.csv").mkdir()
    score_here("in/a.csv", output)
    assert list(parts_in(Path(output))) == ["a.csv"]


@pytest.mark.parametrize("output_format", ["csv", "tsv", "jsonl", "parquet"])
def test_parts_may_have_another_format(output_format: str, score_here: Callable[..., Summary]) -> None:
    score_here("in", "out", output_format=output_format, all_scores=True)
    assert set(parts_in(Path("out"))) == {f"{letter}.{output_format}" for letter in "abc"}
    score_here("in/b.csv", f"alone.{output_format}", all_scores=True)
    assert Path(f"out/b.{output_format}").read_bytes() == Path(f"alone.{output_format}").read_bytes()


def test_a_compression_stays_unless_the_parts_become_parquet() -> None:
    inputs = ["x/a.csv.gz", "s3://bucket/b.CSV", "c.json.zst"]
    assert list(part_names(inputs, None)) == ["a.csv.gz", "b.CSV", "c.jsonl.zst"]
    assert list(part_names(inputs, "jsonl")) == ["a.jsonl.gz", "b.jsonl", "c.jsonl.zst"]
    assert list(part_names(inputs, "parquet")) == ["a.parquet", "b.parquet", "c.parquet"]


def test_other_readers_see_the_parts_alone(score_here: Callable[..., Summary]) -> None:
    Path("in/b.csv").write_text("id,content\n1,good,film\n2,good\n")
    summary = score_here("in", "out", output_format="parquet", on_error="skip")
    assert (summary.rows, summary.skipped) == (41, 1)
    assert dataset.dataset("out").count_rows() == 41
    (error,) = map(json.loads, Path("out/_b.parquet.errors.jsonl").read_text().splitlines())
    assert error == {"line": 2, "error": "3 fields, but the header has 2"}
    # This project reads the folder too.
    assert score_here("out", "again.parquet").rows == 41


def test_a_part_that_is_whole_is_not_scored_again_and_the_totals_know_it(
    score_here: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    score_here("in", "out")
    expected = parts_in(Path("out"))
    Path("out/b.csv").unlink()
    summary = score_here("in", "out")
    assert (summary.rows, summary.rows_before) == (60, 40) and parts_in(Path("out")) == expected
    monkeypatch.setattr(OnnxClassifier, "_forward", None)
    assert score_here("in", "out").rows_before == 60
    assert score_here("in", "out", overwrite=True).rows_before == 60, "the same bytes would come"


def test_new_inputs_join_the_parts(score_here: Callable[..., Summary]) -> None:
    score_here(["in/a.csv", "in/b.csv"], "out")
    assert (found := score_here("in", "out")).rows_before == 40 and found.rows == 60


def test_the_model_is_loaded_once(score_here: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], OnnxClassifier.from_run
    monkeypatch.setattr(OnnxClassifier, "from_run", lambda *args: loaded.append(args) or load(*args))
    score_here("in", "out")
    assert len(loaded) == 1


def test_a_folder_of_something_else_is_refused_and_replaced_on_demand(
    score_here: Callable[..., Summary], exported_run: RunFolder
) -> None:
    score_here("in", "out")
    before = files_under(Path("out"))
    decided = copy_of(exported_run, Path.cwd())
    write_json(decided.decision, Decision(2.0).to_json())
    changes: list[tuple[str, dict[str, Any]]] = [
        ("holds parts of something else: the all_scores has changed from False to True", {"all_scores": True}),
        ("holds parts of something else: the on_error has changed from stop to skip", {"on_error": "skip"}),
        ("holds b.csv, which is no part of this scoring", {"source": ["in/a.csv", "in/c.csv"]}),
        ("holds a.csv, which is no part of this scoring", {"output_format": "jsonl"}),
    ]
    for message, settings in changes:
        with pytest.raises(UsageError, match=f"^out {message}; choose another --output, or give --overwrite$"):
            score_here(settings.pop("source", "in"), "out", **settings)
    with pytest.raises(UsageError, match="the decision has changed from"):
        score(Request(decided.path, "in", "out", variant="fp32"))
    content = Path("in/b.csv").read_text()
    Path("in/b.csv").write_text(content + "x,good\n")
    with pytest.raises(UsageError, match="^out holds b.csv of another input: the file has changed since"):
        score_here("in", "out")
    assert files_under(Path("out")) == before
    assert score_here("in", "out", overwrite=True).rows == 61
    Path("out/notes.txt").write_text("precious")
    score_here(["in/a.csv", "in/c.csv"], "out", overwrite=True, output_format="jsonl")
    assert set(parts_in(Path("out"))) == {"a.jsonl", "c.jsonl", "notes.txt"}, "what nobody scored stays"


def test_a_mistake_in_any_input_leaves_nothing(score_here: Callable[..., Summary], tmp_path: Path) -> None:
    Path("in/c.csv").write_text("id,content\n1,good,film\n")
    before = files_under(tmp_path)
    with pytest.raises(UsageError, match="in/c.csv, line 2: 3 fields, but the header has 2"):
        score_here("in", "out")
    Path("in/c.csv").write_text("content,id\n1,good\n")
    with pytest.raises(UsageError, match="in/c.csv has other columns than in/a.csv: content, id: files"):
        score_here("in", "out")
    assert files_under(tmp_path) == before and not Path("out").exists()
    score_here(["in/a.csv", "in/b.csv"], "out")
    with pytest.raises(UsageError, match="in/c.csv has other columns than in/a.csv"):
        score_here("in", "out")


def test_a_folder_that_is_being_scored_is_refused(score_here: Callable[..., Summary]) -> None:
    Path("out").mkdir()
    import fcntl

    with Path("out/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="out is being scored by .*: wait for it, or choose another --output"):
            score_here("in", "out")


def test_whoever_scores_elsewhere_finds_what_is_missing(tmp_path: Path) -> None:
    folder, settings = PartFolder(LocalStorage(tmp_path), ["a.csv", "b.csv"]), {"model": "m", "limit": None}
    folder.require_same(settings)
    folder.begin(settings)
    counts = Summary("", rows=3).counts
    folder.record("a.csv", "1", counts)
    assert folder.whole(settings) == {}, "a record before its part says nothing"
    (tmp_path / "a.csv").write_text("scored")
    assert folder.whole(settings) == {"a.csv": {"input": "1", **counts}}
    folder.require_same(settings)
    assert folder.whole({"model": "other"}) == {}
    with pytest.raises(UsageError, match="the model has changed from m to other"):
        folder.require_same({"model": "other"})
    folder.begin({"model": "other"})
    assert files_under(tmp_path) == {"_scoring.json"}


@pytest.mark.parametrize("content", ["{", "[1]", "null", ""])
def test_a_damaged_record_is_none_and_a_damaged_manifest_is_refused(content: str, tmp_path: Path) -> None:
    folder, settings = PartFolder(LocalStorage(tmp_path), ["a.csv"]), {"model": "m"}
    folder.begin(settings)
    folder.record("a.csv", "1", Summary("").counts)
    (tmp_path / "a.csv").write_text("scored")
    (tmp_path / ".a.csv.json").write_text(content)
    assert folder.whole(settings) == {}
    (tmp_path / ".a.csv.json").write_text('{"input": "1", "rows": 3}')
    assert folder.whole(settings) == {}, "it lacks counts"
    (tmp_path / "_scoring.json").write_text(content)
    with pytest.raises(UsageError, match="holds a.csv, which no scoring has written; .* give --overwrite$"):
        folder.require_same(settings)


def test_other_names_of_the_added_columns_are_said_once(
    score_here: Callable[..., Summary], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        write_csv(Path("in") / name, [{"label": "1", "content": "good film"}])
    score_here("in", "out")
    assert capsys.readouterr().out.count("there is a column 'label', so the added ones are called predicted_label") == 1


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["csv", "parquet"])
def test_killed_at_any_moment_the_same_command_makes_the_same_parts(
    output_format: str, exported_run: RunFolder, tmp_path: Path
) -> None:
    write_inputs(tmp_path / "in", 96)
    malformed = (tmp_path / "in" / "b.csv").read_text().replace('"1-7",', '"1-7","",')
    (tmp_path / "in" / "b.csv").write_text(malformed)

    def job(target: str, die_at: int = 0) -> dict[str, Any]:
        more = ["--on_error", "skip", "--output_format", output_format]
        argv = ["--run", str(exported_run.path), "--input", "in", "--output", f"{target}/", *more]
        return {"argv": argv, "window": 32, "die_at": die_at}

    (whole,) = probe([job("whole")], tmp_path)
    assert whole["code"] == 0 and whole["stdout"].startswith("287 rows in "), whole
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in files_under(tmp_path / "whole")}
    moments = random.Random(3).sample(range(1, whole["moments"] + 1), 24)
    answers = probe([job(f"at-{moment}", die) for moment in moments for die in (moment, 0)], tmp_path)
    for moment, killed, resumed in zip(moments, answers[::2], answers[1::2], strict=True):
        assert killed["code"] == -9 and resumed["code"] == 0, (moment, killed, resumed)
        folder = tmp_path / f"at-{moment}"
        assert {name: (folder / name).read_bytes() for name in files_under(folder)} == expected, moment
        assert resumed["stdout"].startswith("287 rows "), (moment, resumed)
    assert sum("of them were there" in answer["stdout"] for answer in answers[1::2]) > 8


@pytest.mark.slow
def test_killed_while_a_part_is_replaced_the_old_one_is_not_taken_for_it(
    exported_run: RunFolder, tmp_path: Path
) -> None:
    def job(folder: str, **settings: int) -> dict[str, Any]:
        argv = ["--run", str(exported_run.path), "--input", "in", "--output", folder, "--overwrite"]
        return {"argv": argv} | settings

    write_inputs(tmp_path / "in")
    (first,) = probe([job("old")], tmp_path)
    write_csv(tmp_path / "in" / "b.csv", [{"id": "new", "content": "awful"}])
    shutil.copytree(tmp_path / "old", tmp_path / "whole")
    (whole,) = probe([job("whole")], tmp_path)
    assert first["code"] == whole["code"] == 0 and whole["stdout"].startswith("41 rows (40 of them were there)")
    moments = range(1, whole["moments"] + 1)
    for moment in moments:
        shutil.copytree(tmp_path / "old", tmp_path / f"at-{moment}")
    answers = probe([job(f"at-{moment}", die_at=die) for moment in moments for die in (moment, 0)], tmp_path)
    assert {answer["code"] for answer in answers[::2]} == {-9} and {answer["code"] for answer in answers[1::2]} == {0}
    for moment in moments:
        assert parts_in(tmp_path / f"at-{moment}") == parts_in(tmp_path / "whole"), moment


def test_a_signal_keeps_the_parts_and_says_so(exported_run: RunFolder, tmp_path: Path) -> None:
    write_inputs(tmp_path / "in", 96)
    argv = ["--run", str(exported_run.path), "--input", "in", "--output", "out"]
    stopped, resumed = probe([{"argv": argv, "window": 32, "die_at": 40, "signal": 2}, {"argv": argv}], tmp_path)
    assert stopped["code"] == 130 and stopped["stdout"] == ""
    assert stopped["stderr"].endswith("stopped; out keeps what is done: the same command goes on from it\n")
    assert resumed["code"] == 2 and "the window has changed from 32 to 2048" in resumed["stderr"]


def rows_of(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(parquet.read_table(file).to_pylist())
    if file.suffix == ".jsonl":
        return list(map(json.loads, file.read_text().splitlines()))
    return list(read_csv(file.read_text(), "\t" if file.suffix == ".tsv" else ","))


@pytest.fixture
def grown(tmp_path: Path) -> Callable[[str, range], str]:
    """Write rows with the numbers of a range as keys, half of them old ones, and return the file's name."""

    def write(name: str, numbers: range) -> str:
        rows = [{"id": number, "content": f"good film {number}"} for number in numbers]
        if name.endswith(".parquet"):
            parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        elif name.endswith(".jsonl"):
            (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        else:
            write_csv(tmp_path / name, rows, "\t" if name.endswith(".tsv") else ",")
        return name

    return write


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in.csv", "out.csv"),
        ("in.csv", "out.csv.gz"),
        ("in.tsv", "out.tsv"),
        ("in.jsonl", "out.jsonl"),
        ("in.parquet", "out.parquet"),
        ("in.jsonl", "out.parquet"),
        ("in.parquet", "out.csv"),
    ],
)
def test_rows_whose_key_is_scored_are_left_alone_and_new_ones_are_added(
    source: str, target: str, score_here: Callable[..., Summary], grown: Callable[[str, range], str]
) -> None:
    # Nothing is scored yet: all rows are new.
    assert score_here(grown(source, range(20)), target, skip_scored="id").rows == 20
    shutil.copy(target, "before")
    summary = score_here(grown(source, range(10, 45)), target, skip_scored="id")
    assert (summary.rows, summary.left_alone) == (25, 10) and ", 10 left alone: out" in str(summary)
    assert score_here(grown(source, range(45)), "whole" + target.removeprefix("out")).rows == 45
    if target.endswith(".gz"):
        return
    assert rows_of(Path(target)) == rows_of(Path("whole" + target.removeprefix("out")))
    if not target.endswith(".parquet"):
        assert Path(target).read_bytes().startswith(Path("before").read_bytes())
    state = Path(target).stat()
    assert score_here(source, target, skip_scored="id").left_alone == 45
    assert Path(target).stat() == state, "without a new row nothing is written"


def test_rows_are_added_below_a_line_that_was_not_ended(
    score_here: Callable[..., Summary], grown: Callable[[str, range], str]
) -> None:
    score_here(grown("in.csv", range(3)), "out.csv")
    Path("out.csv").write_text(Path("out.csv").read_text().rstrip("\n"))
    score_here(grown("in.csv", range(5)), "out.csv", skip_scored="id")
    assert [row["id"] for row in rows_of(Path("out.csv"))] == list("01234")


def test_rows_are_added_only_to_what_the_same_scoring_would_write(
    score_here: Callable[..., Summary], grown: Callable[[str, range], str]
) -> None:
    for name in ("csv", "jsonl", "parquet"):
        score_here(grown(f"in.{name}", range(3)), f"out.{name}")
        before = Path(f"out.{name}").read_bytes()
        with pytest.raises(UsageError, match=f"out.{name} has the columns id, content, label, .*: score into another"):
            score_here(grown(f"in.{name}", range(5)), f"out.{name}", skip_scored="id", all_scores=True)
        assert Path(f"out.{name}").read_bytes() == before


def test_rows_are_added_to_the_part_of_their_input(score_here: Callable[..., Summary]) -> None:
    score_here(["in/a.csv", "in/b.csv"], "out", skip_scored="id")
    before = parts_in(Path("out"))
    with Path("in/b.csv").open("a") as file:
        file.write("new,good\n0-5,awful\n")
    with pytest.raises(UsageError, match="in/b.csv, line 23 has the id '0-5', as an earlier row has"):
        score_here("in", "out", skip_scored="id")
    Path("in/b.csv").write_text(Path("in/b.csv").read_text().replace("0-5,awful\n", ""))
    summary = score_here("in", "out", skip_scored="id")
    assert (summary.rows, summary.left_alone) == (21, 40)
    after = parts_in(Path("out"))
    assert after["a.csv"] == before["a.csv"] and after["b.csv"].startswith(before["b.csv"])
    assert after["b.csv"].count(b"\n") == 22
    assert score_here("in", "out").rows_before == 61, "the records know of the new rows"
    # The inputs of the old parts need not be there any more.
    write_csv(Path("d.csv"), [{"id": "0-1", "content": "good"}, {"id": "d", "content": "good"}])
    assert score_here("d.csv", "out", skip_scored="id").rows == 1
    with pytest.raises(UsageError, match="holds parts of something else: the all_scores has changed"):
        score_here("d.csv", "out", skip_scored="id", all_scores=True, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.csv", "out.parquet", "out/"])
def test_killed_while_rows_are_added_the_same_command_ends_with_the_same_bytes(
    target: str, exported_run: RunFolder, tmp_path: Path, grown: Callable[[str, range], str]
) -> None:
    def job(folder: str, *more: str, die_at: int = 0) -> dict[str, Any]:
        argv = ["--run", str(exported_run.path), "--input", "in.csv", "--output", f"{folder}/{target}", *more]
        return {"argv": argv, "window": 32, "die_at": die_at}

    (tmp_path / "start").mkdir()
    grown("in.csv", range(40))
    (first,) = probe([job("start")], tmp_path)
    grown("in.csv", range(20, 180))
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    (whole,) = probe([job("whole", "--skip_scored", "id")], tmp_path)
    assert first["code"] == whole["code"] == 0 and whole["stdout"].startswith("140 rows in "), whole
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in files_under(tmp_path / "whole")}
    draw, last = random.Random(6), whole["moments"]
    moments = [*draw.sample(range(1, last - 12), 6), *range(last - 12, last + 1)]
    for moment in moments:
        shutil.copytree(tmp_path / "start", tmp_path / f"at-{moment}")
    jobs = [job(f"at-{moment}", "--skip_scored", "id", die_at=die) for moment in moments for die in (moment, 0)]
    answers = probe(jobs, tmp_path)
    for moment, killed, resumed in zip(moments, answers[::2], answers[1::2], strict=True):
        assert killed["code"] == -9 and resumed["code"] == 0, (moment, killed, resumed)
        folder = tmp_path / f"at-{moment}"
        found = {name: (folder / name).read_bytes() for name in files_under(folder)}
        assert set(found) == set(expected), moment
        # The counts of a part that took its place a moment before the kill are not known.
        assert all(found[name] == expected[name] for name in found if not name.endswith(".csv.json")), moment

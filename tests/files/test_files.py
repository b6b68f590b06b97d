"""Your own reviews: every format says the same, and what is wrong with a file is said with its line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from conftest import NEGATIVE, POSITIVE
from datasets import ClassLabel, Dataset, Features, Value

from recipe.arguments.data import DataArguments
from recipe.arguments.parser import Arguments
from recipe.data.own_files import read_files
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.errors import UsageError
from recipe.evaluation.report import evaluate_run
from recipe.export.variants import export
from recipe.training.run import train

# Quotes, commas, a newline, a tab, a colon, emoji and other scripts: what breaks readers.
ROWS = [
    {"label": "1", "title": 'Say "good"', "content": "it's great, really\nsecond line"},
    {"label": "0", "title": "Überhaupt nicht", "content": "poor\tand: awful 🎧 日本語"},
    {"label": "1", "title": "", "content": "lovely"},
    {"label": "0", "title": "Bad", "content": "awful"},
]


def delimited(rows: list[dict[str, str]], delimiter: str) -> str:
    """The rows as csv or tsv, every field quoted."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(delimiter.join('"' + field.replace('"', '""') + '"' for field in line) for line in lines)


def write(folder: Path, extension: str, rows: list[dict[str, str]]) -> Path:
    """Write the rows in the format that an extension means."""
    file = folder / f"reviews{extension}"
    if extension == ".parquet":
        Dataset.from_list(rows).to_parquet(file)
    elif extension == ".jsonl":
        file.write_text("\n".join(json.dumps(row | {"label": int(row["label"])}) for row in rows), encoding="utf-8")
    else:
        file.write_text(delimited(rows, {".csv": ",", ".tsv": "\t"}[extension]), encoding="utf-8")
    return file


@pytest.mark.parametrize("extension", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(extension: str, tmp_path: Path) -> None:
    file = write(tmp_path, extension, ROWS)
    assert read_files([str(file)], ["title", "content"], "label").rows.to_list() == ROWS


def test_fasttext_lines_are_label_title_and_content(tmp_path: Path) -> None:
    file = tmp_path / "train.ft.txt"
    file.write_text("__label__2 Great: it works: well\n\n__label__1 no title here\n", encoding="utf-8")
    assert read_files([str(file)], ["title", "content"], "label").rows.to_list() == [
        {"label": "2", "title": "Great", "content": "it works: well"},
        {"label": "1", "title": "", "content": "no title here"},
    ]


def test_a_byte_order_mark_and_windows_lines_are_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufefflabel,content\r\n1,good\r\n\r\n0,bad\r\n".encode())
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"label": 1, "content": "good"}\r\n'.encode())
    rows = read_files([str(tmp_path / "a.csv")], ["content"], "label").rows.to_list()
    assert rows == [{"label": "1", "content": "good"}, {"label": "0", "content": "bad"}]
    assert read_files([str(tmp_path / "a.jsonl")], ["content"], "label").rows["content"][:] == ["good"]


def test_a_review_may_be_a_megabyte_long(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"label,content\n1,{'good ' * 200_000}\n")
    assert len(read_files([str(tmp_path / "long.csv")], ["content"], "label").rows["content"][0]) == 1_000_000


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("label,content\n1,good\n")
    assert read_files([str(file)], ["content"], "label").rows["content"][:] == ["good"]
    file.write_text("label,content\n1,fine\n")
    assert read_files([str(file)], ["content"], "label").rows["content"][:] == ["fine"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl holds no rows"),
        ("a.csv", b"label,content\n", "a.csv holds no rows"),
        ("a.txt", b"__label__1 good\nno label\n", "a.txt, line 2: does not begin with __label__NAME"),
        ("a.jsonl", b'{"label": [1], "content": "x"}\n', r"a.jsonl, line 1: \[1\] is a list, where a label is needed"),
        ("a.jsonl", b'{"label": 1, "content": "\\ud83d"}\n', "line 1: holds half of a character in 'content'"),
    ],
)
def test_what_only_training_refuses_is_named_with_its_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_files([str(tmp_path / name)], ["content"], "label")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file 'nowhere.csv' here"):
        read_files(["nowhere.csv"], ["content"], "label")
    with pytest.raises(UsageError, match="--test_file needs a --train_file beside it"):
        load_reviews(DataArguments(test_file="x.csv"), seed=42)


def reviews_with(folder: Path, labels: list[object], test_labels: list[object] | None = None) -> DataArguments:
    """Files whose rows carry these labels."""
    for name, values in {"train": labels * 10, "test": test_labels or labels}.items():
        lines = [json.dumps({"label": label, "content": f"{name} {row}"}) for row, label in enumerate(values)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return DataArguments(
        train_file=str(folder / "train.jsonl"), test_file=str(folder / "test.jsonl"), max_train_samples=-1
    )


@pytest.mark.parametrize(
    ("labels", "names", "encoded"),
    [
        ([1, 0], ["negative", "positive"], [1, 0]),
        (["2", "1"], ["negative", "positive"], [1, 0]),
        ([1.0, 2.0], ["negative", "positive"], [0, 1]),
        (["pos", "neg"], ["neg", "pos"], [1, 0]),
        ([True, False], ["false", "true"], [1, 0]),
        ([10, 9, 1], ["1", "9", "10"], [2, 1, 0]),
        (["spam", "ham", "eggs"], ["eggs", "ham", "spam"], [2, 1, 0]),
    ],
)
def test_labels_are_understood_and_named(
    labels: list[object], names: list[str], encoded: list[int], tmp_path: Path
) -> None:
    reviews = load_reviews(reviews_with(tmp_path, labels), seed=42)
    assert reviews.label_names == names and reviews.test.labels.tolist() == encoded


@pytest.mark.parametrize(
    ("labels", "test_labels", "message"),
    [
        ([1, 1], None, "every train row has the same label in 'label' .1.: two are needed"),
        (["a", "b"], ["a", "c"], "row 2 of .*test.jsonl has the label 'c', which no train row has: a, b"),
        ([1, 0], [1, None], "row 2 of .*test.jsonl has no label"),
        ([1, 0], [1, 2], "row 2 of .*test.jsonl has the label '2'"),
    ],
)
def test_labels_that_make_no_sense_are_named_with_their_row(
    labels: list[object], test_labels: list[object] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        load_reviews(reviews_with(tmp_path, labels, test_labels), seed=42)


def test_a_class_label_of_another_split_is_read_by_its_names(tmp_path: Path) -> None:
    def write_split(name: str, names: list[str]) -> str:
        features = Features({"label": ClassLabel(names=names), "content": Value("string")})
        rows = {"label": [names.index("good"), names.index("bad")] * 10, "content": [f"{name} {n}" for n in range(20)]}
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    files = {"train_file": write_split("train", ["bad", "good"]), "test_file": write_split("test", ["good", "bad"])}
    reviews = load_reviews(DataArguments(**files), seed=42)
    assert reviews.label_names == ["bad", "good"] and reviews.test.labels.tolist() == [1, 0] * 10


def test_what_pandas_writes_for_a_missing_label_is_none(tmp_path: Path) -> None:
    columns = {"label": [0.0, 1.0, float("nan")] * 20, "content": [f"film {row}" for row in range(60)]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "train.parquet")
    reviews = load_reviews(DataArguments(train_file=str(tmp_path / "train.parquet")), seed=42)
    assert reviews.label_names == ["negative", "positive"] and reviews.dropped["no_text_or_label"] == 20


def test_a_name_is_a_file_and_not_a_pattern(tmp_path: Path) -> None:
    for name in ("q?x.parquet", "qax.parquet", "data[train].parquet"):
        rows = {"label": [0, 1] * 10, "content": [f"{name} {n}" for n in range(20)]}
        Dataset.from_dict(rows).to_parquet(tmp_path / name)
        texts = (
            load_reviews(DataArguments(train_file=str(tmp_path / name)), seed=42).splits["train"].texts["content"][:]
        )
        assert len(texts) == 16 and all(text.startswith(name) for text in texts)


def test_categories_are_read_as_their_values(tmp_path: Path) -> None:
    label = pyarrow.array(["bad", "good"] * 10).dictionary_encode()
    table = pyarrow.table({"label": label, "content": [f"film {n}" for n in range(20)]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    assert load_reviews(DataArguments(train_file=str(tmp_path / "train.parquet")), seed=42).label_names == [
        "bad",
        "good",
    ]


def test_a_file_changed_within_the_same_moment_is_read_anew(tmp_path: Path) -> None:
    file, texts = tmp_path / "a.csv", []
    for word in ("good", "fine"):
        file.write_text(f"label,content\n1,{word}\n")
        os.utime(file, ns=(0, 0))
        texts += read_files([str(file)], ["content"], "label").rows["content"][:]
    assert texts == ["good", "fine"]


def test_a_text_that_repeats_stays_on_one_side(tmp_path: Path) -> None:
    rows = [json.dumps({"label": row % 50 % 2, "content": f"film {row % 50}"}) for row in range(400)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    reviews = load_reviews(DataArguments(train_file=str(tmp_path / "train.jsonl")), seed=42)
    assert [len(split) for split in reviews.splits.values()] == [320, 80] and not any(reviews.dropped.values())


def test_minus_one_is_a_label_but_in_a_class_label(tmp_path: Path) -> None:
    columns = {"label": [-1, 0, 1] * 20, "content": [f"film {row}" for row in range(60)]}
    args = DataArguments(train_file=str(tmp_path / "train.parquet"))
    Dataset.from_dict(columns).to_parquet(tmp_path / "train.parquet")
    reviews = load_reviews(args, seed=42)
    assert reviews.label_names == ["-1", "0", "1"] and reviews.dropped["no_text_or_label"] == 0
    features = Features({"label": ClassLabel(names=["bad", "good"]), "content": Value("string")})
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    reviews = load_reviews(args, seed=42)
    assert reviews.label_names == ["bad", "good"] and reviews.dropped["no_text_or_label"] == 20


def test_a_thousand_labels_are_hardly_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1,001 different labels in 'label': is it the label"):
        load_reviews(reviews_with(tmp_path, [f"x{number}" for number in range(1001)]), seed=42)


def test_rows_without_a_text_or_a_label_are_dropped_and_counted_but_never_from_test(tmp_path: Path) -> None:
    good = [{"label": row % 2, "content": f"fine {row}"} for row in range(20)]
    held_out = [{"label": row % 2, "content": f"held out {row}"} for row in range(4)]
    rows = [*good, {"label": 1, "content": "  \t"}, {"label": None, "content": "x"}, {"label": 0, "content": None}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, [*held_out, {"label": 1, "content": ""}])))
    args = DataArguments(train_file=str(tmp_path / "train.jsonl"), test_file=str(tmp_path / "test.jsonl"))
    reviews = load_reviews(args, seed=42)
    assert (
        reviews.dropped["no_text_or_label"] == 3
        and len(reviews.splits["train"]) + len(reviews.splits["validation"]) == 20
    )
    assert len(reviews.test) == 5 and texts_of(reviews.test)[-1] == ""


def test_one_of_two_texts_may_be_missing(tmp_path: Path) -> None:
    rows = [{"label": row % 2, "title": None if row % 3 else "t", "content": f"c{row}"} for row in range(30)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    args = DataArguments(train_file=str(tmp_path / "train.jsonl"), text_columns=["title", "content"])
    reviews = load_reviews(args, seed=42)
    assert reviews.dropped["no_text_or_label"] == 0 and {title for title, _ in texts_of(reviews.splits["train"])} == {
        "",
        "t",
    }


def test_a_validation_file_takes_the_place_of_rows_set_aside(tmp_path: Path) -> None:
    args = reviews_with(tmp_path, [1, 0])
    args.validation_file = args.test_file
    reviews = load_reviews(args, seed=42)
    assert [len(split) for split in reviews.splits.values()] == [20, 2, 2]


def test_a_text_column_of_numbers_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"label": [0, 1] * 5, "stars": [1, 2] * 5}).to_parquet(tmp_path / "train.parquet")
    args = DataArguments(train_file=str(tmp_path / "train.parquet"), text_columns=["stars"])
    with pytest.raises(UsageError, match="column 'stars' of .* holds int64, not text"):
        load_reviews(args, seed=42)


def test_a_class_label_keeps_its_own_names_and_order(tmp_path: Path) -> None:
    features = Features({"label": ClassLabel(names=["zebra", "ant"]), "content": Value("string")})
    rows = Dataset.from_dict(
        {"label": [0, 1] * 10, "content": [f"{'ab'[row % 2]}{row}" for row in range(20)]}, features=features
    )
    rows.to_parquet(tmp_path / "train.parquet")
    reviews = load_reviews(DataArguments(train_file=str(tmp_path / "train.parquet")), seed=42)
    assert reviews.label_names == ["zebra", "ant"]
    assert all(
        label == (text[0] == "b")
        for label, text in zip(reviews.splits["train"].labels, reviews.splits["train"].texts["content"], strict=True)
    )


@pytest.mark.slow
def test_files_train_and_without_a_test_file_nothing_is_evaluated(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{('bad', 'good')[row % 2]},film {row} {(NEGATIVE, POSITIVE)[row % 2][row % 3]}" for row in range(120)]
    (tmp_path / "mine.csv").write_text("\n".join(["sentiment,review", *lines]))
    mine = f"--train_file {tmp_path / 'mine.csv'} --text_columns review --label_column sentiment".split()
    run = train(tiny_arguments(*mine))
    record = run.read_record().to_json()
    assert record["labels"] == ["bad", "good"] and record["best"]["f1"] == 1.0
    assert record["rows"] == {"train": 96, "validation": 24}
    assert "no test split" in capsys.readouterr().out
    export(run)
    with pytest.raises(UsageError, match="has no test split: train with --test_file"):
        evaluate_run(run)

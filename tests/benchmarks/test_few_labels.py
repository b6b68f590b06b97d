"""F1 by the number of labels: each way learns from the same draws, and what was measured is not measured again."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import load_script, run_script, separable_reviews, write_dataset
from datasets import Dataset
from scipy import stats
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

from recipe.benchmarks import labels, labels_table
from recipe.benchmarks.labels import Cell
from recipe.errors import CheckFailed, UsageError
from recipe.run_folder import RunFolder

CELL = Cell("ours", 64, 1, 0.8, 0.8, 100.0, 60.0, "reviews", "bert", 2000, "abc", "2 CPU cores")
# What `setfit` is to the benchmark: it knows the telling words, and says how it was called.
FAKE_SETFIT = """
import json, pathlib
class Body: max_seq_length = 512
class SetFitModel:
    model_body = Body()
    @classmethod
    def from_pretrained(cls, weights): return cls()
    def predict(self, texts):
        told = {"length": self.model_body.max_seq_length, "first": texts[0]}
        pathlib.Path(__file__).with_name("told.json").write_text(json.dumps(told | Trainer.told))
        return [int(any(word in text.split() for word in ("good", "great", "lovely"))) for text in texts]
class TrainingArguments:
    def __init__(self, output_dir, seed, save_strategy, report_to): self.seed = seed
class Trainer:
    def __init__(self, model, args, train_dataset):
        Trainer.told = {"seed": args.seed, "rows": len(train_dataset), "columns": train_dataset.column_names}
    def train(self): pass
"""


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 train and 40 test reviews."""
    folder = tmp_path_factory.mktemp("labels") / "reviews"
    return write_dataset(folder, train=separable_reviews(100, seed=1), test=separable_reviews(40, seed=2))


@pytest.fixture(scope="module")
def bert(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that reads the 128 tokens of the benchmark."""
    folder = tmp_path_factory.mktemp("weights") / "bert"
    set_seed(0)
    BertModel(BertConfig.from_pretrained(tiny_bert, max_position_embeddings=128)).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


@pytest.fixture
def measure(reviews: Path, bert: Path, tmp_path: Path) -> Callable[..., list[Cell]]:
    """Measure two draws of 20 labels with TF-IDF and the frozen encoder, unless told otherwise, into `tmp_path`."""
    usual: dict[str, Any] = {"dataset": str(reviews), "model": str(bert), "sizes": [20], "draws": 2}
    usual |= {"ways": ["tfidf", "frozen"], "setfit": None, "test_rows": 30, "output": tmp_path}
    return lambda **changed: labels.measure(**usual | changed)


def given(monkeypatch: pytest.MonkeyPatch, way: str = "tfidf") -> list[tuple[int, Dataset, Dataset]]:
    """What a way is given from now on: number of the draw, its rows, test rows. It calls every review positive."""
    seen = []

    def note(material: labels.Material, rows: Dataset, draw: int) -> tuple[np.ndarray, float]:
        seen.append((draw, rows, material.test))
        return np.ones(len(material.test), dtype=int), 1.5

    monkeypatch.setitem(labels.WAYS, way, note)
    return seen


def test_a_draw_is_stratified_and_drawn_by_its_number_and_never_a_test_row(
    measure: Callable[..., list[Cell]], reviews: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = given(monkeypatch)
    measure(ways=["tfidf"])
    measure(ways=["tfidf"], output=tmp_path / "again")
    train, test = (Dataset.from_parquet(str(next(reviews.glob(f"{split}-*")))) for split in ("train", "test"))
    assert [draw for draw, _, _ in seen] == [1, 2, 1, 2]
    for draw, rows, tested in seen:
        _, expected = train_test_split(np.arange(100), test_size=20, stratify=train["label"][:], random_state=draw)
        assert rows["content"][:] == train.select(np.sort(expected))["content"][:], "in the order of the split"
        assert sum(rows["label"][:]) == 10
        assert tested["content"][:] == test["content"][:30], "the first ones"
        assert not {*rows["content"][:]} & {*tested["content"][:]}
    assert seen[0][1]["content"][:] != seen[1][1]["content"][:]


def test_what_was_measured_is_not_measured_again(
    measure: Callable[..., list[Cell]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = given(monkeypatch)
    assert [cell.draw for cell in measure(ways=["tfidf"], draws=1)] == [1]
    cells = measure(ways=["tfidf"], draws=3)
    assert [draw for draw, _, _ in seen] == [1, 2, 3] == [cell.draw for cell in cells]
    assert (
        capsys.readouterr().out.splitlines()[1] == "tfidf, 20 labels, draw 2: F1 0.6667, 1.5 CPU s; 1 left, some 0 min"
    )
    # Other rows are another measurement, which the table of these does not show.
    assert {cell.test_rows for cell in measure(ways=["tfidf"], draws=1, test_rows=20)} == {20} and len(seen) == 4
    assert len((tmp_path / labels.STORE).read_text().splitlines()) == 4


def test_a_cell_holds_f1_of_the_test_rows_and_the_cost(measure: Callable[..., list[Cell]], reviews: Path) -> None:
    cells = measure(draws=1, sizes=[60], test_rows=40)
    assert [(cell.way, cell.labels, cell.draw) for cell in cells] == [("tfidf", 60, 1), ("frozen", 60, 1)]
    for cell in cells:
        assert 0.6 < cell.f1 <= 1 and 0 <= cell.cpu_seconds <= 60 and cell.seconds > 0
        assert (cell.dataset, cell.test_rows) == (reviews.name, 40) and "CPU cores" in cell.machine and cell.commit


def test_a_constant_answer_has_the_f1_that_scikit_learn_gives_it(
    measure: Callable[..., list[Cell]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given(monkeypatch)
    (cell,) = measure(ways=["tfidf"], draws=1)
    truth = seen[0][2]["label"][:]
    assert cell.f1 == pytest.approx(f1_score(truth, np.ones(30)), abs=1e-6)
    assert (cell.accuracy, cell.cpu_seconds) == (np.mean(truth), 1.5)


@pytest.mark.slow
def test_setfit_learns_in_its_own_environment_from_title_and_content_as_one_text(
    measure: Callable[..., list[Cell]], reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "setfit.py").write_text(FAKE_SETFIT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (cell,) = measure(ways=["setfit"], setfit=sys.executable, draws=1)
    assert (cell.way, cell.f1) == ("setfit", 1)
    test = Dataset.from_parquet(str(next(reviews.glob("test-*"))))
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {
        "length": 128,
        "first": f"{test['title'][0]}. {test['content'][0]}",
        "seed": 1,
        "rows": 20,
        "columns": ["text", "label"],
    }


@pytest.mark.parametrize("way", ["ours", "unlabelled", "old"])
def test_the_script_learns_from_all_labels_and_the_best_epoch_answers(
    way: str, measure: Callable[..., list[Cell]], tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = {}

    def train(command: list[str]) -> float:
        script, flags = command[1], command[2:]
        called.update(zip(flags, flags[1:], strict=False), script=script)
        called["rows"] = len(Dataset.from_parquet(called["--train_file"]))
        if unlabelled := called.get("--unlabelled_file"):
            called["unlabelled"] = Dataset.from_parquet(unlabelled).column_names
        shutil.copytree(tiny_run.path, called["--output_dir"])
        return 7.0

    monkeypatch.setattr(labels, "run_alone", train)
    (cell,) = measure(ways=[way], draws=1)
    assert (cell.f1, cell.cpu_seconds, called["rows"]) == (1, 7, 20), "the tiny run knows the telling words"
    assert called["script"].endswith("scripts/train.py") and (called["--seed"], called["--threads"]) == ("1", "1")
    assert called.get("unlabelled") == (["title", "content"] if way == "unlabelled" else None), "labels stay unseen"
    given = {name: called.get(f"--{name}") for name in ("global_batch_size", "num_train_epochs", "learning_rate")}
    assert [*given.values()] == (["32", "2", "1e-4"] if way == "old" else [None] * 3)


@pytest.mark.parametrize("counts", [(32, 32), (50, 50), (3, 3)])
def test_the_steps_of_setfit_are_those_of_all_pairs(counts: tuple[int, int]) -> None:
    # As setfit 1.2 makes them: pairs of a label, with repetition, and as many of two labels.
    alike = sum(math.comb(count + 1, 2) for count in counts)
    assert labels.setfit_steps(sum(counts)) == math.ceil(2 * max(alike, math.prod(counts)) / 16)


def test_setfit_is_left_out_where_its_defaults_take_hours_unless_it_is_asked_for() -> None:
    cells, note = labels.plan([64, 300], None, "python")
    assert (64, "setfit") in cells and (300, "setfit") not in cells and "from 300 labels on" in note and "2,832" in note
    assert labels.plan([300], ["setfit"], "python") == ([(300, "setfit")], "")
    cells, note = labels.plan([64], None, None)
    assert [way for _, way in cells] == ["ours", "unlabelled", "old", "frozen", "tfidf"] and "--setfit" in note


def test_the_table_gives_mean_spread_and_the_interval_of_the_gain() -> None:
    f1 = {"ours": [0.84, 0.88, 0.85], "tfidf": [0.7, 0.6, 0.65], "frozen": [0.8, 0.86, 0.84]}
    cells = [replace(CELL, way=way, draw=draw, f1=one) for way, all_f1 in f1.items() for draw, one in enumerate(all_f1)]
    found = labels_table.gain(cells, 64)
    difference = np.subtract(f1["ours"], f1["frozen"])
    half = stats.t.ppf(0.975, 2) * difference.std(ddof=1) / np.sqrt(3)
    assert found and (found.other, found.draws) == ("frozen", 3) and found.interval
    assert found.difference == pytest.approx(difference.mean())
    assert found.interval == pytest.approx((difference.mean() - half, difference.mean() + half))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in labels_table.as_table(cells).splitlines()]
    mean, spread = f"{np.mean(f1['tfidf']):.3f}", f"{np.std(f1['tfidf'], ddof=1):.3f}"
    end = stats.t.ppf(0.975, 2) * 0.05 / np.sqrt(3)
    ends = f"{0.65 - end:.3f} to {0.65 + end:.3f}"
    assert ["64", "TF-IDF, logistic regression", "3", mean, ends, spread, "0.600", "0.800", "100"] in rows
    gained = f"{difference.mean():+.3f}"
    assert any(row[1:4] == ["frozen encoder, logistic regression", "3", gained] for row in rows if len(row) == 5)


def test_a_gain_counts_the_draws_that_both_have() -> None:
    ours = [replace(CELL, draw=draw, f1=one) for draw, one in ((1, 0.8), (2, 0.9))]
    other = replace(CELL, way="old", draw=2, f1=0.7)
    found = labels_table.gain([*ours, other], 64)
    assert found and (found.draws, found.interval) == (1, None) and found.difference == pytest.approx(0.2)
    assert labels_table.gain(ours, 64) is None and labels_table.gain([other], 64) is None
    assert "gain of ours" not in labels_table.as_table([other])


def test_each_way_has_a_name_and_a_look_and_is_drawn(tmp_path: Path) -> None:
    assert [*labels_table.NAMES] == [*labels.WAYS] == [*load_script("benchmark").LABEL_WAYS]
    cells = [
        replace(CELL, way=way, labels=size, draw=draw) for way in labels.WAYS for size in (64, 300) for draw in (1, 2)
    ]
    (axes,) = labels_table.draw_curves(cells).axes
    assert [line.get_label() for line in axes.get_lines()] == [*labels_table.NAMES.values()]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "300"]
    assert labels_table.write_picture(cells, tmp_path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset_name ./nowhere", "no folder './nowhere' here"),
        ("--dataset_name {other}", "has no column 'title'"),
        ("--dataset_name {stars}", "does not hold 0 and 1"),
        ("--labels 20 101", "--labels 101 does not split 100 rows"),
        ("--labels 15", "--labels 15 must be 16 at least"),
        ("--test_rows 41", "--test_rows 41: '{reviews}' has 40 test rows"),
        ("--draws 0", "--draws 0 must be 1 at least"),
        ("--ways setfit", "--ways setfit needs --setfit"),
        ("--setfit ./nowhere", "--setfit ./nowhere: no Python can be started there"),
        ("--setfit {python}", "setfit is not installed there"),
        ("--model_name_or_path ./nowhere", "no folder './nowhere' here"),
        ("--output {damaged}", "has a line that is no measurement"),
    ],
)
def test_a_mistake_is_said_before_anything_is_measured(
    flags: str, message: str, reviews: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which the command sets.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen = [given(monkeypatch, way) for way in labels.WAYS]
    stars = Dataset.from_dict({"title": ["a"] * 20, "content": ["b"] * 20, "label": [1, 2] * 10})
    places = {"reviews": reviews, "python": sys.executable, "damaged": tmp_path / "damaged"}
    other = Dataset.from_dict({"label": [0, 1], "content": ["bad", "good"]})
    places |= {"other": write_dataset(tmp_path / "other", train=other, test=other)}
    places |= {"stars": write_dataset(tmp_path / "stars", train=stars, test=stars)}
    places["damaged"].mkdir()
    (places["damaged"] / labels.STORE).write_text(json.dumps(asdict(CELL))[:-9] + "\n")
    usual = (
        f"labels --dataset_name {reviews} --model_name_or_path {bert} --labels 20 --test_rows 30 --output {tmp_path}/o"
    )
    with pytest.raises(UsageError) as caught:
        load_script("benchmark").main([*usual.split(), *flags.format(**places).split()])
    assert message.format(**places) in str(caught.value)
    assert not any(seen) and not (tmp_path / "o").exists()


def test_a_training_that_fails_is_said_in_its_own_words() -> None:
    with pytest.raises(CheckFailed, match="ended with 3: the last word$"):
        labels.run_alone([sys.executable, "-c", "import sys; print('a\\nthe last word', file=sys.stderr); sys.exit(3)"])


@pytest.mark.slow
def test_ours_and_the_old_defaults_are_trained_by_the_script_and_a_store_grows(
    reviews: Path, bert: Path, tmp_path: Path
) -> None:
    flags = f"--dataset_name {reviews} --model_name_or_path {bert} --labels 40 --test_rows 30 --draws 1".split()
    result = run_script("benchmark", "labels", *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    cells = {cell.way: cell for cell in labels.read_cells(tmp_path / "runs" / "labels" / labels.STORE)}
    assert [*cells] == ["ours", "unlabelled", "old", "frozen", "tfidf"]
    assert min(cell.cpu_seconds for cell in cells.values()) >= 0 and cells["ours"].cpu_seconds > 0
    assert "gain of ours" in result.stdout and (tmp_path / "runs" / "labels" / labels_table.PICTURE).is_file()
    again = run_script("benchmark", "labels", *flags, "--ways", "tfidf", cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.splitlines()[:4] == result.stdout.splitlines()[6:10], "the table"

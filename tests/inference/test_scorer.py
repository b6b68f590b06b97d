"""A batch comes back as the kind that it was, with the answers that the classifier gives to its texts alone."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from conftest import ROOT, copy_of, holds_in_a_forked_child, separable_reviews
from datasets.fingerprint import Hasher

from recipe.errors import UsageError
from recipe.inference import OnnxClassifier, Scorer
from recipe.inference import classifier as inference
from recipe.inference.decision import Decision
from recipe.run_folder import RunFolder

TEXTS = [*separable_reviews(30, seed=21)["content"][:], None, "good " * 200, "日本語 🎧"]
ROWS: dict[str, list[Any]] = {"id": list(range(len(TEXTS))), "content": TEXTS}
KINDS: dict[str, Any] = {
    "lists": lambda rows: {name: list(values) for name, values in rows.items()},
    "arrays": lambda rows: {name: np.array(values, dtype=object) for name, values in rows.items()},
    "frame": lambda rows: pandas.DataFrame(rows, index=[f"row {number}" for number in rows["id"]]),
    "table": pyarrow.table,
}


@pytest.fixture(scope="module")
def scorer(exported_run: RunFolder) -> Scorer:
    return Scorer(exported_run.path, variant="fp32")


def columns(batch: Any) -> dict[str, list[Any]]:
    """A batch's columns as lists."""
    if isinstance(batch, pyarrow.Table):
        return dict(batch.to_pydict())
    return {str(name): list(batch[name].tolist() if hasattr(batch[name], "tolist") else batch[name]) for name in batch}


def assert_answers(run: RunFolder, found: dict[str, list[Any]], texts: list[str | None], prefix: str = "") -> None:
    """The added columns hold what the classifier says of the texts, one by one."""
    expected = [OnnxClassifier.from_run(run.path, "fp32")([text or ""])[0] for text in texts]
    assert found[f"{prefix}label"] == [prediction.label for prediction in expected]
    probabilities = [prediction.probability for prediction in expected]
    np.testing.assert_allclose(found[f"{prefix}probability"], probabilities, atol=1e-5)
    assert found[f"{prefix}truncated"] == [text == "good " * 200 for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_comes_back_as_its_kind_with_the_answers(
    kind: str, scorer: Scorer, exported_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "WINDOW", 8)
    batch = KINDS[kind](ROWS)
    found = scorer(batch)
    assert type(found) is type(batch) and list(columns(found)) == ["id", "content", "label", "probability", "truncated"]
    assert list(columns(batch)) == ["id", "content"], "what was given is as it was"
    assert columns(found)["id"] == ROWS["id"]
    assert_answers(exported_run, columns(found), TEXTS)
    if kind == "frame":
        assert list(found.index) == list(batch.index)
        assert [str(found.dtypes[name]) for name in ("probability", "truncated")] == ["float32", "bool"]
    elif kind == "table":
        assert found.schema.types[2:] == [pyarrow.string(), pyarrow.float32(), pyarrow.bool_()]
    else:
        assert {type(values) for values in found.values()} == {type(batch["content"])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_rows_gets_the_columns_and_their_types(kind: str, scorer: Scorer) -> None:
    empty = KINDS[kind]({"id": [], "content": []})
    if kind == "table":
        empty = pyarrow.table(ROWS).slice(0, 0)
        assert scorer(empty).schema == scorer(pyarrow.table(ROWS)).schema
    assert columns(scorer(empty)) == {name: [] for name in ("id", "content", "label", "probability", "truncated")}


def test_a_missing_text_is_empty_however_a_library_spells_it(scorer: Scorer) -> None:
    (empty,) = scorer({"content": [""]})["probability"]
    for missing in (None, float("nan"), np.nan, pandas.NA):
        assert scorer({"content": np.array([missing, "good"], dtype=object)})["probability"][0] == np.float32(empty)
    for dtype in ("str", "string", "category", "object"):
        frame = scorer(pandas.DataFrame({"content": pandas.Series(["good", None, "good"], dtype=dtype)}))
        assert frame["probability"][1] == np.float32(empty) and frame["label"].tolist() == [
            "positive",
            *frame["label"][1:],
        ]
    categories = pyarrow.table({"content": pyarrow.array(["good", None]).dictionary_encode()})
    assert scorer(categories)["probability"][1].as_py() == np.float32(empty)


def test_bytes_that_are_not_utf8_are_scored_as_marks(scorer: Scorer) -> None:
    damaged = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, pyarrow.array([b"good \xff"], type=pyarrow.binary()).buffers()
    )
    expected = scorer({"content": ["good \ufffd"]})["probability"][0]
    assert scorer(pyarrow.table({"content": damaged}))["probability"][0].as_py() == expected
    # JSON can spell half of a pair, and Python keeps it.
    found = scorer({"content": ["good \ud83d"]})
    assert found["probability"][0] == expected and found["content"] == ["good \ud83d"]


def test_two_columns_are_a_pair(exported_run: RunFolder) -> None:
    found = Scorer(exported_run.path, ["title", "content"], "fp32")(
        {"title": ["bad", None], "content": ["good", "good"]}
    )
    expected = OnnxClassifier.from_run(exported_run.path, "fp32")([("bad", "good"), ("", "good")])
    np.testing.assert_allclose(found["probability"], [answer.probability for answer in expected], atol=1e-5)


def test_names_that_are_taken_get_a_prefix_and_a_column_that_is_missing_is_named(
    scorer: Scorer, exported_run: RunFolder
) -> None:
    found = scorer({"label": [1, 0], "content": ["good", "bad"]})
    assert found["label"] == [1, 0]
    assert_answers(exported_run, found, ["good", "bad"], "predicted_")
    with pytest.raises(UsageError, match="the batch has the columns label, predicted_label, .*, which scoring adds"):
        scorer(found)
    with pytest.raises(UsageError, match=r"the batch has no column 'content'; it has text, id \(text_columns "):
        scorer({"text": ["good"], "id": [1]})
    twice = pandas.DataFrame([["good", "bad"]], columns=["content", "content"])
    with pytest.raises(UsageError, match="the batch has several columns 'content'"):
        scorer(twice)
    with pytest.raises(TypeError, match="review 1 is a int"):
        scorer({"content": ["good", 5]})


def test_the_decision_and_all_scores_add_their_columns(exported_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(exported_run, tmp_path)
    run.decision.write_text(json.dumps(Decision(certain_from=[0.0, 0.0]).to_json()))
    batch = {"content": ["good", "zebra"]}
    assert Scorer(run.path, variant="fp32")(batch)["doubtful"] == [False, True]
    assert "doubtful" not in Scorer(run.path, variant="fp32", raw=True)(batch)
    found = Scorer(run.path, variant="fp32", all_scores=True)(batch)
    assert list(found)[-3:] == ["confidence", "probability_negative", "probability_positive"]
    np.testing.assert_allclose(np.add(found["probability_negative"], found["probability_positive"]), 1, atol=1e-6)


def test_a_copy_answers_with_the_model_that_the_process_has(scorer: Scorer) -> None:
    pickled = pickle.dumps(scorer)
    assert pickle.dumps(Scorer(scorer.run, variant="fp32")) == pickled and len(pickled) < 1000
    copied = pickle.loads(pickled)
    assert copied.classifier is scorer.classifier and copied(ROWS) == scorer(ROWS)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_warm_scorer_answers_in_the_processes_of_a_pool(method: str, scorer: Scorer) -> None:
    expected = scorer(ROWS)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(scorer, [ROWS, ROWS]).get(timeout=60) == [expected, expected]


def test_a_warm_scorer_answers_in_a_forked_child(scorer: Scorer) -> None:
    expected = scorer(ROWS)
    assert holds_in_a_forked_child(lambda: scorer(ROWS) == expected)


def test_a_run_that_was_changed_has_another_scorer(exported_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(exported_run, tmp_path)
    early = Scorer(run.path, variant="fp32")
    run.decision.write_text(json.dumps(Decision(temperature=2.0).to_json()))
    assert Hasher.hash(early) != Hasher.hash(Scorer(run.path, variant="fp32")), "or datasets would find old answers"
    with pytest.raises(UsageError, match="is not the run that it was where the Scorer was made"):
        early(ROWS)
    with pytest.raises(UsageError, match="no run at"):
        Scorer(tmp_path / "nowhere")


@pytest.mark.slow
def test_datasets_map_scores_in_processes_and_finds_its_cache_again(exported_run: RunFolder, tmp_path: Path) -> None:
    separable_reviews(60, seed=22).to_parquet(tmp_path / "rows.parquet")
    code = f"""
import sys, datasets
from recipe.inference import Scorer
rows = datasets.load_dataset("parquet", data_files="rows.parquet", split="train", cache_dir="cache")
scorer = Scorer({str(exported_run.path)!r}, variant="fp32", threads=1)
scored = rows.map(scorer, batched=True, batch_size=16, num_proc=2)
scored.to_parquet(sys.argv[1])
print(scored._fingerprint, file=sys.stderr)
"""
    seen = []
    for target in ("first.parquet", "second.parquet"):
        command = [sys.executable, "-c", code, target]
        environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PATH": "", "HF_HOME": str(tmp_path)}
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert result.returncode == 0, result.stderr
        seen.append((result.stderr.splitlines()[-1], {path.name for path in (tmp_path / "cache").rglob("*.arrow")}))
    assert seen[0] == seen[1], "the second process has computed nothing"
    scored = datasets.Dataset.from_parquet(str(tmp_path / "second.parquet"), cache_dir=str(tmp_path / "read"))
    assert scored.column_names[:3] == ["label", "title", "content"]
    assert_answers(exported_run, scored[:], scored["content"][:], "predicted_")

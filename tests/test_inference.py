"""A review's label does not depend on where it stands, or on what stands beside it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import separable_reviews

from recipe.errors import UsageError
from recipe.export import export
from recipe.inference import OnnxClassifier, Prediction, TorchClassifier, length_sorted_batches
from recipe.run_folder import RunFolder


@pytest.fixture(scope="module")
def exported(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("exported") / "run"))
    export(run)
    return run


@pytest.fixture(scope="module")
def classifier(exported: RunFolder) -> OnnxClassifier:
    return OnnxClassifier.from_run(exported.path)


def test_labels_and_probabilities_come_out(classifier: OnnxClassifier) -> None:
    good, bad = classifier(["a lovely film", "an awful plot"])
    assert isinstance(good, Prediction) and (good.label, bad.label) == ("positive", "negative")
    assert 0.9 < good.probability <= 1 and 0.9 < bad.probability <= 1


def test_a_review_scores_the_same_alone_and_in_a_batch(classifier: OnnxClassifier) -> None:
    texts = separable_reviews(50, seed=7)["content"][:]
    alone = np.concatenate([classifier.logits([text]) for text in texts])
    np.testing.assert_allclose(classifier.logits(texts), alone, atol=1e-5, rtol=0)


def test_order_is_kept(classifier: OnnxClassifier) -> None:
    rows = separable_reviews(100, seed=8)
    expected = [("negative", "positive")[label] for label in rows["label"]]
    assert [prediction.label for prediction in classifier(rows["content"][:])] == expected


def test_onnx_and_pytorch_agree(exported: RunFolder, classifier: OnnxClassifier) -> None:
    texts = separable_reviews(64, seed=9)["content"][:]
    reference = TorchClassifier.from_run(exported.path).logits(texts)
    np.testing.assert_allclose(classifier.logits(texts), reference, atol=1e-4, rtol=0)
    assert (classifier.logits(texts).argmax(1) == reference.argmax(1)).all()


def test_probabilities_sum_to_one(classifier: OnnxClassifier) -> None:
    probabilities = classifier.probabilities(["good", "bad", ""])
    assert probabilities.dtype == np.float32 and probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text", ["", " ", "x" * 100_000, "good " * 5_000, "日本語 مرحبا 🎧", "\x00\x07\t\n"])
def test_an_odd_text_is_scored_and_not_crashed_on(text: str, classifier: OnnxClassifier) -> None:
    (prediction,) = classifier([text])
    assert 0.5 <= prediction.probability <= 1


def test_a_long_review_is_cut_where_training_cut_it(classifier: OnnxClassifier) -> None:
    long = "the film was lovely " + "story " * 200
    cut = " ".join(long.split()[:30])
    np.testing.assert_allclose(classifier.logits([long]), classifier.logits([cut]), atol=1e-5)


def test_a_lone_string_is_refused(classifier: OnnxClassifier) -> None:
    with pytest.raises(TypeError, match="give a list of reviews"):
        classifier("a lovely film")


@pytest.mark.parametrize("file", ["model.onnx", "config.json", "tokenizer.json"])
def test_a_damaged_export_is_named(file: str, exported: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(exported.path, tmp_path / "run"))
    (run.onnx / file).write_bytes((run.onnx / file).read_bytes()[:50])
    with pytest.raises(UsageError, match="the model in .*onnx cannot be loaded, a file is missing or damaged"):
        OnnxClassifier.from_run(run.path)


def test_no_review_is_no_prediction(classifier: OnnxClassifier) -> None:
    assert classifier([]) == [] and classifier.logits([]).shape == (0, 2)


def test_batches_hold_every_row_once_and_the_longest_first() -> None:
    batches = list(length_sorted_batches([3, 9, 1, 9, 5], batch_size=2))
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]


def test_a_run_without_an_export_is_refused_with_the_command(tiny_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no .*model.onnx: run python scripts/export_onnx.py --run "):
        OnnxClassifier.from_run(tiny_run.path)
    with pytest.raises(UsageError, match="no run at"):
        OnnxClassifier.from_run(tmp_path / "nowhere")

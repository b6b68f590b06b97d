"""A review's label does not depend on where it stands, or on what stands beside it."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, copy_of, holds_in_a_forked_child, separable_reviews
from encoders import write_encoder

from recipe.errors import RecipeWarning, UsageError
from recipe.inference import classifier as inference
from recipe.inference.classifier import Classifier, Prediction, length_sorted_batches
from recipe.inference.columns import answer_columns, column_kinds
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier, open_session
from recipe.inference.pytorch import TorchClassifier
from recipe.run_folder import RunFolder, certificate


@pytest.fixture(scope="module")
def classifier(exported_run: RunFolder) -> OnnxClassifier:
    return OnnxClassifier.from_run(exported_run.path, "fp32")


def test_labels_and_probabilities_come_out(classifier: OnnxClassifier) -> None:
    good, bad = classifier(["a lovely film", "an awful plot"])
    assert isinstance(good, Prediction) and (good.label, bad.label) == ("positive", "negative")
    assert 0.9 < good.probability <= 1 and 0.9 < bad.probability <= 1


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_a_review_scores_the_same_alone_and_in_a_batch(variant: str, exported_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(exported_run.path, variant)
    texts = separable_reviews(50, seed=7)["content"][:]
    alone = np.concatenate([classifier.logits([text]) for text in texts])
    np.testing.assert_allclose(classifier.logits(texts), alone, atol=1e-5, rtol=0)


def test_a_stream_is_read_as_it_goes_and_gives_what_a_list_gives(
    classifier: OnnxClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "WINDOW", 16)
    texts, taken = separable_reviews(100, seed=10)["content"][:], 0

    def reviews() -> Iterator[str]:
        nonlocal taken
        for text in texts:
            taken += 1
            yield text

    answers = classifier.stream(reviews())
    first = next(answers)
    assert taken == 32, "one window is computed, one is on its way"
    assert [first, *answers] == classifier(texts)


def test_the_number_of_threads_does_not_change_a_bit(exported_run: RunFolder) -> None:
    texts = separable_reviews(60, seed=11)["content"][:]
    by_threads = [OnnxClassifier.from_run(exported_run.path, "int8", threads=threads) for threads in (1, 3)]
    one, three = (classifier.logits(texts) for classifier in by_threads)
    assert (one == three).all()


def test_what_was_cut_is_known(classifier: OnnxClassifier) -> None:
    (scores,) = classifier.score([["a film", "film " * 29, "film " * 31, ""]])
    assert scores.truncated.tolist() == [False, False, True, False]


def test_reviews_without_a_known_word_are_known(classifier: OnnxClassifier) -> None:
    texts = [
        "日本語 zebra",
        "",
        " ",
        ("zebra", "zebra"),
        ("", ""),
        ("zebra", "film"),
        "a zebra",
        "film " * 31 + "zebra",
    ]
    (scores,) = classifier.score([texts])
    assert scores.tokens.tolist() == [4, 0, 0, 2, 0, 2, 2, 30], "as the model reads them, without [CLS] and [SEP]"
    assert scores.unknown.tolist() == [4, 0, 0, 2, 0, 1, 1, 0]
    assert scores.wordless.tolist() == classifier.wordless(texts).tolist() == [True] * 5 + [False] * 3


class Guess(Classifier):
    """Gives the same logits to every review."""

    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(batch["input_ids"]), 2), dtype=np.float32)


def test_a_space_of_sentencepiece_is_no_word(tmp_path: Path) -> None:
    folder = write_encoder("XLM-RoBERTa", tmp_path / "weights")
    for file, more in (("config.json", {"id2label": {"0": "a", "1": "b"}}), ("tokenizer_config.json", {})):
        content = json.loads((folder / file).read_text()) | more | {"model_max_length": 32}
        (folder / file).write_text(json.dumps(content))
    (scores,) = Guess(folder, threads=1).score([["日本語", "日本語 中", "", "日本語 film"]])
    assert scores.wordless.tolist() == [True, True, True, False]
    assert (scores.unknown < scores.tokens)[:2].all(), "spaces are tokens"


def test_a_review_without_a_known_word_is_doubtful_where_some_are(exported_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(exported_run.path, "fp32", raw=True)
    (scores,) = classifier.score([["zebra", "a good film", ""]])
    for bounds, certain in ((None, [True] * 3), ([0.0] * 2, [False, True, False]), ([1.0] * 2, [False] * 3)):
        classifier.decision = Decision(certain_from=bounds)
        expected, found = classifier.decision(scores.logits), classifier.answer(scores)
        assert found.certain.tolist() == certain
        assert (found.labels == expected.labels).all() and (found.probabilities == expected.probabilities).all()
    (answer,) = classifier(["zebra"])
    assert answer.doubtful and answer.label in classifier.label_names


def test_the_confidence_is_the_lead_of_the_answer_and_none_without_a_known_word(exported_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(exported_run.path, "fp32", raw=True)
    (scores,) = classifier.score([["a good film", "zebra"]])
    columns = answer_columns(classifier, scores, all_scores=True)
    assert list(columns) == list(column_kinds(classifier, all_scores=True))
    lead = abs(columns["probability_negative"][0] - columns["probability_positive"][0])
    assert columns["confidence"].tolist() == pytest.approx([lead, 0.0])
    # Against a threshold the answer may be the less probable label.
    classifier.decision = Decision(threshold=0.9999999)
    assert answer_columns(classifier, scores, all_scores=True)["confidence"][0] == 0.0


def test_by_default_the_fastest_certified_variant_answers(exported_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(exported_run, tmp_path)
    certificate = json.loads(run.certificate.read_text())
    for variant, other in (("fp32", "int8"), ("int8", "fp32")):
        certificate["variants"][variant]["reviews_per_second"] = 2.0
        certificate["variants"][other]["reviews_per_second"] = 1.0
        run.certificate.write_text(json.dumps(certificate))
        assert run.choose_variant(None, ["cpu"])[0] == variant
    certificate["variants"][variant]["provider"] = "cuda"
    run.certificate.write_text(json.dumps(certificate))
    assert run.choose_variant(None, ["cpu"])[0] == other, "the fastest that this machine can run"
    with pytest.raises(UsageError, match="no certified variant 'fp16', only fp32, int8"):
        OnnxClassifier.from_run(run.path, "fp16")


def test_a_provider_that_is_not_there_is_an_error_and_not_the_cpu(exported_run: RunFolder) -> None:
    with pytest.raises(UsageError, match="ONNX Runtime has no CUDAExecutionProvider that works here"):
        OnnxClassifier.from_run(exported_run.path, "fp32", provider="cuda")
    with pytest.raises(UsageError, match="int8 was certified on cpu, not on cuda"):
        OnnxClassifier.from_run(exported_run.path, "int8", provider="cuda")
    with pytest.raises(UsageError, match="provider 'gpu' is not one of cpu, cuda"):
        OnnxClassifier.from_run(exported_run.path, "fp32", provider="gpu")
    assert open_session(exported_run.onnx / "model.onnx", "cpu").get_providers() == ["CPUExecutionProvider"]


def test_serving_imports_neither_torch_nor_transformers(exported_run: RunFolder) -> None:
    code = f"""
import sys
from recipe.inference.onnx import OnnxClassifier
print(OnnxClassifier.from_run({str(exported_run.path)!r})(["a lovely film"])[0].label)
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{
    "torch", "transformers", "datasets", "optimum", "scipy", "sklearn", "pandas", "pyarrow", "evaluate", "onnx"}}))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.stdout.split("\n")[:2] == ["positive", "[]"], result.stderr


def test_order_is_kept(classifier: OnnxClassifier) -> None:
    rows = separable_reviews(100, seed=8)
    expected = [("negative", "positive")[label] for label in rows["label"]]
    assert [prediction.label for prediction in classifier(rows["content"][:])] == expected


def test_onnx_and_pytorch_agree(exported_run: RunFolder, classifier: OnnxClassifier) -> None:
    texts = separable_reviews(64, seed=9)["content"][:]
    reference = TorchClassifier.from_run(exported_run.path).logits(texts)
    np.testing.assert_allclose(classifier.logits(texts), reference, atol=1e-4, rtol=0)
    assert (classifier.logits(texts).argmax(1) == reference.argmax(1)).all()


def test_probabilities_sum_to_one(classifier: OnnxClassifier) -> None:
    probabilities = classifier.decision.probabilities(classifier.logits(["good", "bad", ""]))
    assert probabilities.dtype == np.float64 and probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text", ["", " ", "x" * 100_000, "good " * 5_000, "日本語 مرحبا 🎧", "\x00\x07\t\n"])
def test_an_odd_text_scores_as_in_pytorch_and_leaves_the_others_alone(
    text: str, exported_run: RunFolder, classifier: OnnxClassifier
) -> None:
    logits = classifier.logits([text, "a lovely film"])
    np.testing.assert_allclose(logits[:1], TorchClassifier.from_run(exported_run.path).logits([text]), atol=1e-4)
    np.testing.assert_allclose(logits[1:], classifier.logits(["a lovely film"]), atol=1e-5)


def test_a_long_review_is_cut_where_training_cut_it(classifier: OnnxClassifier) -> None:
    long = "the film was lovely " + "story " * 200
    cut = " ".join(long.split()[:30])
    np.testing.assert_allclose(classifier.logits([long]), classifier.logits([cut]), atol=1e-5)


def test_a_lone_string_is_refused(classifier: OnnxClassifier) -> None:
    for method in (classifier, classifier.logits, lambda texts: next(classifier.stream(texts))):
        with pytest.raises(TypeError, match="give a list of reviews"):
            method("a lovely film")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.onnx", "model.onnx is missing or damaged, it is not the file that was certified"),
        ("config.json", "the model in .*onnx cannot be loaded, a file is missing or damaged"),
        ("tokenizer.json", "the model in .*onnx cannot be loaded, a file is missing or damaged"),
        ("certificate.json", "certificate.json is damaged"),
    ],
)
def test_a_damaged_export_is_named(file: str, message: str, exported_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(exported_run, tmp_path)
    (run.onnx / file).write_bytes((run.onnx / file).read_bytes()[:50])
    with pytest.raises(UsageError, match=message):
        OnnxClassifier.from_run(run.path, "fp32")


def test_no_review_is_no_prediction(classifier: OnnxClassifier) -> None:
    assert classifier([]) == [] and classifier.logits([]).shape == (0, 2)


def test_batches_hold_every_row_once_and_the_longest_first() -> None:
    batches = length_sorted_batches([3, 9, 1, 9, 5], most_tokens=18)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0, 2]]
    batches = length_sorted_batches([0, 40, 2, 0], most_tokens=18)
    assert [batch.tolist() for batch in batches] == [[1], [2, 0, 3]], "a review is never divided"
    assert [batch.tolist() for batch in length_sorted_batches([0, 0], most_tokens=18)] == [[0, 1]], "no tokens at all"


def test_a_run_without_an_export_is_refused_with_the_command(tiny_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no .*certificate.json: run python scripts/export_onnx.py --run "):
        OnnxClassifier.from_run(tiny_run.path)
    with pytest.raises(UsageError, match="no run at"):
        OnnxClassifier.from_run(tmp_path / "nowhere")


def test_a_pickled_classifier_answers_the_same(evaluated_run: RunFolder) -> None:
    classifier = OnnxClassifier.from_run(evaluated_run.path)
    texts = separable_reviews(20, seed=13)["content"][:]
    expected = classifier(texts)
    copied = pickle.loads(pickle.dumps(classifier))
    assert copied(texts) == expected and copied.decision == classifier.decision


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_warm_classifier_answers_in_the_processes_of_a_pool(method: str, classifier: OnnxClassifier) -> None:
    # As `gunicorn --preload` does: the model was used before the workers were forked, and its threads are not there.
    texts = separable_reviews(20, seed=13)["content"][:]
    expected = classifier(texts)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(classifier, [texts, texts]).get(timeout=60) == [expected, expected]


def test_a_warm_classifier_answers_in_a_forked_child(classifier: OnnxClassifier) -> None:
    texts = separable_reviews(20, seed=13)["content"][:]
    expected = classifier(texts)
    # It has the parent's thread pool, whose threads are not there.
    assert holds_in_a_forked_child(lambda: classifier(texts) == expected)


def test_a_missing_text_is_empty_and_anything_else_is_named(classifier: OnnxClassifier) -> None:
    assert classifier([None, float("nan"), np.nan]) == classifier(["", "", ""])  # type: ignore[list-item]
    assert classifier([("good", None)]) == classifier([("good", "")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="review 3000 is a int"):
        classifier([*["good"] * 3000, 5])  # type: ignore[list-item]
    for many in (b"good", {"text": "good"}):
        with pytest.raises(TypeError, match="give a list of reviews, not a (bytes|dict)"):
            classifier(many)  # type: ignore[arg-type]
    for wrong in (7, b"good", ["a", "b", "c"], {"text": "good"}):
        with pytest.raises(TypeError, match=rf"review 1 is a {type(wrong).__name__}: give a string"):
            classifier(["good", wrong])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("target", "cpu", "runs"), [("vnni", "avx2", False), ("arm", "avx2", False), ("avx2", "arm", True)]
)
def test_int8_for_another_kind_of_cpu_is_not_run(
    target: str, cpu: str, runs: bool, exported_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(exported_run, tmp_path)
    content = json.loads(run.certificate.read_text())
    content["target"] = target
    content["variants"]["int8"]["reviews_per_second"] = 1e6
    run.certificate.write_text(json.dumps(content))
    monkeypatch.setattr(certificate, "this_cpu", lambda: cpu)
    if runs:
        assert OnnxClassifier.from_run(run.path).variant == "int8"
        return
    with pytest.raises(UsageError, match=rf"int8 of .* was made for a CPU of the kind {target}.*--target avx2"):
        OnnxClassifier.from_run(run.path, "int8")
    with pytest.warns(RecipeWarning, match="now another variant is used"):
        assert OnnxClassifier.from_run(run.path).variant == "fp32"
    del content["variants"]["fp32"]
    run.certificate.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"was made for a CPU of the kind {target}"):
        OnnxClassifier.from_run(run.path)

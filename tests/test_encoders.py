"""Each family of encoders goes from training to predictions, with one text column and two, two labels and three.

The rows of docs/encoders.md are what these tests find; a test that finds something else prints the row to put there.
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import NEGATIVE, NEUTRAL, POSITIVE, ROOT, copy_of, separable_reviews, write_dataset
from datasets import Dataset
from encoders import FAMILIES, REFUSED, write_encoder

from recipe.arguments.parser import parse_arguments
from recipe.errors import CheckFailed, UsageError
from recipe.evaluation import evaluate_run
from recipe.export import export
from recipe.inference import OnnxClassifier
from recipe.inference.pytorch import TorchClassifier
from recipe.run_folder import Certificate, RunFolder
from recipe.training import train

TABLE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
PAIR = ["title", "content"]
MIDDLE = ["okay", "fine", "average"]


def three_label_reviews(rows: int, seed: int) -> Dataset:
    """Reviews whose one telling word decides among three labels."""
    draw, names = random.Random(seed), ["bad", "good", "so-so"]
    labels = [row % 3 for row in range(rows)]
    texts = []
    for label in labels:
        words = draw.choices(NEUTRAL, k=draw.randint(2, 20))
        words.insert(draw.randrange(len(words)), draw.choice((NEGATIVE, POSITIVE, MIDDLE)[label]))
        texts.append(" ".join(words))
    titles = [" ".join(text.split()[:2]) for text in texts]
    return Dataset.from_dict({"label": [names[label] for label in labels], "title": titles, "content": texts})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Few reviews, by the number of labels."""
    folder = tmp_path_factory.mktemp("reviews")
    two = write_dataset(folder / "two", train=separable_reviews(90, seed=1), test=separable_reviews(30, seed=2))
    three = write_dataset(folder / "three", train=three_label_reviews(90, seed=1), test=three_label_reviews(30, seed=2))
    return {2: two, 3: three}


def train_encoder(weights: Path, dataset: Path, columns: list[str], folder: Path, *more: str) -> RunFolder:
    """Train a tiny encoder for an epoch."""
    flags = f"""--model_name_or_path {weights} --dataset_name {dataset} --text_columns {" ".join(columns)}
        --max_train_samples -1 --max_test_samples -1 --max_length 32 --learning_rate 3e-3 --num_train_epochs 1
        --global_batch_size 8 --use_cpu --disable_tqdm True --output_dir {folder}"""
    return train(parse_arguments([*flags.split(), *more]))


def table_row(family: str, content: Certificate) -> str:
    """The row of docs/encoders.md."""
    shares = {name: found.quantized_share for name, found in content.variants.items()}
    int8 = f"{shares['int8']:.0%}" if "int8" in shares else "not written"
    padding = "yes" if any("padding" in note for note in content.notes) else "no"
    return f"| {family} | {int8} | {padding} |"


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in REFUSED])
def test_a_family_goes_from_training_to_predictions(family: str, datasets: dict[int, Path], tmp_path: Path) -> None:
    weights = write_encoder(family, tmp_path / "weights")
    for labels, columns in ((2, ["content"]), (3, PAIR)):
        run = train_encoder(weights, datasets[labels], columns, tmp_path / f"run{labels}")
        content = export(run, max_f1_drop=1.0)
        # An empty text is no token at all for GPT-2.
        texts = [*three_label_reviews(9, seed=3)["content"][:], ""]
        given = texts if labels == 2 else [(text[:9], text) for text in texts]
        expected = TorchClassifier.from_run(run.path).logits(given)
        for name in content.variants:
            found = OnnxClassifier.from_run(run.path, name, raw=True).logits(given)
            assert np.isfinite(found).all() and found.shape == (10, labels)
            if name == "fp32" and not content.notes:
                np.testing.assert_allclose(found, expected, atol=1e-4)
    report = evaluate_run(run)
    assert report.variants["fp32"].labels_changed == 0 and len(report.variants["fp32"].confusion) == 3
    assert len(OnnxClassifier.from_run(run.path)(given)) == 10
    assert table_row(family, content) in TABLE.splitlines(), f"put into docs/encoders.md: {table_row(family, content)}"


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_cannot_be_exported_is_refused_before_training(
    family: str, datasets: dict[int, Path], tmp_path: Path
) -> None:
    reason = "needs 'global_attention_mask'" if family == "Longformer" else "which Optimum does not export"
    with pytest.raises(UsageError, match=reason):
        train_encoder(write_encoder(family, tmp_path / "weights"), datasets[2], ["content"], tmp_path / "run")
    assert not (tmp_path / "run").exists() and f"| {family} | refused |" in TABLE


@pytest.fixture(scope="module")
def untyped_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A BERT that learned pairs without token types, as its tokenizer's config says; not to be changed."""
    folder = tmp_path_factory.mktemp("untyped")
    weights = Path(shutil.copytree(tiny_bert, folder / "weights"))
    change_json(weights / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    train_rows, test_rows = separable_reviews(300, seed=1), separable_reviews(60, seed=2)
    dataset = write_dataset(folder / "reviews", train=train_rows, test=test_rows)
    return train_encoder(weights, dataset, PAIR, folder / "run", "--num_train_epochs", "4")


def change_json(file: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_model_is_served_with_the_inputs_it_was_trained_with(untyped_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(untyped_run, tmp_path)
    assert run.read_record().best.f1 == 1.0
    content = export(run, max_f1_drop=1.0)
    assert content.f1_of_pytorch == content.variants["fp32"].f1 == 1.0
    assert evaluate_run(run).variants["fp32"].f1 > 0.9


def test_a_model_that_is_given_other_inputs_is_refused(untyped_run: RunFolder, tmp_path: Path) -> None:
    run = copy_of(untyped_run, tmp_path)
    export(run, max_f1_drop=1.0)
    # What a release that recorded no inputs did to such a run.
    every = ["input_ids", "token_type_ids", "attention_mask"]
    change_json(run.path / "tokenizer_config.json", model_input_names=every)
    for check in (lambda: export(run, max_f1_drop=1.0), lambda: evaluate_run(run)):
        with pytest.raises(CheckFailed, match=r"F1 of 0\.\d+ on 60 validation rows, but had 1\.0000 in training"):
            check()


@pytest.mark.slow
def test_a_model_that_reads_the_end_of_reviews_is_served_the_end(
    tiny_bert: Path, datasets: dict[int, Path], tmp_path: Path
) -> None:
    run = train_encoder(tiny_bert, datasets[2], ["content"], tmp_path / "run", "--truncation_side", "left")
    export(run, max_f1_drop=1.0)
    long = "good " * 40 + "awful " * 30
    for classifier in (TorchClassifier.from_run(run.path), OnnxClassifier.from_run(run.path, "fp32")):
        logits = classifier.logits([long, "awful " * 30, "good " * 30])
        np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
        assert abs(logits[0] - logits[2]).max() > 1e-3
    evaluate_run(run)
    assert "truncated at 32 tokens, the end is kept." in run.card.read_text()
    assert run.read_config()["truncation_side"] == "left"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["DeBERTa v3", "BERT"])
def test_gradient_checkpointing_trains(family: str, datasets: dict[int, Path], tmp_path: Path) -> None:
    weights = write_encoder(family, tmp_path / "weights")
    train_encoder(weights, datasets[2], ["content"], tmp_path / "run", "--gradient_checkpointing", "True")


def test_gradient_checkpointing_that_a_family_lacks_is_refused(datasets: dict[int, Path], tmp_path: Path) -> None:
    weights = write_encoder("ALBERT", tmp_path / "weights")
    with pytest.raises(UsageError, match="--gradient_checkpointing: a 'albert' cannot do that"):
        train_encoder(weights, datasets[2], ["content"], tmp_path / "run", "--gradient_checkpointing", "True")

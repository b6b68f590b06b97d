"""The encoder adapts to reviews without labels, the same way each time, and a stop loses nothing of it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import files_under, separable_reviews
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoTokenizer, BartConfig, BertConfig, GPT2Config

from recipe.arguments.data import DataArguments
from recipe.arguments.parser import Arguments
from recipe.data.reviews import load_reviews
from recipe.data.unlabelled import read_unlabelled
from recipe.errors import Interrupted, UsageError
from recipe.run_folder import RunFolder
from recipe.training import checkpoints
from recipe.training.adaptation import adapt, contrast, pairs_of, require_cls
from recipe.training.job import header, prepare
from recipe.training.run import train

FEW = "--max_train_samples 60 --num_train_epochs 1 --text_columns title content".split()


@pytest.fixture
def new_reviews(tmp_path: Path) -> Path:
    """100 reviews that neither train nor test has, without labels."""
    file = tmp_path / "new.parquet"
    separable_reviews(100, seed=9).remove_columns("label").to_parquet(file)
    return file


@pytest.fixture
def adapted(tiny_arguments: Callable[..., Arguments], new_reviews: Path) -> RunFolder:
    return train(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews)))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def the_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_encoder_adapts_and_the_head_does_not(
    adapted: RunFolder, tiny_arguments: Callable[..., Arguments], new_reviews: Path
) -> None:
    before = prepare(tiny_arguments(*FEW)).model.state_dict()
    after = weights(adapted.path / "checkpoint-0")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    untouched = {name for name in before if name.startswith(("classifier", "bert.pooler"))}
    assert moved == before.keys() - untouched and untouched
    assert json.loads((adapted.path / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


def test_titles_find_their_own_content_after_it(tiny_arguments: Callable[..., Arguments], new_reviews: Path) -> None:
    job = prepare(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews)))
    tokenizer, model = job.trainer.processing_class, job.model

    @torch.inference_mode()
    def mean_rank() -> float:
        """The mean place, from 0, of a title's own content among all contents by the cosine with the title."""
        model.eval()
        titles, contents = (
            torch.nn.functional.normalize(
                model.bert(**tokenizer(list(texts), padding=True, return_tensors="pt")).last_hidden_state[:, 0], dim=1
            )
            for texts in zip(*job.pairs, strict=True)
        )
        cosines = titles @ contents.T
        return float((cosines > cosines.diagonal()[:, None]).sum(dim=1).float().mean())

    before = mean_rank()
    for _ in range(3):
        contrast(model, tokenizer, job.pairs, job.trainer.args)
    assert mean_rank() < before


def test_the_same_seed_adapts_the_same_way(
    adapted: RunFolder, tiny_arguments: Callable[..., Arguments], new_reviews: Path, tmp_path: Path
) -> None:
    def again(name: str, *flags: str) -> dict[str, torch.Tensor]:
        folder = str(tmp_path / name)
        run = train(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews), "--output_dir", folder, *flags))
        return weights(run.path / "checkpoint-0")

    assert the_same(again("same"), weights(adapted.path / "checkpoint-0"))
    assert not the_same(again("other", "--seed", "7"), weights(adapted.path / "checkpoint-0"))


def test_a_resumed_run_does_not_adapt_again(
    adapted: RunFolder,
    tiny_arguments: Callable[..., Arguments],
    new_reviews: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    stopped = tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews), "--output_dir", str(tmp_path / "stopped"))
    job = prepare(stopped)
    run = RunFolder(tmp_path / "stopped")
    run.write_config(job.arguments.resolved)
    adapt(job.trainer, job.pairs)
    capsys.readouterr()
    flags = ["--unlabelled_file", str(new_reviews), "--output_dir", str(run), "--resume"]
    again = train(tiny_arguments(*FEW, *flags))
    shown = capsys.readouterr().out
    assert f"resumed    from {run}/checkpoint-0" in shown and "adapted    in" not in shown
    assert the_same(weights(again.path), weights(adapted.path))
    assert again.read_record().unlabelled["seconds"] == job.trainer.totals.adaptation_seconds


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_stop_while_it_adapts_says_how_to_go_on(
    end: BaseException,
    code: int,
    tiny_arguments: Callable[..., Arguments],
    new_reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    write, calls, flags = checkpoints.write_manifest, [], [*FEW, "--seeds", "2", "--unlabelled_file", str(new_reviews)]

    def stopped(*args: Any) -> None:
        """Write the manifests but that of the first call, or of the second seed's adapted encoder."""
        calls.append(args)
        folder = args[0]
        if len(calls) == 1 or (folder.name, folder.parent.name) == ("checkpoint-0", "43"):
            raise end
        write(*args)

    monkeypatch.setattr(checkpoints, "write_manifest", stopped)
    with pytest.raises(
        Interrupted, match="nothing to resume yet; the same command with --overwrite_output_dir"
    ) as said:
        train(tiny_arguments(*flags))
    assert said.value.code == code and not [*(tmp_path / "run").rglob("checkpoint-*")]
    with pytest.raises(Interrupted, match="adapted: the same command with --resume goes on$") as said:
        train(tiny_arguments(*flags, "--overwrite_output_dir"))
    assert said.value.code == code
    monkeypatch.setattr(checkpoints, "write_manifest", write)
    assert len(train(tiny_arguments(*flags, "--resume")).read_record().seeds) == 2


def test_a_run_is_resumed_with_its_own_unlabelled_reviews_alone(
    tiny_arguments: Callable[..., Arguments], new_reviews: Path
) -> None:
    job = prepare(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews)))
    RunFolder(job.trainer.run_path).write_config(job.arguments.resolved)
    adapt(job.trainer, job.pairs)
    separable_reviews(90, seed=9).remove_columns("label").to_parquet(new_reviews)
    with pytest.raises(UsageError, match=r"checkpoint-0 is of another run: unlabelled rows \(.*\) changed since"):
        train(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews), "--resume"))
    with pytest.raises(UsageError, match=r"unlabelled rows \(.*, now the default\) changed since"):
        train(tiny_arguments(*FEW, "--resume"))


def test_the_run_says_what_its_encoder_adapted_to(
    adapted: RunFolder, tiny_arguments: Callable[..., Arguments], new_reviews: Path
) -> None:
    found = adapted.read_record().unlabelled
    assert found is not None and isinstance(found.pop("seconds"), float)
    digest = hashlib.sha256(new_reviews.read_bytes()).hexdigest()
    assert found == {
        "files": [{"file": str(new_reviews), "sha256": digest}],
        "rows": 100,
        "pairs": 100,
        "dropped": {"no_text": 0, "repeated": 0, "also_in_train_or_validation": 0},
    }
    assert adapted.read_config()["unlabelled_file"] == str(new_reviews)
    lines = header(prepare(tiny_arguments(*FEW, "--unlabelled_file", str(new_reviews)))).splitlines()
    assert (
        f"unlabelled {new_reviews}: 100 new reviews (0 left out), 100 of which adapt the encoder: title against content"
        in lines
    )


def test_of_many_reviews_the_seed_draws_two_thousand(reviews_folder: Path, tmp_path: Path) -> None:
    titles, contents = ([f"{kind} {row}" for row in range(2100)] for kind in ("title", "content"))
    Dataset.from_dict({"title": titles, "content": contents}).to_parquet(tmp_path / "new.parquet")
    args = DataArguments(dataset_name=str(reviews_folder), text_columns=["title", "content"])
    unlabelled = read_unlabelled([str(tmp_path / "new.parquet")], args, load_reviews(args, seed=1))
    one, same, other = (pairs_of(unlabelled, seed) for seed in (1, 1, 2))
    assert one == same != other and len(set(one)) == len(set(other)) == 2000
    assert set(one) < set(zip(titles, contents, strict=True))


@pytest.mark.parametrize(
    ("untitled", "flags", "message"),
    [
        (0, ["--text_columns", "content"], "names one column, 'content': give two"),
        (9, [], "has 31 new reviews with both title and content: adapting the encoder takes 32"),
    ],
)
def test_reviews_that_cannot_adapt_the_encoder_are_refused_before_anything_is_written(
    untitled: int, flags: list[str], message: str, tiny_arguments: Callable[..., Arguments], tmp_path: Path
) -> None:
    rows = separable_reviews(40, seed=9)
    titles = [" "] * untitled + rows["title"][untitled:]
    rows.remove_columns("title").add_column("title", titles).to_parquet(tmp_path / "new.parquet")
    arguments = tiny_arguments(*FEW, "--unlabelled_file", str(tmp_path / "new.parquet"), *flags)
    with pytest.raises(UsageError, match=message) as refused:
        train(arguments)
    assert "\n" not in str(refused.value)
    assert files_under(tmp_path / "run") <= {".lock"}


def test_a_model_that_does_not_classify_by_cls_is_refused(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    require_cls(BertConfig(), tokenizer)
    with pytest.raises(UsageError, match="a 'bart' classifies by another"):
        require_cls(BartConfig(), tokenizer)
    tokenizer.cls_token = None
    with pytest.raises(UsageError, match="a 'gpt2' classifies by another"):
        require_cls(GPT2Config(), tokenizer)

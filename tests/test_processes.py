"""One process, two, and accumulated gradients train the same model: real processes on the CPU."""

import json
import sys
from pathlib import Path

import pytest
from conftest import run_script, separable_reviews, write_dataset

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def epochs(bert_without_dropout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, float]]]:
    """The epochs of the same run made in three ways, with no dropout, whose masks depend on the batch's shape."""
    cwd = tmp_path_factory.mktemp("processes")
    # 243 train and 61 validation rows: the last batch of either is not whole.
    write_dataset(cwd / "reviews", train=separable_reviews(304, seed=1), test=separable_reviews(20, seed=2))
    flags = f"""--model_name_or_path {bert_without_dropout} --dataset_name reviews --max_train_samples -1
        --max_length 32 --use_cpu --learning_rate 2e-3 --num_train_epochs 3 --global_batch_size 8
        --per_device_eval_batch_size 7 --disable_tqdm True""".split()
    ways = {"one": ([], ()), "two": ([], TWO), "accumulated": (["--per_device_train_batch_size", "2"], ())}
    found = {}
    for way, (more, launcher) in ways.items():
        result = run_script("train", *flags, *more, "--output_dir", way, cwd=cwd, launcher=launcher)
        assert result.returncode == 0, result.stderr
        found[way] = json.loads((cwd / way / "run.json").read_text())["epochs"]
    return found


@pytest.mark.parametrize("way", ["two", "accumulated"])
def test_the_losses_are_the_same_however_the_batch_is_shared(
    way: str, epochs: dict[str, list[dict[str, float]]]
) -> None:
    for one, other in zip(epochs["one"], epochs[way], strict=True):
        assert one["step"] == other["step"]
        for name in ("train_loss", "loss"):
            assert other[name] == pytest.approx(one[name], abs=1e-4)
        for name in ("f1", "accuracy", "precision", "recall"):
            assert other[name] == one[name], "every validation row counts once"
    assert 0 < epochs["one"][1]["f1"] < 1, "the test needs an F1 that a wrong count would move"

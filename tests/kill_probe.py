"""Train as scripts/train.py does, and send a signal at a named moment: `kill_probe.py MOMENT NUMBER SIGNAL FLAGS…`.

The process sends itself and its data-loader workers the signal when it reaches the moment for the NUMBERth time, as a
terminal or a cluster's scheduler does.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.arguments.parser import parse_arguments
from recipe.command_line import run
from recipe.training import checkpoints
from recipe.training import run as training
from recipe.training.trainer import ReviewTrainer

# A public function for each moment, and whether the signal comes after its call or before.
MOMENTS = {
    "step": (ReviewTrainer, "training_step", False),
    "weights are written, the rest is not": (ReviewTrainer, "save_model", True),
    "all is written but the manifest": (checkpoints, "write_manifest", False),
    "validation": (ReviewTrainer, "prediction_step", False),
    "trained but not saved": (training, "prove_best_reloaded", False),
    "saved but not recorded": (training, "run_record", False),
}
SECONDS = 200


@dataclass
class End:
    """How a process ended: by a negative signal number or with an exit code, and its error output."""

    code: int
    stderr: str


def send_at(moment: str, number: int, signal: int) -> None:
    """Let the function of the moment send the signal at its NUMBERth call."""
    owner, name, after = MOMENTS[moment]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == number
        if mine and not after:
            os.killpg(0, signal)
        result = original(*args, **kwargs)
        if mine and after:
            os.killpg(0, signal)
        return result

    setattr(owner, name, deadly)


def train_until(moment: str, number: int, signal: int, flags: list[str], stderr: str | None = None) -> None:
    """Train in this process, with its error output in a file."""
    if stderr:
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    # A process of torchrun leads a group already.
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    send_at(moment, number, signal)
    sys.argv[1:] = flags
    run(lambda argv: training.train(parse_arguments(argv)) and None)


def die(moment: str, number: int, signal: int, flags: list[str], folder: Path) -> End:
    """Train in a process that gets the signal, forked from a server that has imported the libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recipe.training"])
    stderr = folder / "stderr.txt"
    process = context.Process(target=train_until, args=(moment, number, int(signal), flags, str(stderr)))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{moment}: still running after {SECONDS} s: {stderr.read_text()}")
    return End(process.exitcode, stderr.read_text())


if __name__ == "__main__":
    train_until(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

"""Train as scripts/train.py does, and die by a signal at a named moment: `kill_probe.py MOMENT NUMBER SIGNAL FLAGS…`.

The process sends itself the signal when it has come to the moment for the NUMBERth time.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.arguments.parser import parse_arguments
from recipe.command_line import run
from recipe.training import checkpoints
from recipe.training import run as training
from recipe.training.trainer import ReviewTrainer

MOMENTS = {
    "step": (ReviewTrainer, "training_step"),
    "weights are written, the rest is not": (ReviewTrainer, "_save_optimizer_and_scheduler"),
    "all is written but the name": (checkpoints, "publish"),
    "validation": (ReviewTrainer, "prediction_step"),
    "trained but not saved": (training, "prove_best_reloaded"),
    "saved but not recorded": (training, "run_record"),
}


def die_at(moment: str, number: int, signal: int) -> None:
    """Let the function of that moment send the signal before it is called for the NUMBERth time."""
    owner, name = MOMENTS[moment]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.argv[1:] = sys.argv[4:]
    run(lambda argv: training.train(parse_arguments(argv)) and None)

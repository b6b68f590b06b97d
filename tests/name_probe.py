"""Prints where `import evaluate` leads once each script of ours has started, here and in data-loader workers.

python tests/name_probe.py scripts/train.py scripts/evaluate.py
"""

import importlib.util
import runpy
import sys
from pathlib import Path

from torch.utils.data import DataLoader


def origin_of_evaluate(_: list[int]) -> str:
    """The file that `import evaluate` would run."""
    spec = importlib.util.find_spec("evaluate")
    return str(spec and spec.origin)


if __name__ == "__main__":
    before = list(sys.path)
    for script in map(Path, sys.argv[1:]):
        sys.path[:] = [str(script.resolve().parent), *before]  # as Python itself does for `python scripts/evaluate.py`
        runpy.run_path(str(script))
        print(origin_of_evaluate([]))
        for context in ("fork", "spawn"):
            loader = DataLoader([0], num_workers=1, multiprocessing_context=context, collate_fn=origin_of_evaluate)
            print(next(iter(loader)))

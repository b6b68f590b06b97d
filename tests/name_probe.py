"""Print where `import evaluate` leads once each script has started, here and in worker processes.

python tests/name_probe.py scripts/train.py scripts/evaluate.py
"""

import importlib.util
import multiprocessing
import runpy
import sys
from pathlib import Path


def origin_of_evaluate() -> str:
    """Return the file that `import evaluate` would run."""
    spec = importlib.util.find_spec("evaluate")
    return str(spec and spec.origin)


if __name__ == "__main__":
    before = list(sys.path)
    for script in map(Path, sys.argv[1:]):
        sys.path[:] = [str(script.resolve().parent), *before]  # as Python itself does for `python scripts/evaluate.py`
        runpy.run_path(str(script))
        print(origin_of_evaluate())
        # The two ways in which data-loader workers start.
        for context in ("fork", "spawn"):
            with multiprocessing.get_context(context).Pool(1) as pool:
                print(pool.apply(origin_of_evaluate))

"""Looks at the data of several command lines in one process, as `scripts/train.py --inspect_data` would at each.

    echo '[["--dataset_name", "owner/name"]]' | python tests/hub_probe.py

Prints a JSON list: for each command line the rows per split, the share of positive ones, and what was said meanwhile,
or the message of the error and its seconds. Waits of a second or more between tries are counted
and not spent.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipe.arguments.parser import parse_arguments
from recipe.errors import UsageError
from recipe.machine import silence_libraries

waits: list[float] = []
sleep = time.sleep

if __name__ == "__main__":
    silence_libraries()
    time.sleep = lambda seconds: waits.append(seconds) if seconds >= 1 else sleep(seconds)
    from recipe.data.reviews import load_reviews
    from recipe.model.pretrained import find_pretrained

    answers = []
    for argv in json.load(sys.stdin):
        started = time.perf_counter()
        waits.clear()
        try:
            arguments = parse_arguments(argv)
            pretrained = find_pretrained(arguments.model, arguments.data.max_length)
            with redirect_stdout(StringIO()) as said:
                reviews = load_reviews(arguments.data, arguments.training.seed)
            rows = {name: len(split) for name, split in reviews.splits.items()}
            positive = {name: split.labels.mean() for name, split in reviews.splits.items()}
            sha256 = {name: split.sha256 for name, split in reviews.splits.items()}
            found = {"rows": rows, "positive": positive, "sha256": sha256, "said": said.getvalue()}
            answers.append(found | {"dataset": reviews.origin, "weights": pretrained.source})
        except UsageError as error:
            answers.append({"error": str(error), "seconds": time.perf_counter() - started + sum(waits)})
    print(json.dumps(answers))

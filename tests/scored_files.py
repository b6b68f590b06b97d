"""Files of reviews before and after scoring, and `scripts/predict.py` in processes that may be killed."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT


def write_csv(file: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(content: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))


def probe(jobs: list[dict[str, Any]], cwd: Path) -> list[dict[str, Any]]:
    """What `tests/score_probe.py` says of each run."""
    command = [sys.executable, str(ROOT / "tests" / "score_probe.py")]
    result = subprocess.run(command, input=json.dumps(jobs), cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout))

"""The README's figures are those that the run has left, and nothing else of it changes."""

import json
import shutil
from pathlib import Path

import pytest

from recipe.errors import UsageError
from recipe.evaluation.readme_figures import fill_in
from recipe.evaluation.report import evaluate_run
from recipe.export.variants import export
from recipe.files.atomic import write_json
from recipe.run_folder import RunFolder

BEFORE = """# Title

<!-- tiny report -->
old figures
<!-- end -->

between, 0.1234

<!-- other report -->
another run's
<!-- end -->

<!-- tiny variants -->
<!-- end -->
<!-- tiny speed -->
<!-- end -->
<!-- tiny pictures -->
<!-- end -->
after
"""


@pytest.fixture
def evaluated(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    run = RunFolder(shutil.copytree(tiny_run.path, tmp_path / "tiny"))
    export(run, max_f1_drop=0.2)
    evaluate_run(run)
    way = {"reviews_per_second": 40.4, "ratio": 1.0, "p50_ms": 9.26, "p95_ms": 20.0, "peak_mib": 1234}
    way |= {"share_of_limit": 0.25, "labels_flipped": 3, "logit_difference": {"largest": 0.2, "mean": 0.0123}}
    limits = {"fp32_giga_per_second": 200, "int8_giga_per_second": 800}
    reviews = {"the run's test rows": {"rows": 60, "ways": {"original recipe": way}}}
    found = {"machine": "2 CPU cores", "rounds": 5, "limits": limits, "reviews": reviews}
    write_json(run.path / "benchmark" / "inference.json", found)
    return run


def test_a_runs_blocks_hold_its_figures_and_the_rest_stays(evaluated: RunFolder, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(BEFORE)
    assert fill_in(readme, evaluated, tmp_path / ".readme") == ["report", "variants", "speed", "pictures"]
    text = readme.read_text()
    assert "old figures" not in text and "between, 0.1234" in text and "another run's" in text
    report, certificate = (json.loads(file.read_text()) for file in (evaluated.report, evaluated.certificate))
    low, high = report["intervals"]["variants"]["tfidf"]["f1"]
    assert f"{report['variants']['tfidf']['f1']:.4f} ({low:.4f} to {high:.4f})" in text
    assert f"{certificate['variants']['int8']['logit_difference']['largest']:.1e}" in text
    assert "| original recipe | 40 | 1.00 | 9.3, 20.0 | 1,234 | 25% | 3 | 1.2e-02 |" in text
    assert "](.readme/tiny_slices.png)" in text
    assert (tmp_path / ".readme" / "tiny_slices.png").read_bytes() == (
        evaluated.report_folder / "slices.png"
    ).read_bytes()
    fill_in(readme, evaluated, tmp_path / ".readme")
    assert readme.read_text() == text, "the same again"


def test_a_readme_without_a_block_of_the_run_is_refused(evaluated: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- other report -->\n<!-- end -->\n")
    with pytest.raises(UsageError, match="has no block of the run 'tiny'"):
        fill_in(tmp_path / "README.md", evaluated, tmp_path / ".readme")


def test_a_run_that_lacks_what_a_block_shows_is_refused_and_nothing_changes(
    evaluated: RunFolder, tmp_path: Path
) -> None:
    shutil.rmtree(evaluated.path / "benchmark")
    (tmp_path / "README.md").write_text(BEFORE)
    with pytest.raises(UsageError, match="no .*inference.json: make it first"):
        fill_in(tmp_path / "README.md", evaluated, tmp_path / ".readme")
    assert (tmp_path / "README.md").read_text() == BEFORE

"""Answer what to do next about a finished run: each question in lines for the screen, and in `<run>/advice/`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from recipe.advice.answer import Advice
from recipe.advice.curve import curve
from recipe.advice.hints import hints
from recipe.advice.suspects import suspects
from recipe.advice.to_label import to_label
from recipe.arguments.data import data_arguments_of
from recipe.data.reviews import Reviews, Split, reviews_of
from recipe.data.unlabelled import read_unlabelled
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256, write_json
from recipe.run_folder import RunFolder

# What a person fills in.
LISTS = ("suspects.csv", "to_label.csv")


def advise(
    run: RunFolder, files: Mapping[str, list[str]] | None = None, unlabelled_file: list[str] | None = None
) -> list[Advice]:
    """Answer every question about a finished run, and write the answers into `<run>/advice/`.

    No test row is read: their hashes alone have kept them out of the train rows.

    Args:
        files: Where the run's files are now, as `reviews_of` takes them; its test file may be gone.
        unlabelled_file: Reviews to choose from those to label next.

    Raises:
        UsageError: The run is unfinished or damaged, its reviews or weights cannot be read or have changed, or an
            earlier answer's csv was edited since, and would be lost.
    """
    run.require_finished()
    folder = run.path / "advice"
    earlier = unedited(folder)
    # Unlabelled reviews must be no test rows, which takes the test rows' hashes.
    reviews = reviews_of(run, files, needs_test=bool(unlabelled_file))
    args = data_arguments_of(run.read_config())
    unlabelled = read_unlabelled(unlabelled_file, args, reviews) if unlabelled_file else None
    reviews.splits.pop("test", None)
    answers: list[Advice] = []
    for answer in _answers(run, reviews, unlabelled, folder):
        answers.append(answer)
        # After each, so that whoever interrupts the next one leaves no list behind whose sha256 is not known.
        write_json(
            folder / "advice.json",
            {
                "answers": [{"title": said.title, "lines": said.lines, **said.figures} for said in answers],
                "files": earlier | {said.file.name: file_sha256(said.file) for said in answers if said.file},
            },
        )
    return answers


def _answers(run: RunFolder, reviews: Reviews, unlabelled: Split | None, folder: Path) -> Iterator[Advice]:
    yield suspects(run, reviews, folder)
    if unlabelled is not None:
        yield to_label(run, reviews, unlabelled, folder)
    yield curve(run, reviews, folder)
    yield hints(run, reviews)


def unedited(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of earlier answers, whose lists nobody has worked on since.

    Raises:
        UsageError: A list was edited, or its sha256 is not known, and a new one would replace it.
    """
    written: dict[str, str] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        written = json.loads((folder / "advice.json").read_text(encoding="utf-8"))["files"]
    for name in LISTS:
        if (file := folder / name).is_file() and file_sha256(file) != written.get(name):
            raise UsageError(f"{file} was edited since, and would be replaced: move it elsewhere first")
    return written


def summary(answers: list[Advice]) -> str:
    """Return the answers for the screen."""
    blocks = [[said.title, *(f"  {line}" for line in said.lines)] for said in answers]
    return "\n".join(line for block in blocks for line in block)

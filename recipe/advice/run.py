"""Answer what to do next about a finished run: each question in lines for the screen, and in `<run>/advice/`."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from recipe.advice.answer import Advice
from recipe.advice.curve import curve
from recipe.advice.hints import hints
from recipe.advice.suspects import COLUMNS, suspects
from recipe.advice.to_label import to_label
from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.data.reviews import Reviews, Split, reviews_of
from recipe.data.unlabelled import read_unlabelled
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256, read_json, write_json
from recipe.files.spreadsheet import PREDICTED, PROBABILITY
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
            earlier answer's csv was edited since, and would be lost; or a column of the reviews has the name of one
            that a list adds to them.
    """
    run.require_finished()
    folder = run.path / "advice"
    earlier, args = unedited(folder), data_arguments_of(run.read_config())
    _require_other_columns(args, bool(unlabelled_file))
    # Unlabelled reviews must be no test rows, which takes the test rows' hashes.
    reviews = reviews_of(run, files, needs_test=bool(unlabelled_file))
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


def _require_other_columns(args: DataArguments, labels_more: bool) -> None:
    twice = {"suspects.csv": [column for column in args.text_columns if column in COLUMNS]}
    if labels_more:
        own = [*args.text_columns, args.label_column]
        twice["to_label.csv"] = [column for column in own if column in (PREDICTED, PROBABILITY)]
    for file, columns in twice.items():
        if columns:
            raise UsageError(
                f"{file} has a column {columns[0]!r} of its own, which the reviews have too: rename it in your files, "
                "and train again"
            )


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
        written = read_json(folder / "advice.json")["files"]
    for name in LISTS:
        if (file := folder / name).is_file() and file_sha256(file) != written.get(name):
            raise UsageError(f"{file} was edited since, and would be replaced: move it elsewhere first")
    return written


def summary(answers: list[Advice]) -> str:
    """Return the answers for the screen."""
    blocks = [[said.title, *(f"  {line}" for line in said.lines)] for said in answers]
    return "\n".join(line for block in blocks for line in block)

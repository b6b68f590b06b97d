"""Settings of the data: the labelled reviews, how many of them, and how much of each is read."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from recipe.arguments.setting import setting
from recipe.command_line import SPLITS
from recipe.errors import UsageError
from recipe.files.text_rows import Dialect, Escape, Quoting

# The settings that name the user's own files.
FILES = tuple(f"{split}_file" for split in SPLITS)
# All that name files, patterns or folders of them.
PATHS = (*FILES, "unlabelled_file", "corrections")


@dataclass
class DataArguments:
    """The labelled reviews to use, how many of them, and how much of each is read."""

    dataset_name: str = setting(
        "fancyzhx/amazon_polarity",
        "A dataset on the Hub, a local folder in the Hub's layout, or package:NAME for reviews that an installed "
        "package holds.",
    )
    dataset_config_name: str | None = setting(None, "Configuration of the dataset, where it has several.")
    train_file: list[str] | None = setting(
        None,
        "Your own reviews, in place of the dataset: .csv, .tsv, .jsonl, .json, .parquet, or .txt (fastText). A file, "
        "several, a pattern, or a folder of parts.",
    )
    validation_file: list[str] | None = setting(
        None, "The same for validation; without it, rows of train are held out."
    )
    test_file: list[str] | None = setting(None, "The same for test; without it, nothing is evaluated.")
    dataset_revision: str | None = setting(
        None, "Commit, tag or branch of a dataset on the Hub. By default the recipe's pin, else main."
    )
    text_columns: list[str] = setting(
        ["content"], "One column, or two that are read as BERT's sentence pair (title content)."
    )
    label_column: str = setting("label", "Column of the label: 0/1, 1/2 or names.")
    delimiter: str | None = setting(None, "Column separator of csv and tsv, such as ';' or tab; detected by default.")
    quoting: Quoting = setting(
        "checked",
        "In your csv or tsv: a quoted field whose lines look like rows is refused (checked) or taken for one field "
        "(trusted), or quotes are plain characters (none).",
    )
    escape: Escape = setting("none", 'In your csv or tsv: backslash takes the character after one as it is, as in \\".')
    column_names: list[str] = setting([], "Names of all columns of your csv or tsv files, which have no header.")
    sampling: Literal["first", "random"] = setting(
        "first",
        "Which rows max_train_samples and max_test_samples take: the first, so that no others are read, or a "
        "stratified sample by --seed (of test the same with every seed), which needs the whole dataset.",
    )
    max_train_samples: int = setting(20_000, "Take N train rows, validation included; -1 takes all.")
    max_test_samples: int = setting(5_000, "Take N test rows; -1 takes all.")
    validation_fraction: float = setting(0.2, "Share of the train rows held out for validation, stratified and seeded.")
    unlabelled_file: list[str] | None = setting(
        None,
        "Reviews without labels, most often those that are to be scored, and never test rows: the model answers them, "
        "and learns from its answers in the end. A file, several, a pattern, or a folder of parts.",
    )
    teacher: str | None = setting(
        None, "The folder of a finished run, ideally of a larger encoder, that answers unlabelled_file instead."
    )
    corrections: list[str] | None = setting(
        None,
        "Labels of train and validation rows that were found wrong: the suspects.csv of advise.py, with its column "
        "correct_label filled in. A file or several.",
    )
    inspect_data: bool = setting(
        False, "Only look at the data: print the report, write <run>/data.json, train nothing."
    )
    max_length: int = setting(128, "Tokens after which a review is truncated, [CLS] and [SEP] included.")
    truncation_side: Literal["left", "right"] = setting(
        "right", "Which end of a longer review is cut: right keeps its beginning, left its end."
    )

    @property
    def files(self) -> dict[str, list[str]]:
        """Return the user's own files, patterns and folders by split; empty if a dataset is read."""
        named = {split: getattr(self, f"{split}_file") for split in SPLITS}
        return {split: given for split, given in named.items() if given}

    @property
    def dialect(self) -> Dialect:
        """Return how the user's own csv and tsv files are spelled; raise `UsageError` if that makes no sense."""
        return Dialect.of(self)

    @property
    def max_rows(self) -> dict[str, int]:
        """Return how many rows of each split to use, -1 for all."""
        return {"train": self.max_train_samples, "validation": -1, "test": self.max_test_samples}

    @property
    def first_rows(self) -> dict[str, int]:
        """Return how many first rows of each split to read, -1 for all: a random sample may need any of them."""
        return self.max_rows if self.sampling == "first" else dict.fromkeys(self.max_rows, -1)

    def __post_init__(self) -> None:
        """Make a list of a file that is named alone, as in YAML; if a value is out of range, raise a `UsageError`."""
        for name in PATHS:
            if isinstance(given := getattr(self, name), str):
                setattr(self, name, [given])
        for name in ("max_train_samples", "max_test_samples"):
            if (rows := getattr(self, name)) < 1 and rows != -1:
                raise UsageError(f"--{name} {rows} takes no row: give a number from 1, or -1 for all rows")
        if not 0 < self.validation_fraction < 1:
            raise UsageError(f"--validation_fraction {self.validation_fraction} is not between 0 and 1")
        if self.max_length < 3:
            raise UsageError(f"--max_length {self.max_length} leaves no room for a word between [CLS] and [SEP]")
        if not 1 <= len(self.text_columns) <= 2:
            raise UsageError(f"--text_columns takes one column or two, not {len(self.text_columns)}")
        Dialect.of(self)
        columns = [*self.text_columns, self.label_column]
        if len(set(columns)) < len(columns) or "label" in self.text_columns:
            raise UsageError(
                f"--text_columns and --label_column name a column twice, or read 'label' as text: {columns}"
            )


def describe_truncation(max_length: int, truncation_side: str) -> str:
    """Return where a review is cut, in words."""
    return f"truncated at {max_length} tokens, the {'beginning' if truncation_side == 'right' else 'end'} is kept"


def data_arguments_of(settings: dict[str, Any]) -> DataArguments:
    """Return the data arguments of a run's resolved settings; if one is unknown, raise a `UsageError`."""
    names = {f.name for f in dataclasses.fields(DataArguments)}
    try:
        return DataArguments(**{name: value for name, value in settings.items() if name in names})
    except TypeError as error:
        raise UsageError(f"config.yaml of the run is damaged: {error}") from error

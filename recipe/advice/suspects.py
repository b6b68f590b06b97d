"""Find labels that are probably wrong: confident learning on out-of-fold probabilities."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from scipy.sparse import csr_matrix, hstack
from scipy.stats import fisher_exact
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from recipe.advice.answer import SECONDS_PER_REVIEW, Advice, in_words
from recipe.advice.vectors import frozen_vectors, labelled_texts
from recipe.data.corrections import COLUMN
from recipe.data.reviews import Reviews, Split
from recipe.data.tokens import flat
from recipe.files.atomic import write_whole
from recipe.files.spreadsheet import sheet
from recipe.files.text_rows import Text
from recipe.metrics.significance import SIGNIFICANCE
from recipe.run_folder import RunFolder

FOLDS = 5
# Columns of suspects.csv beside the texts.
COLUMNS = ("split", "row", "given_label", "likely_label", "probability", COLUMN)
# Share of the labels that are changed on purpose, to see how many of them the list names; ten of a hundred rows.
CHANGED, FEWEST_CHANGED = 0.04, 10


@dataclass(frozen=True)
class Learner:
    """One view of the rows: a matrix (rows, features), and the C of its logistic regression."""

    features: Any
    c: float


@dataclass(frozen=True)
class Check:
    """What a list names where labels were changed on purpose: how many of the changed rows, and of the others."""

    changed: int
    changed_named: int
    others: int
    others_named: int

    @property
    def is_noise(self) -> bool:
        """Return whether changed rows may have been named by chance: Fisher's exact test, one-sided."""
        missed = self.changed - self.changed_named, self.others - self.others_named
        table = [[self.changed_named, missed[0]], [self.others_named, missed[1]]]
        return float(fisher_exact(table, alternative="greater").pvalue) > SIGNIFICANCE


def suspects(run: RunFolder, reviews: Reviews, folder: Path) -> Advice:
    """Write `suspects.csv`, the train and validation rows whose label is probably wrong, most suspicious first.

    Args:
        reviews: Of the run; no test row is read.
        folder: Where the file goes.

    Raises:
        UsageError: The run's pretrained weights cannot be found.
    """
    splits = {name: reviews.splits[name] for name in ("train", "validation")}
    texts = labelled_texts(reviews)
    labels = np.concatenate([split.labels for split in splits.values()])
    folds = fold_numbers(np.concatenate([split.keys.normalised for split in splits.values()]), labels)
    views = learners(texts, frozen_vectors(run, texts))
    probabilities = out_of_fold(views, labels, folds, len(reviews.label_names))
    found = named_issues(labels, probabilities)
    check = check_list(views, labels, folds, len(reviews.label_names))
    file = folder / "suspects.csv"
    write_whole(file, suspects_csv(splits, found, probabilities, reviews.label_names))
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return _answer(run, file, {name: len(split) for name, split in splits.items()}, found, check, accuracy)


def learners(texts: Sequence[Text], vectors: np.ndarray) -> list[Learner]:
    """Return three views of the rows: an encoder's vectors, words and pairs of words, and characters.

    Args:
        vectors: float32 (rows, hidden).
    """
    joined = flat(texts)
    # A title says in few words what its content says in many.
    titles = [text[0] for text in texts if not isinstance(text, str)]
    words = [found for column in (joined, titles) if (found := _tfidf(column, ngram_range=(1, 2))) is not None]
    matrices = [
        (StandardScaler().fit_transform(vectors), 0.03),
        (hstack(words).tocsr() if words else None, 4),
        (_tfidf(joined, analyzer="char_wb", ngram_range=(2, 5), max_features=100_000), 4),
    ]
    return [Learner(matrix, c) for matrix, c in matrices if matrix is not None]


def _tfidf(texts: Sequence[str], **settings: Any) -> csr_matrix | None:
    """Return the texts' TF-IDF features, (rows, features), or nothing where they have no word."""
    try:
        return TfidfVectorizer(sublinear_tf=True, **settings).fit_transform(texts)
    except ValueError:
        return None


def fold_numbers(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each row's fold, int64 (rows,), stratified by label; repetitions of a text are in one fold.

    Where no label has two texts, each text is a fold.

    Args:
        keys: Of the texts, uint64 (rows,).
        labels: int64 (rows,).
    """
    _, first, text = np.unique(keys, return_index=True, return_inverse=True)
    folds = np.zeros(len(first), dtype=np.int64)
    splits = min(FOLDS, int(np.bincount(labels[first]).max()))
    if splits < 2:
        return text
    for number, (_, held_out) in enumerate(
        StratifiedKFold(splits, shuffle=True, random_state=0).split(first, labels[first])
    ):
        folds[held_out] = number
    return folds[text]


def out_of_fold(views: Sequence[Learner], labels: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean probabilities that each fold's rows get from regressions on the others, float64 (rows, classes).

    Others that have one label all put it at 1.

    Args:
        labels, folds: int64 (rows,).
    """
    probabilities = np.zeros((len(labels), classes))
    for fold in np.unique(folds):
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(only := np.unique(labels[rest])) == 1:
            probabilities[held_out, only] = len(views)
            continue
        for view in views:
            fitted = LogisticRegression(C=view.c, max_iter=300).fit(view.features[rest], labels[rest])
            probabilities[np.ix_(held_out, fitted.classes_)] += fitted.predict_proba(view.features[held_out])
    return probabilities / len(views)


def named_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the rows whose label confident learning takes for wrong, int64 (issues,), most suspicious first.

    Northcutt et al., *Confident Learning*, 2021: those that another label's probability puts there, as many for each
    pair of labels as the estimated joint distribution has. Sorted by how far the likely label is ahead of the given
    one. A label of fewer rows than folds is not judged.

    Args:
        labels: int64 (rows,).
        probabilities: Out of fold, float64 (rows, classes).
    """
    found = find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="normalized_margin",
        min_examples_per_class=FOLDS,
        n_jobs=1,
    )
    return np.asarray(found, dtype=np.int64)


def check_list(views: Sequence[Learner], labels: np.ndarray, folds: np.ndarray, classes: int) -> Check:
    """Change some labels on purpose, and return how many of them a list made then would name."""
    rows, draw = len(labels), np.random.default_rng(0)
    changed = draw.choice(rows, max(round(CHANGED * rows), min(FEWEST_CHANGED, rows // 10), 1), replace=False)
    others = np.setdiff1d(np.arange(rows), changed)
    planted = labels.copy()
    planted[changed] = (labels[changed] + draw.integers(1, classes, len(changed))) % classes
    named = named_issues(planted, out_of_fold(views, planted, folds, classes))
    return Check(len(changed), int(np.isin(changed, named).sum()), len(others), int(np.isin(others, named).sum()))


def suspects_csv(
    splits: dict[str, Split], found: np.ndarray, probabilities: np.ndarray, label_names: Sequence[str]
) -> str:
    """Return the rows `found`, int64 (issues,), counted through the splits, as csv for a spreadsheet.

    Returns:
        Columns `split`, `row` (from 1, of that split), `given_label`, `likely_label`, its `probability` (out of fold),
        `correct_label`, empty for a person to fill in, and the text columns.
    """
    names = np.array([name for name, split in splits.items() for _ in range(len(split))], dtype=object)
    rows = np.concatenate([np.arange(1, len(split) + 1) for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    likely, label_of = probabilities[found].argmax(axis=1), np.array(label_names, dtype=object)
    values = (
        names[found].tolist(),
        rows[found].tolist(),
        label_of[labels[found]].tolist(),
        label_of[likely].tolist(),
        probabilities[found, likely].round(4).tolist(),
        [""] * len(found),
    )
    columns: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    for column in splits["train"].text_columns:
        texts = [text for split in splits.values() for text in split.texts[column][:]]
        columns[column] = [texts[row] for row in found]
    return sheet(columns)


def _answer(
    run: RunFolder, file: Path, rows: dict[str, int], found: np.ndarray, check: Check, accuracy: float
) -> Advice:
    """Return what the screen says of a list of suspects."""
    total, train = sum(rows.values()), int((found < rows["train"]).sum())
    seconds, look = run.read_record().seconds, SECONDS_PER_REVIEW * len(found)
    lines = [
        f"{len(found):,} of {total:,} labels ({len(found) / total:.1%}) may be wrong: {train:,} train and "
        f"{len(found) - train:,} validation rows, most suspicious first",
        f"How sure: of {check.changed:,} labels changed on purpose it would name {check.changed_named:,}, and of the "
        f"others {check.others_named / check.others:.1%}; it guesses {accuracy:.1%} of the labels without seeing them",
        f"Cost: {in_words(look)} of looking at {SECONDS_PER_REVIEW} seconds a row, and {in_words(seconds)} of training "
        f"again: fill in {COLUMN}, then train.py --corrections {file}",
    ]
    if check.is_noise:
        lines = [f"Noise, that is drawn by chance or hardly better. {lines[1]}"]
    elif not len(found):
        lines = ["Nothing stands out: no label is named as wrong", lines[1]]
    figures = asdict(check) | {"is_noise": check.is_noise, "suspects": len(found), "rows": rows, "accuracy": accuracy}
    return Advice("Labels to check", lines, file, figures)

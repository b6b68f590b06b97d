"""Score batches of rows in any engine: Ray Data, Spark, datasets, pandas, or none."""

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.inference.classifier import Scores, windows
from recipe.inference.columns import added_names, answer_columns, column_kinds
from recipe.inference.onnx import OnnxClassifier, installed_providers
from recipe.run_folder import RunFolder

Batch = TypeVar("Batch")


class Scorer:
    """Adds to a batch of rows the columns that `scripts/predict.py` adds to a file.

    A batch is a dict of lists or arrays, a pandas DataFrame or a pyarrow Table. It comes back as the same kind, with
    its own columns and rows as they were. The added ones are strings, float32 and bool, as in `predict.py`'s parquet.

    Only the settings are pickled. Each process loads the model at its first batch and keeps it, for the children that
    it forks too. Equal settings of an unchanged run pickle to equal bytes, by which `datasets` finds its cache.

    Attributes:
        run: The run's folder, which must be at this path on every machine.
        variant, provider: Chosen here, so that all processes use the same.
        text_columns: One, or two that are a pair.
        sha256: Names what the answers depend on.
    """

    def __init__(
        self,
        run: str | Path,
        text_columns: Sequence[str] | None = None,
        variant: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        raw: bool = False,
        all_scores: bool = False,
    ) -> None:
        """Choose the variant; the model is not loaded yet.

        Args:
            text_columns: `None` takes the run's own.
            variant, provider, threads, raw: As in `OnnxClassifier.from_run`. An engine that starts a process for each
                core needs one thread.
            all_scores: Whether to add `confidence`, and `probability_NAME` for each label.

        Raises:
            UsageError: There is no such run or variant, or it cannot be run here.
        """
        folder = RunFolder(Path(run).expanduser().absolute())
        self.variant, certified = folder.choose_variant(variant, [provider] if provider else installed_providers())
        self.provider = provider or certified.provider
        names = [text_columns] if isinstance(text_columns, str) else text_columns
        self.text_columns = list(names or folder.read_config().get("text_columns", ["content"]))
        self.run, self.threads, self.raw, self.all_scores = str(folder), threads, raw, all_scores
        self.sha256 = _sha256(folder)

    @property
    def classifier(self) -> OnnxClassifier:
        """Return this process's model.

        Raises:
            UsageError: The run is not on this machine, or not the one that it was where the `Scorer` was made.
        """
        return _load(self.run, self.variant, self.provider, self.threads, self.raw, self.sha256)

    def __call__(self, batch: Batch) -> Batch:
        """Return a batch with the added columns, which have the prefix `predicted_` if one of their names is taken.

        A missing text (None, NaN, pandas' NA) is empty.

        Raises:
            UsageError: The batch lacks a text column, or has columns of both the plain and the prefixed names.
            TypeError: A review is not a text.
        """
        present: list[str] = list(getattr(batch, "column_names", batch))  # type: ignore[arg-type]
        texts = [_texts(batch, name, present) for name in self.text_columns]
        kinds = column_kinds(self.classifier, self.all_scores)
        names = added_names(kinds, present, "the batch")
        reviews = windows(texts[0] if len(texts) == 1 else list(zip(*texts, strict=True)))
        # An empty window comes last, so that an empty batch gets its columns too.
        parts = self.classifier.score(itertools.chain(reviews, [[]]))
        scores = Scores(*map(np.concatenate, zip(*parts, strict=True)))
        columns = answer_columns(self.classifier, scores, self.all_scores).values()
        types: list[Any] = [np.float32 if kind is float else kind for kind in kinds.values()]
        added = {name: np.asarray(values, type_) for name, values, type_ in zip(names, columns, types, strict=True)}
        return _extended(batch, added, self.text_columns[0])


@functools.cache
def _load(run: str, variant: str, provider: str, threads: int | None, raw: bool, sha256: str) -> OnnxClassifier:
    """Return a run's classifier, loaded once in the life of a process."""
    classifier = OnnxClassifier.from_run(run, variant, provider, threads, raw)
    if _sha256(RunFolder(run)) != sha256:
        raise UsageError(f"{run} is not the run that it was where the Scorer was made: make the Scorer again")
    return classifier


def _sha256(folder: RunFolder) -> str:
    """Return one sha256 of the files that the answers depend on; the certificate has those of the weights."""
    files = [folder.certificate, folder.decision, folder.onnx / "config.json", folder.onnx / "tokenizer.json"]
    found = [file_sha256(file) if file.is_file() else "" for file in (*files, folder.onnx / "tokenizer_config.json")]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _texts(batch: Any, name: str, present: list[str]) -> list[Any]:
    """Return a column's values; `present` has the names of all columns."""
    if present.count(name) != 1:
        found = f"several columns {name!r}" if name in present else f"no column {name!r}; it has {', '.join(present)}"
        raise UsageError(f"the batch has {found} (text_columns chooses)")
    column = batch[name]
    if hasattr(column, "to_pylist"):
        # pyarrow is here already if a table is.
        from recipe.files.readers import python_values

        return python_values(column)
    return list(column.tolist() if hasattr(column, "tolist") else column)


def _extended(batch: Any, added: dict[str, np.ndarray], like: str) -> Any:
    """Return a batch with more columns; in a dict, they are lists if the column `like` is one."""
    if hasattr(batch, "append_column"):
        import pyarrow

        for name, values in added.items():
            batch = batch.append_column(name, pyarrow.array(values))
        return batch
    if hasattr(batch, "assign"):
        return batch.assign(**added)
    is_list = isinstance(batch[like], list)
    return {**batch, **{name: values.tolist() if is_list else values for name, values in added.items()}}

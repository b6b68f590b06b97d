"""Find out what a tokenizer gives for a text that it does not know. Light: it imports tokenizers alone."""

from tokenizers import Tokenizer

# The space of sentencepiece, which stands alone before a word that is not known.
BLANK = "▁"
# Unicode says that it is no character, so no vocabulary has it.
_NO_CHARACTER = "\uffff"


def unknown_id(tokenizer: Tokenizer) -> int:
    """Return the id of the token for what the vocabulary lacks; -1, which no token has, if it can spell every text.

    The model itself is asked: a configuration may name another token (DeBERTa v3's), or one that is never given
    (RoBERTa's).
    """
    try:
        found = tokenizer.model.tokenize(_NO_CHARACTER)
    except Exception:
        # tokenizers has no type of its own for the lack of such a token.
        return -1
    return found[0].id if len(found) == 1 else -1

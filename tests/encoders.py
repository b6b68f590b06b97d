"""Tiny random encoders of the families that people start from, with tokenizers, all built in code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import transformers
from conftest import NEGATIVE, NEUTRAL, POSITIVE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, set_seed

WORDS = [*POSITIVE, *NEGATIVE, *NEUTRAL, "okay", "fine", "average"]
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# 64 tokens, whatever the family counts.
READS = 64
# Those of `FAMILIES` that training refuses.
REFUSED = ("Longformer", "Funnel", "XLNet", "T5")


@dataclass(frozen=True)
class Family:
    """How a family's tiny encoder is made.

    Attributes:
        name: Of its classes in transformers: `Bert` for `BertModel`, `BertConfig` and `BertTokenizerFast`.
        tokenizer: Writes a tokenizer of a class into a folder, and returns it.
        settings: Of the configuration.
    """

    name: str
    tokenizer: Callable[[str, Path], Any]
    settings: dict[str, Any]


def sentences() -> Iterator[str]:
    """Texts that hold every word."""
    for start in range(len(WORDS)):
        yield " ".join(WORDS[start:] + WORDS[:start])


def wordpiece(*special: str) -> Callable[[str, Path], Any]:
    """A tokenizer of whole words, with a vocab.txt."""

    def write(name: str, folder: Path) -> Any:
        vocabulary = [*(special or ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")), *WORDS]
        (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        return getattr(transformers, name)(str(folder / "vocab.txt"))

    return write


def byte_level(*special: str, template: str = "", **settings: Any) -> Callable[[str, Path], Any]:
    """A tokenizer of byte pairs, as GPT-2's and RoBERTa's; a `template` is for a class that adds no tokens itself."""

    def write(name: str, folder: Path) -> Any:
        bpe = Tokenizer(models.BPE(unk_token=settings.get("unk_token")))
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe.train_from_iterator(
            sentences(), trainers.BpeTrainer(special_tokens=list(special), initial_alphabet=alphabet, vocab_size=400)
        )
        if template:
            ids = [(token, bpe.token_to_id(token)) for token in special if token in template]
            pair = f"{template} $B:1 {template.split()[-1]}:1"
            bpe.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=ids)
        if not hasattr(transformers, name):
            return PreTrainedTokenizerFast(tokenizer_object=bpe, **settings)
        bpe.model.save(str(folder))
        files = {"vocab_file": str(folder / "vocab.json"), "merges_file": str(folder / "merges.txt")}
        return getattr(transformers, name)(**files, **settings)

    return write


@cache
def sentencepiece_model() -> bytes:
    """A model of pieces that sentencepiece has trained."""
    import sentencepiece

    content = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(),
        model_writer=content,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=-1,
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
    )
    return content.getvalue()


def pieces(**settings: Any) -> Callable[[str, Path], Any]:
    """A tokenizer of sentencepiece's pieces."""

    def write(name: str, folder: Path) -> Any:
        file = folder / getattr(transformers, name).vocab_files_names["vocab_file"]
        file.write_bytes(sentencepiece_model())
        return getattr(transformers, name)(vocab_file=str(file), **settings)

    return write


ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_TOKENS, strict=True))
ROBERTA = {**SIZE, "max_position_embeddings": READS + 2, "pad_token_id": 1, "type_vocab_size": 1}
WITHOUT_TYPES = ["input_ids", "attention_mask"]
DEBERTA = {**SIZE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
BOTTLENECK = {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}
MPNET_TOKENS = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
FUNNEL_TOKENS = ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>")
SIDES = ("encoder", "decoder")
BART = {
    f"{side}_{name}": size for side in SIDES for name, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
}
FAMILIES = {
    "BERT": Family("Bert", wordpiece(), SIZE),
    "DistilBERT": Family("DistilBert", wordpiece(), {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "RoBERTa": Family("Roberta", byte_level(*ROBERTA_TOKENS), ROBERTA),
    "XLM-RoBERTa": Family("XLMRoberta", pieces(), ROBERTA),
    "CamemBERT": Family("Camembert", pieces(), ROBERTA),
    "MPNet": Family("MPNet", wordpiece(*MPNET_TOKENS), {**SIZE, "max_position_embeddings": READS + 2}),
    "ELECTRA": Family("Electra", wordpiece(), {**SIZE, "embedding_size": 16}),
    "ALBERT": Family("Albert", pieces(), {**SIZE, "embedding_size": 16}),
    "DeBERTa v1": Family("Deberta", byte_level(*BERT_TOKENS), DEBERTA),
    "DeBERTa v3": Family("DebertaV2", pieces(), {**DEBERTA, "type_vocab_size": 0, "position_biased_input": False}),
    "ModernBERT": Family(
        "ModernBert",
        byte_level(*BERT_TOKENS, template="[CLS] $A [SEP]", **MARKS, model_input_names=WITHOUT_TYPES),
        {**SIZE, "local_attention": 16},
    ),
    "MobileBERT": Family("MobileBert", wordpiece(), {**SIZE, **BOTTLENECK, "num_feedforward_networks": 2}),
    "SqueezeBERT": Family("SqueezeBert", wordpiece(), {**SIZE, "embedding_size": 32}),
    "ConvBERT": Family("ConvBert", wordpiece(), {**SIZE, "embedding_size": 16, "conv_kernel_size": 3}),
    "BigBird": Family("BigBird", pieces(), {**SIZE, "attention_type": "original_full"}),
    "GPT-2": Family(
        "GPT2", byte_level("<|endoftext|>"), {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": READS}
    ),
    "Qwen2": Family("Qwen2", byte_level("<|endoftext|>"), {**SIZE, "num_key_value_heads": 2}),
    "BART": Family("Bart", byte_level(*ROBERTA_TOKENS), {**BART, "d_model": 32}),
    "Longformer": Family("Longformer", byte_level(*ROBERTA_TOKENS), {**ROBERTA, "attention_window": 16}),
    "Funnel": Family(
        "Funnel",
        wordpiece(*FUNNEL_TOKENS),
        {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]},
    ),
    "XLNet": Family("XLNet", pieces(), {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "T5": Family(
        "T5",
        pieces(extra_ids=0),
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    ),
}


def write_encoder(family: str, folder: Path) -> Path:
    """Write the family's tiny encoder with its tokenizer; the same bytes each time."""
    folder.mkdir(parents=True)
    made = FAMILIES[family]
    tokenizer = made.tokenizer(f"{made.name}TokenizerFast", folder)
    tokenizer.save_pretrained(folder)
    set_seed(0)
    settings = {"vocab_size": len(tokenizer), "max_position_embeddings": READS, "initializer_range": 0.1}
    for name in ("pad", "bos", "eos", "sep", "cls"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            settings[f"{name}_token_id"] = number
    if family in ("GPT-2", "XLNet", "T5"):
        del settings["max_position_embeddings"]
    config = getattr(transformers, f"{made.name}Config")(**(settings | made.settings))
    getattr(transformers, f"{made.name}Model")(config).save_pretrained(folder)
    return folder

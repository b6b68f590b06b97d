"""Refuse a model's files that would make transformers run or load something else, before transformers reads them.

transformers below 5.5 runs Python from a folder that asks for it in a nested configuration (CVE-2026-5241), and loads
attention kernels that `config.json` names (CVE-2026-4372), although no remote code was allowed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from recipe import hub
from recipe.errors import UsageError
from recipe.files.atomic import read_json

# transformers' own implementations of attention and of experts; any other name is a repository of kernels.
IMPLEMENTATIONS = {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}
_IMPLEMENTATION_KEY = re.compile(r"_?(attn|experts)_implementation(_internal)?")
# transformers unpickles the state of these tokenizers, which tokenizer.json decides; RAG's reads two more folders.
UNPICKLED_TOKENIZERS = ("bloom", "cohere", "transfoxl")
UNSAFE_TOKENIZERS = (*UNPICKLED_TOKENIZERS, "rag")
# `AutoTokenizer` would take any other object of transformers too, and call its `from_pretrained`.
TOKENIZERS = {"PreTrainedTokenizerFast", *(name for pair in TOKENIZER_MAPPING_NAMES.values() for name in pair if name)}
# transformers sets every key of the file as an attribute. These would replace its own methods, or rename other keys.
RESERVED = {*dir(PretrainedConfig)} - {
    *("model_type", "name_or_path", "num_labels", "output_attentions", "torch_dtype", "use_return_dict"),
    "_attn_implementation",
}
# At the top of config.json: files that transformers would read in place of those that are checked, and 8-bit weights.
UNWANTED = {
    "configuration_files": "names other files to be read in its place",
    "transformers_weights": "names other files to be read as weights",
    "quantization_config": "is of quantised weights: give those in full precision",
}


def require_safe(location: str | Path, revision: str | None = None) -> None:
    """Check the JSON files that transformers acts on, in a folder or in a repository on the Hub.

    An `auto_map` at the top of a file is harmless, because `trust_remote_code` is off.

    Args:
        location: The folder, or the repository's name.
        revision: A commit of the repository.

    Raises:
        UsageError: A file cannot be read, names code, kernels or other files, or is of a model without a classifier.
    """
    config = _read(location, "config.json", revision)
    if config is None:
        raise UsageError(f"{location} has no config.json, so it holds no model")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise UsageError(f"{location} holds a model of type {model_type!r}, which transformers has no classifier for")
    tokenizer = _read(location, "tokenizer_config.json", revision) or {}
    for file, content in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        for complaint in _complaints(content):
            raise UsageError(f"{file} of {location} {complaint}; it is not loaded")
        named = content.get("tokenizer_class")
        if named is not None and named not in list(TOKENIZERS) or is_unsafe_tokenizer(str(named)):
            raise UsageError(f"{file} of {location} names the tokenizer {named!r}, which is none that is safe to load")
    if is_unsafe_tokenizer(model_type):
        raise UsageError(f"{location} has a tokenizer that transformers unpickles, which may run code: {model_type}")
    for key in UNWANTED.keys() & config.keys():
        raise UsageError(f"config.json of {location} has {key!r}, so it {UNWANTED[key]}")
    if _read(location, "adapter_config.json", revision) is not None:
        raise UsageError(f"{location} holds an adapter for other weights: merge it into them first")
    files = (_read(location, "model.safetensors.index.json", revision) or {}).get("weight_map", {})
    for file in files.values() if isinstance(files, dict) else [files]:
        if not re.fullmatch(r"[\w.-]+\.safetensors", str(file)):
            raise UsageError(f"model.safetensors.index.json of {location} names {file!r}, which is no safetensors file")


def is_unsafe_tokenizer(name: str) -> bool:
    """Return whether transformers does more than read files to load this tokenizer, or that of this type of model."""
    return name.lower().replace("-", "").startswith(UNSAFE_TOKENIZERS)


def _read(location: str | Path, name: str, revision: str | None) -> dict[str, Any] | None:
    """Return a JSON file's object, `None` if there is no such file."""
    with hub.one_line_errors(f"{name} of {str(location)!r}", revision):
        file = hub.find_file(str(location), name, revision)
        content = read_json(file) if file else None
    if file and not isinstance(content, dict):
        raise UsageError(f"{name} of {location} holds a {type(content).__name__}, not settings")
    return content


def _complaints(content: Any, place: str = "") -> Iterator[str]:
    """Yield what is unsafe in a JSON value: foreign code, kernels, and repositories named inside a nested object."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        where = f"{place}.{key}" if place else str(key)
        if place == "label2id":
            # The keys are the user's own label names.
            yield from _complaints(value, where) if isinstance(value, dict | list) else ()
        elif key in RESERVED:
            yield f"sets {where}, which is a part of transformers itself"
        elif key == "trust_remote_code" and value is not False:
            yield f"asks to run code ({where})"
        elif place and key in ("auto_map", "_name_or_path") and value:
            yield f"names code or a model inside it ({where})"
        elif isinstance(key, str) and _IMPLEMENTATION_KEY.fullmatch(key):
            named = list(value.values()) if isinstance(value, dict) else [value]
            if foreign := [name for name in named if name is not None and name not in list(IMPLEMENTATIONS)]:
                yield f"asks for {foreign[0]!r} as {where}, which is not one of transformers' own"
        elif isinstance(value, dict | list):
            yield from _complaints(value, where)

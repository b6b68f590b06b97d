"""Find, check and load pretrained weights, from safetensors only, and their tokenizer."""

import copy
import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from recipe import hub, quickstart
from recipe.arguments.model import ModelArguments
from recipe.errors import UsageError
from recipe.files.atomic import file_sha256
from recipe.model.last_layer import read_only_cls
from recipe.model.safety import require_safe

# What a text alone gives a model; the names are those of a tokenizer's output.
INPUTS = ("input_ids", "token_type_ids", "attention_mask")
# sentencepiece's models, which become a tokenizer.json where that is missing.
PIECES = ("spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


@dataclass
class Pretrained:
    """The source of a run's weights.

    Attributes:
        location: A folder, or a repository on the Hub; `from_pretrained` takes it.
        revision: The commit on the Hub; `None` for a folder.
        config: The model's configuration, read before the weights are downloaded so that a run can be refused.
        source: The same for `run.json`: the name, and the revision or sha256.
        inputs: Names of those inputs that a text gives, the model takes and its export has.
    """

    location: str
    revision: str | None
    config: PretrainedConfig
    source: dict[str, Any]
    inputs: list[str]


def find_pretrained(args: ModelArguments, max_length: int) -> Pretrained:
    """Find the weights, and check their configuration before any of them is read.

    Raises:
        UsageError: They cannot be found or reached, are not safe, cannot be exported to ONNX, or do not read
            `max_length` tokens.
    """
    location, revision, source = _locate(args)
    require_safe(location, revision)
    with hub.one_line_errors(f"the model {args.model_name_or_path!r}", revision):
        config = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=False)
        # Without memory for the weights: the class and the shapes are enough.
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    exported = exported_inputs(config, args.model_name_or_path)
    limit = readable_tokens(model)
    if limit is not None and max_length > limit:
        raise UsageError(
            f"--max_length {max_length} is over the {limit} tokens that {args.model_name_or_path!r} reads: "
            f"give {limit} or less"
        )
    taken = exported & inspect.signature(model.forward).parameters.keys()
    # With one type, or none, the ids would be zeros, which is what the model takes when it is given none.
    unused = {"token_type_ids"} if getattr(config, "type_vocab_size", 2) < 2 else set()
    return Pretrained(location, revision, config, source, [name for name in INPUTS if name in taken - unused])


def exported_inputs(config: PretrainedConfig, name: str) -> set[str]:
    """Return the inputs that Optimum's export of such a model as a classifier has.

    Raises:
        UsageError: Optimum does not export it, or the export needs an input that a text does not give.
    """
    if config.model_type == "bert":
        # The usual case does not wait for the import of every architecture's export.
        return {*INPUTS}
    import optimum.exporters.onnx.model_configs  # noqa: F401  (it tells TasksManager of its architectures)
    from optimum.exporters.tasks import TasksManager

    kind = {"model_type": config.model_type, "task": "text-classification", "library_name": "transformers"}
    try:
        inputs = set(TasksManager.get_exporter_config_constructor("onnx", **kind)(config).inputs)
    except (KeyError, ValueError):
        message = f"{name!r} is a {config.model_type!r}, which Optimum does not export to ONNX as a classifier"
        raise UsageError(message) from None
    if foreign := sorted(inputs - {*INPUTS}):
        raise UsageError(f"{name!r} is a {config.model_type!r}, which needs {foreign[0]!r}: reviews do not give that")
    return inputs


def readable_tokens(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model reads at most; `None` if its positions have no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa and its kin number positions from the padding token's id + 1 on: 514 of them are 512 tokens.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limit = module.num_embeddings - module.padding_idx - 1
    return limit if limit is not None and limit > 0 else None


def load_tokenizer(pretrained: Pretrained, max_length: int, truncation_side: str = "right") -> PreTrainedTokenizerBase:
    """Return the tokenizer, which truncates at `max_length` and pads on the right in training, export and serving.

    `truncation_side` is the end of a longer text that is cut, `left` or `right`. It is saved with the names of the
    inputs that the model is trained with, so that serving gives it the same. Where it has no padding token, the end
    token pads.

    Raises:
        UsageError: The tokenizer cannot be read, is not a fast one, or gives the model something besides `INPUTS`.
    """
    location, revision = pretrained.location, pretrained.revision
    with hub.one_line_errors(f"the tokenizer of {location!r}", revision):
        if find_spec("sentencepiece") is None and not hub.find_file(location, "tokenizer.json", revision):
            if any(hub.find_file(location, name, revision) for name in PIECES):
                raise UsageError(f"the tokenizer of {location} needs sentencepiece: pip install -e '.[sentencepiece]'")
        sides = {"padding_side": "right", "truncation_side": truncation_side}
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, revision=revision, model_max_length=max_length, trust_remote_code=False, **sides
        )
    kind = type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise UsageError(f"{location} has a slow tokenizer alone ({kind}): serving needs a tokenizer.json")
    if foreign := [name for name in tokenizer.model_input_names if name not in INPUTS]:
        raise UsageError(f"{location} needs {foreign[0]!r} ({kind}), which reviews do not give")
    largest, size = max(tokenizer.get_vocab().values(), default=0), getattr(pretrained.config, "vocab_size", None)
    if size is not None and largest >= size:
        raise UsageError(f"the tokenizer of {location} has token {largest}, and its model reads {size} in all")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UsageError(f"the tokenizer of {location} has no token for padding, and no end token")
        tokenizer.pad_token = tokenizer.eos_token
    names = [name for name in tokenizer.model_input_names if name in pretrained.inputs]
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def load_model(pretrained: Pretrained, label_names: list[str], tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return the model with a classification head for the labels; the caller sets the seed.

    The head is new, unless the weights are a classifier whose labels have the same names in the same order.

    Raises:
        UsageError: The weights cannot be read, or are not safetensors.
    """
    config = copy.deepcopy(pretrained.config)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: label for label, name in enumerate(label_names)}
    config.pad_token_id = tokenizer.pad_token_id
    # Weights that are stored in half precision would also be trained in it.
    config.problem_type, config.return_dict, config.dtype = None, True, torch.float32
    config.output_hidden_states = config.output_attentions = config.use_cache = False
    settings: dict[str, Any] = {"config": config, "revision": pretrained.revision}
    settings |= {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    with hub.one_line_errors(f"the weights of {pretrained.location!r}", pretrained.revision):
        own = labels_of_classifier(pretrained.config)
        if own in (None, label_names):
            model, info = AutoModelForSequenceClassification.from_pretrained(pretrained.location, **settings)
            missing = info["missing_keys"]
        else:
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
            # A pooler that the classifier does not have is left out.
            encoder, info = AutoModel.from_pretrained(pretrained.location, **settings)
            base = model.base_model_prefix
            found = getattr(model, base).load_state_dict(encoder.state_dict(), strict=False)
            missing = {f"{base}.{name}" for name in (*info["missing_keys"], *found.missing_keys)}
    kept = "" if own == label_names else f"{model.base_model_prefix}."
    # A pooler may be new, as where the weights predicted masked words.
    if lost := sorted(name for name in missing if name.startswith(kept) and "pooler" not in name):
        raise UsageError(
            f"{pretrained.location} lacks {len(lost)} of the weights that its config.json asks for, {lost[0]} first: "
            "they would be random"
        )
    return _made_faster(model)


def labels_of_classifier(config: PretrainedConfig) -> list[str] | None:
    """Return the label names of weights that are a classifier already, `None` of others."""
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        return None
    return [name for _, name in sorted((config.id2label or {}).items())]


def load_trained(folder: Path) -> PreTrainedModel:
    """Return a run's or checkpoint's model from its folder (safetensors only), ready to predict.

    Raises:
        UsageError: A file of the folder is not safe, as in `require_safe`.
    """
    require_safe(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return _made_faster(model).eval()


def _made_faster(model: PreTrainedModel) -> PreTrainedModel:
    # PyTorch 2.11 gives half-precision attention to cuDNN, which builds a plan for each new length of a batch: up to a
    # second (modelscope/FunASR#3704). On an H200 the quickstart's first epoch took 35 s in bf16, and 5 s in fp32.
    torch.backends.cuda.enable_cudnn_sdp(False)
    read_only_cls(model)
    return model


def _locate(args: ModelArguments) -> tuple[str, str | None, dict[str, Any]]:
    """Return the location, revision and source of the weights that the arguments name."""
    name = args.model_name_or_path
    if quickstart.is_package(name):
        package = quickstart.WEIGHTS
        folder = quickstart.find_package(name, package)
        return str(folder), None, {"name": name} | package.pin
    if local := hub.local_folder(name):
        return local, None, {"name": name, "sha256": _weights_sha256(Path(local))}
    revision = hub.resolve_commit("model", name, args.model_revision)
    return name, revision, {"name": name, "revision": revision}


def _weights_sha256(folder: Path) -> dict[str, str]:
    """Return the sha256 of each weights file in a folder.

    Raises:
        UsageError: There is none. Nothing else is read, because unpickling can run code.
    """
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not files:
        raise UsageError(f"{folder} holds no weights as safetensors, the only form that is read")
    return {file.name: file_sha256(file) for file in files}

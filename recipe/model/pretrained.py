"""Find, check and load pretrained weights, from safetensors only, and their tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
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


@dataclass
class Pretrained:
    """The source of a run's weights.

    Attributes:
        location: A folder, or a repository on the Hub; `from_pretrained` takes it.
        revision: The commit on the Hub; `None` for a folder.
        config: The model's configuration, read before the weights are downloaded so that a run can be refused.
        source: The same for `run.json`: the name, and the revision or sha256.
    """

    location: str
    revision: str | None
    config: PretrainedConfig
    source: dict[str, Any]


def find_pretrained(args: ModelArguments, max_length: int) -> Pretrained:
    """Find the weights, and read only their configuration.

    Raises:
        UsageError: They cannot be found or reached, or do not read `max_length` tokens.
    """
    location, revision, source = _locate(args)
    with hub.one_line_errors(f"the model {args.model_name_or_path!r}", revision):
        config = AutoConfig.from_pretrained(location, revision=revision)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise UsageError(
            f"--max_length {max_length} is over the {positions} tokens that {args.model_name_or_path!r} reads: "
            f"give {positions} or less"
        )
    return Pretrained(location, revision, config, source)


def load_tokenizer(pretrained: Pretrained, max_length: int) -> PreTrainedTokenizerBase:
    """Return the tokenizer, which truncates at `max_length` in training, export and serving.

    Raises:
        UsageError: The tokenizer cannot be read.
    """
    with hub.one_line_errors(f"the tokenizer of {pretrained.location!r}", pretrained.revision):
        return AutoTokenizer.from_pretrained(
            pretrained.location, revision=pretrained.revision, model_max_length=max_length
        )


def load_model(pretrained: Pretrained, label_names: list[str]) -> PreTrainedModel:
    """Return the model with a new classification head that has the labels' names; the caller sets the seed.

    Raises:
        UsageError: The weights cannot be read, or are not safetensors.
    """
    with hub.one_line_errors(f"the weights of {pretrained.location!r}", pretrained.revision):
        model = AutoModelForSequenceClassification.from_pretrained(
            pretrained.location,
            revision=pretrained.revision,
            id2label=dict(enumerate(label_names)),
            label2id={name: label for label, name in enumerate(label_names)},
            use_safetensors=True,
        )
    read_only_cls(model)
    return model


def load_trained(folder: Path) -> PreTrainedModel:
    """Return a run's or checkpoint's model from its folder (safetensors only), ready to predict."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    read_only_cls(model)
    return model.eval()


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
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{folder} holds no weights as safetensors, the only form that is read")
    return {file.name: file_sha256(file) for file in files}

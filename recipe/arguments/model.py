"""Settings of the model: the pretrained weights that a run starts from."""

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """The pretrained weights to start from."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased",
        metadata={
            "help": "A model on the Hub, a local folder, or package:NAME for weights that an installed package holds."
        },
    )
    model_revision: str = field(
        default="main", metadata={"help": "Commit, tag or branch of a model on the Hub; the commit goes into run.json."}
    )

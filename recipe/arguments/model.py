"""Settings of the model: the pretrained weights that a run starts from."""

from dataclasses import dataclass

from recipe.arguments.setting import setting


@dataclass
class ModelArguments:
    """The pretrained weights to start from."""

    model_name_or_path: str = setting(
        "google-bert/bert-base-uncased",
        "A model on the Hub, a local folder, or package:NAME for weights that an installed package holds.",
    )
    model_revision: str = setting("main", "Commit, tag or branch of a model on the Hub; the commit goes into run.json.")

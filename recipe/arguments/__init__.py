"""The settings of a run: three dataclasses from one YAML file and the flags that override it."""

from recipe.arguments.data import DataArguments, data_arguments_of
from recipe.arguments.model import ModelArguments
from recipe.arguments.parser import Arguments, parse_arguments, scheduled
from recipe.arguments.training import METRICS, TrainingArguments

__all__ = [
    "METRICS",
    "Arguments",
    "DataArguments",
    "ModelArguments",
    "TrainingArguments",
    "data_arguments_of",
    "parse_arguments",
    "scheduled",
]

"""A concise way to declare a dataclass field that is also a flag."""

import dataclasses
from typing import Any


def setting(default: Any, help: str) -> Any:
    """Return a dataclass field with its `--help`; a list as the default is copied for each instance."""
    metadata = {"help": help}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)

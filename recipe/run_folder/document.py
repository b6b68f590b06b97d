"""Frozen dataclasses that are kept as JSON objects."""

from dataclasses import asdict
from typing import Any, TypeVar

import dacite

from recipe.errors import UsageError

Self = TypeVar("Self", bound="Document")


class Document:
    """Base of a dataclass that a JSON file holds: its fields are the file's keys."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[Self], content: dict[str, Any], where: object) -> Self:
        """Return the document that a file's content describes.

        Unknown keys are ignored.

        Raises:
            UsageError: A key is missing, or its value has the wrong type; names the file, `where`, and the key.
        """
        try:
            return dacite.from_dict(cls, content, dacite.Config(type_hooks={float: _float}))
        except dacite.MissingValueError as error:
            raise UsageError(f"{where} is damaged: it has no '{error.field_path}'") from error
        # Given a list where a mapping belongs, dacite fails with Python's own errors.
        except (dacite.DaciteFieldError, TypeError, ValueError, AttributeError) as error:
            place = f"'{error.field_path}'" if isinstance(error, dacite.DaciteFieldError) else "one of its mappings"
            raise UsageError(f"{where} is damaged: {place} has the wrong type") from error


def _float(value: Any) -> Any:
    """Return an integer as a float, as JSON from other programs writes 1.0 as 1; leave other values for dacite."""
    if isinstance(value, bool):
        raise dacite.WrongTypeError(float, value)
    return float(value) if type(value) is int else value

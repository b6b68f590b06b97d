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
    def from_json(cls: type[Self], content: Any, where: object) -> Self:
        """Return the document that a file's content describes.

        Args:
            content: As `json.loads` returns it; keys that are not known are ignored.
            where: The file, for the message.

        Raises:
            UsageError: A key is missing, or its value has the wrong type.
        """
        try:
            # JSON writes a float that is whole as 1.0, but people and other programs write 1.
            return dacite.from_dict(cls, content, dacite.Config(type_hooks={float: float}))
        except (dacite.DaciteError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{where} is damaged: {error}") from error

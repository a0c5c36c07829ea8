"""Calibrators and rules as JSON values: a kind, and what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from pydantic import TypeAdapter, ValidationError

from trainer.errors import UsageError, first_line

T = TypeVar("T", bound="Storable")


class Storable:
    """A frozen dataclass of JSON values, checked by pydantic when it is read."""

    kind: ClassVar[str]
    """Its name in `model.json`."""

    def to_json(self) -> dict[str, Any]:
        """Its kind and its fields."""
        return {"kind": self.kind, **TypeAdapter(type(self)).dump_python(self, mode="json")}


def read_stored(value: object, kinds: Mapping[str, str], base: type[T], what: str) -> T:
    """The object that `to_json` described; `kinds` has the module and class of each kind.

    Raises UsageError for anything else.
    """
    if not isinstance(value, Mapping) or value.get("kind") not in kinds:
        kind = value.get("kind") if isinstance(value, Mapping) else value
        raise UsageError(f"it is damaged: {kind!r} is not a kind of {what}")
    module, _, name = kinds[value["kind"]].rpartition(".")
    cls: type[T] = getattr(import_module(module), name)
    try:
        found = TypeAdapter(cls).validate_python({key: each for key, each in value.items() if key != "kind"})
    except (ValidationError, ValueError) as error:
        raise UsageError(f"it is damaged: a {what} of kind {cls.kind}: {first_line(error)}") from error
    assert isinstance(found, base)  # noqa: S101  the table of kinds says so
    return found

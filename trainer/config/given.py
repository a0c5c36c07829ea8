"""A value as it was given, and where: errors name that place, and relative paths start from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Source = Literal["default", "file", "flag", "set", "python", "environment"]


@dataclass(frozen=True)
class Origin:
    """One place where values are given, such as a table of a file."""

    source: Source
    place: str
    """As errors name it: `exp.toml: [task]`, `--`, `--set my-task.`."""
    folder: Path | None = None
    """What relative paths start from; None: the current folder."""

    @property
    def section(self) -> str:
        """The place as a whole; empty for flags, each of which is a place of its own."""
        return self.place.rstrip("-. ")

    def of(self, name: str) -> str:
        """The place of one option: `exp.toml: [task]: size`, `--size`, `--set my-task.size`."""
        return joined(self.place, name)


@dataclass(frozen=True)
class Given:
    """A value, not parsed yet: text from the command line, a TOML value, or an object from Python."""

    value: Any
    name: str
    """The option's name as it was written there: `size`, `learning-rate`."""
    origin: Origin

    @property
    def where(self) -> str:
        """The value's place, for errors about the value."""
        return self.origin.of(self.name)

    @property
    def section(self) -> str:
        """The place of the value and its neighbours, for errors about what they add up to."""
        return self.origin.section or self.where


def joined(place: str, name: str) -> str:
    """The place of an option within the place of several: `--` and `size` → `--size`."""
    return f"{place}{name}" if place.endswith(("-", ".", " ")) or not place else f"{place}: {name}"


class PythonOnly:
    """The base class of an alternative of an option's type that only Python can give, such as a table in memory.

    The other alternatives of the type are what a flag or a file can hold.
    """

    @classmethod
    def of_text(cls, text: str) -> PythonOnly | None:
        """What stands for a value that a run's files only name; None for a text of another meaning."""
        raise NotImplementedError


def can_be_typed(member: Any) -> bool:
    """Whether help texts name an alternative of an option's type: not None, nor what only Python can give."""
    return member is not type(None) and not (isinstance(member, type) and issubclass(member, PythonOnly))

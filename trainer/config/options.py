"""Options: the fields of a plugin's or a task's dataclass, as flags, TOML files and help texts show them."""

from __future__ import annotations

import dataclasses
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from trainer.config.given import Given, Origin, PythonOnly, can_be_typed, joined
from trainer.config.settings import kebab, usage_error
from trainer.config.text import absolute, as_text, parts_of, paths_of
from trainer.errors import UsageError, choose_from

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One field of a plugin or a task."""

    field: str
    type: Any
    default: Any
    help: str
    required: bool
    example: str = ""
    """A value for an example, if the default would make none."""

    @property
    def name(self) -> str:
        """The field's name as people write it: `validation-split`."""
        return kebab(self.field)

    @property
    def plain_type(self) -> Any:
        """The type without its constraints."""
        return typing.get_args(self.type)[0] if typing.get_origin(self.type) is typing.Annotated else self.type

    @property
    def members(self) -> tuple[Any, ...]:
        """The alternatives of a union, or the type alone; constraints left out."""
        plain = self.plain_type
        if typing.get_origin(plain) in (typing.Union, types.UnionType):
            inner = typing.get_args(plain)
            return tuple(typing.get_args(t)[0] if typing.get_origin(t) is typing.Annotated else t for t in inner)
        return (plain,)

    @property
    def takes_none(self) -> bool:
        """Whether it can be None."""
        return types.NoneType in self.members

    @property
    def is_list(self) -> bool:
        """Whether the value is a sequence, written with commas on the command line."""
        return any(typing.get_origin(member) in (tuple, list) for member in self.members)

    @property
    def is_switch(self) -> bool:
        """Whether the value is true or false and nothing else."""
        return self.plain_type is bool

    @property
    def is_secret(self) -> bool:
        """Whether its value is never written to a file, and may come from the environment."""
        return SecretStr in self.members

    @property
    def type_name(self) -> str:
        """The type in a word, for help texts: `integer`, `number`, `text`, `path`, `secret`, `a|b`, `integer,…`."""
        return "|".join(_type_name(member) for member in self.members if can_be_typed(member))

    @property
    def constraints(self) -> str:
        """The range in words, such as `> 0`, or empty."""
        signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "length ≥", "max_length": "length ≤"}
        found = [
            f"{signs[name]} {getattr(part, name)}"
            for metadata in _metadata(self.type)
            for part in (metadata.metadata if isinstance(metadata, FieldInfo) else (metadata,))
            for name in signs
            if getattr(part, name, None) is not None
        ]
        return ", ".join(found)

    @property
    def default_text(self) -> str:
        """The default as it would be written on the command line; empty for none."""
        return as_text(self.default)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        """Pydantic's reader and writer of the type, which takes a while to make."""
        return TypeAdapter(self.type)

    def parse(self, value: Any, *, where: str, base: Path | None = None) -> Any:
        """The value in the option's own type, from the text of a flag or from a TOML value.

        A relative path is taken from `base`, and stored as an absolute one, so that a saved configuration runs from
        any folder. Raises UsageError, with `where` and the option's name, for what does not fit.
        """
        if isinstance(value, str):
            value = self._from_text(value, base)
        try:
            parsed = self._adapter.validate_python(value)
        except ValidationError as error:
            place = joined(where, self.name)
            if self.is_secret:
                # The value, which pydantic's error holds, must not be shown.
                raise UsageError(f"its value does not fit: {error.errors()[0]['msg']}", where=place) from None
            raise usage_error(error, known=[], where=place) from error
        except UsageError as error:
            raise UsageError(error.what, where=joined(where, self.name), fix=error.fix) from error
        if isinstance(parsed, (tuple, list)):
            return type(parsed)(absolute(part, base) for part in parsed)
        return absolute(parsed, base)

    def _from_text(self, text: str, base: Path | None) -> Any:
        """The value of a flag's text, if pydantic would not understand the text itself."""
        if types.NoneType in self.members and (text == "" or (text.lower() == "none" and str not in self.members)):
            return None
        for member in self.members:
            named = member.of_text(text) if isinstance(member, type) and issubclass(member, PythonOnly) else None
            if named is not None:
                return named
        if self.is_list:
            return paths_of(text, base) if self.type_name.startswith("path") else parts_of(text)
        # Pydantic does not convert the words of a choice, so a number among them has to be a number here.
        words = [word for m in self.members if typing.get_origin(m) is typing.Literal for word in typing.get_args(m)]
        return next((word for word in words if as_text(word) == text), text)


def _type_name(member: Any) -> str:
    origin = typing.get_origin(member)
    if origin in (tuple, list):
        inner = typing.get_args(member)[0]
        plain = typing.get_args(inner)[0] if typing.get_origin(inner) is typing.Annotated else inner
        return f"{_type_name(plain)},…"
    if origin is typing.Literal:
        return "|".join(map(str, typing.get_args(member)))
    names: dict[Any, str] = {int: "integer", float: "number", str: "text", bool: "true|false", Path: "path"}
    names[SecretStr] = "secret"
    return names.get(member, getattr(member, "__name__", str(member)))


def _metadata(annotation: Any) -> list[Any]:
    """The metadata of an annotation, including that of the inner types of a union or a sequence."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        return metadata + _metadata(inner)
    return [entry for inner in typing.get_args(annotation) for entry in _metadata(inner)]


def options_of(cls: type) -> list[Option]:
    """The options of a plugin or a task class, in the order of its fields.

    A field that neither a flag nor TOML can hold, such as an array or a function, is not an option: only Python can
    give it. A class that is not a dataclass has no options. Raises UsageError if an annotation cannot be read.
    """
    return list(_options_of(cls)) if dataclasses.is_dataclass(cls) else []


@cache
def _options_of(cls: Any) -> tuple[Option, ...]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError) as error:
        what, where = f"the type of an option cannot be read: {error}", f"{cls.__module__}.{cls.__name__}"
        raise UsageError(what, where=where) from error
    return tuple(
        Option(field.name, kind, _default(field), _help(kind), _required(field), _example(kind))
        for field, kind in ((field, hints[field.name]) for field in dataclasses.fields(cls))
        if field.init and _can_be_written(kind)
    )


def variable_of(name: str, option: str) -> str:
    """The environment variable of a secret option of a plugin or a task: `TRAINER_MY_HOOK_URL`."""
    return "TRAINER_" + re.sub(r"[^A-Z0-9]", "_", f"{name}_{option}".upper())


def with_secrets(cls: type, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of secret options that the environment gives, unless they are among the values already."""
    found = dict(values)
    for option in options_of(cls):
        variable = variable_of(name, option.name)
        if option.is_secret and option.name not in found and os.environ.get(variable):
            found[option.name] = Given(os.environ[variable], option.name, Origin("environment", variable))
    return found


def secrets_of(instance: Any) -> dict[str, str]:
    """The values of an instance's secret options, by name, without those that have their default."""
    values = {}
    for option in options_of(type(instance)):
        value = getattr(instance, option.field) if option.is_secret else None
        if isinstance(value, SecretStr) and value != option.default:
            values[option.name] = value.get_secret_value()
    return values


def redacted(text: str, instance: Any) -> str:
    """The text without the values of an instance's secret options, such as an address in an error message."""
    for name, value in secrets_of(instance).items():
        text = text.replace(value, f"<{name}>") if value else text
    return text


def _can_be_written(annotation: Any) -> bool:
    """Whether a flag or a TOML value can hold a value of this type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _can_be_written(inner[0])
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType, tuple, list, dict):
        return all(_can_be_written(part) for part in inner if part is not Ellipsis)
    plain = (int, float, str, bool, types.NoneType, Path, Enum, SecretStr, PythonOnly)
    return isinstance(annotation, type) and issubclass(annotation, plain)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _example(annotation: Any) -> str:
    """The value that an example shows, from `Field(examples=[…])`; empty without one."""
    found = next((m.examples for m in _metadata(annotation) if getattr(m, "examples", None)), [""])
    return as_text(found[0])


def _help(annotation: Any) -> str:
    return next((m.description for m in _metadata(annotation) if getattr(m, "description", None)), "")


ON_ERROR = Option(
    field="on_error",
    type=Literal["abort", "disable"],
    default="abort",
    help="What an error in one of its hooks does: end the run, or switch the plugin off.",
    required=False,
)
"""The option that every plugin has, beside its own."""


def parse_all(cls: type, values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The options, by their kebab-case names, in their own types.

    A value may be a `Given`, which brings its own place; `where` is the place of the others. Raises UsageError, naming
    the place, for an unknown option and for a value that does not fit.
    """
    options = {option.name: option for option in options_of(cls)}
    for name, value in values.items():
        if name not in options:
            place = value.origin.section if isinstance(value, Given) else where.rstrip("-. ")
            fix = choose_from(name, options, limit=99)
            raise UsageError(f"there is no option {name!r}", where=place, fix=fix)
    return {name: parse_one(options[name], value, where=where) for name, value in values.items()}


def parse_one(option: Option, value: Any, *, where: str) -> Any:
    """One option in its own type, from a `Given`, or from a plain value given at `where`. Raises UsageError."""
    if isinstance(value, Given):
        return option.parse(value.value, where=value.origin.place, base=value.origin.folder)
    return option.parse(value, where=where)


def build(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """An instance of a plugin's or a task's class, with its options by their kebab-case names.

    The values are those of `parse_all`, and `where` names the instance. Raises UsageError for what `parse_all` refuses,
    and for an option that is missing.
    """
    parsed = parse_all(cls, values, where=where)
    options = options_of(cls)
    missing = [option.name for option in options if option.required and option.name not in parsed]
    if missing:
        is_secret = next(option.is_secret for option in options if option.name == missing[0])
        raise UsageError(
            f"the option {missing[0]!r} has to be given",
            where=where.rstrip("-. "),
            fix="It is a secret, which no file of a run holds: set its environment variable "
            f"(TRAINER_…_{kebab(missing[0]).replace('-', '_').upper()}), or pass --set."
            if is_secret
            else "",
        )
    known = {option.field for option in options}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.init and field.name not in known and _required(field):
            raise UsageError(
                f"{kebab(field.name)!r} can only be given in Python: no flag or file can hold it",
                where=where.rstrip("-. "),
                fix="Give an instance to trainer.fit.",
            )
    try:
        return cls(**{option.field: parsed[option.name] for option in options if option.name in parsed})
    except ValueError as error:
        raise UsageError(str(error), where=where.rstrip("-. ")) from error


def check_instance(instance: Any, *, where: str) -> None:
    """Converts the options of an instance that was made in Python to their own types, such as text to a path.

    Raises UsageError, with `where`, for a value that would not fit from a flag or a file either.
    """
    for option in options_of(type(instance)):
        given = getattr(instance, option.field)
        parsed = option.parse(given, where=where) if given is not None or not option.takes_none else None
        if type(parsed) is not type(given) or parsed != given:
            setattr(instance, option.field, parsed)


def to_toml(instance: Any) -> dict[str, Any]:
    """The options of an instance as TOML values, for the disk: without None, which TOML lacks, and without secrets."""
    values = {}
    for option in options_of(type(instance)):
        value = getattr(instance, option.field)
        if value is not None and not option.is_secret:
            plain = type(value) in (bool, int, float, str)  # pydantic would return it unchanged
            values[option.name] = value if plain else option._adapter.dump_python(value, mode="json")  # noqa: SLF001
    return values

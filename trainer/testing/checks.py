"""Checks by name. Each is a function that raises if a plugin or a task breaks a promise of its contract."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tomli_w

from trainer.catalog.class_check import check_class
from trainer.config import options
from trainer.config.options import Option
from trainer.config.settings import kebab, read_config
from trainer.config.text import as_text
from trainer.errors import TrainerError, UsageError, first_line


class BrokenPromiseError(AssertionError):
    """A plugin or task breaks its contract; the message says what was found and how to fix it."""


def named(error: BaseException) -> str:
    """The class and message of an error in one line; MXNet's messages already begin with the class."""
    kind, first = type(error).__name__, first_line(error)
    return first if first == kind or first.startswith(f"{kind}: ") else f"{kind}: {first}"


@dataclass(frozen=True)
class Check:
    """One check of one plugin or task. A call raises BrokenPromiseError or returns a remark.

    pytest shows its `__name__` if tests are parametrised with checks.
    """

    function: str
    promise: str
    look: Callable[[], str | None]

    @property
    def __name__(self) -> str:
        return self.function

    @property
    def name(self) -> str:
        """The name in kebab-case: `state-survives-a-save-and-a-load`."""
        return kebab(self.function)

    def __call__(self) -> str:
        """Runs the check; returns a remark, such as a cost, or an empty text."""
        return self.look() or ""


@dataclass(frozen=True)
class Outcome:
    """The result of one check: `error` is None if it passed; `note` is a remark, such as a cost."""

    check: Check
    error: Exception | None
    note: str = ""


def make_checks(functions: Iterable[Callable[[Any], str | None]], subject: Any) -> list[Check]:
    """A check for each function; the first line of its docstring says what is promised."""
    return [
        Check(each.__name__, (inspect.getdoc(each) or "").splitlines()[0], lambda each=each: each(subject))  # type: ignore[misc]
        for each in functions
    ]


def outcomes(checks: Iterable[Check]) -> Iterator[Outcome]:
    """Calls one check after the other, even if some fail."""
    for check in checks:
        try:
            note = check()
        except Exception as error:  # noqa: BLE001  any error fails the check
            yield Outcome(check, error)
        else:
            yield Outcome(check, None, note)


def demand(checks: Iterable[Check]) -> dict[str, str]:
    """Calls every check, and returns the remarks by name. Raises one BrokenPromiseError that names every failure."""
    found = list(outcomes(checks))
    broken = [f"{each.check.name}: {each.error}" for each in found if each.error is not None]
    if broken:
        raise BrokenPromiseError("\n".join(broken))
    return {each.check.name: each.note for each in found if each.note}


# ---- what plugins and tasks have in common --------------------------------------------------------------------------


def class_of(make: Callable[[], Any]) -> type[Any]:
    """The class of what `make` returns."""
    return make if isinstance(make, type) else type(make())


def check_declaration(cls: type[Any]) -> None:
    """Checks that the engine accepts the class, and that it is documented."""
    try:
        check_class(cls, where=cls.__name__)
    except UsageError as error:
        raise BrokenPromiseError(str(error)) from error
    if cls.__doc__ is None or cls.__doc__.startswith(f"{cls.__name__}("):
        # A dataclass without a docstring gets its signature instead.
        raise BrokenPromiseError(f"{cls.__name__} has no docstring, so `trainer plugins show` has nothing to print")
    silent = [option.name for option in options.options_of(cls) if not option.help]
    if silent:
        raise BrokenPromiseError(
            f"the options {', '.join(silent)} have no help text: annotate them with "
            'Annotated[type, Field(description="…")]'
        )


def check_import(cls: type[Any]) -> str:
    """Checks that importing the class's module does not import MXNet, which would delay help and usage errors."""
    module = cls.__module__
    try:
        is_found = find_spec(module) is not None
    except (ImportError, ValueError):
        is_found = False
    if not is_found:
        return f"{module} is not a module that a new process can import: not checked"
    code = f"import sys, {module}; sys.exit(3 if 'mxnet' in sys.modules else 0)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        raise BrokenPromiseError(
            f"importing {module} imports MXNet, which takes a second: import it from trainer.mxnet inside the methods"
        )
    if done.returncode:
        raise BrokenPromiseError(f"{module} cannot be imported by itself: {done.stderr.strip().splitlines()[-1]}")
    return ""


def check_options(make: Callable[[], Any]) -> None:
    """Checks that every option survives a round trip through a TOML file and through the text of a flag."""
    made = make()
    cls = type(made)
    values = {option.name: getattr(made, option.field) for option in options.options_of(cls)}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "config.toml"
        try:
            path.write_text(tomli_w.dumps({"part": options.to_toml(made)}), encoding="utf-8")
            again = options.build(cls, {**read_config(path)["part"], **options.secrets_of(made)}, where="TOML")
        except (TypeError, ValueError, TrainerError) as error:
            raise BrokenPromiseError(f"the options do not survive a TOML file: {error}") from error
    for option in options.options_of(cls):
        before, after = values[option.name], getattr(again, option.field)
        if before != after:
            raise BrokenPromiseError(
                f"the option {option.name} was {before!r} and is {after!r} after a TOML file"
                + (": TOML has no null, so None has to be the default" if before is None else "")
            )
        for value in _samples(option, before) if not option.is_secret else ():
            _check_flag(option, value)


def _samples(option: Option, value: Any) -> list[Any]:
    """Values to try for an option: its own, and every word of a choice."""
    words = [word for m in option.members if typing.get_origin(m) is typing.Literal for word in typing.get_args(m)]
    return [each for each in [value, *words, *([True, False] if option.is_switch else [])] if each is not None]


def _check_flag(option: Option, value: Any) -> None:
    text = as_text(value)
    try:
        parsed = option.parse(text, where="--set ")
    except UsageError as error:
        raise BrokenPromiseError(f"the option {option.name} refuses its own value from --set: {error}") from error
    if parsed != value:
        raise BrokenPromiseError(f"the option {option.name} is {value!r}, but --set with {text!r} gives {parsed!r}")


# ---- comparing -------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value that can be compared by its repr: numbers, strings, arrays and collections of those; None otherwise."""
    if isinstance(value, (bool, int, float, str, bytes)) or value is None:
        return value
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, Mapping):
        return {repr(key): plain(part) for key, part in sorted(value.items(), key=lambda item: repr(item[0]))}
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    try:
        return [plain(part) for part in value] if isinstance(value, Iterable) and not hasattr(value, "read") else None
    except Exception:  # noqa: BLE001  an iterator that cannot be read is not a value
        return None


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """The keys whose values differ."""
    return {key for key in {*first, *second} if repr(first.get(key)) != repr(second.get(key))}

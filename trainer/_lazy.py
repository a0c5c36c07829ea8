"""Public names of a package that are imported on first use.

Otherwise `trainer --help`, and the help of every command, would have to import MXNet, numpy and pydantic.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def exports(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package, given the names that each of its modules defines.

    A package lists its names three times: here, in `__all__`, and in imports under TYPE_CHECKING, for type checkers and
    editors. A test checks that the three lists are equal.
    """
    modules = {name: module for module, defined in names.items() for name in defined}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*sys.modules[package].__all__, "__all__", "__doc__"})

    return get, listed


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's collection of cycles is off in this block: imports make many objects, and none of them are garbage."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()

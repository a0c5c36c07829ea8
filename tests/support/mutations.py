"""Every way to break one field of a JSON value: for tests of what reads it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

NESTED = "[" * 100_000 + "]" * 100_000
DEEP: Any = json.loads("[" * 150 + "]" * 150)
WRONG: tuple[Any, ...] = (None, True, -1, 0.5, 10**400, 1e308, "", "text", [], [None], {}, {"a": None}, DEEP)


def mutations(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one field left out, or replaced by one of another type; last, texts that are not JSON of any kind.

    Each with a name: `run.epoch = None`, `run.epoch without`. Of a list only the first entry is changed.
    """
    for path in _paths(value):
        for wrong in WRONG:
            if type(wrong) is not type(_at(value, path)) or wrong != _at(value, path):
                shown = "deep" if wrong is DEEP else repr(wrong)[:20]
                yield f"{'.'.join(map(str, path))} = {shown}", _with(value, path, wrong)
        if path and isinstance(path[-1], str):
            yield f"{'.'.join(map(str, path))} without", _without(value, path)
    yield "empty", ""
    yield "cut", json.dumps(value)[:-1]
    yield "nested", NESTED
    yield "long number", "1" * 10_000


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _paths(part, (*path, key))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    _at(changed, path[:-1])[path[-1]] = new
    return changed


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    del _at(changed, path[:-1])[path[-1]]
    return changed

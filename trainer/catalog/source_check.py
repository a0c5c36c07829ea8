"""Reads the source of entry points without running it, and finds what is wrong before anything is imported.

No line of other people's code runs here, so a listing stays fast and safe. Errors that only appear when the code runs,
such as those of a library that it loads, are found by `trainer plugins list --load` and `trainer doctor`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import util
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from trainer.catalog.registry import PLUGINS, Installed, wrong_name
from trainer.errors import did_you_mean
from trainer.events import EVENTS, EVERY_PLUGIN


def visible_fault(entry: Installed) -> str:
    """What is wrong with an entry point, as far as its source shows it; empty if nothing is."""
    wrong = wrong_name(entry.name)
    if wrong:
        return wrong
    module, colon, attribute = entry.value.partition(":")
    if not colon or not attribute.strip():
        return f"{entry.value!r} does not name a class: it has to be MODULE:CLASS"
    try:
        return _in_module(module.strip(), attribute.strip(), entry.group)
    except SyntaxError as error:
        return f"{module.strip()} cannot be imported: SyntaxError: {error.msg} (line {error.lineno})"
    except Exception:  # noqa: BLE001  other people's import hooks may raise anything; an import will report it
        return ""


def _find(module: str) -> ModuleSpec | None:
    """The spec of a module. Unlike importlib's own function, this does not import the packages above it."""
    top, *parts = module.split(".")
    spec = None if top in sys.modules and sys.modules[top] is None else util.find_spec(top)
    path = top
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        path = f"{path}.{part}"
        spec = PathFinder.find_spec(path, list(spec.submodule_search_locations))
    return spec


def _source(spec: ModuleSpec) -> ast.Module | None:
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_bytes())


def _in_module(module: str, attribute: str, group: str) -> str:
    parts = module.split(".")
    tree = None
    for above in range(1, len(parts) + 1):
        # An import runs the packages above a module first.
        name = ".".join(parts[:above])
        spec = _find(name)
        if spec is None:
            return f"there is no module {name!r}"
        tree = _source(spec)
        wrong = _while_importing(tree) if tree else ""
        if wrong:
            return f"{name} cannot be imported: {wrong}"
    if tree is None:
        return ""
    classes = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
    if attribute in classes:
        return _in_class(classes[attribute], group)
    if attribute.partition(".")[0] not in _bound(tree):
        names = [name for name in classes if not name.startswith("_")]
        return f"{module} has no attribute {attribute!r}. {did_you_mean(attribute, names)}".strip()
    return ""


def _while_importing(tree: ast.Module) -> str:
    """What is certain to stop an import: an error that is raised at the top, or a package that is missing."""
    for statement in tree.body:
        if isinstance(statement, ast.Raise):
            return f"it raises {ast.unparse(statement.exc) if statement.exc else 'an error'}"
        missing = next((name for name in _imported(statement) if _find(name) is None), None)
        if missing:
            return f"there is no module {missing!r}"
    return ""


def _imported(statement: ast.stmt) -> Iterator[str]:
    """The packages that a statement at the top of a module imports; relative imports are left out."""
    if isinstance(statement, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
        yield statement.module.partition(".")[0]


def _bound(tree: ast.Module) -> set[str] | _Anything:
    """Every name that a module binds; all names, if they cannot be read from the source."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return _Anything()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return _Anything() if names & {"__getattr__", "globals"} else names


class _Anything:
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


def _in_class(cls: ast.ClassDef, group: str) -> str:
    """An unknown hook, or a field that hides what every plugin has."""
    if group != PLUGINS:
        return ""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("on_"):
            if node.name.removeprefix("on_") not in EVENTS:
                hint = did_you_mean(node.name, [f"on_{event}" for event in EVENTS])
                return f"there is no event for its method {node.name}. {hint}".strip()
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            if name in EVERY_PLUGIN and "ClassVar" not in ast.unparse(node.annotation):
                return f"its option {name.replace('_', '-')} has the name of a common option"
    return ""

"""What a source file imports, read without running it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path


def imported(source: str) -> Iterator[tuple[int, str, str | None]]:
    """The line, the module and the name of every import of a text, those in functions and under conditions included.

    The name is None for `import module`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def modules_of(package: Path) -> dict[str, Path]:
    """The files of a package by the names of their modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of the modules each of them imports.

    A name from a package's `__init__` that the package has from one of its modules is an import of that module.
    """
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    given = {
        (package, name): module
        for package, path in modules.items()
        if path.name == "__init__.py"
        for _, module, name in imported(sources[package])
        if name is not None and module in modules
    }

    def target(module: str, name: str | None) -> str | None:
        if name is not None and f"{module}.{name}" in modules:
            return f"{module}.{name}"
        seen = set()
        while (module, name) in given and module not in seen:
            seen.add(module)
            module = given[module, name]
        return module if module in modules else None

    return {
        module: {found for _, where, name in imported(source) if (found := target(where, name)) not in (None, module)}
        for module, source in sources.items()
    }


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of more than one module that import each other, directly or through others (Tarjan, 1972)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in numbers:
            visit(module)
    return found

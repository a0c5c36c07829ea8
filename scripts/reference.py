"""Generates the reference pages of docs/ from the code, and the record of the public names; scripts/docs calls it.

With --check it writes nothing, lists what is stale, and exits with 1. A changed public name is written only if
CHANGELOG.md has a new line that mentions it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

from pydantic import BaseModel  # noqa: E402

import trainer  # noqa: E402
from trainer.catalog import registry  # noqa: E402
from trainer.cli.plugin_text import MEANINGS, events_of, example_of  # noqa: E402
from trainer.config import options  # noqa: E402
from trainer.events import Plugin  # noqa: E402

DOCS = ROOT / "docs"
RECORD = DOCS / "api.json"
MODULES = (
    "trainer",
    "trainer.atomic",
    "trainer.calls",
    "trainer.cli",
    "trainer.config",
    "trainer.data",
    "trainer.decisions",
    "trainer.errors",
    "trainer.launch",
    "trainer.metrics",
    "trainer.model",
    "trainer.mxnet",
    "trainer.runs",
    "trainer.seeds",
    "trainer.sklearn",
    "trainer.testing",
)
"""The modules that plugins and tasks import from; the names in their `__all__` are public."""
NOTE = "<!-- made by scripts/docs from the code: edit the docstring and the options there -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page with its text."""
    for group, folder in ((registry.PLUGINS, "plugins"), (registry.TASKS, "tasks")):
        for entry in registry.installed(group):
            if entry.is_ours:
                yield DOCS / folder / f"{entry.name}.md", "\n".join(_page(entry)) + "\n"
    for name in MODULES:
        yield page_of(name), "\n".join(_module_page(name)) + "\n"


def page_of(module: str) -> Path:
    """`docs/api.md` for `trainer`, `docs/api/runs.md` for `trainer.runs`."""
    _, _, name = module.partition(".")
    return DOCS / "api" / f"{name}.md" if name else DOCS / "api.md"


def _page(entry: registry.Installed) -> Iterator[str]:
    cls: Any = registry.load(entry.group, entry.name)
    yield f"# {entry.name}\n"
    yield NOTE + "\n"
    yield from _markdown(inspect.getdoc(cls) or "")
    found = options.options_of(cls)
    example = example_of(entry, found).replace("TASK", "logreg")
    yield f"\n    {example}\n"
    if issubclass(cls, Plugin):
        events = ", ".join(f"`{event}`" for event in events_of(cls))
        yield f"**Phase** `{cls.phase.name}`: it {MEANINGS[cls.phase]}. **On error** `{cls.on_error}`."
        yield f"**Events** {events}.\n"
    else:
        suggested = ", ".join(f"[`{name}`](../plugins/{name}.md)" for name in cls.defaults.plugins)
        yield f"**Suggested plugins**: {suggested}.\n"
    if found:
        yield "| option | type | range | default | |"
        yield "|---|---|---|---|---|"
    for option in found:
        default = "required" if option.required else f"`{option.default_text}`" if option.default_text else "none"
        kind = option.type_name.replace("|", "\\|")
        yield f"| `{option.name}` | {kind} | {option.constraints} | {default} | {option.help} |"
    more = _page_about(entry.name)
    if more:
        yield f"\nMore: [{more.stem}](../{more.name})."
    own = (registry.WORDS[entry.group], f"{entry.value.replace(':', '.')}")
    yield f"\nThe {own[0]} is `{own[1]}`, under the entry point `{entry.group}`."


def _page_about(name: str) -> Path | None:
    """The hand-written page about a plugin: the one with its name, or the one that README.md links to."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.search(rf"^\| \[`{name}`\]\(docs/([\w-]+\.md)\)", readme, re.MULTILINE)
    page = DOCS / (linked[1] if linked else f"{name}.md")
    return page if page.is_file() else None


def _markdown(doc: str) -> Iterator[str]:
    yield from (line.rstrip() for line in doc.splitlines())


# ---- the public names -----------------------------------------------------------------------------------------------


def surface() -> dict[str, dict[str, str]]:
    """For each module, the public names and the members of public classes (`Run.stop`) with their signatures.

    If `trainer` has a name too, the other module lists it without members.
    """
    return {module: _names(import_module(module)) for module in MODULES}


def _names(module: ModuleType) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in module.__all__:
        value = getattr(module, name)
        found[name] = _called(value)
        if inspect.isclass(value) and not _is_also_in_trainer(module, name):
            for member in sorted(_members(value)):
                if not member.startswith("_") and not hasattr(BaseModel, member):
                    found[f"{name}.{member}"] = _called(inspect.getattr_static(value, member, None))
    return found


def _is_also_in_trainer(module: ModuleType, name: str) -> bool:
    return module is not trainer and name in trainer.__all__


def _members(cls: type) -> set[str]:
    """The names that a class has of its own, or from a base of this package that no public module lists."""
    bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "trainer" and not _is_public(base)]
    return {name for base in {cls, *bases} for name in (*inspect.get_annotations(base), *vars(base))}


def _is_public(cls: type) -> bool:
    modules = map(import_module, MODULES)
    return any(cls.__name__ in module.__all__ and getattr(module, cls.__name__) is cls for module in modules)


def _called(value: Any) -> str:
    """The parameter names, with a mark for optional ones; empty if the object is not callable."""
    value = getattr(value, "__func__", value)
    if not callable(value) or (inspect.isclass(value) and not _is_made_by_its_own(value)):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        f"{marks.get(each.kind, '')}{each.name}{'' if each.default is each.empty else '='}"
        for each in parameters
        if each.name != "self" and not each.name.startswith("_")
    )


def _is_made_by_its_own(cls: type) -> bool:
    """Whether the class has its own signature, unlike an enumeration, a protocol or a subclass of Typer's."""
    module = getattr(cls.__init__, "__module__", None) or ""
    return module.startswith("trainer") and not issubclass(cls, int) and not getattr(cls, "_is_protocol", False)


def mentions(module: str, name: str = "") -> int:
    """The number of changelog lines that mention a name in backticks: `Run.stop`, `trainer.runs.flat`, or a module."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    spelled = rf"(?:{re.escape(module)}\.)?{re.escape(name)}" if name else re.escape(module)
    return sum(1 for line in changelog.splitlines() if re.search(rf"`{spelled}[`(]", line))


Record = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""For each module and name: the signature (`called`), and the number of changelog lines about it (`mentions`)."""


def recorded() -> Record:
    """The record on disk."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def unexplained(before: Record, now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Names that were added, removed or changed without a new line in the changelog.

    A line about a new module covers all its names, and one about a new or removed class covers its members.
    """
    found = []
    for module in {**before, **now}:
        old, new = before.get(module, {}), now.get(module, {})
        if not (old and new):
            found += [] if mentions(module) else [module]
            continue
        for name in {**old, **new}:
            cls = name.partition(".")[0]
            covered = cls != name and (cls in old) != (cls in new)
            if old.get(name, {}).get("called") == new.get(name) or covered:
                continue
            if mentions(module, name) <= old.get(name, {}).get("mentions", 0):
                found.append(f"{module}.{name}")
    return sorted(found)


def called(record: Record) -> dict[str, dict[str, str]]:
    """The record as `surface` gives it."""
    return {module: {name: each["called"] for name, each in names.items()} for module, names in record.items()}


def record_text() -> str:
    """The record as it should be."""
    found = {
        module: {name: {"called": called, "mentions": mentions(module, name)} for name, called in names.items()}
        for module, names in surface().items()
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _module_page(name: str) -> Iterator[str]:
    module = import_module(name)
    yield "# Public names\n" if module is trainer else f"# {name}\n"
    yield NOTE + "\n"
    yield from _introduction() if module is trainer else _markdown(inspect.getdoc(module) or "")
    for member in module.__all__:
        yield f"\n## {member}\n"
        yield from _entry(module, member)


def _introduction() -> Iterator[str]:
    yield "What plugins and tasks import from `trainer` stands on this page. What they need beyond it comes from a few"
    yield "public modules:\n"
    for name in MODULES[1:]:
        yield f"- [`{name}`](api/{page_of(name).name}): {(inspect.getdoc(import_module(name)) or '').splitlines()[0]}"
    yield "\nAll of it keeps its meaning from one version of the API to the next ([versions](publishing.md#versions));"
    yield f"this is version {trainer.API_VERSION}. A change has its line in the changelog: a test checks that. The"
    yield "plugins and tasks that come with the package use nothing else. Everything else may change at any time."


def _entry(module: ModuleType, name: str) -> Iterator[str]:
    value = getattr(module, name)
    if _is_also_in_trainer(module, name):
        yield f"See [`trainer.{name}`](../api.md#{name.lower()})."
        return
    if not callable(value) or value is Any:
        shown = f"`{value}`" if isinstance(value, (str, Path)) else ""
        yield ": ".join(part for part in (shown, _note_on(module, name)) if part)
        return
    yield from _markdown(inspect.getdoc(value) or "")
    call = "" if inspect.isclass(value) and issubclass(value, Exception) else _called(value)
    if call:
        yield f"\nCalled with: `{call}`."
    members = [key.partition(".")[2] for key in _names(module) if key.startswith(f"{name}.")]
    if members:
        yield "\nHas: " + ", ".join(f"`{member}`" for member in members) + "."


def _note_on(module: ModuleType, name: str) -> str:
    """The docstring below an assignment, in the module or in the one that it imports the name from."""
    body = ast.parse(inspect.getsource(module)).body
    for statement, below in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return inspect.cleandoc(str(ast.literal_eval(below.value))) if isinstance(below, ast.Expr) else ""
    for statement in ast.walk(ast.Module(body, [])):
        if isinstance(statement, ast.ImportFrom) and name in [alias.name for alias in statement.names]:
            return _note_on(import_module(str(statement.module)), name)
    return ""


# ---- the command ----------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Writes what is stale, or lists it."""
    before = recorded()
    now = surface()
    missing = unexplained(before, now) if before else []
    if missing:
        print("error: public names have changed, and CHANGELOG.md has no new line for them:", file=sys.stderr)
        print("".join(f"  `{name}`\n" for name in missing), end="", file=sys.stderr)
        return 1
    wanted = {**dict(pages()), RECORD: record_text()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments and called(before) == now:
        # The changelog may mention a name more often by now: the next call without --check counts again.
        stale = [path for path in stale if path != RECORD]
    made = [path for folder in ("api", "plugins", "tasks") for path in (DOCS / folder).glob("*.md")]
    orphans = [path for path in made if path not in wanted]
    if "--check" in arguments:
        for path in [*stale, *orphans]:
            print(f"stale: {path.relative_to(ROOT)}; run scripts/docs", file=sys.stderr)
        return bool(stale or orphans)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    for path in orphans:
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""scripts/docs calls this: the pages of docs/ that are made from the code, and the record of the public names.

Without --check it writes them; with --check it says what is stale, and exits with 1. A public name that has changed
is written only where CHANGELOG.md has a new line that mentions it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import trainer  # noqa: E402
from trainer.catalog import registry  # noqa: E402
from trainer.cli.plugin_text import MEANINGS, events_of, example_of  # noqa: E402
from trainer.config import options  # noqa: E402
from trainer.events import Plugin  # noqa: E402

DOCS = ROOT / "docs"
RECORD = DOCS / "api.json"
NOTE = "<!-- made by scripts/docs from the code: edit the docstring and the options there -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Every page that is made from the code, with its text."""
    for group, folder in ((registry.PLUGINS, "plugins"), (registry.TASKS, "tasks")):
        for entry in registry.installed(group):
            if entry.is_ours:
                yield DOCS / folder / f"{entry.name}.md", "\n".join(_page(entry)) + "\n"
    yield DOCS / "api.md", "\n".join(_api_page()) + "\n"


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
    """The hand-written page on a plugin: the one of its name, or the one that README.md links from its name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.search(rf"^\| \[`{name}`\]\(docs/([\w-]+\.md)\)", readme, re.MULTILINE)
    page = DOCS / (linked[1] if linked else f"{name}.md")
    return page if page.is_file() else None


def _markdown(doc: str) -> Iterator[str]:
    yield from (line.rstrip() for line in doc.splitlines())


# ---- the public names -----------------------------------------------------------------------------------------------


def surface() -> dict[str, str]:
    """Each public name with how it is called, and each member of a public class by itself: `Run.stop`."""
    found: dict[str, str] = {}
    for name in trainer.__all__:
        value = getattr(trainer, name)
        found[name] = _called(value)
        if inspect.isclass(value):
            for member in sorted({*_annotated(value), *vars(value)}):
                if not member.startswith("_"):
                    found[f"{name}.{member}"] = _called(inspect.getattr_static(value, member, None))
    return found


def _annotated(cls: type) -> set[str]:
    return set(inspect.get_annotations(cls))


def _called(value: Any) -> str:
    """The names of what something takes, with a mark for those that may be left out; empty for what is not called."""
    value = getattr(value, "__func__", value)
    if not callable(value) or (inspect.isclass(value) and issubclass(value, int)):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        f"{marks.get(each.kind, '')}{each.name}{'' if each.default is each.empty else '='}"
        for each in parameters
        if each.name != "self"
    )


def mentions(name: str) -> int:
    """How many lines of the changelog name it in backticks: `Run.stop`, or `Run` alone for a class."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return sum(1 for line in changelog.splitlines() if re.search(rf"`{re.escape(name)}[`(]", line))


def recorded() -> dict[str, dict[str, Any]]:
    """The record as it was written: for each name how it was called, and how often the changelog named it then."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def unexplained(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, str]) -> list[str]:
    """The names that are new, gone or called otherwise, and of which the changelog has no new line.

    The members of a class that is new need none of their own.
    """
    added = {name for name in now if "." not in name} - set(before)
    changed = [
        name
        for name in {**before, **now}
        if before.get(name, {}).get("called") != now.get(name) and not ("." in name and name.partition(".")[0] in added)
    ]
    return sorted(name for name in changed if mentions(name) <= before.get(name, {}).get("mentions", 0))


def record_text() -> str:
    """The record as it should be."""
    found = {name: {"called": called, "mentions": mentions(name)} for name, called in surface().items()}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _api_page() -> Iterator[str]:
    yield "# Public names\n"
    yield NOTE + "\n"
    yield "The public API consists of the names in `from trainer import …`. Only these keep their meaning from one"
    yield f"version to the next ([versions](publishing.md#versions)). This is version {trainer.API_VERSION}."
    yield "The changelog lists every change of a public name, and a test checks that it does.\n"
    for name in trainer.__all__:
        value = getattr(trainer, name)
        yield f"## {name}\n"
        if name == "API_VERSION":
            yield f"`{value!r}`: the version of everything on this page.\n"
            continue
        yield from _markdown(inspect.getdoc(value) or "")
        called = "" if issubclass(type(value), type) and issubclass(value, Exception) else _called(value)
        yield f"\nCalled with: `{called}`.\n" if called else ""
        members = [key.partition(".")[2] for key in surface() if key.startswith(f"{name}.")]
        if members:
            yield "Has: " + ", ".join(f"`{member}`" for member in members) + ".\n"


# ---- the command ----------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Writes what is stale, or says it."""
    before = recorded()
    missing = unexplained(before, surface()) if before else []
    if missing:
        print("error: public names have changed, and CHANGELOG.md has no new line for them:", file=sys.stderr)
        print("".join(f"  `{name}`\n" for name in missing), end="", file=sys.stderr)
        return 1
    wanted = {**dict(pages()), RECORD: record_text()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments and {name: each["called"] for name, each in before.items()} == surface():
        # How often the changelog names something may have grown since: the next call without --check counts anew.
        stale = [path for path in stale if path != RECORD]
    made = [*(DOCS / "plugins").glob("*.md"), *(DOCS / "tasks").glob("*.md")]
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

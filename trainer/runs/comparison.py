"""A run's settings, versions and metrics under flat names, and the differences between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer.config.settings import read_config
from trainer.data.fingerprint import Fingerprint
from trainer.data.split_names import JUDGED
from trainer.reading import Unreadable, checked, read_json
from trainer.runs import folder
from trainer.runs.listing import RunEntry
from trainer.runs.schemas import PluginEntry


@dataclass(frozen=True)
class Contents:
    """A run under flat names: `settings` (`optimizer.name`, `task.x`, `plugins.x.y`), `versions` and `metrics`.

    Anything missing or unreadable is left out.
    """

    entry: RunEntry
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    metrics: Mapping[str, float | None]


def contents(entry: RunEntry) -> Contents:
    """Reads one run's folder. Raises UsageError if its configuration is not TOML."""
    config = read_config(entry.folder / folder.CONFIG)
    config.pop("schema", None)
    plugins = config.get("plugins", {})
    settings = flat(config)
    # A plugin without options is a difference too.
    settings |= {f"plugins.{name}": "used" for name, options in plugins.items() if not options}
    return Contents(entry, settings, {**entry.record.get("versions", {}), **_plugin_versions(entry)}, entry.metrics)


def judged_elsewhere(told: Sequence[Contents]) -> dict[str, list[str]]:
    """The runs whose metrics of a split are of other rows than those of the first run that has them, by the split.

    Their names; a split is left out if all rows are the same, as far as the runs have recorded them.
    """
    found: dict[str, list[str]] = {}
    for split in JUDGED:
        having = [each for each in told if any(name.startswith(f"{split}/") for name in each.metrics)]
        prints = [(each.entry.name, Fingerprint.from_json(each.entry.record.get("data"))) for each in having]
        known = [(name, each) for name, each in prints if each is not None and split in each.splits]
        others = [name for name, each in known[1:] if known[0][1].has_same_rows(each, split) is False]
        if others:
            found[split] = [known[0][0], *others]
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, under names with dots: {"a": {"b": 1}} is {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def compare(tables: Sequence[Mapping[str, Any]], *, equal_too: bool = False) -> dict[str, list[Any]]:
    """The values of each name in all tables, None if missing; only names that differ, unless `equal_too`."""
    names = dict.fromkeys(name for table in tables for name in table)
    found = {name: [table.get(name) for table in tables] for name in names}
    return {name: values for name, values in found.items() if equal_too or any(each != values[0] for each in values)}


def plugins_in(path: Path) -> list[dict[str, Any]]:
    """The entries of a run's `plugins.json`; empty if it cannot be read."""
    try:
        found = read_json(path / folder.PLUGINS)
        return [_checked_plugin(each) for each in found] if isinstance(found, list) else []
    except (FileNotFoundError, Unreadable):
        return []


def _checked_plugin(entry: Any) -> dict[str, Any]:
    checked(PluginEntry, entry)
    return cast("dict[str, Any]", entry)


def _plugin_versions(entry: RunEntry) -> dict[str, str]:
    return {
        f"plugin {each['name']}": f"{each.get('distribution', '')} {each['version']}".strip()
        for each in plugins_in(entry.folder)
        if "version" in each and "name" in each
    }

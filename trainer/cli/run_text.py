"""The text of `trainer runs show` and `trainer runs compare`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.table import aligned
from trainer.config.text import as_text
from trainer.runs.comparison import Contents, plugins_in
from trainer.runs.listing import RunEntry, direction_in
from trainer.runs.values import metric_text

if TYPE_CHECKING:
    from trainer.model.significance import Significance


def as_values(told: Contents) -> dict[str, Any]:
    """The JSON values of a run, in addition to its summary."""
    record = told.entry.record
    return {
        "folder": str(told.entry.folder),
        "task": record.get("task"),
        "settings": dict(told.settings),
        "decisions": record.get("decisions", []),
        "plugins": plugins_in(told.entry.folder),
        "ledger": record.get("ledger", []),
        "versions": dict(told.versions),
        "devices": record.get("devices", []),
        "step_kind": record.get("step_kind"),
        "threshold": record.get("threshold"),
        "files": {str(path): size for path, size in _files(told.entry.folder)},
    }


def described(told: Contents) -> Iterator[str]:
    """The text about one run."""
    entry, record = told.entry, told.entry.record
    why = f" ({entry.reason})" if entry.reason else ""
    yield f"{entry.name}  {entry.status}{why}"
    epoch, step = entry.reached
    devices = ", ".join(map(str, record.get("devices", [])))
    took = "" if entry.seconds is None else f", {entry.seconds:.1f} s"
    yield f"epoch {epoch}, step {step}{took}; {record.get('step_kind') or 'unknown'} step on {devices or 'unknown'}"
    yield from _section("settings", told.settings)
    yield from _metrics(told.metrics)
    decisions = record.get("decisions", [])
    yield "decisions" if decisions else "decisions: none"
    for each in decisions:
        more = f" and {each['count'] - 1} more times" if each.get("count", 1) > 1 else ""
        asked = f"{each['plugin']} asked to {each['action'].replace('_', ' ')}"
        yield f"  {asked} at epoch {each['epoch']}, step {each['step']}{more}: {each['reason']}"
    yield from _costs(record.get("ledger", []), entry.seconds)
    yield from _section("versions", told.versions)
    yield "files"
    for path, size in _files(entry.folder):
        yield f"  {size_text(size):>9}  {path}"


def side_by_side(
    entries: Sequence[RunEntry],
    tables: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    real: Collection[str] | None = None,
) -> Iterator[str]:
    """A table with one column per run; * marks the best value of each metric, or only of those in `real`."""
    lines = [["", *(entry.name for entry in entries)], ["status", *(entry.status for entry in entries)]]
    for title, rows in tables.items():
        lines.append([title if rows else f"{title}: no difference", *("" for _ in entries)])
        for name, values in rows.items():
            starred = title == "metrics" and (real is None or name in real)
            best = _best(entries, name, values) if starred else None
            cells = [_cell(value, name) + (" *" if best is not None and value == best else "") for value in values]
            lines.append([f"  {name}", *cells])
    yield from aligned(lines)


def significance_lines(found: Significance) -> Iterator[str]:
    """A table of the differences, and what McNemar's test says about accuracies."""
    level = f"{found.confidence:.0%}"
    yield ""
    yield f"judged again on {found.rows} test rows: second - first, {level} interval of the paired bootstrap, p-value"
    lines = [["", "first", "second", "difference", "interval", "p"]]
    for name, each in found.differences.items():
        ends = f"{_cell(each.low)} to {_cell(each.high)}"
        lines.append([
            f"  {name}", _cell(each.first, name), _cell(each.second, name), _cell(each.value, name), ends,
            "–" if math.isnan(each.p) else f"{each.p:.3g}",
        ])  # fmt: skip
    yield from aligned(lines)
    for name, p in found.mcnemar.items():
        first, second = found.only[name]
        yield f"{name}: McNemar p {p:.3g}; only the first is right on {first} rows, only the second on {second}"
    if not found.real:
        yield "chance explains every difference"


def size_of(folder: Path) -> str:
    """The number and size of a folder's files: `12 files, 1.4 MB`."""
    sizes = [size for _, size in _files(folder)]
    return f"{len(sizes)} files, {size_text(sum(sizes))}"


def _best(entries: Sequence[RunEntry], name: str, values: Sequence[Any]) -> float | None:
    numbers = [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    direction = direction_in(entries, name)
    if direction is None or len(set(numbers)) < 2:
        return None
    return max(numbers) if direction == "max" else min(numbers)


def _metrics(metrics: Mapping[str, float | None]) -> Iterator[str]:
    """One line per metric, one column per split."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in metrics.items():
        # `validation/recall/NAME` is a metric of a class: the split is what stands first.
        split, last = name.split("/", 1) if "/" in name else ("", name)
        rows.setdefault(last, {})[split] = value
    splits = list(dict.fromkeys(name.split("/", 1)[0] if "/" in name else "" for name in metrics))
    if not rows:
        yield "metrics: none"
        return
    width = max(map(len, rows))
    yield f"{'metrics':<{width + 2}}  " + "  ".join(f"{split or 'value':>10}" for split in splits)
    for name, values in rows.items():
        cells = [f"{_cell(values[split], name) if split in values else '':>10}" for split in splits]
        yield f"  {name:<{width}}  {'  '.join(cells)}".rstrip()


def _costs(ledger: Sequence[Mapping[str, Any]], seconds: float | None) -> Iterator[str]:
    costs: dict[str, float] = {}
    for row in ledger:
        costs[str(row["plugin"])] = costs.get(str(row["plugin"]), 0.0) + float(row["seconds"])
    yield "cost" if costs else "cost: none"
    width = max(map(len, costs), default=0)
    for name, cost in sorted(costs.items(), key=lambda each: -each[1]):
        share = f"  {cost / seconds:.1%}" if seconds else ""
        yield f"  {name:<{width}}  {cost:.3f} s{share}"


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield title if values else f"{title}: none"
    for name, value in values.items():
        yield f"  {name} = {_cell(value)}"


def _cell(value: Any, name: str = "") -> str:
    if value is None:
        return "–"
    return metric_text(name, value) if isinstance(value, float) else as_text(value) or '""'


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Every file below the folder with its size; links are not followed."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink()]
    return [(path.relative_to(folder), path.lstat().st_size) for path in found]


def size_text(size: float) -> str:
    """A number of bytes: `1.4 MB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

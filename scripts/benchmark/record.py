"""The file with the results: per workload the raw values of every round, and what they were measured on.

`bench-results/results.json` and `docs/benchmark.json` have this form. A workload's rounds all belong to one code, one
machine and the same options; a new call adds the rounds that are missing, or starts the workload over.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark import calibration, report

SCHEMA = 2
ROOT = Path(__file__).parent.parent.parent
MEASURED = ("trainer", "plugins", "scripts/benchmark", "pyproject.toml", "constraints.txt")
"""What a result depends on."""
SHOWN = {f"scripts/benchmark/{name}.py" for name in ("claims", "pages", "plot", "report")}
"""What only shows results."""


class BadRecord(Exception):  # noqa: N818  a user's mistake, not a defect
    """A file is not a record of this version; the message names it."""


@dataclass
class Section:
    """One workload's rounds, and what they were measured on."""

    about: dict[str, Any]
    """`commit`, `changes`, `code`, `machine`, `versions`, `options`, `against`."""
    commands: list[str] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Each has `number`, `date`, `commit`, `calibration` (seconds before and after each measurement), `spread`,
    `counted` and `answers`."""

    def counted(self, names: Iterable[str] = ()) -> list[report.Round]:
        """The answers of the rounds that count and that have all of `names`."""
        wanted = set(names)
        return [each["answers"] for each in self.rounds if each["counted"] and wanted <= each["answers"].keys()]

    def recount(self, *, noisy: bool) -> None:
        """Decides anew which rounds count: with `noisy` all do."""
        for each in self.rounds:
            each["counted"] = noisy or is_quiet(each)

    @property
    def dropped(self) -> int:
        """How many rounds do not count."""
        return sum(not each["counted"] for each in self.rounds)

    @property
    def is_noisy(self) -> bool:
        """Whether a round counts that the calibration would drop."""
        return any(each["counted"] and not is_quiet(each) for each in self.rounds)

    @property
    def dates(self) -> str:
        """The day of the measurement, or the first and the last."""
        days = sorted({each["date"][:10] for each in self.rounds})
        return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""

    @property
    def commit(self) -> str:
        """The measured commit, shortened; `-changed` says that there were changes in addition to it."""
        commit = self.about.get("commit")
        return (commit[:7] if commit else "unknown") + ("-changed" if self.about.get("changes") else "")


Record = dict[str, Section]


def is_quiet(each: Mapping[str, Any]) -> bool:
    """Whether the calibration loop varied little enough during a round."""
    return bool(each["spread"] < calibration.LIMIT)


def read(path: Path) -> Record:
    """Reads a record; an absent file is an empty one. Raises BadRecord."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") != SCHEMA:
            raise BadRecord(f"{path}: schema {content.get('schema')} is not {SCHEMA}")
        return {key: Section(**section) for key, section in content["workloads"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path}: not a result of scripts/bench: {error}") from error


def write(path: Path, record: Record) -> None:
    """Writes a record, whole or not at all."""
    workloads = {key: asdict(section) for key, section in sorted(record.items())}
    temporary = path.with_name(f"{path.name}.new")
    text = json.dumps({"schema": SCHEMA, "workloads": rounded(workloads)}, indent=1, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def rounded(value: Any) -> Any:
    """The same with five significant digits: more of a time is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def why_over(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why rounds measured under `old` cannot be continued under `new`; empty if they can."""
    for key in ("code", "machine", "versions", "options", "against"):
        if old.get(key) == new.get(key):
            continue
        if key == "code":
            was = (old.get("commit") or "unknown")[:7] + (" with changes" if old.get("changes") else "")
            now = (new.get("commit") or "unknown")[:7] + (" with changes" if new.get("changes") else "")
            return f"the code has changed from {was} to {now}"
        before, after = old.get(key) or {}, new.get(key) or {}
        if isinstance(before, dict) and isinstance(after, dict):
            parts = [name for name in before if before[name] != after.get(name)]
            # A further environment that was not needed before changes nothing.
            parts = [name for name in parts if key != "versions" or name in after]
            told = ", ".join(f"{name} was {before[name]} and is {after.get(name)}" for name in parts)
            if told:
                return f"{key}: {told}"
            continue
        return f"{key} was {before or 'nothing'} and is {after or 'nothing'}"
    return ""


def code() -> dict[str, Any]:
    """The commit, whether there are changes in addition to it, and a digest of everything that a result depends on."""
    commit = git("rev-parse", "HEAD")
    staged = git("ls-files", "--stage", "--", *MEASURED)
    changed = git("diff", "HEAD", "--name-only", "--", *MEASURED).split()
    changed += git("ls-files", "--others", "--exclude-standard", "--", *MEASURED).split()
    changed = [name for name in changed if name not in SHOWN]
    digest = hashlib.sha256()
    for line in staged.splitlines():
        if line.partition("\t")[2] not in SHOWN:
            digest.update(line.encode())
    for name in changed:
        path = ROOT / name
        digest.update(name.encode() + (path.read_bytes() if path.is_file() else b""))
    return {"commit": commit or None, "changes": bool(changed), "code": digest.hexdigest()[:16]}


def git(*arguments: str) -> str:
    """The output of git in the project's folder; empty if there is no repository or no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

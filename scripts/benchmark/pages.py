"""Writes the record's values into the README and docs/benchmark.md, between markers. No value is typed by hand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmark import calibration, claims, plot, report
from benchmark.competitors import LIST, Competitor
from benchmark.record import ROOT, Record, Section, read, rounded, write
from benchmark.workloads import OTHERS, TRAINING, title

RECORD = Path("docs/benchmark.json")
PICTURE = Path("docs/images/benchmark.svg")
README, DOCS = Path("README.md"), Path("docs/benchmark.md")
MARKER = re.compile(r"(<!-- benchmark: (\S+) -->\n)(.*?)(<!-- end of benchmark -->)", re.DOTALL)
NOTHING = "Not measured yet."


def titles(more: Sequence[Competitor] = ()) -> dict[str, str]:
    """The rows' titles with their names, in the order of the tables."""
    return {one.name: f"`{one.name}`: {one.title}" for one in (*LIST, *more)}


def titles_of(record: Record) -> dict[str, str]:
    """The titles, also of the commits that a record compares with."""
    from benchmark import earlier

    commits = dict.fromkeys(section.about.get("against") for section in record.values())
    found = titles()
    for commit in commits:
        found |= titles(earlier.competitors(commit) if commit else ())
    return found


def put(record: Record, new: Record, root: Path = ROOT) -> Record:
    """Replaces the workloads of the record in docs/ by the new ones, and writes the pages."""
    merged = {**record, **new}
    for section in merged.values():
        for each in section.rounds:
            for answer in each["answers"].values():
                answer.pop("epochs", None)  # every epoch's time: in bench-results/ only
    write(root / RECORD, rounded_record(merged))
    pages(root)
    return merged


def rounded_record(record: Record) -> Record:
    """What will be read again."""
    return {key: Section(each.about, each.commands, rounded(each.rounds)) for key, each in record.items()}


def pages(root: Path = ROOT) -> None:
    """Writes both pages and the picture from the record in docs/."""
    record = read(root / RECORD)
    for page in (README, DOCS):
        text = (root / page).read_text(encoding="utf-8")
        (root / page).write_text(filled(text, record), encoding="utf-8")
    plot.draw(_counted(record, TRAINING), titles_of(record), root / PICTURE, source(record))


def filled(text: str, record: Record) -> str:
    """A page with its blocks written anew."""

    def block(match: re.Match[str]) -> str:
        content = BLOCKS[match[2]](record).strip("\n")
        return f"{match[1]}{content or NOTHING}\n{match[4]}"

    return MARKER.sub(block, text)


def source(record: Record) -> str:
    """Names the results that a picture was drawn from."""
    counted = repr(sorted(_counted(record, TRAINING).items()))
    return f"{RECORD} {hashlib.sha256(counted.encode()).hexdigest()[:16]}"


def _counted(record: Record, keys: Iterable[str]) -> dict[str, list[report.Round]]:
    return {key: record[key].counted() for key in keys if key in record}


def summary(record: Record) -> str:
    """All trainings side by side, for the README."""
    counted = _counted(record, list(TRAINING))
    if not counted:
        return ""
    parts = [provenance({key: record[key] for key in counted}), report.compact(counted, titles_of(record))]
    if "e" in record:
        times = [
            f"`{row.name}` takes {row.seconds.times}"
            if row.name.startswith("trainer")
            else f"{row.name} takes {row.seconds.times}"
            for row in report.rows("e", record["e"].counted())
            if row.seconds is not None
        ]
        parts.append(f"As a whole process, imports included, {', '.join(times)}. {provenance({'e': record['e']})}")
    return "\n\n".join(part.strip("\n") for part in parts)


def provenance(record: Record) -> str:
    """One line per commit, machine and kind of result: what was measured where, when, and by which commands."""
    lines: dict[str, list[str]] = {}
    for key, section in record.items():
        machine = section.about["machine"]
        told = (
            f"commit {section.commit}, {section.dates}, {machine['cores']} cores of {machine['cpu']}, "
            f"{machine['memory']}, {machine['system']}, Python {machine['python']}; "
            f"{', '.join(f'`{command}`' for command in section.commands)}"
        )
        lines.setdefault(told, []).append(key)
    texts = []
    for told, keys in lines.items():
        rounds = sum(len(record[key].rounds) for key in keys)
        dropped = sum(record[key].dropped for key in keys)
        counted = "; ".join(f"({key}) {number(len(record[key].counted()))}" for key in keys)
        text = f"{counted}: {told}. {shares(dropped, rounds)}"
        noisy = [key for key in keys if record[key].is_noisy]
        if noisy:
            text += f" **Noisy: the machine was not quiet during {', '.join(noisy)}; these values are provisional.**"
        texts.append(text)
    return "\n\n".join(texts)


def number(rounds: int) -> str:
    """How many rounds, in words."""
    return f"{rounds} round{'' if rounds == 1 else 's'}"


def shares(dropped: int, rounds: int) -> str:
    """How many rounds were dropped."""
    if not dropped:
        return "No round was dropped."
    share = f" ({dropped / rounds:.0%})"
    limit = f"{calibration.LIMIT:.0%}"
    return f"{dropped} of {rounds} rounds{share} were dropped, because the calibration loop varied by {limit} or more."


def unmet(record: Record) -> str:
    """The goals that are not met, for the README."""
    found = [one for one in claims.verdicts(record) if one.met is False]
    if not found:
        return "All measured goals are met." if claims.verdicts(record) else ""
    lines = [f"{len(found)} of {len(claims.verdicts(record))} goals are not met:", ""]
    return "\n".join([*lines, *(f"- {one.goal}; measured {one.measured}" for one in found)])


def goals(record: Record) -> str:
    """All goals with what was measured."""
    lines = ["| goal | measured | |", "|---|---|---|"]
    lines += [f"| {one.goal} | {one.measured or '–'} | {one.words} |" for one in claims.verdicts(record)]
    return "\n".join(lines) if len(lines) > 2 else ""


def results(record: Record) -> str:
    """Every workload's table."""
    parts = []
    for key in (*TRAINING, *OTHERS):
        if key in record:
            table = report.markdown(key, record[key].counted(), titles_of(record))
            parts += [f"### ({key}) {title(key)}", provenance({key: record[key]}), table.partition("\n\n")[2]]
        else:
            parts += [f"### ({key}) {title(key)}", NOTHING]
    return "\n\n".join(part.strip("\n") for part in parts)


def images(record: Record) -> str:
    """One sentence about images, for the README."""
    if "k" not in record:
        return ""
    rows = {row.name: row for row in report.rows("k", record["k"].counted())}
    ours = rows.get(report.REFERENCE["k"])
    loops = [row.ratio for name, row in rows.items() if name.startswith("GluonCV") and row.ratio is not None]
    if ours is None or ours.seconds is None or not loops:
        return ""
    return (
        f"With the default plugins, `cifar_resnet20_v1` takes {ours.seconds.times} per 32 × 32 image; the fastest of "
        f"GluonCV's loops over Gluon's DataLoader takes {min(loops, key=lambda one: one.median)} times as long. "
        f"{provenance({'k': record['k']})}"
    )


def engine(record: Record) -> str:
    """Where the time between the own step loop and the default plugins goes, as shares of the step loop."""
    lines = [
        "| | default plugins / step loop | ordinary epochs alone | the last epoch's extra, spread over all steps |",
        "|---|---|---|---|",
    ]
    for key, training in TRAINING.items():
        pairs = [
            (each["ours"], each["ours-step"])
            for each in (record[key].counted() if key in record else [])
            if all("seconds" in each.get(name, {}) for name in ("ours", "ours-step"))
        ]
        pairs = [pair for pair in pairs if all(one.get("ordinary") for one in pair)]
        if not pairs:
            continue
        total = report.Interval.of([ours["seconds"] / step["seconds"] for ours, step in pairs])
        ordinary = report.Interval.of([ours["ordinary"] / step["ordinary"] for ours, step in pairs])
        last = [(ours["last"] - ours["ordinary"]) / (training.epochs - 1) / step["seconds"] for ours, step in pairs]
        lines.append(f"| ({key}) | {total} | {ordinary} | {median(last):+.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def picture(record: Record) -> str:
    """The picture, if there is one."""
    return "![Time per step of every competitor](images/benchmark.svg)" if _counted(record, list(TRAINING)) else ""


BLOCKS = {
    "summary": summary,
    "unmet": unmet,
    "goals": goals,
    "results": results,
    "images": images,
    "engine": engine,
    "picture": picture,
}

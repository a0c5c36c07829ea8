"""`scripts/bench`: measures the selected workloads in rounds, and writes tables, numbers and a picture.

A round counts if the calibration loop beside it varies by less than 3 %. A further call resumes: it measures the rounds
that are missing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark import calibration, claims, earlier, pages, peers, plot, report, search
from benchmark.categorical_data import ROWS, SWEPT_ROWS
from benchmark.competitors import BY_NAME, CATEGORICAL, LIST, Competitor
from benchmark.large_rounds import SIZES
from benchmark.processes import Surroundings
from benchmark.record import ROOT, BadRecord, Record, Section, code, read, rounded, why_over, write
from benchmark.rounds import Plan
from benchmark.worker import cores
from benchmark.workloads import OTHERS, TRAINING, title

SIZED = (*CATEGORICAL, "t")
"""The workloads that --rows gives a size."""
ATTEMPTS = 3
"""A round that is missing is tried this often."""
PACKAGES = {
    "own": ("gluon-trainer", "mxnet", "numpy", "tensorboardX"),
    "peers": (
        "torch",
        "pytorch-lightning",
        "pytorch-ignite",
        "skorch",
        "keras",
        "jax",
        "scikit-learn",
        "vowpalwabbit",
        "numpy",
        "tensorboard",
        "tensorboardX",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = parsed(arguments)
    try:
        if options.pages:
            pages.pages()
            return 0
        if isinstance(options.check, Path):
            return checked(read(options.check), options.workload)
        if options.search:
            return searched(options)
        record = read(options.output / "results.json")
        recorded = read(ROOT / pages.RECORD)
    except BadRecord as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        against: list[Competitor] = []
        if options.against:
            against = earlier.competitors(options.against, stack.enter_context(earlier.checkout(options.against)))
        lacking = measured(options, record, [*(BY_NAME[name] for name in options.competitors), *against])
    found = {key: record[key] for key in options.workload if key not in lacking}
    print(told(found, lacking, record, options))
    if options.check:
        return max(checked(found, options.workload), int(bool(lacking)))
    if options.write and found:
        pages.put(recorded, found)
        print(f"Written to {pages.RECORD}, {pages.README}, {pages.DOCS} and {pages.PICTURE}: {', '.join(found)}")
    return int(bool(lacking))


def measured(options: argparse.Namespace, record: Record, competitors: Sequence[Competitor]) -> list[str]:
    """Measures the rounds that are missing from the record; returns the workloads that still lack some."""
    folder = Path(os.environ.get("TRAINER_BENCH_VENV") or ".venv-bench").absolute()
    python = peers.python_of(folder)
    others = needs_peers(options.workload, competitors)
    if others:
        python = peers.ensure(folder)
    surroundings = Surroundings(Path(sys.executable), python, options.threads)
    plan = Plan(surroundings, competitors, options.quick, options.patience, say, rows=options.rows)
    options.output.mkdir(parents=True, exist_ok=True)
    environments = {name: versions(surroundings, name) for name in ("own", "peers") if name == "own" or others}
    about = {
        **code(),
        "machine": machine(options.output),
        "options": {"quick": options.quick, "threads": options.threads},
        "against": options.against,
    }
    for key in options.workload:
        needed = {"own", "peers"} if needs_peers([key], competitors) else {"own"}
        found = {name: environments[name] for name in environments if name in needed}
        section = Section({**about, "versions": found})
        if key in SIZED and options.rows:
            section.about["options"] = {**about["options"], "rows": options.rows}
        if key in record and start_over(key, record[key], section, options):
            keep(options.output, record)
            del record[key]
        versions_of = section.about["versions"]
        section = record.setdefault(key, section)
        section.about["versions"] |= versions_of
        section.recount(noisy=options.noisy)
        command = "scripts/bench " + shlex.join(shown(options, key))
        if command not in section.commands:
            section.commands.append(command)

    def counted(key: str) -> int:
        names = [one.name for one in competitors if one.takes_part(key)] if key in (*TRAINING, "m") else []
        return len(record[key].counted(names))

    limits = {key: ATTEMPTS * (options.rounds - counted(key)) for key in options.workload}
    tries = dict.fromkeys(options.workload, 0)
    while True:
        lacking = [key for key in options.workload if counted(key) < options.rounds]
        todo = [key for key in lacking if tries[key] < limits[key]]
        for key in todo:
            tries[key] += 1
            say(f"({key}) {title(key)}: {counted(key)} of {options.rounds} rounds counted; attempt {tries[key]}")
            one_round(plan, key, record[key], noisy=options.noisy)
            # After every round, so that an interrupted benchmark resumes.
            write(options.output / "results.json", record)
        if not todo:
            return lacking


def searched(options: argparse.Namespace) -> int:
    """Searches the learning rates of the selected competitors."""
    chosen = [BY_NAME[name] for name in options.competitors if name in search.STARTS]
    folder = Path(os.environ.get("TRAINER_BENCH_VENV") or ".venv-bench").absolute()
    others = any(one.environment == "peers" for one in chosen)
    python = peers.ensure(folder) if others else peers.python_of(folder)
    surroundings = Surroundings(Path(sys.executable), python, options.threads)
    search.run(chosen, surroundings, options.rows or ROWS, say)
    return 0


def one_round(plan: Plan, key: str, section: Section, *, noisy: bool) -> None:
    """Measures one more round of a workload."""
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    number = max((each["number"] for each in section.rounds), default=0) + 1
    each = {"date": now, "commit": section.about["commit"], "load": os.getloadavg()[0], **plan.round(key, number)}
    each["counted"] = noisy or each["spread"] < calibration.LIMIT
    section.rounds.append(rounded(each))
    verdict = "counts" if each["counted"] else "is dropped"
    say(f"  the calibration loop varied by {each['spread']:.1%}; round {number} {verdict}")


def start_over(key: str, old: Section, new: Section, options: argparse.Namespace) -> bool:
    """Whether a workload's rounds cannot be continued, which is then said with the reason."""
    why = why_over(old.about, new.about)
    if why:
        say(f"({key}) starts over, and {options.output / 'earlier-results.json'} keeps its rounds: {why}")
    return bool(why)


def keep(folder: Path, record: Record) -> None:
    """Keeps a copy of rounds that are about to be replaced."""
    write(folder / "earlier-results.json", record)


def told(found: Record, lacking: Sequence[str], record: Record, options: argparse.Namespace) -> str:
    """The tables of the workloads that have their rounds, and why the others have none; written to the folder, too."""
    titles = pages.titles_of(found)
    counted = {key: section.counted() for key, section in found.items()}
    judged = [] if options.quick else claims.verdicts(found)
    folder = options.output
    for name in ("table.md", "summary.md", "times.svg"):
        (folder / name).unlink(missing_ok=True)  # of an earlier call
    texts = [report.markdown(key, rounds, titles) for key, rounds in counted.items()]
    goals = "" if options.quick else pages.goals(found)
    if found:
        (folder / "table.md").write_text("\n".join([*texts, goals]).rstrip("\n") + "\n", encoding="utf-8")
        (folder / "summary.md").write_text(report.compact(counted, titles), encoding="utf-8")
        plot.draw(counted, titles, folder / "times.svg")
    lines = []
    for key, rounds in counted.items():
        section = found[key]
        lines += ["", report.text(key, rounds), f"  {pages.shares(section.dropped, len(section.rounds))}"]
        if section.is_noisy:
            lines.append("  NOISY: rounds count during which the machine was not quiet.")
    lines += ["", *(f"  {one.goal}: {f'{one.measured}, ' if one.measured else ''}{one.words}" for one in judged)]
    for key in lacking:
        section = record[key]
        lines.append(
            f"({key}) no result: {len(section.counted())} of {options.rounds} rounds count. "
            f"{pages.shares(section.dropped, len(section.rounds))} The machine is not quiet: stop what else runs on it "
            "and repeat the command, which resumes; --noisy takes all rounds and marks the result as noisy."
        )
    names = "results.json, table.md, summary.md, times.svg" if found else "results.json"
    return "\n".join([*lines, f"Written to {folder}: {names}"])


def checked(new: Record, workloads: Sequence[str]) -> int:
    """Compares a new result with the recorded one, and names the claims that no longer hold."""
    recorded = {key: section for key, section in read(ROOT / pages.RECORD).items() if key in workloads}
    new = {key: section for key, section in new.items() if key in workloads}
    for key, section in new.items():
        if section.about["options"]["quick"]:
            print(f"error: ({key}) is from a quick round, which has no results", file=sys.stderr)
            return 2
        if section.is_noisy or (key in recorded and recorded[key].is_noisy):
            print(f"({key}) one of the two results is noisy")
        machines = [one[key].about["machine"] for one in (recorded, new) if key in one]
        if machines[0] != machines[-1]:
            print(f"({key}) recorded on another machine: {machines[0]}; this is {machines[-1]}")
    findings = claims.check(recorded, new)
    for finding in findings:
        print(finding)
    broken = [finding for finding in findings if finding.holds is False]
    compared = sum(finding.holds is not None for finding in findings)
    print(f"{len(broken)} of {compared} claims no longer hold; {len(findings) - compared} were not compared")
    return int(bool(broken) or not compared)


def say(line: str) -> None:
    """Tells the user what happens."""
    print(line, file=sys.stderr, flush=True)


def shown(options: argparse.Namespace, key: str) -> list[str]:
    """The options of the command that measures a workload like this call."""
    names = [one.name for one in LIST]
    return [
        "--workload",
        key,
        "--rounds",
        str(options.rounds),
        *(["--competitors", ",".join(options.competitors)] if options.competitors != names else []),
        *(["--against", options.against[: earlier.LENGTH]] if options.against else []),
        *(["--threads", str(options.threads)] if options.threads else []),
        *(["--rows", str(options.rows)] if options.rows and key in SIZED else []),
        *(["--noisy"] if options.noisy else []),
        *(["--quick"] if options.quick else []),
    ]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the options; the names in lists are checked."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    known = [*TRAINING, *OTHERS]
    parser.add_argument(
        "--workload",
        type=lambda text: _listed(text, known),
        default=known,
        metavar="a,b,…",
        help="; ".join(f"{key}: {title(key)}" for key in known),
    )
    names = [competitor.name for competitor in LIST]
    parser.add_argument(
        "--competitors",
        type=lambda text: _listed(text, names),
        default=names,
        metavar="NAME,…",
        help=f"for {', '.join((*TRAINING, *CATEGORICAL))}: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=_positive, help="rounds that count (default 5; quick: 1)")
    parser.add_argument(
        "--rows",
        type=_positive,
        help=f"of the tables of {', '.join(SIZED)} (default {ROWS:,}, {SWEPT_ROWS:,}; of t: "
        f"{' and '.join(format(rows, ',') for rows in SIZES)})",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="search the learning rates of m, and write them into scripts/benchmark/categorical_rates.json",
    )
    parser.add_argument("--quick", action="store_true", help="small, one round: a smoke test without results")
    parser.add_argument("--noisy", action="store_true", help="count all rounds, and mark the result as noisy")
    parser.add_argument("--against", type=_commit, metavar="COMMIT", help="an earlier commit, in the same rounds")
    parser.add_argument("--write", action="store_true", help="write the result into docs/benchmark.json and the pages")
    parser.add_argument(
        "--check",
        nargs="?",
        const=True,
        type=_result,
        metavar="RESULTS",
        help="compare with docs/benchmark.json: a results.json, or else what is measured now",
    )
    parser.add_argument("--pages", action="store_true", help="write the pages from docs/benchmark.json; no measurement")
    parser.add_argument("--patience", type=int, default=2, help="repetitions of a disturbed measurement (default 2)")
    parser.add_argument("--threads", type=_positive, help="for all libraries; default: each library's own choice")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder (default bench-results)")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.patience = 0 if options.quick else max(0, options.patience)
    if options.quick and (options.write or options.check):
        parser.error("a quick round has no results to write or check; leave --quick out")
    if options.search and (options.quick or options.write or options.check):
        parser.error("--search measures no times; leave --quick, --write and --check out")
    if options.write and code()["commit"] is None:
        parser.error("--write needs git, because a recorded result names its commit")
    if options.write and code()["changes"]:
        parser.error("--write names the commit that was measured; commit the changes to the code first")
    options.noisy = options.noisy or options.quick
    return options


def _commit(text: str) -> str:
    found = earlier.resolved(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a commit of this repository")
    return found


def _result(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file; give a results.json of scripts/bench")
    return Path(text)


def _listed(text: str, known: Sequence[str]) -> list[str]:
    given = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in given if part not in known]
    if wrong or not given:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong) or 'nothing'} is not among {', '.join(known)}")
    return [name for name in known if name in given]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def needs_peers(workloads: Sequence[str], competitors: Sequence[Competitor]) -> bool:
    """Whether a selected measurement runs in the peers' environment."""
    training = any(
        one.environment == "peers" and one.takes_part(key)
        for one in competitors
        for key in workloads
        if key in TRAINING or key in CATEGORICAL
    )
    large = "t" in workloads and any(one.environment == "peers" for one in competitors)
    return training or large or "f" in workloads


def machine(folder: Path) -> dict[str, Any]:
    """The machine that the results hold for, without anything that identifies its owner.

    Checkpoints are flushed to the disk, so the file systems of temporary files and of `folder` are part of it.
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = found[0].partition(":")[2].strip() if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": cores(),
        "memory": f"{memory:.0f} GiB",
        "system": platform.system(),
        "python": platform.python_version(),
        "disks": list(map(file_system, (Path(tempfile.gettempdir()), folder))),
    }


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, such as ext4 or tmpfs; empty if the system does not tell."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    lines = (line.split() for line in mounts.read_text(encoding="utf-8").splitlines())
    places = [(place, kind) for _, place, kind, *_ in lines if folder.absolute().is_relative_to(place)]
    return max(places, key=lambda one: len(one[0]), default=("", ""))[1]


def versions(surroundings: Surroundings, environment: str) -> dict[str, str]:
    """The versions of the compared libraries."""
    if environment == "own":
        return {name: metadata.version(name) for name in PACKAGES["own"]}
    code = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [surroundings.python("peers"), "-c", code, *PACKAGES["peers"]]
    done = subprocess.run(command, env=surroundings.variables(), capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a temporary worktree is removed
    sys.exit(main())

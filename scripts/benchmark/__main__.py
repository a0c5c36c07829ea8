"""`scripts/bench`: measures the selected workloads in rounds, and writes tables, numbers and a picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark import peers, plot, report
from benchmark.competitors import BY_NAME, LIST, Competitor
from benchmark.processes import Surroundings
from benchmark.rounds import Plan
from benchmark.worker import cores
from benchmark.workloads import OTHERS, TRAINING, title

SCHEMA = 1
TITLES = {competitor.name: f"`{competitor.name}`: {competitor.title}" for competitor in LIST}
PACKAGES = {
    "own": ("gluon-trainer", "mxnet", "numpy"),
    "peers": ("torch", "pytorch-lightning", "pytorch-ignite", "skorch", "keras", "jax", "scikit-learn", "numpy"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = parsed(arguments)
    competitors = [BY_NAME[name] for name in options.competitors]
    folder = Path(os.environ.get("TRAINER_BENCH_VENV") or ".venv-bench").absolute()
    python = peers.python_of(folder)
    others = needs_peers(options.workload, competitors)
    if others:
        python = peers.ensure(folder)
    surroundings = Surroundings(Path(sys.executable), python, options.threads)
    plan = Plan(
        surroundings,
        competitors,
        options.quick,
        options.patience,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    results: dict[str, list[report.Round]] = {key: [] for key in options.workload}
    about = {
        "schema": SCHEMA,
        "machine": machine(),
        "options": {"rounds": options.rounds, "quick": options.quick, "threads": options.threads},
        "versions": {name: versions(surroundings, name) for name in ("own", "peers") if name == "own" or others},
        "load": [],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for number in range(1, options.rounds + 1):
        for key in options.workload:
            plan.say(f"round {number} of {options.rounds}: ({key}) {title(key)}")
            about["load"].append(os.getloadavg()[0])
            results[key].append(plan.round(key, number))
            # After every part, so that an interrupted benchmark leaves its results so far.
            write(options.output, about, results)
    print(report.text(results, goals_of(about)))
    print(f"Written to {options.output}: results.json, table.md, summary.md, times.svg")
    return 0


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
        help=f"for a to d: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (default 5; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="small, one round: a smoke test without results")
    parser.add_argument(
        "--patience", type=int, default=2, help="repetitions if something else keeps the machine busy (default 2)"
    )
    parser.add_argument("--threads", type=_positive, help="for all libraries; default: each library's own choice")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder (default bench-results)")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.patience = 0 if options.quick else max(0, options.patience)
    return options


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
        one.environment == "peers" and key in one.workloads
        for one in competitors
        for key in workloads
        if key in TRAINING
    )
    return training or "f" in workloads


def goals_of(about: dict[str, Any]) -> Sequence[report.Goal]:
    """The goals to check; none in a quick round."""
    return () if about["options"]["quick"] else report.GOALS


def write(folder: Path, about: dict[str, Any], results: dict[str, list[report.Round]]) -> None:
    """Writes numbers, tables and picture of the results so far."""
    goals = [
        dict(
            zip(("goal", "measured", "verdict"), (str(goal), *report.judge(goal, results[goal.workload])), strict=True)
        )
        for goal in goals_of(about)
        if goal.workload in results
    ]
    (folder / "results.json").write_text(json.dumps({**about, "rounds": results, "goals": goals}, indent=1))
    (folder / "table.md").write_text(report.markdown(results, TITLES, goals_of(about)), encoding="utf-8")
    (folder / "summary.md").write_text(report.compact(results, TITLES), encoding="utf-8")
    plot.draw(results, TITLES, folder / "times.svg")


def machine() -> dict[str, Any]:
    """The machine that the results hold for, without anything that identifies its owner."""
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
    }


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
    sys.exit(main())

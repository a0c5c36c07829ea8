"""Starts the measured processes, all with the same environment."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
UNSET = (
    "OMP_",
    "MKL_",
    "GOMP_",
    "KMP_",
    "OPENBLAS_",
    "MXNET_",
    "XLA_",
    "JAX_",
    "KERAS_",
    "TORCH_",
    "PYTORCH_",
    "PYTHON",
)
"""Prefixes of variables that would affect a measurement; the caller's values are not passed on."""
TIMEOUT_SECONDS = 3600


class Failed(Exception):  # noqa: N818  a result, not a defect
    """A measured process ended with an error; the message is its last line."""


@dataclass(frozen=True)
class Surroundings:
    """The two environments, and the number of threads for all libraries."""

    own: Path
    """The Python of the project's environment."""
    peers: Path
    """The Python of the peers' environment."""
    threads: int | None = None
    """None: each library decides."""
    paths: tuple[Path, ...] = ()
    """Folders from which a measured process imports before anything that is installed."""

    def python(self, environment: str) -> str:
        """The interpreter of `own` or `peers`."""
        return str({"own": self.own, "peers": self.peers}[environment])

    def variables(self) -> dict[str, str]:
        """The environment variables of every measured process."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
        kept["PYTHONPATH"] = os.pathsep.join(map(str, (SCRIPTS, *self.paths)))
        if self.threads is not None:
            kept |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        return kept

    def limit(self) -> None:
        """In the new process: as many cores as threads, for libraries such as XLA that read no variable."""
        if self.threads is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.threads])


def run(command: Sequence[str], surroundings: Surroundings, *, cwd: Path) -> dict[str, float]:
    """Runs a command to its end. Raises Failed.

    `seconds` is wall-clock time, `cpu` the time on all cores, `others` how many cores were busy with something else.
    """
    before, busy = resource.getrusage(resource.RUSAGE_CHILDREN), busy_seconds()
    began = time.perf_counter()
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=surroundings.variables(),
        preexec_fn=surroundings.limit,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    seconds = time.perf_counter() - began
    after, busy = resource.getrusage(resource.RUSAGE_CHILDREN), busy_seconds() - busy
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Failed(lines[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "others": max(0.0, (busy - cpu) / seconds)}


def busy_seconds() -> float:
    """The time that the machine's cores have been busy since it started; 0 if the system does not report it (macOS)."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _waiting, *rest = map(
        int, path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def answer_of(
    module: str,
    job: Mapping[str, Any],
    surroundings: Surroundings,
    *,
    environment: str = "own",
    launcher: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs `python -m benchmark.<module>` with a job, in a folder that is deleted afterwards; returns its answer.

    `launcher` is a command that starts it as several processes, of which one answers.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        path = folder / "job.json"
        path.write_text(json.dumps({**job, "folder": name, "answer": str(folder / "answer.json")}), encoding="utf-8")
        command = [*launcher, surroundings.python(environment), "-m", f"benchmark.{module}", str(path)]
        measured = run(command, surroundings, cwd=folder)
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        return {**answer, "others": measured["others"]}

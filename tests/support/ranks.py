"""Starts the same program in several processes, as a user does: with mpirun."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SUPPORT = str(Path(__file__).parent)
TIMEOUT_SECONDS = 240


def mpirun() -> str:
    """The launcher of the environment that the tests run in, or one on the PATH."""
    own = Path(sys.executable).parent / "mpirun"
    return str(own) if own.exists() else shutil.which("mpirun") or "mpirun"


def is_missing() -> bool:
    """Whether there is no launcher, which on Linux would be a defect of the environment."""
    return sys.platform != "linux" and shutil.which(mpirun()) is None


def variables(**more: str) -> dict[str, str]:
    """The environment of the processes: one thread each, since the machine is small."""
    given = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([SUPPORT, given] if given else [SUPPORT])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def start(ranks: int, *arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts `python ARGUMENTS` as so many processes."""
    # Root, and more processes than processors, are what a container has; both have to be allowed.
    command = [mpirun(), "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    return subprocess.Popen(
        [*command, sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=variables(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    ranks: int, *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    process = start(ranks, *arguments, cwd=cwd, env=env)
    return finish(process)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Waits for the end; a job that hangs is killed with all its processes, and fails the test."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate()
        raise AssertionError(f"the job hangs:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def trainer(ranks: int, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`mpirun -n RANKS trainer ARGUMENTS`."""
    return run(ranks, "-m", "trainer", *arguments, cwd=cwd, env=env)


def alone(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, without a launcher."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=variables(**(env or {})), capture_output=True, text=True, timeout=120, check=False
    )


def said(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    """The lines on both outputs that are the program's own: mpirun adds remarks, between lines of dashes, and
    where processes leave while it still talks to them `[host:process] PMIX ERROR: …`."""
    lines, inside = [], False
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("-----"):
            inside = not inside
        elif not inside and line.strip() and not re.match(r"\[\S+:\d+\] PMIX ERROR", line):
            lines.append(line)
    return lines

"""The folder of a run: created after all checks, never shared by two runs."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from trainer.atomic import new_folder, remove_leftovers, shown, write_atomic, write_json
from trainer.catalog import registry
from trainer.config import options
from trainer.errors import TrainerError, UsageError, listed
from trainer.runs import checkpoint, names
from trainer.runs.schemas import RUN_SCHEMA
from trainer.runs.splits_file import write_split_rows

if TYPE_CHECKING:
    from trainer.run import Run
    from trainer.runs.checkpoint import Checkpoint

log = logging.getLogger("trainer")

CONFIG = "config.toml"
PLUGINS = "plugins.json"
RUN = names.RUN
LOCK = ".lock"

_held: dict[Path, int] = {}
"""The lock files that this process holds, by their run's folder. A lock ends with its process."""


def check_writable(runs_dir: Path) -> None:
    """Raises UsageError if a run folder could not be created later; leaves nothing behind."""
    existing = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, not a folder", where="--runs-dir", fix="Choose another place.")
    try:
        # os.access looks at permission bits only; a read-only disk shows up when you try to write.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{existing} cannot be written: {error.strerror}",
            where="--runs-dir",
            fix="Choose another folder, or pass --dry-run to write nothing.",
        ) from error


def folder_path(runs_dir: Path, task: str, name: str | None) -> Path:
    """The path for a new run: `runs/<task>/<name>`, or `runs/<task>/<time>-<id>`. Raises UsageError if it exists."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} cannot be a folder name", where="--name", fix="Use letters, digits, dots and dashes."
        )
    folder = runs_dir.absolute() / task / (name or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
    if folder.exists():
        raise UsageError(f"{folder} already exists", where="--name", fix="Choose another name.")
    return folder


def create(folder: Path, config: Mapping[str, Any], run: Run) -> None:
    """Creates the folder with its first files, complete or not at all, and locks it for this process.

    Raises UsageError if another run took the name in the meantime, or if the write fails. The run then has no folder,
    so it cannot touch the other run's.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as new:
            write_atomic(new / CONFIG, tomli_w.dumps(config))
            write_json(new / PLUGINS, plugins_of(run))
            write_run(new, run)
            write_split_rows(new, run.fingerprint)
            lock(folder, new)
    except BaseException as error:
        run.folder = None
        unlock(folder)
        _remove_empty(folder)
        if isinstance(error, OSError):
            raise UsageError(f"the run's folder {folder} cannot be created: {error.strerror or error}") from error
        raise


def open_again(folder: Path, config: Mapping[str, Any], run: Run, resume_from: Checkpoint | None) -> None:
    """Reuses the folder of an earlier run, which this process has locked; starting over deletes what that run wrote.

    Checkpoints newer than `resume_from` are set aside: the run takes another course from there. Raises UsageError if
    the write fails.
    """
    try:
        if resume_from is not None:
            newer = checkpoint.set_aside(folder, resume_from)
            if newer:
                log.warning(
                    "newer than %s and no longer part of the run: %s, moved to %s",
                    resume_from.folder.name,
                    listed(path.name for path in newer),
                    shown(folder / checkpoint.FOLDER / checkpoint.ABANDONED),
                )
        else:
            for path in folder.iterdir():
                if path.name not in (CONFIG, PLUGINS, LOCK):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        remove_leftovers(folder)
        write_atomic(folder / CONFIG, tomli_w.dumps(config))
        write_json(folder / PLUGINS, plugins_of(run))
        write_run(folder, run)
        write_split_rows(folder, run.fingerprint)
    except OSError as error:
        raise UsageError(f"the run's folder {folder} cannot be written: {error.strerror or error}") from error


def lock(folder: Path, place: Path | None = None) -> None:
    """Locks a run's folder (currently at `place`) for this process, until `unlock` or the end of the process.

    Raises UsageError if a run is using it, and FolderGone if there is no such folder. The kernel releases the lock when
    the process ends in any way, so a crashed run never blocks its folder. Worker processes, which may outlive a crash,
    do not inherit it.
    """
    message = UsageError(f"a run is using {folder}", fix="Wait until it ends, or interrupt it with Ctrl-C.")
    if folder in _held:
        raise message
    try:
        descriptor = os.open((place or folder) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise _gone(folder) from None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise message from None
        raise
    _held[folder] = descriptor


class FolderGone(TrainerError):  # noqa: N818  it says what it is
    """A run's folder was deleted or moved while the run was using it."""


def check_present(folder: Path) -> None:
    """Raises FolderGone if the folder that this process has locked is no longer there under its name."""
    if folder in _held and _is_gone(folder):
        raise _gone(folder)


def gone_or(error: BaseException, folder: Path | None) -> BaseException:
    """FolderGone if that is why a file could not be read or written, otherwise the error itself."""
    about_files = isinstance(error, (OSError, UsageError, checkpoint.CheckpointError))
    return _gone(folder) if about_files and folder is not None and _is_gone(folder) else error


@contextmanager
def expected(folder: Path) -> Iterator[None]:
    """Around code that reads or writes a run's folder, which must stay there. Raises FolderGone if it does not."""
    try:
        yield
    except (OSError, TrainerError) as error:
        found = gone_or(error, folder)
        if found is error:
            raise
        raise found from error


def _is_gone(folder: Path) -> bool:
    """Whether a folder is no longer there, or is another one than the one that this process has locked."""
    descriptor = _held.get(folder)
    if descriptor is None:
        return not folder.is_dir()
    try:
        return not os.path.samestat((folder / LOCK).stat(), os.fstat(descriptor))
    except OSError:
        return True


def _gone(folder: Path) -> FolderGone:
    return FolderGone(f"the run's folder {folder} is gone: it was deleted or moved while the run was using it")


def unlock(folder: Path) -> None:
    """Releases the folder's lock, if this process holds it."""
    descriptor = _held.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises UsageError if a run is using it, and FolderGone if it is or gets lost."""
    lock(folder)
    try:
        with expected(folder):
            yield
    finally:
        unlock(folder)


def remove_folder(folder: Path) -> None:
    """Deletes a run's folder, and the two folders above it if that leaves them empty."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Deletes the two folders above a run's folder if they are empty."""
    for above in (folder.parent, folder.parent.parent):
        try:
            above.rmdir()
        except OSError:
            return


def write_run(folder: Path, run: Run) -> None:
    """Writes `run.json`: the status, the decisions, and the cost of each plugin."""
    write_json(folder / RUN, record_of(run))


def record_of(run: Run) -> dict[str, Any]:
    """The run as JSON values: what `run.json` holds."""
    return {
        "schema": RUN_SCHEMA,
        "task": run.task.name,
        "status": run.status,
        "reason": run.reason,
        "epoch": run.epoch,
        "step": run.step,
        "updates": run.updates,
        "started": run.started,
        "ended": run.ended,
        "seconds": run.seconds,
        "metrics": json_metrics(run.metrics),
        "headline": list(run.task.headline),
        "directions": {name: better for name in run.metrics if (better := run.direction(name)) is not None},
        "threshold": None if run.threshold is None else float(run.threshold),
        "decisions": [asdict(decision) for decision in run.decisions],
        "ledger": run.ledger(),
        "process": this_process(),
        "step_kind": run.step_kind,
        "step_why": run.step_why,
        "model_note": run.model_note,
        "devices": [str(context) for context in run.contexts],
        "computing": {"onednn": run.settings.onednn, "threads": run.settings.threads},
        "processes": run.processes.size,
        "files": {option: [asdict(file) for file in files] for option, files in run.files.items()},
        "data": None if run.fingerprint is None else run.fingerprint.to_json(),
        "versions": versions(),
    }


def json_metrics(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON values; NaN and infinity, which JSON lacks, become null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def versions() -> dict[str, str]:
    """Versions of the packages that can change a result's bits."""
    packages = ("gluon-trainer", "mxnet", "numpy")
    return {**{name: _version(name) for name in packages}, "python": sys.version.split()[0]}


@cache
def _version(package: str) -> str:
    """The version of an installed package, read without the rest of its metadata, such as a long description.

    Raises PackageNotFoundError.
    """
    head = (distribution(package).read_text("METADATA") or "").partition("\n\n")[0]
    found = re.search(r"^Version:[ \t]*(\S+)[ \t]*$", head, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else version(package)


def _as_json(value: Any) -> Any:
    """An option's value as JSON; infinity and NaN, which JSON lacks, become text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def this_process() -> dict[str, Any]:
    """The ID of this process, its start in seconds since 1970 (IDs are reused), and the host."""
    return {"pid": os.getpid(), "started": _start_of_process(), "host": socket.gethostname()}


@cache
def _start_of_process() -> float:
    """When this process started, in seconds since 1970, as psutil gives it: psutil itself takes a while to import."""
    try:
        # The name of the program, in parentheses, may contain spaces and parentheses.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        booted = re.search(rb"^btime (\d+)$", Path("/proc/stat").read_bytes(), re.MULTILINE)
        assert booted is not None  # noqa: S101  caught below
        return int(fields[19]) / os.sysconf("SC_CLK_TCK") + int(booted[1])
    except (OSError, ValueError, IndexError, AssertionError):
        import psutil

        return float(psutil.Process().create_time())


def plugins_of(run: Run) -> list[dict[str, Any]]:
    """A run's plugins: name, class, package and version, phase, options."""
    return [
        {
            "name": plugin.name,
            **registry.origin_of(plugin),
            "phase": plugin.phase.name,
            "on_error": plugin.on_error,
            "options": {name: _as_json(value) for name, value in options.to_toml(plugin).items()},
        }
        for plugin in run.plugins
    ]

"""The folder of a run: made once everything has been checked, never shared by two runs."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from trainer import options, registry
from trainer.errors import UsageError
from trainer.files import flush_folder, write_atomic, write_json

if TYPE_CHECKING:
    from trainer.run import Run

CONFIG = "config.toml"
PLUGINS = "plugins.json"
RUN = "run.json"


def check_writable(runs_dir: Path) -> None:
    """Raises UsageError where a run folder could not be made later; leaves nothing behind."""
    existing = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, not a folder", where="--runs-dir", fix="Choose another place.")
    try:
        # Asking os.access would believe the permission bits alone; a read-only disk refuses only the attempt.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{existing} cannot be written: {error.strerror}",
            where="--runs-dir",
            fix="Choose another folder, or pass --dry-run to write nothing.",
        ) from error


def folder_path(runs_dir: Path, task: str, name: str | None) -> Path:
    """Where the run is to live: `runs/<task>/<name>`, or `runs/<task>/<time>-<id>`. Raises UsageError if it exists."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} cannot be a folder's name", where="--name", fix="Use letters, digits, dots and dashes."
        )
    folder = runs_dir.absolute() / task / (name or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
    if folder.exists():
        raise UsageError(f"there is a run in {folder} already", where="--name", fix="Choose another name.")
    return folder


def create(folder: Path, config: Mapping[str, Any], run: Run) -> None:
    """Makes the folder with its first files, complete or not at all.

    Raises UsageError where another run took the name in the meantime, or the disk refuses; the run then has no folder,
    so that whatever it does next, it leaves the other one's alone.
    """
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        write_atomic(temporary / CONFIG, tomli_w.dumps(config))
        write_json(temporary / PLUGINS, _plugins(run))
        write_run(temporary, run)
        temporary.rename(folder)
    except BaseException as error:
        run.folder = None
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise UsageError(f"the run's folder {folder} cannot be made: {error.strerror or error}") from error
        raise
    flush_folder(folder.parent)


def remove(folder: Path) -> None:
    """Takes a run folder away again, and the folders above it that are empty by that."""
    shutil.rmtree(folder, ignore_errors=True)
    for above in (folder.parent, folder.parent.parent):
        try:
            above.rmdir()
        except OSError:
            return


def write_run(folder: Path, run: Run) -> None:
    """`run.json`: the status, what was decided, and what each plugin cost."""
    step = run.engine_step
    record = {
        "schema": 1,
        "task": run.task.name,
        **run.record(),
        "pid": os.getpid(),
        "step_kind": step.kind if step else None,
        "step_why": step.why if step else "",
        "devices": [str(context) for context in run.contexts],
        "versions": {
            "gluon-trainer": version("gluon-trainer"),
            "mxnet": version("mxnet"),
            "numpy": version("numpy"),
            "python": sys.version.split()[0],
        },
    }
    write_json(folder / RUN, record)


def _plugins(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "name": plugin.name,
            **registry.origin_of(plugin),
            "phase": plugin.phase.name,
            "on_error": plugin.on_error,
            "options": options.to_toml(plugin),
        }
        for plugin in run.dispatch.plugins
    ]

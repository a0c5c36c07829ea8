"""Checkpoints on disk: written completely or not at all, and checked when they are read.

`<run>/checkpoints/step-<n>/` (within an epoch) or `step-<n>-epoch-<m>/` (after the end of epoch m) holds `arrays.npz`,
`state.json` and, written last, `manifest.json` with the sizes and the SHA-256 of the two. Nothing is pickled, and no
name in them is used as a path, so reading one can neither run code nor leave the folder. `trainer.runs.archive` writes
the arrays; `trainer.runs.state` knows what a state consists of.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from trainer.atomic import digest, hidden_name, new_folder, write_atomic, write_json
from trainer.errors import TrainerError, first_line, listed
from trainer.reading import DEEPEST, Unreadable, checked, is_deep, read_json
from trainer.runs import archive
from trainer.runs.schemas import Manifest, State

SCHEMA = 5
"""Version 2 renamed parts of the state of two built-in plugins; version 3 has the losses of kept outputs; version 5
what a run has chosen to make of its predictions."""
FOLDER = "checkpoints"
ABANDONED = "abandoned"
"""Within it, the checkpoints of a branch that was left by resuming from an older one; no command uses them."""
ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"

NAME = re.compile(r"(step|failed)-(\d+)(-epoch-\d+)?")
"""`failed-<n>` is the state in the middle of a step that failed: its weights are good, but a run resumed from it
differs from one that never failed."""


class CheckpointError(TrainerError):
    """A checkpoint that cannot be used; the message says which and why."""


class NotWritten(TrainerError):  # noqa: N818  it says what it is
    """The disk refused a checkpoint; the message says why. A later attempt may succeed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was read and whose files have the right sizes."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The number of the last step before it."""
        return int(self.manifest["step"])

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The newest metrics when it was written; None for a value that was not finite."""
        metrics: Mapping[str, float | None] = self.manifest["metrics"]
        return metrics

    @property
    def is_exact(self) -> bool:
        """Whether a run resumed from it equals one that never stopped."""
        return self.folder.name.startswith("step-")

    @property
    def is_epoch_end(self) -> bool:
        """Whether it was written after the end of an epoch, so that its metrics belong to its weights."""
        return "-epoch-" in self.folder.name

    def check(self) -> None:
        """Checks every byte and every field, without reading the arrays into memory. Raises CheckpointError."""
        self._opened()

    def read(self, before: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
        """The state, with its arrays, after checking every byte and every field. Raises CheckpointError.

        `before` gets the state with a `Stored` in place of each array: it can refuse the state before memory is taken.
        """
        plain, arrays = self._opened()
        try:
            if before is not None:
                before(archive.joined(plain, arrays.described))
            state: dict[str, Any] = archive.joined(plain, arrays.load())
        except Unreadable as error:
            raise CheckpointError(f"{self.folder}: {error}") from error
        return state

    def _opened(self) -> tuple[Any, archive.StoredArrays]:
        """The content of the two files, checked; the arrays are not read yet."""
        try:
            for name, about in self.manifest["files"].items():
                if digest(self.folder / name) != about["sha256"]:
                    raise Unreadable(f"{name} is damaged: its checksum differs")
            plain = read_json(self.folder / STATE)
            arrays = archive.StoredArrays(self.folder / ARRAYS)
            named = archive.names_in(plain)
            if named != arrays.described.keys():
                others = sorted(named ^ arrays.described.keys())
                raise Unreadable(f"{ARRAYS} and {STATE} do not hold the same arrays: {listed(others, 3)}")
            self._check(archive.joined(plain, arrays.described))
        except Unreadable as error:
            raise CheckpointError(f"{self.folder}: {error}") from error
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.folder}: {STATE} is damaged: {first_line(error)}") from error
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be read: {error.strerror or error}") from error
        return plain, arrays

    def _check(self, state: Any) -> None:
        try:
            checked(State, state)
        except Unreadable as error:
            raise Unreadable(f"{STATE} is damaged: {error}") from error
        if (state["run"]["step"], state["run"]["epoch"]) != (self.step, self.manifest["epoch"]):
            raise Unreadable(f"{STATE} is of another step than {MANIFEST}")


def write(run_folder: Path, name: str, state: Mapping[str, Any], about: Mapping[str, Any]) -> Checkpoint:
    """Writes a checkpoint; one of the same name is replaced once the new one is complete.

    `about` goes into the manifest, which can be read without the arrays: `step`, `epoch`, `reason`, `metrics`.
    Raises NotWritten if the disk refuses it, and TrainerError if a value is neither JSON nor an array; then nothing is
    left on disk.
    """
    assert NAME.fullmatch(name)  # noqa: S101
    arrays: dict[str, NDArray[Any]] = {}
    plain = archive.split(state, "", arrays)
    if is_deep(plain):
        raise TrainerError(f"the state is nested more than {DEEPEST} levels deep; a plugin's state_dict may be flatter")
    folder = run_folder / FOLDER / name
    try:
        folder.parent.mkdir(exist_ok=True)
        with new_folder(folder, replace=True) as new:
            text = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
            write_atomic(new / STATE, text)
            files = {
                ARRAYS: archive.write_arrays(new / ARRAYS, arrays),
                STATE: {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()},
            }
            manifest = {"schema": SCHEMA, "time": time.time(), **about, "files": files}
            write_json(new / MANIFEST, manifest)
    except OSError as error:
        reason = error.strerror or error
        raise NotWritten(f"the checkpoint of step {about['step']} cannot be written: {reason}") from error
    return Checkpoint(folder, manifest)


def find(run_folder: Path) -> Iterator[Checkpoint | CheckpointError]:
    """Every checkpoint of a run, the newest first; for one that cannot be used, the error that says why.

    Reads only the manifests; `Checkpoint.read` checks the rest.
    """
    for folder in _newest_first(run_folder):
        try:
            yield opened(folder)
        except CheckpointError as error:
            yield error


def set_aside(run_folder: Path, chosen: Checkpoint) -> list[Path]:
    """Moves the checkpoints newer than `chosen` to `abandoned/`, and returns them by their old paths.

    A run that resumes from `chosen` cuts its logs back to it. From then on the newer ones fit the run no more, and none
    of them may be the one that the next resume starts from.
    """
    gone = []
    # The newest first: after a kill in between, what is left still fits the logs.
    for folder in _newest_first(run_folder):
        if _age(folder) <= _age(chosen.folder):
            break
        target = run_folder / FOLDER / ABANDONED / folder.name
        target.parent.mkdir(exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        folder.rename(target)
        gone.append(folder)
    return gone


def _newest_first(run_folder: Path) -> list[Path]:
    named = [folder for folder in _children(run_folder / FOLDER) if NAME.fullmatch(folder.name)]
    return sorted(named, key=_age, reverse=True)


def _age(folder: Path) -> tuple[int, str, str]:
    """At the same step, an exact checkpoint counts as newer, and the one after the epoch's end as the newest."""
    match = NAME.fullmatch(folder.name)
    assert match is not None  # noqa: S101
    return int(match[2]), match[1], match[3] or ""


def complete_checkpoints(run_folder: Path) -> list[Checkpoint]:
    """The checkpoints that can be used according to their manifests, the newest first."""
    return [found for found in find(run_folder) if isinstance(found, Checkpoint)]


def remove_checkpoint(checkpoint: Checkpoint) -> None:
    """Deletes a checkpoint. It is renamed first, so that a half-deleted one is never mistaken for a whole one."""
    gone = hidden_name(checkpoint.folder)
    with suppress(OSError):
        checkpoint.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def opened(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises CheckpointError."""
    try:
        value = read_json(folder / MANIFEST)
        version = value.get("schema") if isinstance(value, dict) else None
        if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA:
            newer = "a newer" if version > SCHEMA else "another"
            raise CheckpointError(f"{folder} was written by {newer} version of this program")
        manifest = checked(Manifest, value)
        # The names are constants, never taken from the manifest, which must not lead to another file.
        if version != SCHEMA or set(manifest.files) != {ARRAYS, STATE}:
            raise Unreadable("it is not a checkpoint's")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not complete: it has no {MANIFEST}") from None
    except Unreadable as error:
        raise CheckpointError(f"{folder}: {MANIFEST} is damaged: {error}") from error
    for name, size in ((name, entry.bytes) for name, entry in manifest.files.items()):
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            raise CheckpointError(f"{folder}: {name} is damaged: it has {found or 'no'} bytes instead of {size}")
    return Checkpoint(folder, value)

"""`model.json` describes a model folder. It is checked before anything else in the folder is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.atomic import digest
from trainer.errors import UsageError

SCHEMA = 1
FOLDER = "model"
ABOUT = "model.json"
SYMBOL = "model-symbol.json"
PARAMETERS = "model-0000.params"
"""The names that MXNet's loaders expect for the prefix `model` and epoch 0."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """JSON values only; keys that a newer version has added to the same schema are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class FileEntry(_Part):
    """A file of the folder."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class InputEntry(_Part):
    """An input of the net; `shape` is one row's, without the row axis."""

    name: Annotated[str, Field(min_length=1)]
    shape: list[Annotated[int, Field(ge=0)]]
    dtype: Literal["float32", "float64", "float16", "int8", "uint8", "int32", "int64"]


class TaskEntry(_Part):
    """The trained task: the name of its entry point, and its options as in a TOML file."""

    name: str
    options: dict[str, Any]


class Thresholds(_Part):
    """The given decision threshold, and the tuned one that replaces it, if any."""

    given: Annotated[float, Field(strict=False)]
    tuned: Annotated[float, Field(strict=False)] | None = None


class About(_Part):
    """The whole of `model.json`."""

    schema_: Annotated[int, Field(alias="schema")]
    task: TaskEntry
    inputs: Annotated[list[InputEntry], Field(min_length=1)]
    outputs: Annotated[int, Field(ge=1)]
    """How many arrays the net returns."""
    symbol: bool
    """Whether there is a symbol; without one the task's code has to build the net."""
    symbol_why: str = ""
    """Why there is no symbol."""
    batch_size: Annotated[int, Field(ge=1)]
    """Rows per batch."""
    threshold: Thresholds | None = None
    info: dict[str, Any]
    """What the task's `model_info` returned."""
    metrics: dict[str, Annotated[float, Field(strict=False)] | None]
    card: dict[str, Any]
    seed: int
    epoch: int
    step: int
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @property
    def names(self) -> tuple[str, ...]:
        """The files beside `model.json`."""
        return (SYMBOL, PARAMETERS) if self.symbol else (PARAMETERS,)


def read(folder: Path) -> About:
    """Checks a model folder, including checksums. Raises UsageError if it is damaged or of another version."""
    where = str(folder / ABOUT)
    try:
        value = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a model folder: it has no {ABOUT}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"it cannot be read: {error}", where=where) from error
    version = value.get("schema") if isinstance(value, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise UsageError("it was written by a newer version of this program", where=where, fix="Update gluon-trainer.")
    if version != SCHEMA:
        raise UsageError("it does not describe a model", where=where)
    try:
        about = About.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"it is damaged: {place}: {first['msg']}", where=where) from error
    if set(about.files) != set(about.names):
        raise UsageError(f"it is damaged: its files are {sorted(about.files)}", where=where)
    # Names come from this module, never from the file, which must not point outside the folder.
    for name in about.names:
        _check(folder / name, about.files[name])
    return about


def _check(path: Path, entry: FileEntry) -> None:
    try:
        found = path.stat().st_size
        if found != entry.bytes:
            raise UsageError(f"it is damaged: it has {found} bytes instead of {entry.bytes}", where=str(path))
        if digest(path) != entry.sha256:
            raise UsageError("it is damaged: its checksum does not match", where=str(path))
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error

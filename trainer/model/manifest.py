"""`model.json` describes a model folder. It is checked before anything else in the folder is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.atomic import digest
from trainer.errors import UsageError, listed
from trainer.model.info_tables import file_of
from trainer.reading import Unreadable, checked, read_json

SCHEMA = 2
WITHOUT_DECISIONS = 1
"""The version before, which has neither a calibrator nor rules."""
FOLDER = "model"
ABOUT = "model.json"
SYMBOL = "model-symbol.json"
PARAMETERS = "model-0000.params"
"""The names that MXNet's loaders expect for the prefix `model` and epoch 0."""

Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """JSON values only; keys that a newer version has added to the same schema are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class FileEntry(_Part):
    """A file of the folder."""

    bytes: Count
    sha256: Sha256


class InputEntry(_Part):
    """An input of the net; `shape` is one row's, without the row axis."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=31)]
    dtype: Literal["float32", "float64", "float16", "int8", "uint8", "int32", "int64"]


class TaskEntry(_Part):
    """The trained task: the name of its entry point, and its options as in a TOML file."""

    name: str
    options: dict[str, Any]


class Thresholds(_Part):
    """The given decision threshold, and the tuned one that replaces it, if any."""

    given: Number
    tuned: Number | None = None


class About(_Part):
    """The whole of `model.json`."""

    schema_: Annotated[int, Field(alias="schema")]
    task: TaskEntry
    inputs: Annotated[list[InputEntry], Field(min_length=1)]
    outputs: Annotated[int, Field(ge=1, lt=2**31)]
    """How many arrays the net returns."""
    symbol: bool
    """Whether there is a symbol; without one the task's code has to build the net."""
    symbol_why: str = ""
    """Why there is no symbol."""
    batch_size: Annotated[int, Field(ge=1, lt=2**31)]
    """Rows per batch."""
    threshold: Thresholds | None = None
    calibrator: dict[str, Any] | None
    """What makes the predicted probabilities calibrated ones (`trainer.decisions`)."""
    rules: list[dict[str, Any]]
    """What is said about a row beside its prediction."""
    info: dict[str, Any]
    """What the task's `model_info` returned, without its tables."""
    tables: list[Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,30}$")]] = []
    """The names of its tables, which are files of their own."""
    metrics: dict[str, Number | None]
    card: dict[str, Any]
    seed: int
    epoch: Count
    step: Count
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @property
    def names(self) -> tuple[str, ...]:
        """The files beside `model.json`."""
        files = (SYMBOL, PARAMETERS) if self.symbol else (PARAMETERS,)
        return (*files, *map(file_of, self.tables))


def read(folder: Path) -> About:
    """Checks a model folder, including checksums. Raises UsageError if it is damaged or of another version."""
    where = str(folder / ABOUT)
    try:
        value = read_json(folder / ABOUT)
        version = value.get("schema") if isinstance(value, dict) else None
        if isinstance(version, int) and version > SCHEMA:
            raise UsageError(
                "it was written by a newer version of this program", where=where, fix="Update gluon-trainer."
            )
        if version == WITHOUT_DECISIONS and not isinstance(version, bool):
            value = {**value, "schema": SCHEMA, "calibrator": None, "rules": []}
            version = SCHEMA
        if version != SCHEMA or isinstance(version, bool):
            raise UsageError("it does not describe a model", where=where)
        about = checked(About, value)
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a model folder: it has no {ABOUT}") from None
    except Unreadable as error:
        raise UsageError(f"it is damaged: {error}", where=where) from error
    if set(about.files) != set(about.names):
        raise UsageError(f"it is damaged: its files are {listed(sorted(about.files), 5)}", where=where)
    # Names come from this program, never from the file, which must not point outside the folder.
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

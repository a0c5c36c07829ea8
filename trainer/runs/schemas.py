"""The schemas of what a run leaves on disk, which is checked before anything in it is used.

Keys that are not listed are ignored: a newer version may have added them without changing what the others mean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.runs.archive import Stored

RUN_SCHEMA = 1
"""The version of `run.json`."""
LAST_SECOND = 253_402_300_799
"""The end of the year 9999; later times are not dates."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Anyhow = float
"""A number that may be NaN or infinite."""
Time = Annotated[float, Field(ge=0, le=LAST_SECOND)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Direction = Literal["max", "min"]
Digits = Annotated[str, Field(pattern=r"^\d{1,18}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, arbitrary_types_allowed=True)


class _Decision(_Part):
    model_config = ConfigDict(extra="forbid", strict=True)

    plugin: str
    action: Literal["stop", "end_epoch", "save", "evaluate", "skip_update", "disable", "restore"]
    reason: str
    epoch: Count
    step: Count
    count: Count
    last_step: Count


class _Cost(_Part):
    plugin: str
    event: str
    calls: Count
    seconds: Number
    waiting: Number


class _Process(_Part):
    pid: Count
    started: Number
    host: str


class _Version(_Part):
    name: str
    version: str = ""


class _FileRows(_Part):
    path: str
    rows: Count


class _Table(_Part):
    rows: Count
    columns: dict[str, str]


class _SplitRows(_Part):
    table: str
    rows: Count
    checksum: str | None


class _Data(_Part):
    version: Count
    tables: dict[str, _Table]
    splits: dict[str, _SplitRows]


class RunRecord(_Part):
    """`run.json`."""

    task: str
    status: str
    reason: str | None = None
    epoch: Count = 0
    step: Count = 0
    updates: Count = 0
    started: Time | None = None
    ended: Time | None = None
    seconds: Number | None = None
    metrics: dict[str, Number | None] = {}
    headline: list[str] = []
    """The metrics that the task names first."""
    directions: dict[str, Direction] = {}
    threshold: Number | None = None
    decisions: list[_Decision] = []
    ledger: list[_Cost] = []
    process: _Process | None = None
    step_kind: str | None = None
    step_why: str | None = None
    model_note: str | None = None
    devices: list[str] = []
    computing: dict[str, Any] = {}
    processes: Count = 1
    files: dict[str, list[_FileRows]] = {}
    data: _Data | None = None
    versions: dict[str, str] = {}


class PluginEntry(_Part):
    """An entry of `plugins.json`."""

    name: str
    distribution: str | None = None
    version: str | None = None
    phase: str | None = None
    options: dict[str, Any] = {}


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class _File(_Part):
    bytes: Count
    sha256: Sha256


class Manifest(_Part):
    """A checkpoint's `manifest.json`."""

    time: Time
    step: Count
    epoch: Count
    reason: str
    metrics: dict[str, Number | None]
    files: dict[str, _File]
    plugins: list[str] = []


class _Run(_Part):
    epoch: Count
    step: Count
    step_in_epoch: Count
    updates: Count
    epoch_rows: Count
    within_epoch: bool
    threshold: Anyhow | None
    threshold_reason: str
    calibrator: dict[str, Any] | None
    rules: dict[str, dict[str, Any]]
    started: Time | None
    seconds: Number
    seeded_at: Count | None
    ledger: list[_Cost]
    metrics: dict[str, Anyhow]
    directions: dict[str, Direction]
    times_logged: dict[str, Count]
    epoch_metrics: dict[str, Anyhow]
    history: list[dict[str, Anyhow]]
    requests: dict[Literal["stop", "end_epoch", "save", "evaluate", "skip_update"], str]
    decisions: list[_Decision]


class _Kept(_Part):
    context: str
    rows: Count
    total: Anyhow


class _Loss(_Part):
    newest: Anyhow
    sums: list[Stored]
    contexts: list[str]
    additions: Count
    total: Anyhow
    kept: list[_Kept]


class _Evaluation(_Part):
    split: str
    predictions: Stored
    labels: Stored
    weights: Stored | None
    loss: Anyhow


class _Sampled(_Evaluation):
    """An evaluation whose arrays took more memory than allowed: they are those of a sample."""

    rows: Count
    size: Count
    allowed: Count


class _Changes(_Part):
    settings: dict[str, list[str | float]] = {}
    late: list[str] = []
    split: list[Count] = []


class _Optimizer(_Part):
    name: str
    groups: list[list[str]]
    states: list[Any]
    attributes: dict[str, Any]
    updates: dict[Digits, Count]
    changes: _Changes = _Changes()


class _MadeBy(_Part):
    versions: dict[str, str]
    plugins: list[_Version]
    config: dict[str, Any] = {}


class State(_Part):
    """A checkpoint's state, with the description of each array in its place."""

    run: _Run
    rows: Count | None
    split_version: Count | None
    data: _Data | None
    loss: _Loss
    evaluation: _Evaluation | _Sampled | None
    parameters: dict[str, Stored]
    optimizer: _Optimizer
    plugins: dict[str, Any]
    made_by: _MadeBy

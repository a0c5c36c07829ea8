"""Run: all state of one training, what plugins may ask of it, and the record of what was decided."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError, UsageError, did_you_mean, listed
from trainer.metrics import direction_of

if TYPE_CHECKING:
    from trainer.config.settings import Settings
    from trainer.data.batches import Batch, Batches
    from trainer.dispatch import Dispatch
    from trainer.metrics.base import Direction, Metric
    from trainer.mxnet import Array, Context
    from trainer.processes import Processes
    from trainer.step import Gradients, Step
    from trainer.task import Task

Status = Literal["created", "running", "finished", "stopped", "interrupted", "failed"]
Action = Literal["stop", "end_epoch", "save", "evaluate", "skip_update", "disable", "restore"]


def _alone() -> Processes:
    from trainer.processes.single import Processes

    return Processes()


@dataclass(slots=True)
class Decision:
    """One line of the decision record: who asked for what, why, and when.

    The same request for the same reason counts up instead of adding a line, so a plugin that asks in every batch costs
    one line; `epoch` and `step` are those of the first time, `last_step` that of the last.
    """

    plugin: str
    action: Action
    reason: str
    epoch: int
    step: int
    count: int
    last_step: int


@dataclass(slots=True)
class Evaluation:
    """What a net said about one split, on the host: the source of every figure and of threshold tuning.

    `predictions` is what the task makes of the net's outputs, (rows, …); `labels` is (rows, …); `weights` (rows,) or
    None; `loss` the mean over the rows (weighted, where there are weights). Where the task sets `collect` to False, for
    splits whose predictions do not fit in memory, the three arrays are empty.
    """

    split: str
    predictions: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any] | None
    loss: float


@dataclass
class Run:
    """One training from its first event to its last. Plugins read its attributes and call its methods."""

    task: Task
    settings: Settings
    dispatch: Dispatch
    contexts: Sequence[Context]
    folder: Path | None = None
    """Where the run writes; None where nothing is to be written, and in every process but the first."""
    processes: Processes = field(default_factory=_alone)
    """The processes that train this run together: `rank` of this one, `size` of them all; sums over them."""

    net: Any = None
    optimizer: Any = None
    engine_step: Step | None = None
    train: Batches | None = None
    validation: Batches | None = None
    test: Batches | None = None

    status: Status = "created"
    reason: str = ""
    """Why the run was stopped, interrupted or failed."""
    exception: BaseException | None = None
    model_note: str = ""
    """Why the run's model folder lacks something, or is not there at all."""
    started: float = field(default_factory=time.time)
    """Seconds since 1970, UTC."""
    ended: float | None = None
    resumed: bool = False
    """Whether the run goes on from a checkpoint: every plugin's state was loaded before `setup` fires, and its files
    have to be cut back to that state."""

    epoch: int = 0
    """The number of the current epoch, from 1; 0 before the first."""
    step: int = 0
    """The number of the current batch, counted from 1 over the whole run; 0 before the first."""
    updates: int = 0
    """How often the weights were updated: `step`, less what was skipped."""
    batch: Batch | None = None
    split: str = "train"
    evaluation: Evaluation | None = None
    """The newest evaluation, of validation or test."""
    threshold: float | None = None
    """The decision threshold, for tasks that have one: the task's own until a plugin tunes it."""
    within_epoch: bool = False
    """Whether an epoch is under way: from `epoch_begin` until `epoch_end` is over."""
    epoch_rows: int = 0
    """How many rows the current epoch has trained on so far."""
    seeded_at: int | None = None
    """For the engine: the step before which MXNet's generator was last seeded, in the current epoch."""
    states_kept: Mapping[str, Any] = field(default_factory=dict)
    """For the engine: saved states of plugins that the run does not use, which go into its checkpoints as they are."""

    metrics: dict[str, float] = field(default_factory=dict)
    """The newest value of everything that was logged, by name: `validation/f1`."""
    evaluation_weights: Sequence[Array] | None = None
    """What evaluations use in place of `moving_weights`, array by array, where a plugin gives something; they are
    exchanged before `evaluate_begin` and back after `evaluate_end`."""
    measures: Sequence[Metric] = ()
    """The task's metrics."""
    times_logged: dict[str, int] = field(default_factory=dict)
    """How often each name was logged: whether a figure is new."""
    directions: dict[str, Direction] = field(default_factory=dict)
    """Whether more (`max`) or less (`min`) is better, for figures that plugins log and that have a direction."""
    step_metrics: dict[str, float] = field(default_factory=dict)
    """What was logged during the current batch."""
    epoch_metrics: dict[str, float] = field(default_factory=dict)
    """What was logged in the current epoch, batches included (their newest value)."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: `epoch`, `step`, and all that was logged in it."""
    decisions: list[Decision] = field(default_factory=list)

    notes: list[str] = field(default_factory=list)
    """Lines that plugins want a person to read when the run is over; its summary ends with them."""
    acting: str = "engine"
    """Who is being called: the name of a plugin, or `engine`."""

    _requests: dict[str, str] = field(default_factory=dict)
    _requesters: dict[str, list[str]] = field(default_factory=dict)
    _decided: dict[tuple[str, Action, str], Decision] = field(default_factory=dict)
    _in_batch: bool = False
    _entry: dict[str, float] | None = None
    _epoch_began: int = 0
    _began: float = field(default_factory=time.time)
    _seconds_before: float = 0.0

    # ---- what plugins ask for -------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ends the run after the current batch; its epoch is still evaluated and has its `epoch_end`."""
        self._request("stop", reason)

    def end_epoch(self, reason: str) -> None:
        """Ends the epoch after the current batch; the run goes on with its evaluation and the next epoch."""
        self._request("end_epoch", reason)

    def save(self, reason: str) -> None:
        """Writes a checkpoint after the current batch, or after the epoch's end where no batch is under way."""
        self._request("save", reason)

    def evaluate(self, reason: str) -> None:
        """Evaluates the validation split after the current batch; without such a split nothing happens."""
        self._request("evaluate", reason)

    def skip_update(self, reason: str) -> None:
        """Leaves the weights as they are in the current batch; for `batch_begin` and `backward_end`."""
        if not self._in_batch:
            raise TrainerError("skip_update has a meaning only in on_batch_begin and on_backward_end")
        self._request("skip_update", reason)

    def _request(self, action: Action, reason: str) -> None:
        if not isinstance(reason, str) or not reason:
            raise TrainerError(f"a request to {action.replace('_', ' ')} needs its reason, a sentence as a string")
        if action not in self._requests:
            self._requests[action], self._requesters[action] = reason, []
        if self.acting not in self._requesters.setdefault(action, []):
            self._requesters[action].append(self.acting)
        self.decide(self.acting, action, reason)

    def take_over(self, action: Action, reason: str, requesters: Sequence[str]) -> None:
        """For the engine: a request that another process has, under the names of those who asked there."""
        acting = self.acting
        for self.acting in requesters:
            self._request(action, reason)
        self.acting = acting

    def requested(self, action: Action) -> str | None:
        """The reason of a request that is still open, or None."""
        return self._requests.get(action)

    def requesters(self, action: Action) -> list[str]:
        """Who asked for what is, or was newly, open: names of plugins, or `engine`; the first to ask comes first."""
        return self._requesters.get(action) or ["engine"]

    def take_request(self, action: Action) -> str | None:
        """The reason of an open request, which is closed by that, or None."""
        return self._requests.pop(action, None)

    def decide(self, plugin: str, action: Action, reason: str) -> None:
        """Puts one line into the decision record, or counts up the line that says the same."""
        known = self._decided.get((plugin, action, reason))
        if known is not None:
            known.count += 1
            known.last_step = self.step
            return
        decision = Decision(plugin, action, reason, self.epoch, self.step, count=1, last_step=self.step)
        self._decided[plugin, action, reason] = decision
        self.decisions.append(decision)

    # ---- what plugins read and log --------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, float]) -> None:
        """Records figures by name, `split/metric` by custom: they appear in `metrics`, the history and every log.

        Raises TypeError for what is not a number. An NDArray of one element is read, which waits for the device.
        """
        for name, value in metrics.items():
            number = _number(name, value)
            self.metrics[name] = number
            self.times_logged[name] = self.times_logged.get(name, 0) + 1
            self.epoch_metrics[name] = number
            if self._entry is not None:
                self._entry[name] = number
            if self._in_batch:
                self.step_metrics[name] = number

    # ---- what a caller of `fit` does with it ------------------------------------------------------------------------

    def predict(self, data: Any) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """What the net gives for other rows, (rows, …), as numpy; a tuple of arrays for a net of several outputs.

        `data` is what the saved model takes: an array (rows, …) or a tuple of inputs; a table for tasks that read
        tables. It is computed in batches on the run's devices, with the weights that the saved model has. Raises
        UsageError for rows that do not fit.
        """
        from trainer.model.outputs import outputs_for

        return outputs_for(self, data)

    def predict_proba(self, data: Any) -> NDArray[Any]:
        """The probability of each class, (rows, classes); of two classes for a net of one sigmoid output.

        Raises UsageError as `predict` does, and if the loss implies no probabilities.
        """
        from trainer.model.outputs import probabilities_for

        return probabilities_for(self, data)

    def history_frame(self) -> Any:
        """`history` as a pandas DataFrame with the epoch as its index. Raises UsageError if pandas is missing."""
        from trainer.runs.display import frame_of

        return frame_of(self.history)

    def __repr__(self) -> str:
        from trainer.runs.display import line_of

        return line_of(self)

    def _repr_html_(self) -> str:
        from trainer.runs.display import html_of

        return html_of(self)

    # ---- what plugins read of the newest batch ----------------------------------------------------------------------

    @property
    def loss(self) -> float:
        """The mean loss over the rows of the newest batch. Reading it waits for the device, once a batch."""
        return float("nan") if self.engine_step is None else self.engine_step.loss.newest()

    @property
    def losses(self) -> Sequence[Array]:
        """The loss of each row of the newest batch, one (rows,) array a context; overwritten by the next batch."""
        return () if self.engine_step is None else self.engine_step.loss.by_row

    @property
    def outputs(self) -> list[Array]:
        """The net's outputs for the newest batch, one (rows, …) array a context; overwritten by the next batch."""
        return [] if self.engine_step is None else self.engine_step.outputs()

    @property
    def gradients(self) -> Gradients:
        """The gradients of the current batch, summed over devices; for `backward_end`."""
        if self.engine_step is None:
            raise TrainerError("there are no gradients before the first batch")
        return self.engine_step.gradients

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update; plugins may set it."""
        return float(self.optimizer.learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.set_learning_rate(value)

    def direction(self, name: str) -> Direction | None:
        """Whether more or less of a logged figure is better; None where nobody has said."""
        return self.directions.get(name) or direction_of(name, self.measures)

    def monitored(self, name: str) -> float:
        """The newest value of a logged figure. Raises UsageError, listing the names, where nobody has logged it."""
        if name not in self.metrics:
            hint = did_you_mean(name, self.metrics)
            raise UsageError(
                f"nobody logs {name!r}",
                where=f"plugin {self.acting!r}",
                fix=f"Logged are: {listed(sorted(self.metrics), 99)}. {hint}".strip(),
            )
        return self.metrics[name]

    def sign(self, name: str, mode: Literal["auto", "min", "max"] = "auto") -> float:
        """+1 where more of a logged figure is better, -1 where less is. Raises UsageError where that is not known."""
        direction = self.direction(name) if mode == "auto" else mode
        if direction is None:
            raise UsageError(
                f"whether more or less of {name!r} is better is not known",
                where=f"plugin {self.acting!r}",
                fix=f"Add --set {self.acting}.mode=max, or min.",
            )
        return 1.0 if direction == "max" else -1.0

    def copy_weights(self) -> dict[str, NDArray[Any]]:
        """Every parameter by its place in the net (`0.weight`), on the host. Waits for the device."""
        return {} if self.engine_step is None else self.engine_step.parameters.copy()

    def set_weights(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Puts what `copy_weights` gave back, on every context."""
        if self.engine_step is not None:
            self.engine_step.parameters.assign(values)

    @property
    def moving_weights(self) -> list[Array]:
        """What training changes, weights and running statistics, in as few arrays as possible, on the first context."""
        return [] if self.engine_step is None else [arrays[0] for arrays in self.engine_step.parameters.moving]

    def exchange_weights(self, values: Sequence[Array]) -> None:
        """Puts other values into `moving_weights`, on every context, and what was there into them."""
        if self.engine_step is not None:
            self.engine_step.parameters.swap(values)

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        """Each trained parameter, by its place, with its gradient: summed over the rows, on the first context."""
        if self.engine_step is not None:
            for name, parameter in self.engine_step.parameters.named.items():
                if parameter.grad_req != "null":
                    yield name, parameter.grad(self.contexts[0])

    @property
    def step_in_epoch(self) -> int:
        """The number of the current batch within its epoch, from 1; 0 before the first."""
        return self.step - self._epoch_began

    @property
    def within_batch(self) -> bool:
        """Whether a batch is under way: from `batch_begin` until `batch_end` is over."""
        return self._in_batch

    @property
    def last_batch(self) -> bool:
        """Whether the current batch is known to be the last one of its epoch, the run's limit of steps included."""
        if self.settings.steps is not None and self.step >= self.settings.steps:
            return True
        return self.steps_per_epoch is not None and self.step_in_epoch >= self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """How many epochs the run is to have."""
        return self.settings.epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """How many batches an epoch has; None where the data does not know."""
        return None if self.train is None else self.train.batches_per_epoch

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, or took; for a resumed one without the time in which nothing ran."""
        return self._seconds_before + (self.ended or time.time()) - self._began

    @property
    def requests(self) -> dict[str, str]:
        """The open requests with their reasons."""
        return dict(self._requests)

    def begin(self) -> None:
        """For the engine: the clock starts."""
        self.status = "running"
        self._began = time.time()
        if not self.resumed:
            self.started = self._began

    def resume(
        self, *, step_in_epoch: int, seconds: float, requests: Mapping[str, str], decisions: Sequence[Decision]
    ) -> None:
        """For the engine: takes up what a checkpoint holds of the run and its attributes do not say."""
        self.resumed = True
        self._epoch_began = self.step - step_in_epoch
        self._seconds_before = seconds
        self._requests = dict(requests)
        self.decisions = list(decisions)
        self._decided = {(each.plugin, each.action, each.reason): each for each in decisions}

    def begin_epoch(self, epoch: int) -> None:
        """For the engine: the state at the first line of an epoch."""
        self.epoch = epoch
        self.within_epoch = True
        self.epoch_rows = 0
        self.seeded_at = None
        self._epoch_began = self.step
        self.split = "train"
        self.epoch_metrics = {}

    def begin_batch(self, batch: Batch) -> None:
        """For the engine: the state at the first line of a batch."""
        self.batch = batch
        self.step += 1
        self._in_batch = True
        if self.step_metrics:
            self.step_metrics = {}

    def end_batch(self) -> None:
        """For the engine: the batch is over; what is logged from here on belongs to the epoch."""
        self._in_batch = False

    def open_history_entry(self) -> None:
        """For the engine: one entry of the history, which takes in what is logged until it is closed."""
        self._entry = {"epoch": self.epoch, "step": self.step, **self.epoch_metrics}
        self.history.append(self._entry)

    def close_epoch(self) -> None:
        """For the engine: the epoch is over; what is logged from here on belongs to none."""
        self._entry = None
        self.within_epoch = False
        # Asked for too late to mean this epoch; the next one shall not be cut short, or evaluated, by it.
        self.take_request("end_epoch")
        self.take_request("evaluate")

    def record(self) -> dict[str, Any]:
        """The run as JSON values: what `run.json` holds."""
        return {
            "status": self.status,
            "reason": self.reason,
            "epoch": self.epoch,
            "step": self.step,
            "updates": self.updates,
            "started": self.started,
            "ended": self.ended,
            "seconds": self.seconds,
            "metrics": {name: _json_number(value) for name, value in self.metrics.items()},
            "directions": {name: better for name in self.metrics if (better := self.direction(name)) is not None},
            "threshold": None if self.threshold is None else float(self.threshold),
            "decisions": [asdict(decision) for decision in self.decisions],
            "ledger": self.dispatch.ledger(),
        }


def _number(name: str, value: Any) -> float:
    """`value` as a float."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"run.log takes numbers; {name!r} is {value!r}")
    try:
        array = value.asnumpy() if hasattr(value, "asnumpy") else value
        # An array of one element may have axes, which float() does not take.
        return float(array.item() if isinstance(array, np.ndarray) else array)
    except (TypeError, ValueError):
        raise TypeError(f"run.log takes numbers; {name!r} is a {type(value).__name__}") from None


def _json_number(value: float) -> float | None:
    """JSON has no NaN and no infinity: both become null."""
    return value if np.isfinite(value) else None

"""Run: one training run as plugins see it, and the requests they can make."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.assignment import Guarded
from trainer.data.slices import Sliced
from trainer.decisions.of_run import Decides
from trainer.engine_state import BUILT, NotBuiltError
from trainer.errors import TrainerError, UsageError
from trainer.metrics.base import direction_of
from trainer.model.outputs import outputs_for, probabilities_for
from trainer.processes.single import Processes
from trainer.runs.display import Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.config.settings import Settings
    from trainer.data.batches import Batches
    from trainer.data.fingerprint import Fingerprint
    from trainer.decisions import Calibrator, Rule
    from trainer.engine_state import EngineState
    from trainer.evaluation import Evaluation
    from trainer.metrics.base import Direction, Metric
    from trainer.mxnet import Array, Context
    from trainer.requests import Action, Decision
    from trainer.step import Gradients
    from trainer.step.after_update import Change, UpdatedWeight
    from trainer.step.guard import Guard
    from trainer.task_protocol import TaskOfRun

Status = Literal["created", "running", "finished", "stopped", "interrupted", "failed"]


@dataclass(eq=False, repr=False)
class Run(Guarded, Decides, Sliced, Shown):
    """One training run from its first event to its last. Plugins read its attributes and call its methods.

    `net`, `optimizer`, the splits and what is computed with them exist from `on_setup` on; earlier, TrainerError.
    """

    task: TaskOfRun
    settings: Settings
    contexts: Sequence[Context]
    _state: EngineState
    folder: Path | None = None
    """The folder that the run writes to; None if it writes nothing, and in every process but the first."""
    processes: Processes = field(default_factory=Processes)
    """The processes that train this run together: `rank` of this one, `size` of the group; sums over them."""

    net: Any = field(init=False)
    """The Gluon block."""
    files: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The files that were read, with their rows; see `Splits`."""
    optimizer: Any = field(init=False)
    """The MXNet optimizer."""
    train: Batches = field(init=False)
    validation: Batches | None = field(init=False)
    calibration: Batches | None = field(init=False)
    test: Batches | None = field(init=False)
    fingerprint: Fingerprint | None = None
    """What identifies the data; None if nothing is known of them."""

    status: Status = "created"
    reason: str = ""
    """Why the run was stopped, interrupted or failed."""
    exception: BaseException | None = None
    model_note: str = ""
    """Why the run's model folder is incomplete or missing."""
    started: float = field(default_factory=time.time)
    """Seconds since 1970, UTC."""
    ended: float | None = None
    resumed: bool = False
    """Whether it continues from a checkpoint: plugins' states are loaded before `setup`, which cuts files back."""

    epoch: int = 0
    """The number of the current epoch, from 1; 0 before the first."""
    step: int = 0
    """The number of the current batch, counted from 1 over the whole run; 0 before the first."""
    step_in_epoch: int = 0
    """The number of the current batch within its epoch, from 1; 0 before the first."""
    updates: int = 0
    """The number of weight updates: `step` minus the skipped ones."""
    split: str = "train"
    """The split of the current batch: `train`, `validation`, `calibration` or `test`."""
    evaluation: Evaluation | None = None
    """The newest evaluation, of validation, calibration or test."""
    threshold: float | None = None
    """The decision threshold, for tasks that have one: the task's until a plugin tunes it."""
    threshold_reason: str = ""
    """Why the threshold is what it is, if the plugin that tunes it has something to say about that."""
    calibrator: Calibrator | None = None
    """What calibrates predictions, in the saved model too; threshold and rules are for these, not for `evaluation`."""
    rules: dict[str, Rule] = field(default_factory=dict)
    """What the saved model says about a row beside its prediction, by the name of the plugin that has chosen it."""
    within_epoch: bool = False
    """Whether an epoch is under way: from `epoch_begin` until `epoch_end` is over."""
    within_batch: bool = False
    """Whether a batch is under way: from `batch_begin` until `batch_end` is over."""
    epoch_rows: int = 0
    """The number of rows that the current epoch has trained on so far."""
    evaluation_weights: Sequence[Array] | None = None
    """What evaluations use for `moving_weights`, if a plugin sets it, from `evaluate_begin` through `evaluate_end`."""
    notes: list[str] = field(default_factory=list)
    """Lines for the end of the run's summary."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for missing attributes: those that building the run sets, and properties that need them."""
            later = name in BUILT or hasattr(type(self), name)
            raise NotBuiltError(name) if later else AttributeError(f"a run has no attribute {name!r}")

    # ---- what plugins ask for ---------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ends the run after the current batch; its epoch is still evaluated and has its `epoch_end`."""
        self._ask("stop", reason)

    def end_epoch(self, reason: str) -> None:
        """Ends the epoch after the current batch; the run continues with its evaluation and the next epoch."""
        self._ask("end_epoch", reason)

    def save(self, reason: str) -> None:
        """Writes a checkpoint after the current batch, or after the epoch's end if no batch is under way."""
        self._ask("save", reason)

    def evaluate(self, reason: str) -> None:
        """Evaluates the validation split after the current batch; does nothing without such a split."""
        self._ask("evaluate", reason)

    def skip_update(self, reason: str) -> None:
        """Skips the weight update of the current batch; for `batch_begin` and `backward_end`."""
        if not self.within_batch:
            raise TrainerError("skip_update has an effect only in on_batch_begin and on_backward_end")
        self._ask("skip_update", reason)

    def requested(self, action: Action) -> str | None:
        """The reason of a request that is still open, or None."""
        return self._state.requests.reason(action)

    def decide(self, action: Action, reason: str) -> None:
        """Adds a line to the decision record for something that a plugin has done itself."""
        self._state.requests.decide(action, reason, plugin=self.acting, epoch=self.epoch, step=self.step)

    @property
    def decisions(self) -> list[Decision]:
        """The decision record: who asked for what, why and when."""
        return self._state.requests.decisions

    def _ask(self, action: Action, reason: str) -> None:
        self._state.requests.ask(action, reason, plugin=self.acting, epoch=self.epoch, step=self.step)

    # ---- metrics ----------------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, float]) -> None:
        """Records values by name, by convention `split/metric`. They appear in `metrics`, the history and every log.

        Raises TypeError for a value that is not a number. Reading an NDArray of one element waits for the device.
        """
        self._state.log.add(metrics, within_batch=self.within_batch)

    @property
    def metrics(self) -> dict[str, float]:
        """The newest logged values by name, such as `validation/f1`."""
        return self._state.log.newest

    @property
    def step_metrics(self) -> dict[str, float]:
        """The values logged during the current batch."""
        return self._state.log.of_step

    @property
    def epoch_metrics(self) -> dict[str, float]:
        """The values logged in the current epoch, including the newest ones of its batches."""
        return self._state.log.of_epoch

    @property
    def end_metrics(self) -> dict[str, float]:
        """The values that the last epoch lacks: those of calibration and test, and what plugins log in `fit_end`."""
        return self._state.log.after

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry per epoch: `epoch`, `step`, and all values logged in it; those of `fit_begin` are in the first."""
        return self._state.log.history

    @property
    def times_logged(self) -> dict[str, int]:
        """How often each name was logged, which shows whether a value is new."""
        return self._state.log.times_logged

    @property
    def directions(self) -> dict[str, Direction]:
        """Whether higher (`max`) or lower (`min`) is better, for values that plugins log; plugins may add entries."""
        return self._state.log.directions

    @property
    def task_metrics(self) -> Sequence[Metric]:
        """The task's metrics, as evaluations compute them."""
        return self._state.metrics

    def direction(self, name: str) -> Direction | None:
        """Whether higher or lower values of a metric are better; None if unknown."""
        return self.directions.get(name) or direction_of(name, self.task_metrics)

    def monitored(self, name: str) -> float:
        """The newest value of a logged metric. Raises UsageError, listing the names, if it was never logged."""
        return self._state.log.value(name, where=f"plugin {self.acting!r}")

    def sign(self, name: str, mode: Literal["auto", "min", "max"] = "auto") -> float:
        """+1 if higher values of a metric are better, -1 if lower ones are. Raises UsageError if unknown."""
        direction = self.direction(name) if mode == "auto" else mode
        if direction is None:
            raise UsageError(
                f"it is not known whether higher or lower {name!r} is better",
                where=f"plugin {self.acting!r}",
                fix=f"Add --set {self.acting}.mode=max, or min.",
            )
        return 1.0 if direction == "max" else -1.0

    # ---- what a caller of `fit` does with it ------------------------------------------------------------------------

    def predict(self, data: Any) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """The net's outputs for other rows, (rows, …), as numpy; a tuple of arrays for a net with several outputs.

        `data` is what the saved model takes: an array (rows, …), a tuple of inputs, or a table. Computes in batches on
        the run's devices, with the weights of the saved model. Raises UsageError for rows that do not fit.
        """
        return outputs_for(self, data)

    def predict_proba(self, data: Any) -> NDArray[Any]:
        """The probability of each class, (rows, classes), as `predict`; UsageError if the loss implies none."""
        return probabilities_for(self, data)

    # ---- what plugins read of the newest batch ----------------------------------------------------------------------

    @property
    def loss(self) -> float:
        """The mean loss over the rows of the newest batch; NaN before the first. Waits once per batch."""
        return self._state.step.loss.newest()

    @property
    def losses(self) -> Sequence[Array]:
        """The loss of each row of the newest batch, one (rows,) array per context; overwritten by the next batch."""
        return self._state.step.loss.by_row

    @property
    def outputs(self) -> list[Array]:
        """The net's outputs for the newest batch, one (rows, …) array per context; overwritten by the next batch."""
        return self._state.step.outputs()

    @property
    def gradients(self) -> Gradients:
        """The gradients of the current batch, summed over devices; for `backward_end`."""
        return self._state.step.gradients

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        """Each trained parameter, by its place, with its gradient: summed over the rows, on the first context."""
        yield from self._state.step.parameters.named_gradients()

    @property
    def optimizer_states(self) -> Sequence[Any]:
        """The optimizer's states: an array, a tuple of arrays or None per group of parameters."""
        return self._state.step.parameters.states

    @property
    def symbol(self) -> Any:
        """Losses and outputs as the MXNet symbol that is trained; None if the step is recorded."""
        return self._state.step.symbol

    @property
    def step_kind(self) -> str:
        """`compiled` or `recorded`."""
        return self._state.step.kind

    @property
    def step_why(self) -> str:
        """Why the step is recorded; empty if it is compiled."""
        return self._state.step.why

    def guard_updates(self, *, loss_only: bool = False) -> Guard | None:
        """Keeps the weights as they were before the first step with a number that is not finite, without waiting.

        The plugin calls `check` of the result in `backward_end`. None if the run's step cannot be guarded.
        """
        from trainer.step.guard import guard_of

        return guard_of(self._state.step, vars(self), loss_only=loss_only)

    def after_update(self, change: Change) -> Sequence[UpdatedWeight]:
        """Calls `change(weights)` at the end of every update that is not skipped; for `on_setup`. Returns them now."""
        return self._state.step.parameters.after_update.add(self._state.within_update(self, change))

    def copy_weights(self) -> dict[str, NDArray[Any]]:
        """Every parameter by its place in the net (`0.weight`), on the host. Waits for the device."""
        return self._state.step.parameters.copy()

    def set_weights(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Restores what `copy_weights` returned, on every context."""
        self._state.step.parameters.assign(values)

    @property
    def moving_weights(self) -> list[Array]:
        """Weights and running statistics, which training changes, in as few arrays as possible, on context 0."""
        return [arrays[0] for arrays in self._state.step.parameters.moving]

    def exchange_weights(self, values: Sequence[Array]) -> None:
        """Swaps the values of `moving_weights`, on every context, with the given ones."""
        self._state.step.parameters.swap(values)

    @property
    def plugins(self) -> list[Any]:
        """The active plugins in order."""
        return [plugin for plugin in self._state.plugins if plugin.name not in self._state.disabled]

    def ledger(self) -> list[dict[str, str | int | float]]:
        """The cost of each plugin's hooks, the most expensive first.

        `plugin`, `event`, `calls`, `seconds`, and `waiting`: the additional seconds spent waiting for a device. `save`
        stands for the checkpoints that a plugin requested, `update` for `after_update`.
        """
        return self._state.ledger.rows()

    @property
    def last_batch(self) -> bool:
        """Whether the current batch is known to be the last of its epoch, also because of the run's limit of steps."""
        is_last = self.settings.steps is not None and self.step >= self.settings.steps
        return is_last or (self.steps_per_epoch is not None and self.step_in_epoch >= self.steps_per_epoch)

    @property
    def epochs(self) -> int:
        """The number of epochs of the whole run."""
        return self.settings.epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """The number of batches per epoch; None if the data does not tell."""
        return self.train.batches_per_epoch

    @property
    def seconds(self) -> float:
        """The seconds that the run has taken, without the time between an interruption and the resumption."""
        return self._state.seconds_before + (self.ended or time.time()) - self._state.began

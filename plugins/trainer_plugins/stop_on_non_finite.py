"""Stops a run as soon as a number is not finite, and names its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run
from trainer.atomic import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data import Batch

FILE = "non-finite.json"
FLOW = ("input", "label", "sample weight", "weight", "loss", "gradient")
"""The kinds of numbers, in the order in which they flow through a step."""
OF_ROWS = FLOW[:3]


@dataclass
class StopOnNonFinite(Plugin):
    """Stops when the loss, a gradient, a weight or an input is NaN or infinite, and names the first of them.

    The device checks the batch, the loss and the gradients in every step. From the first one on that is not finite, no
    update changes the weights. Every `every` steps, at the end of each epoch and before a checkpoint, the plugin looks
    whether there was one, which waits for the device, and stops the run. The reason names the step, and the first
    number by the order in which they flow: inputs, weights, the loss, gradients. The rows of the batch are saved in
    `non-finite.json` in the run's folder. The weights are checked at the end of each epoch.

    If numpy computes the steps of a small net, a broken one stops the run at once. Some steps cannot be guarded on the
    device: nets that cannot be compiled, several devices or processes, micro-batches, and optimizers such as Nadam.
    There the plugin looks in every step.
    """

    every: Annotated[int, Field(ge=1, description="Steps between two looks, besides each epoch's last one.")] = 50
    loss_only: Annotated[
        bool,
        Field(description="Whether to check only the loss: cheaper, but a ReLU can hide a NaN from it."),
    ] = False

    phase = Phase.DECIDE
    logs = ()

    def __post_init__(self) -> None:
        self._guard: Any = None
        self._found: Mapping[str, Any] | None = None
        self._is_over = False

    def on_fit_begin(self, run: Run) -> None:
        """Guards the updates, if the step allows it."""
        self._guard = run.guard_updates(loss_only=self.loss_only)
        if self._guard is not None:
            self._guard.resume(self._found)

    def on_backward_end(self, run: Run) -> None:
        """Checks before the update, so that a broken batch does not break the weights."""
        if self._guard is None:
            self._look_now(run)
            return
        self._guard.check(_place(run))
        if run.step % self.every == 0 or run.last_batch or self._guard.has_found:
            self._look(run)

    def on_epoch_end(self, run: Run) -> None:
        """Looks, and checks the weights, which the last update may have broken."""
        if self._guard is not None:
            self._look(run)
        if not self.loss_only and run.requested("stop") is None:
            found = next(_in_weights(run), None)
            if found is not None:
                self._stop(run, found, _place(run), run.batch)

    def state_dict(self) -> Mapping[str, Any]:
        """What was found, if the run has not stopped for it yet."""
        if self._guard is not None and not self._is_over:
            self._found = self._guard.look()
        return {"found": self._found}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._found = state["found"]

    def _look(self, run: Run) -> None:
        """Stops if a step was not sound."""
        found = self._guard.look()
        if found is None or self._is_over:
            return
        self._is_over, self._found = True, None
        self._guard.take_back(found)
        kind, name, place = found["kind"], found["name"], found["note"]
        batch = run.batch
        if kind not in OF_ROWS:
            # They are as they were before that step.
            kind, name = next(_in_weights(run), (kind, name))
        elif place["step"] != run.step:
            batch = next(run.train.epoch(place["epoch"], skip=place["step_in_epoch"] - 1), None)
        self._stop(run, (kind, name), place, batch)

    def _look_now(self, run: Run) -> None:
        """Checks the step on the host, and stops if it is not sound."""
        sound = np.isfinite(run.loss) and (self.loss_only or _is_sound(run))
        # With several processes, each sees its own rows of the batch.
        everyone = run.processes.gather(None if sound else next(_culprits(run), None))
        found = min((each for each in everyone if each), key=lambda each: FLOW.index(each[0]), default=None)
        if found is not None:
            self._stop(run, found, _place(run), run.batch)

    def _stop(self, run: Run, found: Sequence[str], place: Mapping[str, Any], batch: Batch | None) -> None:
        """Stops because of what was found at a step; `batch` is the one of that step if rows are to blame."""
        kind, name = found
        what = f"the {kind} {name!r}" if name else f"the {kind}"
        reason = f"{what} is not finite at epoch {place['epoch']}, step {place['step']}"
        if run.within_batch:
            run.skip_update(reason)
        run.stop(reason)
        if batch is None:
            return
        indices, is_of_step = place["rows"], kind in OF_ROWS or place["step"] == run.step
        own = None
        if indices is not None:
            own = [indices.tolist(), indices[_bad_rows(batch)].tolist() if is_of_step else []]
        # The rows of all processes, in the order of the batch.
        everyone = [each for each in run.processes.gather(own) if each is not None]
        rows, bad = ([row for each in everyone for row in each[part]] if everyone else None for part in (0, 1))
        if run.folder is None:
            return
        record = {
            "epoch": place["epoch"],
            "step": place["step"],
            "kind": kind,
            "name": name,
            "loss": _loss(run) if place["step"] == run.step else None,
            "split": "train",
            "rows": rows,
            "rows_not_finite": bad,
        }
        write_json(run.folder / FILE, record)


def _place(run: Run) -> dict[str, Any]:
    """The current step, and the rows of its batch."""
    rows = None if run.batch is None else run.batch.indices
    return {"epoch": run.epoch, "step": run.step, "step_in_epoch": run.step_in_epoch, "rows": rows}


def _loss(run: Run) -> float | str:
    """The loss as a JSON value."""
    loss = run.loss
    return loss if np.isfinite(loss) else str(loss)


def _culprits(run: Run) -> Iterator[tuple[str, str]]:
    """Kind and name of what is not finite, in the order in which numbers flow through a step."""
    yield from _in_batch(run)
    yield from _in_weights(run)
    if not np.isfinite(run.loss):
        yield "loss", ""
    for name, gradient in run.named_gradients():
        if not _finite(gradient):
            yield "gradient", name


def _is_sound(run: Run) -> bool:
    """Whether batch and gradients are finite; the norm of all gradients costs one operation and one wait."""
    return next(_in_batch(run), None) is None and bool(np.isfinite(run.gradients.norm()))


def _in_weights(run: Run) -> Iterator[tuple[str, str]]:
    for name, value in run.copy_weights().items():
        if not np.isfinite(value).all():
            yield "weight", name


def _in_batch(run: Run) -> Iterator[tuple[str, str]]:
    assert run.batch is not None  # noqa: S101
    for shard in run.batch.shards:
        if shard.rows:
            for number, part in enumerate(shard.inputs):
                if not _finite(part):
                    yield "input", f"{number}" if len(shard.inputs) > 1 else ""
            if not _finite(shard.label):
                yield "label", ""
            if shard.weight is not None and not _finite(shard.weight):
                yield "sample weight", ""


def _finite(array: Any) -> bool:
    return bool(np.isfinite(array.asnumpy()).all())


def _bad_rows(batch: Batch) -> NDArray[np.bool_]:
    """A mask of the batch's rows with an input, label or weight that is not finite."""
    parts = []
    for shard in batch.shards:
        if shard.rows:
            arrays = [array.asnumpy().reshape(shard.rows, -1) for array in shard.arrays]
            parts.append(~np.all([np.isfinite(array).all(axis=1) for array in arrays], axis=0))
    return np.concatenate(parts) if parts else np.zeros(0, bool)

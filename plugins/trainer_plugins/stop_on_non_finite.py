"""Stops a run as soon as a number is not finite, and names its origin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run
from trainer.atomic import write_json

FILE = "non-finite.json"
FLOW = ("input", "label", "sample weight", "weight", "loss", "gradient")
"""The kinds of numbers, in the order in which they flow through a step."""


@dataclass
class StopOnNonFinite(Plugin):
    """Stops when the loss, a gradient, a weight or an input is NaN or infinite, and names the first of them.

    It checks the batch, the loss and the gradients every `every` steps, which waits for the device, and the weights at
    the end of each epoch. The first is told by the order in which numbers flow: inputs, weights, the loss, gradients.
    The rows of the batch are saved in `non-finite.json` in the run's folder. The batch does not update the weights.
    """

    every: Annotated[int, Field(ge=1, description="Steps between two checks.")] = 1
    loss_only: Annotated[
        bool,
        Field(description="Whether to check only the loss: cheaper, but a ReLU can hide a NaN from it."),
    ] = False

    phase = Phase.DECIDE
    logs = ()

    def on_backward_end(self, run: Run) -> None:
        """Checks before the update, so that a broken batch does not break the weights."""
        if run.step % self.every and not run.last_batch:
            return
        sound = np.isfinite(run.loss) and (self.loss_only or _is_sound(run))
        # With several processes, each sees its own rows of the batch.
        found = run.processes.gather(None if sound else next(_culprits(run), None))
        self._stop(run, min((each for each in found if each), key=lambda each: FLOW.index(each[0]), default=None))

    def on_epoch_end(self, run: Run) -> None:
        """Checks the weights, which the last update may have broken."""
        if not self.loss_only and run.requested("stop") is None:
            self._stop(run, next(_in_weights(run), None))

    def _stop(self, run: Run, found: Sequence[str] | None) -> None:
        if found is None:
            return
        kind, name = found
        what = f"the {kind} {name!r}" if name else f"the {kind}"
        reason = f"{what} is not finite at epoch {run.epoch}, step {run.step}"
        if run.within_batch:
            run.skip_update(reason)
        run.stop(reason)
        self._save(run, kind, name)

    def _save(self, run: Run, kind: str, name: str) -> None:
        if run.batch is None:
            return
        indices = run.batch.indices
        own = None if indices is None else [indices.tolist(), indices[_bad_rows(run)].tolist()]
        # The rows of all processes, in the order of the batch.
        everyone = [each for each in run.processes.gather(own) if each is not None]
        rows, bad = ([row for each in everyone for row in each[part]] if everyone else None for part in (0, 1))
        if run.folder is None:
            return
        loss = run.loss
        record = {
            "epoch": run.epoch,
            "step": run.step,
            "kind": kind,
            "name": name,
            "loss": loss if np.isfinite(loss) else str(loss),
            "split": "train",
            "rows": rows,
            "rows_not_finite": bad,
        }
        write_json(run.folder / FILE, record)


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


def _bad_rows(run: Run) -> Any:
    """A mask of the batch's rows with an input, label or weight that is not finite."""
    assert run.batch is not None  # noqa: S101
    parts = []
    for shard in run.batch.shards:
        if shard.rows:
            parts_of = (*shard.inputs, shard.label, *([] if shard.weight is None else [shard.weight]))
            arrays = [array.asnumpy().reshape(shard.rows, -1) for array in parts_of]
            parts.append(~np.all([np.isfinite(array).all(axis=1) for array in arrays], axis=0))
    return np.concatenate(parts) if parts else np.zeros(0, bool)

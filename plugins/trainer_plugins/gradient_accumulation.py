"""Trains with batches larger than memory allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.errors import listed

if TYPE_CHECKING:
    from trainer import Gradients


@dataclass
class GradientAccumulation(Plugin):
    """Adds up the gradients of `batches` batches and updates once, as one batch of all their rows would.

    The rest at the end of an epoch makes an update of its own, weighted by its rows. That needs data that say how many
    batches they have; if a plugin ends the epoch early, the rest is dropped. Nets with BatchNorm still see the small
    batches' statistics. Costs an addition per batch, and a second copy of the gradients.
    """

    batches: Annotated[int, Field(ge=1, description="Batches per update.")] = 4

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ()

    def __post_init__(self) -> None:
        self._held: list[Any] = []
        self._rows = 0
        self._count = 0

    def on_epoch_begin(self, run: Run) -> None:
        """Drops what an epoch that ended early has left."""
        self._clear()

    def on_backward_end(self, run: Run) -> None:
        """Adds this batch's gradients; the last batch of a group updates with the sum."""
        gradients = run.gradients
        if run.requested("skip_update") and not run.last_batch:
            return  # another plugin wants this batch to be left out
        self._rows += gradients.rows
        self._count += 1
        if self._count >= self.batches or run.last_batch:
            if self._held:
                self._add(gradients, to_gradients=True)
            gradients.rows = self._rows
            self._clear()
            return
        run.skip_update(f"gradients are added up over {self.batches} batches")
        if self._held:
            self._add(gradients, to_gradients=False)
        else:
            self._held = [array.copy() for array in gradients.arrays]

    def _add(self, gradients: Gradients, *, to_gradients: bool) -> None:
        """Adds the gradients to those that are held, or these to the gradients."""
        from trainer.calls import memory_of, wait_for_all

        for held, array in zip(self._held, gradients.arrays, strict=True):
            to, part = (array, held) if to_gradients else (held, array)
            if gradients.on_host:
                # The step of a small net takes no longer than starting an operator.
                wait_for_all()
                total = memory_of(to)
                np.add(total, memory_of(part), total)
            else:
                to += part

    def state_dict(self) -> Mapping[str, Any]:
        return {
            "held": [getattr(held, "asnumpy", held.copy)() for held in self._held],
            "rows": self._rows,
            "count": self._count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._held, self._rows, self._count = list(state["held"]), state["rows"], state["count"]

    def on_setup(self, run: Run) -> None:
        """Refuses tables of which each batch trains other rows."""
        from trainer.mxnet import mx

        if run.gradients.tables:
            raise UsageError(
                f"each batch has gradients of other rows of {listed(run.gradients.tables)}, which cannot be added up",
                where=f"plugin {self.name!r}",
                fix="Update all rows (sparse_grad=False; for tables --updates dense), or use a larger batch.",
            )
        self._held = [mx.nd.array(held, ctx=run.contexts[0], dtype=held.dtype) for held in self._held]

    def _clear(self) -> None:
        self._held, self._rows, self._count = [], 0, 0

"""Limits the size of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Annotated, Any

from pydantic import Field

from trainer import Phase, Plugin, Run


@dataclass
class GradientClipping(Plugin):
    """Clips the gradient of the mean loss by its global norm, by value, or both (the norm first).

    The norm is over all parameters, each counted once for any number of devices. Its value before clipping is logged
    as `train/gradient-norm` every `log-every` steps. Only the steps that log it wait for the device.
    """

    norm: Annotated[
        float | None, Field(allow_inf_nan=False, description="The largest global norm; scales all gradients.")
    ] = None
    value: Annotated[
        float | None, Field(allow_inf_nan=False, description="The largest absolute value of an element.")
    ] = None
    log_every: Annotated[
        int, Field(ge=0, description="Steps between two logged norms, besides each epoch's last; 0: none.")
    ] = 100

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ("train/gradient-norm",)
    after = ("gradient-accumulation",)

    def __post_init__(self) -> None:
        """Checks that at least one of the two limits is given."""
        if self.norm is None and self.value is None:
            raise ValueError("neither norm nor value is given; set one, as in --set gradient-clipping.norm=1")
        for name, limit in (("norm", self.norm), ("value", self.value)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit:g}; it has to be above 0")
        self._clips: list[tuple[Any, Any]] = []

    def on_backward_end(self, run: Run) -> None:
        """Clips, unless the update is skipped anyway."""
        if run.requested("skip_update"):
            return
        gradients = run.gradients
        if self.norm is not None:
            if self.log_every and (run.step % self.log_every == 0 or run.last_batch):
                run.log({"train/gradient-norm": gradients.norm()})
            gradients.clip(self.norm)
        if self.value is not None:
            # The arrays hold sums over the rows, so the limit of the mean is scaled to theirs.
            self._clip(gradients.arrays, self.value * gradients.rows / abs(gradients.factor))

    def _clip(self, arrays: Sequence[Any], limit: float) -> None:
        """Clips every element to ±limit."""
        from trainer.calls import Call

        if len(arrays) != len(self._clips) or not all(map(is_, arrays, (array for array, _ in self._clips))):
            self._clips = [(array, Call("clip", [array], array, a_min=0.0, a_max=0.0)) for array in arrays]
        for _, clip in self._clips:
            clip.having(-limit, limit)

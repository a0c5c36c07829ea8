"""Keeps gradients from being too large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from trainer import Phase, Plugin, Run


@dataclass
class GradientClipping(Plugin):
    """Clips the gradient of the mean loss by its global norm, by value, or both (the norm first).

    The norm is over all parameters, each counted once however many devices there are, and is logged now and then as
    `train/gradient-norm`, as it was before clipping. Looking at it waits for the device in every step; clipping by
    value does not.
    """

    norm: Annotated[
        float | None, Field(allow_inf_nan=False, description="The largest global norm; scales all gradients alike.")
    ] = None
    value: Annotated[
        float | None, Field(allow_inf_nan=False, description="The largest absolute value of any element.")
    ] = None
    log_every: Annotated[
        int, Field(ge=0, description="Steps between two logged norms, beside each epoch's last; 0 for none.")
    ] = 100

    phase = Phase.TRANSFORM
    after = ("gradient-accumulation",)

    def __post_init__(self) -> None:
        """One of the two has to be asked for."""
        if self.norm is None and self.value is None:
            raise ValueError("neither norm nor value is given; set one, as in --set gradient-clipping.norm=1")
        for name, limit in (("norm", self.norm), ("value", self.value)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit:g}; it has to be above 0")

    def on_backward_end(self, run: Run) -> None:
        """Clips, unless the update is to be left out anyway."""
        if run.requested("skip_update"):
            return
        gradients = run.gradients
        if self.norm is not None:
            norm = gradients.norm()
            if self.log_every and (run.step % self.log_every == 0 or run.last_batch):
                run.log({"train/gradient-norm": norm})
            if not math.isfinite(norm):
                return  # nothing that is not finite can be scaled to anything
            if norm > self.norm:
                gradients.factor *= self.norm / norm
        if self.value is not None:
            # The arrays hold sums over the rows, so the limit of the mean is scaled to theirs.
            limit = self.value * gradients.rows / abs(gradients.factor)
            for array in gradients.arrays:
                array.clip(-limit, limit, out=array)

"""Writes the norm of every parameter's gradient into a file: a plugin that only watches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TextIO

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.atomic import cut_back

FILE = "gradient-norms.csv"


@dataclass
class GradientNorms(Plugin):
    """Writes the 2-norm of each parameter's gradient to gradient-norms.csv in the run's folder.

    One line for each parameter at every look: the step, the parameter's place in the net, and the norm of the mean
    loss's gradient, before other plugins change it. Looking waits for the device.
    """

    every: Annotated[int, Field(ge=1, description="Steps between two looks.")] = 10

    phase = Phase.TRANSFORM
    # By this plugin's own place in its phase: clipping is in the same one, and shall not have happened yet.
    before = ("gradient-clipping",)
    on_error = "disable"
    api = "2.0"

    def __post_init__(self) -> None:
        """Nothing is open yet; an ending may come without a setup, where another plugin failed in its own."""
        self._file: TextIO | None = None
        self._size: int | None = None

    def on_setup(self, run: Run) -> None:
        """Opens the file; in a resumed run, what was written behind the checkpoint goes."""
        if run.folder is None:
            return
        # Two instances in one run have files of their own.
        path = run.folder / (FILE if "@" not in self.name else f"{self.name}.csv")
        if run.resumed and self._size is not None:
            cut_back(path, self._size)
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", where=f"plugin {self.name!r}") from error
        if path.stat().st_size == 0:
            self._file.write("step,parameter,norm\n")

    def on_backward_end(self, run: Run) -> None:
        """The gradients exist, summed over rows and devices, and the weights have not moved."""
        if self._file is None or run.step % self.every:
            return
        for name, gradient in run.named_gradients():
            norm = float(gradient.norm().asscalar()) / run.gradients.rows
            self._file.write(f"{run.step},{name},{norm:.6g}\n")

    def on_teardown(self, run: Run) -> None:
        """Always fires, whatever has ended the run."""
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> Mapping[str, Any]:
        """How long the file is, so that a resumed run can cut it back."""
        if self._file is None:
            return {"size": self._size}
        self._file.flush()
        self._size = os.fstat(self._file.fileno()).st_size
        return {"size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Taken back before setup fires."""
        self._size = state["size"]

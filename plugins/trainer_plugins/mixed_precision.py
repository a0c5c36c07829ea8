"""Computes matrix products and convolutions in 16 bits."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from trainer import Changed, Phase, Plugin, Run, UsageError

log = logging.getLogger("trainer")

LARGEST_SCALE = 2.0**24


@dataclass
class MixedPrecision(Plugin):
    """Trains in bfloat16 or float16 for the operators that `mxnet.contrib.amp` lists as safe, in float32 elsewhere.

    Weights, gradients and the optimizer's states stay float32, and so do evaluations and the model that is written.
    bfloat16 has the range of float32 and needs nothing else. In float16, small gradients would vanish: the loss is
    multiplied by a scale, and the gradients are divided by it. A step whose gradients are not finite is skipped and
    halves the scale; `scale_window` finite steps in a row double it (Micikevicius et al. 2018).
    """

    dtype: Annotated[Literal["bfloat16", "float16"], Field(description="bfloat16 for CPUs, float16 for GPUs.")] = (
        "bfloat16"
    )
    scale: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="The initial scale of the loss; 65536 for float16."),
    ] = None
    scale_window: Annotated[int, Field(ge=1, description="Finite steps in a row until the scale is doubled.")] = 2000

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ("loss-scale",)
    before = ("gradient-accumulation", "gradient-clipping")

    def __post_init__(self) -> None:
        """Sets the scale, if the type needs one."""
        if self.scale is not None and math.log2(self.scale) % 1:
            raise ValueError(f"scale is {self.scale:g}; use a power of two, such as 65536, which rounds no gradient")
        self._scale = self.scale or (65536.0 if self.dtype == "float16" else None)
        self._finite_steps = 0
        self._arrays: dict[str, Any] = {}

    def change_symbol(self, run: Run, symbol: Any) -> Changed:
        """Casts inputs of safe operators to the smaller type. Raises UsageError if a device cannot compute in it."""
        from trainer.mxnet import mx

        for context in run.contexts:
            self._check(context)
        if self._scale is not None:
            # Forward this is the unchanged loss; backward, gradients are those of the loss times the scale.
            rows = symbol[0].get_children()[0]  # below make_loss, which starts the backward pass with ones
            still = mx.sym.BlockGrad(rows)
            scaled = still + mx.sym.broadcast_mul(rows - still, mx.sym.var(self._variable, shape=(1,)))
            symbol = mx.sym.Group([mx.sym.make_loss(scaled), *(symbol[number] for number in range(1, len(symbol)))])
        return Changed(self._convert(symbol), {} if self._scale is None else {self._variable: self._array})

    def _array(self, context: Any) -> Any:
        from trainer.mxnet import mx

        if str(context) not in self._arrays:
            self._arrays[str(context)] = mx.nd.full((1,), self._scale, ctx=context)
        return self._arrays[str(context)]

    @property
    def _variable(self) -> str:
        """The name of the variable that scales the loss in the backward pass."""
        return f"{self.name}:scale"

    def on_setup(self, run: Run) -> None:
        self._set()

    def on_backward_end(self, run: Run) -> None:
        """Divides the gradients by the scale, or skips the step."""
        if self._scale is None:
            return
        if self._are_finite(run.gradients.arrays):
            for number in range(len(run.gradients.arrays)):
                run.gradients.arrays[number] *= 1 / self._scale
            self._finite_steps += 1
            if self._finite_steps % self.scale_window == 0 and self._scale < LARGEST_SCALE:
                self._scale *= 2
                self._set()
            return
        for array in run.gradients.arrays:
            array[:] = 0
        run.skip_update(f"a gradient is not finite with the loss times {self._scale:g}")
        self._finite_steps = 0
        if self._scale > 1:
            self._scale /= 2
            self._set()

    def on_epoch_end(self, run: Run) -> None:
        """Logs the scale, if there is one."""
        if self._scale is not None:
            run.log({"loss-scale": self._scale})

    def state_dict(self) -> Mapping[str, Any]:
        return {"scale": self._scale, "finite_steps": self._finite_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scale, self._finite_steps = state["scale"], state["finite_steps"]

    @staticmethod
    def _are_finite(arrays: Sequence[Any]) -> bool:
        """Waits for the device."""
        from trainer.mxnet import mx, waiting

        with waiting:
            return bool(mx.nd.multi_all_finite(*arrays, num_arrays=len(arrays)).asscalar())

    def _set(self) -> None:
        for array in self._arrays.values():
            array[:] = self._scale

    def _check(self, context: Any) -> None:
        """Raises UsageError if the context does not compute in the type."""
        from trainer.mxnet import COMPUTING, mx

        other = "float16" if self.dtype == "bfloat16" else "bfloat16"
        data, weight = mx.sym.var("data", shape=(2, 4)), mx.sym.var("weight", shape=(3, 4))
        symbol = self._convert(mx.sym.FullyConnected(data, weight, no_bias=True, num_hidden=3))
        try:
            given = {name: mx.nd.ones(shape, ctx=context) for name, shape in (("data", (2, 4)), ("weight", (3, 4)))}
            symbol.bind(context, args=given).forward()[0].asnumpy()
        except mx.MXNetError as error:
            reason = next((line.strip() for line in reversed(str(error).splitlines()) if "Error:" in line), "")
            if context.device_type != "cpu":
                fix = f"Use {other}: --set {self.name}.dtype={other}."
            elif self.dtype == "float16":
                fix = (
                    f"Use bfloat16, --set {self.name}.dtype=bfloat16, which has float32's range; oneDNN computes it "
                    "(--onednn on) on processors with AVX-512."
                )
            elif not COMPUTING.onednn:
                fix = "oneDNN computes bfloat16, and is switched off for small steps: add --onednn on."
            else:
                fix = f"oneDNN needs a processor with AVX-512 for it: leave {self.name} out."
            raise UsageError(
                f"{context} does not compute in {self.dtype} ({reason.partition('Error: ')[2]})",
                where=f"--set {self.name}.dtype={self.dtype}",
                fix=fix,
            ) from error

    def _convert(self, symbol: Any) -> Any:
        from importlib import import_module

        from trainer.mxnet import mx

        amp = import_module(f"{mx.__name__}.contrib.amp")
        # All inputs are named, so that they stay float32, as parameters and data are.
        return amp.convert_symbol(symbol, target_dtype=self.dtype, data_names=symbol.list_inputs())

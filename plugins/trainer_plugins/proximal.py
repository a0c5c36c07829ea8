"""L1 and L2 penalties as proximal steps, which set weights exactly to zero."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.errors import listed

if TYPE_CHECKING:
    from trainer import UpdatedWeight

Penalty = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TYPES = ("float32", "float64")


@dataclass
class Proximal(Plugin):
    """Penalizes weights with L1, L2 or both (the elastic net), and sets them exactly to zero.

    The objective is the mean loss + l1 · Σ|w| + l2 / 2 · Σw², as in scikit-learn with l1 = 1 / (n · C). Every update
    ends with the penalties' proximal step, w ← sign(w) · max(|w| - r · l1, 0) / (1 + r · l2), where r is the
    optimizer's step size: the learning rate with schedules and `lr_mult` for SGD, divided by 1 - momentum with momentum
    or Nesterov's, and for Adam and AdaGrad the rate of each weight (Yun et al. 2021). The share of weights that are
    zero is logged as `train/zero-weights` each epoch. It never waits for the device in a step.
    """

    l1: Annotated[
        Penalty, Field(description="The factor of the sum of the weights' absolute values.", examples=[0.01])
    ] = 0.0
    l2: Annotated[Penalty, Field(description="The factor of half the sum of the weights' squares.")] = 0.0
    parameters: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="Patterns of the parameters, by place in the net, such as 0.weight or 0.*."),
    ] = ("*weight",)

    phase = Phase.TRANSFORM
    logs = ("train/zero-weights",)

    def __post_init__(self) -> None:
        """Checks that there is a penalty."""
        if not self.l1 and not self.l2:
            raise ValueError("neither l1 nor l2 is given; set one, as in --set proximal.l1=0.001")
        self._steps: list[tuple[UpdatedWeight, _Step]] = []
        self._seen: Sequence[UpdatedWeight] = ()

    def __setattr__(self, name: str, value: object) -> None:
        """Its value has a name of its own if the plugin has one, as `proximal@NAME`."""
        super().__setattr__(name, value)
        if name == "name" and isinstance(value, str) and "@" in value:
            super().__setattr__("logs", (f"train/zero-weights/{value.partition('@')[2]}",))

    def on_setup(self, run: Run) -> None:
        """Refuses what would not be the documented objective. Raises UsageError."""
        _step_size(run.optimizer, where=f"plugin {self.name!r}")
        weights = run.after_update(lambda weights: self._shrink(run, weights))
        for pattern in self.parameters:
            if not any(fnmatchcase(weight.name, pattern) for weight in weights):
                raise UsageError(
                    f"{pattern!r} matches no parameter that is trained",
                    where=f"--set {self.name}.parameters",
                    fix=f"The trained parameters are: {listed([weight.name for weight in weights], 20)}.",
                )
        self._prepare(weights)

    def on_epoch_end(self, run: Run) -> None:
        """Logs the share of the weights that are zero. Waits for the device."""
        from trainer.mxnet import waiting

        with waiting:
            values = [weight.array.asnumpy() for weight, _ in self._steps]
        zeros = sum(value.size - np.count_nonzero(value) for value in values)
        run.log({self.logs[0]: zeros / max(1, sum(value.size for value in values))})

    def _shrink(self, run: Run, weights: Sequence[UpdatedWeight]) -> None:
        """The proximal step of every weight."""
        if weights is not self._seen:
            self._prepare(weights)
        size = _step_size(run.optimizer, where=f"plugin {self.name!r}")
        on_host = run.gradients.on_host
        if on_host:
            from trainer.calls import wait_for_all

            wait_for_all()
        for weight, step in self._steps:
            rate = size(weight)
            if rate > 0:
                step(rate * self.l1, rate * self.l2, on_host=on_host)

    def _prepare(self, weights: Sequence[UpdatedWeight]) -> None:
        self._seen = weights
        chosen = [each for each in weights if any(fnmatchcase(each.name, pattern) for pattern in self.parameters)]
        for weight in chosen:
            kind = np.dtype(weight.array.dtype).name
            if kind not in TYPES or weight.array.stype != "default":
                raise UsageError(
                    f"the parameter {weight.name} is {'sparse' if kind in TYPES else kind}; only dense weights of "
                    f"{listed(TYPES)} are shrunk",
                    where=f"plugin {self.name!r}",
                    fix=f"Leave it out: --set {self.name}.parameters=PATTERN,… names the others.",
                )
        self._steps = [(weight, _Step(weight, with_l2=self.l2 > 0)) for weight in chosen]


# ---- the step size ---------------------------------------------------------------------------------------------------


def _step_size(optimizer: Any, *, where: str) -> Callable[[UpdatedWeight], float]:
    """How far an update moves a weight per unit of a constant gradient; for Adam and AdaGrad without `_scale`.

    Moving by r · g and shrinking by r · l1 rest where g = ±l1, at the minimum of the objective. So a momentum, which
    moves by rate / (1 - momentum) in the long run, needs the same factor in the shrinkage.

    Raises UsageError for an optimizer whose step size is not known.
    """
    from trainer.mxnet import mx

    kind, name = type(optimizer), type(optimizer).__name__.lower()
    if kind in (mx.optimizer.SGD, mx.optimizer.NAG):
        momentum = optimizer.momentum
        if not 0 <= momentum < 1:
            raise UsageError(
                f"the optimizer's momentum is {momentum:g}, so it has no step size",
                where=where,
                fix="Use a momentum from 0 to below 1.",
            )
        return lambda weight: weight.learning_rate / (1 - momentum)
    if kind is mx.optimizer.Adam:
        return lambda weight: weight.learning_rate * math.sqrt(1 - optimizer.beta2**weight.updates)
    if kind is mx.optimizer.AdaGrad:
        return lambda weight: weight.learning_rate
    if kind is mx.optimizer.Ftrl:
        fix = "ftrl has an L1 penalty of its own: leave the plugin out, and set --set optimizer.lamda1=NUMBER."
    else:
        fix = "Use --optimizer sgd, nag, adam or adagrad."
    raise UsageError(f"the step size of {name} is not known, so its penalty would be another", where=where, fix=fix)


def _scale(weight: UpdatedWeight) -> tuple[list[_Operation], Any] | None:
    """Operations for what each weight's step is divided by, and the array that gets it; None for the same step size."""
    from trainer.mxnet import mx

    optimizer, array = weight.optimizer, weight.array
    if type(optimizer) is mx.optimizer.Adam:
        divisor = array.zeros_like()
        root = _Operation("sqrt", [weight.state[1]], divisor)
        return [root, _Operation("_plus_scalar", [divisor], divisor, "epsilon")], divisor
    if type(optimizer) is mx.optimizer.AdaGrad:
        divisor = array.zeros_like()
        sum_ = _Operation("_plus_scalar", [weight.state], divisor, "epsilon")
        return [sum_, _Operation("sqrt", [divisor], divisor)], divisor
    return None


# ---- the step --------------------------------------------------------------------------------------------------------


@dataclass
class _Operation:
    """One of MXNet's operators; numpy's function of `NUMPY` does the same."""

    operator: str
    inputs: Sequence[Any]
    output: Any
    scalar: str = ""
    """The name of a number that is given at every call."""


NUMPY: Mapping[str, Callable[..., Any]] = {
    "_copyto": np.positive,
    "sqrt": np.sqrt,
    "negative": np.negative,
    "_maximum": np.maximum,
    "_minimum": np.minimum,
    "elemwise_sub": np.subtract,
    "elemwise_div": np.divide,
    "_maximum_scalar": np.maximum,
    "_minimum_scalar": np.minimum,
    "_mul_scalar": np.multiply,
    "_plus_scalar": np.add,
    "_rdiv_scalar": lambda array, scalar, output: np.divide(scalar, array, output),
}


class _Step:
    """The proximal step of one weight: w - min(max(w, -t), t), which is exactly 0 up to t = r · l1, over 1 + r · l2."""

    def __init__(self, weight: UpdatedWeight, *, with_l2: bool) -> None:
        self._optimizer = weight.optimizer
        array, held = weight.array, weight.array.zeros_like()
        scale = _scale(weight)
        if scale is None:
            self._operations = [
                _Operation("_maximum_scalar", [array], held, "-l1"),
                _Operation("_minimum_scalar", [held], held, "l1"),
                _Operation("elemwise_sub", [array, held], held),
            ]
            of_l2 = [_Operation("_mul_scalar", [held], held, "1/(1+l2)")]
        else:
            before, divisor = scale
            limit, lower = array.zeros_like(), array.zeros_like()
            self._operations = [
                *before,
                _Operation("_rdiv_scalar", [divisor], limit, "l1"),
                _Operation("negative", [limit], lower),
                _Operation("_maximum", [array, lower], held),
                _Operation("_minimum", [held, limit], held),
                _Operation("elemwise_sub", [array, held], held),
            ]
            of_l2 = [
                _Operation("_rdiv_scalar", [divisor], limit, "l2"),
                _Operation("_plus_scalar", [limit], limit, "1"),
                _Operation("elemwise_div", [held, limit], held),
            ]
        self._operations += of_l2 if with_l2 else []
        # The weights of convolutions must not be an operator's output: oneDNN may have changed their layout.
        self._operations.append(_Operation("_copyto", [held], array))
        self._by_mxnet: list[tuple[Any, str]] = []
        self._by_numpy: list[tuple[Callable[..., Any], list[Any], Any, str]] = []

    def __call__(self, l1: float, l2: float, *, on_host: bool) -> None:
        """Shrinks the weight; `l1` and `l2` are the penalties times the step size."""
        # MXNet takes no denormal numbers as attributes.
        l1, l2 = (each if each >= sys.float_info.min else 0.0 for each in (l1, l2))
        given = {"l1": l1, "-l1": -l1, "l2": l2, "1/(1+l2)": 1 / (1 + l2), "1": 1.0, "epsilon": self._epsilon()}
        if on_host:
            self._on_host(given)
            return
        if not self._by_mxnet:
            self._by_mxnet = [(_call(each), each.scalar) for each in self._operations]
        for call, scalar in self._by_mxnet:
            if not scalar:
                call()
            else:
                call.having(given[scalar])

    def _epsilon(self) -> float:
        """What the optimizer adds to keep divisors above 0; 0 if it does not divide."""
        return float(getattr(self._optimizer, "epsilon", getattr(self._optimizer, "float_stable_eps", 0.0)))

    def _on_host(self, given: Mapping[str, float]) -> None:
        """Computed by numpy: for a small net, starting MXNet's operators takes longer than its whole step."""
        from trainer.calls import memory_of

        if not self._by_numpy:
            for each in self._operations:
                inputs = [memory_of(array) for array in each.inputs]
                self._by_numpy.append((NUMPY[each.operator], inputs, memory_of(each.output), each.scalar))
        for function, inputs, output, scalar in self._by_numpy:
            if not scalar:
                function(*inputs, output)
            else:
                function(*inputs, output.dtype.type(given[scalar]), output)


def _call(operation: _Operation) -> Any:
    from trainer.calls import Call

    attributes = {"scalar": 0.0} if operation.scalar else {}
    return Call(operation.operator, operation.inputs, operation.output, **attributes)

"""Losses of numbers to predict: the net computes on a scale of its own, the losses are in the label's unit.

A label `y` is `(y - offset) / scale` to the net. The gradient with respect to the net's output is that of the loss on
the net's scale, so that the learning rate means the same whatever the unit; the value is the loss in the label's unit.
`trainer.step.number_forms` has both in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from trainer.errors import UsageError
from trainer.mxnet import gluon

LOSSES = ("squared", "absolute", "huber", "quantile", "poisson")
"""The names that `NumberLoss.of` takes."""


class NumberLoss(gluon.loss.Loss):  # type: ignore[misc]
    """The loss of a number: from outputs (rows, columns) and labels (rows,), one value per row, in the label's unit.

    `offset` and `scale` lead from the net's scale to the label's unit; they are 0 and 1 for a label as it is. Make one
    with `NumberLoss.of`.
    """

    is_smooth = True
    """Whether its gradient is continuous, so that an optimum can be found by following it."""

    def __init__(self, *, offset: float = 0.0, scale: float = 1.0, weight: float | None = None) -> None:
        super().__init__(weight, 0)
        self.offset, self.scale = float(offset), float(scale)

    @staticmethod
    def of(
        name: str, *, offset: float = 0.0, scale: float = 1.0, delta: float = 1.0, quantiles: Sequence[float] = (0.5,)
    ) -> NumberLoss:
        """The loss of that name.

        - `squared`: the squared error;
        - `absolute`: the absolute error;
        - `huber`: half the squared error up to `delta`, in the label's unit, `delta` × (error - `delta` / 2) beyond;
        - `quantile`: the mean of the pinball losses of the `quantiles`, one output each (see `QuantileLoss`);
        - `poisson`: the Poisson deviance, of which `scale` × exp(output) is the expected number. It has no offset.

        Raises UsageError for another name, and for values that are not possible.
        """
        if name == "huber":
            return HuberLoss(delta, offset=offset, scale=scale)
        if name == "quantile":
            return QuantileLoss(quantiles, offset=offset, scale=scale)
        if name == "poisson":
            return PoissonLoss(scale=scale)
        if name not in LOSSES:
            raise UsageError(f"there is no loss {name!r} of a number", fix=f"There are: {', '.join(LOSSES)}.")
        return (SquaredLoss if name == "squared" else AbsoluteLoss)(offset=offset, scale=scale)

    @property
    def ratio(self) -> float:
        """The loss in the label's unit divided by that on the net's scale, up to a constant difference."""
        return self.scale

    def hybrid_forward(self, F: Any, output: Any, label: Any, sample_weight: Any = None) -> Any:  # noqa: N803
        """The losses (rows,); `sample_weight` is (rows, 1)."""
        own, value = self.parts(F, output, label)
        # The second term is 0, and has the gradient of the loss on the net's scale.
        loss = F.BlockGrad(value) + (own - F.BlockGrad(own))
        if sample_weight is not None:
            loss = F.broadcast_mul(loss, sample_weight)
        if self._weight is not None:
            loss = loss * self._weight
        return F.mean(loss, axis=0, exclude=True)

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """The loss on the net's scale, whose gradient counts, and in the label's unit; both (rows, columns)."""
        raise NotImplementedError

    def predictions(self, output: Any) -> Any:
        """What outputs (rows, 1), an array or a symbol, predict in the label's unit: (rows,)."""
        return (output * self.scale + self.offset).reshape((-1,))

    def difference(self, F: Any, output: Any, label: Any) -> Any:  # noqa: N803
        """Output minus label on the net's scale."""
        return output - (F.reshape_like(label, output) - self.offset) / self.scale


class SquaredLoss(NumberLoss):
    """The squared error. Its gradient is that of half of it on the net's scale, like Gluon's `L2Loss`."""

    @property
    def ratio(self) -> float:
        """Twice the square of the scale."""
        return 2 * self.scale**2

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """Half the squared difference, and the squared error."""
        apart = self.difference(F, output, label)
        return F.square(apart) / 2, F.square(apart * self.scale)


class AbsoluteLoss(NumberLoss):
    """The absolute error."""

    is_smooth = False

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """The absolute difference, and the absolute error."""
        apart = F.abs(self.difference(F, output, label))
        return apart, apart * self.scale


class HuberLoss(NumberLoss):
    """Half the squared error up to `delta`, in the label's unit, and `delta` × (error - `delta` / 2) beyond."""

    def __init__(self, delta: float = 1.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not 0 < delta < float("inf"):
            raise UsageError(f"delta is {delta!r}", where="Huber loss", fix="Use a number > 0.")
        self.delta = float(delta)

    @property
    def ratio(self) -> float:
        """The square of the scale."""
        return self.scale**2

    @property
    def bend(self) -> float:
        """`delta` on the net's scale."""
        return self.delta / self.scale

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """The loss of the differences, and the same times the square of the scale."""
        apart = F.abs(self.difference(F, output, label))
        inside = F.clip(apart, 0, self.bend)
        own = inside * (apart - inside / 2)
        return own, own * self.scale * self.scale


class QuantileLoss(NumberLoss):
    """The mean of the pinball losses of several quantiles: `quantile` × error above, (1 - `quantile`) × error below.

    The first output is the lowest quantile, and each further one, by the function softplus, how far the next quantile
    is above the one before. So quantiles never cross.
    """

    is_smooth = False

    def __init__(self, quantiles: Sequence[float] = (0.5,), **arguments: Any) -> None:
        super().__init__(**arguments)
        quantiles = tuple(map(float, quantiles))
        rising = all(low < high for low, high in pairwise(quantiles))
        if not quantiles or not rising or not 0 < quantiles[0] <= quantiles[-1] < 1:
            raise UsageError(f"the quantiles are {quantiles}", fix="Use rising numbers between 0 and 1.")
        self.quantiles = quantiles

    def levels(self, output: Any) -> Any:
        """The quantiles on the net's scale, (rows, quantiles), of an array or a symbol."""
        if len(self.quantiles) == 1:
            return output
        from trainer.mxnet import mx

        F = mx.sym if isinstance(output, mx.sym.Symbol) else mx.nd  # noqa: N806
        found = [output.slice_axis(axis=1, begin=0, end=1)]
        for number in range(1, len(self.quantiles)):
            step = output.slice_axis(axis=1, begin=number, end=number + 1)
            # With oneDNN, values of softrelu near 0 are off by 2e-6, and may be negative.
            found.append(found[-1] + F.relu(F.Activation(step, act_type="softrelu")))
        return F.concat(*found, dim=1)

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """The pinball loss of each quantile, and the same times the scale."""
        label = (F.reshape(label, (-1, 1)) - self.offset) / self.scale
        error = F.broadcast_sub(label, self.levels(output))
        tilts = F.concat(*[
            F.slice_axis(error, axis=1, begin=number, end=number + 1) * (quantile - 0.5)
            for number, quantile in enumerate(self.quantiles)
        ], dim=1)  # fmt: skip
        own = F.abs(error) / 2 + tilts
        return own, own * self.scale

    def predictions(self, output: Any) -> Any:
        """The quantiles, (rows, quantiles)."""
        return self.levels(output) * self.scale + self.offset


class PoissonLoss(NumberLoss):
    """The Poisson deviance 2 × (y log(y / m) - y + m) of counts or rates y ≥ 0 with the mean m = `scale` × exp(output).

    Its gradient is that of half of it on the net's scale: exp(output) - y / `scale`.
    """

    def __init__(self, *, scale: float = 1.0, weight: float | None = None) -> None:
        super().__init__(scale=scale, weight=weight)

    @property
    def ratio(self) -> float:
        """Twice the scale."""
        return 2 * self.scale

    def parts(self, F: Any, output: Any, label: Any) -> tuple[Any, Any]:  # noqa: N803
        """exp(output) - label × output, which lacks a constant, and the deviance."""
        label = F.reshape_like(label, output) / self.scale
        mean = F.exp(output)
        # y × (d + exp(-d) - 1) for d = log y - output, so that nothing cancels where the two are close.
        # Not with F.where, whose backward pass here ends the process.
        is_zero = label == 0
        apart = F.log(label + is_zero) - output
        half = label * (apart + F.expm1(-apart)) + is_zero * mean
        return mean - label * output, half * (2 * self.scale)

    def predictions(self, output: Any) -> Any:
        """The expected numbers, (rows,)."""
        return (output.exp() * self.scale).reshape((-1,))

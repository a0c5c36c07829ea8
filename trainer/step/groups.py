"""Groups of parameters that are updated as one array, and the gradients of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.errors import ChangeError
from trainer.step.clipping import Clipping, HostClipping

if TYPE_CHECKING:
    from trainer.mxnet import Array
    from trainer.step.touched import TouchedRows


_Kind = TypeVar("_Kind", Clipping, HostClipping)
LARGEST = float(np.finfo(np.float32).max)
ELEMENTWISE = frozenset(
    {"sgd", "nag", "adam", "adagrad", "adadelta", "adamax", "rmsprop", "ftrl", "ftml", "signum", "dcasgd", "ccsgd"}
)
"""Optimizers whose update of an element depends only on that element's history, so many parameters can be updated as
one. Not Nadam, which advances a schedule at every call. Other optimizers get one array per parameter, which is correct
for all."""


@dataclass(slots=True)
class Group:
    """Parameters that are reduced and updated as one array."""

    names: tuple[str, ...]
    """Their places in the net."""
    weights: list[Array]
    """One per context, all with the same values."""
    gradients: list[Array]
    """One per context."""
    first: Any
    """The group's first Gluon parameter; the optimizer reads the multipliers from it."""
    table: TouchedRows | None = None
    """Set if only the rows that a batch uses are trained; the gradients are then those of these rows."""

    def reduce(self, rows: Sequence[int]) -> None:
        """Sums the gradients of the contexts with rows into the first context's."""
        total = self.gradients[0]
        for gradient, has_rows in zip(self.gradients[1:], rows[1:], strict=True):
            if has_rows:
                total += gradient.as_in_context(total.context)


class Gradients:
    """The gradients of a batch, summed over its rows and the contexts, on the first context.

    The update divides by `rows`, so the gradient of the mean loss is `array / rows`. To change gradients, a plugin
    writes to `arrays` or sets `factor`; the latter is free, because the optimizer multiplies by it anyway.
    """

    __slots__ = ("_arrays", "_clipping", "_compute", "factor", "on_host", "rows", "tables")

    def __init__(
        self,
        arrays: list[Array],
        rows: int = 0,
        factor: float = 1.0,
        *,
        on_host: bool = False,
        tables: tuple[str, ...] = (),
    ) -> None:
        self._arrays = arrays
        self.rows = rows
        self.factor = factor
        self.on_host = on_host
        """Whether numpy computed them: MXNet has nothing queued for them."""
        self.tables = tables
        """The parameters whose array has only the rows that the batch uses: other ones with every batch."""
        self._clipping: Clipping | HostClipping | None = None
        self._compute: Callable[[], None] | None = None

    @property
    def arrays(self) -> list[Array]:
        """One array per group of parameters.

        Those of a table of which only the rows of a batch are trained are computed when they are first asked for.
        """
        self.compute()
        return self._arrays

    @arrays.setter
    def arrays(self, arrays: list[Array]) -> None:
        self._arrays = arrays

    @property
    def are_pending(self) -> bool:
        """Whether arrays that are computed when they are read were not read yet."""
        return self._compute is not None

    def compute(self) -> None:
        """Computes the arrays that wait to be asked for."""
        if self._compute is not None:
            compute, self._compute = self._compute, None
            compute()

    def pend(self, compute: Callable[[], None] | None) -> None:
        """Leaves arrays to be computed by this function when they are read."""
        self._compute = compute

    def clip(self, limit: float) -> None:
        """Scales the arrays so that the norm is at most `limit`; leaves them as they are if it is not finite.

        Does not wait for the device.
        """
        arrays, largest = self.arrays, limit * self.rows / abs(self.factor) if self.factor else 0.0
        # The device has the limit as float32, where a larger one would be infinite.
        if not 0 < largest < LARGEST:
            return
        if not all(array.stype == "default" for array in arrays):
            norm = self.norm()
            if limit < norm < float("inf"):
                self.factor *= limit / norm
            return
        clipped: Clipping | HostClipping = self._clipped(HostClipping) if self.on_host else self._clipped(Clipping)
        clipped(largest)

    def _clipped(self, kind: type[_Kind]) -> _Kind:
        """What clips the arrays, which a plugin may have replaced."""
        clipping, arrays = self._clipping, self.arrays
        if (
            not isinstance(clipping, kind)
            or len(clipping.arrays) != len(arrays)
            or not all(map(is_, clipping.arrays, arrays))
        ):
            clipping = self._clipping = kind(arrays)
        return clipping

    def norm(self) -> float:
        """The global 2-norm of the gradient of the mean loss. Waits for the device."""
        if self.on_host:
            return self._clipped(HostClipping).norm() * abs(self.factor) / max(self.rows, 1)
        from trainer.mxnet import mx

        types = sorted({np.dtype(array.dtype).name for array in self.arrays})
        by_type = [[array for array in self.arrays if np.dtype(array.dtype).name == name] for name in types]
        squares = [mx.nd.multi_sum_sq(*arrays, num_arrays=len(arrays)) for arrays in by_type]
        with waiting:
            total = sum(float(square.asnumpy().sum(dtype=np.float64)) for square in squares)
        return float(np.sqrt(total)) * abs(self.factor) / max(self.rows, 1)


class Guarding(Protocol):
    """Something that may undo an update on the device (`trainer.step.guard`)."""

    @property
    def has_found(self) -> bool:
        """Whether updates on the host are to be left out."""

    def before_step(self) -> None:
        """Before the forward pass."""

    def before_update(self) -> None:
        """Before the optimizer runs."""

    def after_update(self) -> None:
        """After the optimizer has run on the first context."""


def take_back(gradients: Gradients, own: Sequence[Array]) -> None:
    """Writes arrays that a plugin has put in place of the gradients' own into these.

    Raises ChangeError for arrays that do not fit, and for a factor that is not a number.
    """
    if gradients.are_pending:
        own = arrays = []
    else:
        arrays = gradients.arrays
    if len(arrays) != len(own) or not all(map(is_, arrays, own)):
        shapes, found = [array.shape for array in own], [getattr(array, "shape", None) for array in arrays]
        if found != shapes:
            raise ChangeError(
                f"its arrays of shapes {shapes} were replaced by others of {found}",
                where="run.gradients",
                fix="Write into the arrays: array[:] = ….",
            )
        for new, old in zip(arrays, own, strict=True):
            if new is not old:
                new.copyto(old)
        gradients.arrays = list(own)
    if not isinstance(gradients.factor, (int, float, np.number)):
        raise ChangeError(
            f"its factor is {gradients.factor!r}, not a number", where="run.gradients", fix="Set a number."
        )


def parameters_of(net: Any, loss: Any) -> dict[str, Any]:
    """The parameters of net and loss by their place, each once, in Gluon's order."""
    places: dict[int, str] = {}
    owned: list[Any] = []
    for prefix, block in (("", net), ("loss:", loss)):
        if hasattr(block, "collect_params"):
            for place, parameter in block._collect_params_with_prefix().items():  # noqa: SLF001  as save_parameters
                places.setdefault(id(parameter), prefix + place)
            for name, parameter in block.collect_params().items():
                # A parameter that is not an attribute of its block has no place, only Gluon's name.
                places.setdefault(id(parameter), prefix + name.removeprefix(block.prefix))
                owned.append(parameter)
    return {places[id(parameter)]: parameter for parameter in owned}


def put(value: NDArray[Any], arrays: Sequence[Array]) -> None:
    """Writes a value into the arrays of a parameter.

    It copies between NDArrays, because writing numpy values fails if oneDNN has changed the layout of a convolution's
    weights.
    """
    from trainer.mxnet import mx

    for array in arrays:
        if array.stype == "default":
            mx.nd.array(value, ctx=array.context, dtype=array.dtype).copyto(array)
        else:
            array[:] = value


def settle(measured: Sequence[Any]) -> None:
    """Makes the next read of running statistics wait for the pass that writes them.

    BatchNorm's backward pass writes these arrays, but tells MXNet's scheduler that it only reads them. A write waits
    for earlier reads, even one that changes nothing.
    """
    for parameter in measured:
        for array in parameter.list_data():
            array.__imul__(1)


def swap(arrays: Sequence[Sequence[Array]], values: Sequence[Array]) -> None:
    """Swaps each value with the arrays of all contexts, which are the same."""
    for each, value in zip(arrays, values, strict=True):
        held = each[0].copy()
        for array in each:
            value.copyto(array)
        held.copyto(value)


def average(arrays: Sequence[Array], rows: Sequence[int]) -> None:
    """Sets an array on all contexts to its mean over them, weighted by their rows."""
    mean, *others = arrays
    # Differences, so that equal values stay identical to the bit.
    changes = [
        (other.as_in_context(mean.context) - mean) * (count / sum(rows))
        for other, count in zip(others, rows[1:], strict=True)
        if count
    ]
    for change in changes:
        mean += change
    for other in others:
        mean.copyto(other)


def is_dense(parameter: Any) -> bool:
    """Whether neither the parameter nor its gradient is stored sparsely."""
    return bool(parameter._stype == parameter._grad_stype == "default")  # noqa: SLF001  there is no public way to ask


def is_table(parameter: Any) -> bool:
    """Whether the parameter is stored densely as float32 and has a gradient of rows, as `sparse_grad=True` asks for."""
    kinds = parameter._stype, parameter._grad_stype  # noqa: SLF001  there is no public way to ask
    return kinds == ("default", "row_sparse") and np.dtype(parameter.dtype) == np.float32


def updates_rows(optimizer: Any) -> bool:
    """Whether rows of a parameter can be updated without the others, and the optimizer is not told to update all."""
    is_plain = type(optimizer).__module__.startswith("mxnet.") and type(optimizer).__name__.lower() in ELEMENTWISE
    return is_plain and bool(getattr(optimizer, "lazy_update", True))

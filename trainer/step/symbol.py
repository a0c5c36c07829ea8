"""Net and loss as symbols: what the compiled step binds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer._mxnet import gluon, mx
from trainer.step.parameters import is_dense


class CannotCompile(Exception):  # noqa: N818  a condition with a reason, caught at once
    """Net or loss cannot become a symbol; the message says why."""


@dataclass(frozen=True)
class Graph:
    """The symbols of one step. Each gives the per-row losses first, then the outputs."""

    training: Any
    inference: Any
    inputs: tuple[str, ...]
    label: str
    weight: str | None
    outputs: int

    @property
    def has_convolution(self) -> bool:
        """Whether oneDNN may reorder a weight in place, which a slice of a flat buffer does not bear."""
        return _has_operator(self.inference, ("Convolution", "Deconvolution"))


def trace(net: Any, loss: Any, *, inputs: int, weighted: bool) -> Graph:
    """The symbols of net and loss; raises CannotCompile where either has no symbolic form."""
    for block, word in ((net, "net"), (loss, "loss")):
        if not isinstance(block, gluon.HybridBlock):
            raise CannotCompile(f"the {word} ({type(block).__name__}) is not a HybridBlock")
    names = tuple(f"input{number}" for number in range(inputs))
    label = mx.sym.var("label")
    weight = [mx.sym.var("weight")] if weighted else []
    try:
        outputs = net(*[mx.sym.var(name) for name in names])
        rows = loss(outputs, label, *weight)
    except Exception as error:
        # A hybrid_forward that asks for a shape or a value is fine under autograd, and raises anything it likes here.
        raise CannotCompile(f"it cannot be traced ({type(error).__name__}: {_first_line(error)})") from error
    if not isinstance(rows, mx.sym.Symbol) or len(rows.list_outputs()) != 1:
        raise CannotCompile("the loss gives more than one output")
    listed = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    if not all(isinstance(output, mx.sym.Symbol) for output in listed):
        raise CannotCompile("the net gives nested outputs")
    for parameter in [*net.collect_params().values(), *loss.collect_params().values()]:
        if not is_dense(parameter):
            raise CannotCompile(f"the parameter {parameter.name} is sparse")
    return Graph(
        # make_loss starts the backward pass with ones; BlockGrad keeps the outputs out of it.
        training=mx.sym.Group([mx.sym.make_loss(rows), *[mx.sym.BlockGrad(output) for output in listed]]),
        inference=mx.sym.Group([rows, *listed]),
        inputs=names,
        label="label",
        weight="weight" if weighted else None,
        outputs=len(listed),
    )


def draws_random_numbers(symbol: Any) -> bool:
    """Whether training a net with this symbol draws random numbers."""
    return _has_operator(
        symbol, ("Dropout", "RNN", "_random", "_sample", "_np_random", "_npi_random", "_npi_bernoulli")
    )


def _has_operator(symbol: Any, prefixes: tuple[str, ...]) -> bool:
    import json

    return any(node["op"].startswith(prefixes) for node in json.loads(symbol.tojson())["nodes"])


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")

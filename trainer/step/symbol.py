"""Traces net and loss into the symbols that the compiled step binds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from trainer.errors import first_line
from trainer.mxnet import Array, gluon, mx
from trainer.step.closed_form import LABEL, OUTPUT, WEIGHT, Lean, closed_form
from trainer.step.groups import is_dense, is_table
from trainer.step.lookups import Lookups, lookups_of
from trainer.step.losses import column


class CannotCompile(Exception):  # noqa: N818  not an error: it carries a reason and is caught at once
    """Net or loss cannot become a symbol; the message says why."""


@dataclass(frozen=True)
class Graph:
    """The symbols of one step. `training` and `inference` return the per-row losses first, then the outputs."""

    training: Any
    inference: Any
    inputs: tuple[str, ...]
    label: str
    weight: str | None
    outputs: int
    lean: Lean | None = None
    """What is bound for training instead of `training` if the loss has a closed form."""
    lookups: Lookups = field(default_factory=dict)
    """The tables of which only the rows that a batch uses are trained."""
    arguments: Mapping[str, Callable[[Any], Array]] = field(default_factory=dict)
    """Makes the array on a context for variables of the training symbol that are neither data nor parameters."""

    def with_training(self, symbol: Any, arguments: Mapping[str, Callable[[Any], Array]]) -> Graph:
        """A copy with another training symbol, which must have the same number of outputs."""
        return replace(self, training=symbol, lean=None, arguments={**self.arguments, **arguments})

    @property
    def has_convolution(self) -> bool:
        """Whether oneDNN may reorder a weight in place, which a slice of a flat buffer does not survive."""
        return _has_operator(self.inference, ("Convolution", "Deconvolution"))


def trace(
    net: Any, loss: Any, *, sample: Sequence[Array], weighted: bool, lean: bool = True, lazy: bool = False
) -> Graph:
    """The symbols of net and loss; raises CannotCompile if either has no symbolic form.

    `sample` holds one row of each input. `lean=False` leaves a closed form of the loss out. `lazy` says that device and
    optimizer can train only the rows of a table that a batch uses, if the net asks for that with `sparse_grad=True`.
    """
    for block, word in ((net, "net"), (loss, "loss")):
        if not isinstance(block, gluon.HybridBlock):
            raise CannotCompile(f"the {word} ({type(block).__name__}) is not a HybridBlock")
    names = tuple(f"batch:input{number}" for number in range(len(sample)))
    try:
        outputs = net(*[mx.sym.var(name) for name in names])
        listed = _listed(outputs)
        label, shape = mx.sym.var(LABEL), _shape(listed[0], names, sample)
        weights = [column(mx.sym.var(WEIGHT), len(shape))] if weighted else []
        rows = loss(outputs, label, *weights)
    except CannotCompile:
        raise
    except Exception as error:
        # A hybrid_forward that reads a shape or a value works under autograd, but may raise anything here.
        raise CannotCompile(f"it cannot be traced ({type(error).__name__}: {first_line(error)})") from error
    if not isinstance(rows, mx.sym.Symbol) or len(rows.list_outputs()) != 1:
        raise CannotCompile("the loss returns more than one output")
    parameters = {**net.collect_params(), **loss.collect_params()}
    sparse = [name for name, parameter in parameters.items() if not is_dense(parameter)]
    tables = [name for name in sparse if lazy and is_table(parameters[name])]
    lookups = lookups_of(mx.sym.Group([rows, *listed]), names, tables) if tables == sparse else None
    if lookups is None or any(np.dtype(sample[each.input].dtype).kind not in "if" for each in chain(*lookups.values())):
        raise CannotCompile(f"the parameter {sparse[0]} is sparse")
    return Graph(
        # make_loss starts the backward pass with ones; BlockGrad excludes the outputs from it.
        training=mx.sym.Group([mx.sym.make_loss(rows), *[mx.sym.BlockGrad(output) for output in listed]]),
        inference=mx.sym.Group([rows, *listed]),
        inputs=names,
        label=LABEL,
        weight=WEIGHT if weighted else None,
        outputs=len(listed),
        lookups=lookups,
        lean=_lean(loss, listed[0], label, weights, shape) if lean and len(listed) == 1 else None,
    )


def _lean(loss: Any, output: Any, label: Any, weights: Sequence[Any], shape: Sequence[int]) -> Lean | None:
    """The symbol without the loss, for one output (rows, columns); None if that is not enough for its gradient."""
    if len(shape) != 2:
        return None
    form = closed_form(loss, output, label, weights[0] if weights else None, shape[1])
    if form is None:
        return None
    kept = mx.sym.concat(*[part.reshape((-1,)) for part in (output, label, *weights)], dim=0)
    return Lean(
        symbol=mx.sym.Group([form.head, mx.sym.BlockGrad(output)]),
        output=output,
        joined=mx.sym.Group([form.head, mx.sym.BlockGrad(output), mx.sym.BlockGrad(kept)]),
        by_row=loss(mx.sym.var(OUTPUT), label, *weights),
        weighted=bool(weights),
        columns=shape[1],
        losses=form.losses,
        on_host=form.on_host,
    )


def _listed(outputs: Any) -> list[Any]:
    """The outputs one by one; a single symbol, such as a split's, may have several."""
    parts = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if not all(isinstance(part, mx.sym.Symbol) for part in parts):
        raise CannotCompile("the net returns nested outputs")
    return [output for part in parts for output in part]


def _shape(output: Any, names: Sequence[str], sample: Sequence[Array]) -> tuple[int, ...]:
    """The shape of an output for one row; it may hold unknown sizes, -1 or 0."""
    _, shapes, _ = output.infer_shape(
        **{name: part.shape for name, part in zip(names, sample, strict=True) if name in output.list_arguments()}
    )
    return tuple(shapes[0])


def draws_random_numbers(symbol: Any) -> bool:
    """Whether training a net with this symbol draws random numbers."""
    return any(node["op"].startswith(("Dropout", "RNN", *RANDOM)) for node in _nodes(symbol))


def draws_in_inference(symbol: Any) -> bool:
    """Whether evaluating a net with this symbol draws random numbers; ordinary dropout does so in training only."""
    return any(
        node["op"].startswith(RANDOM) or node.get("attrs", {}).get("mode") == "always" for node in _nodes(symbol)
    )


RANDOM = ("_random", "_sample", "_np_random", "_npi_random", "_npi_bernoulli")
"""Name prefixes of operators that draw random numbers whenever they run."""


def _has_operator(symbol: Any, prefixes: tuple[str, ...]) -> bool:
    return any(node["op"].startswith(prefixes) for node in _nodes(symbol))


def _nodes(symbol: Any) -> list[dict[str, Any]]:
    import json

    nodes: list[dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
    return nodes

"""One optimisation step: `forward_backward(batch)`, then `update(rows)`; plugins live between them.

Two ways to compute it give the same results. The compiled step turns net and loss into one symbol, bound to the
parameters' own arrays; the recorded step runs them under autograd, and is there for everything that cannot be bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from trainer.step.compiled import CompiledStep
from trainer.step.losses import TrainingLoss
from trainer.step.micro_batches import MicroBatchStep
from trainer.step.parameters import Gradients, Parameters
from trainer.step.recorded import RecordedStep
from trainer.step.symbol import CannotCompile, Graph, trace

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array, Context


class Step(Protocol):
    """What the loop needs of a step."""

    kind: str
    """`compiled` or `recorded`."""
    why: str
    """Why it is recorded; empty where it is compiled."""
    parameters: Parameters
    gradients: Gradients
    loss: TrainingLoss
    symbol: Any
    """Losses and outputs as an MXNet symbol; None where the step is recorded."""
    draws_random_numbers: bool
    """Whether training may draw random numbers from MXNet's generator; true where it cannot be known."""
    draws_in_inference: bool
    """Whether evaluating is known to draw some too."""

    def forward_backward(self, batch: Batch) -> None:
        """Loss and gradients of a batch, summed over its rows and over the contexts."""

    def update(self) -> None:
        """Moves the weights by the gradients of the newest batch."""

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses, one array a context that has rows, as in inference."""

    def outputs(self) -> list[Array]:
        """The outputs of the newest training batch, one array a context."""


def make_step(
    net: Any,
    loss: Any,
    *,
    optimizer: Any,
    contexts: Sequence[Context],
    sample: Sequence[Array],
    weighted: bool,
    compiled: bool = True,
    parts: Sequence[Context] | None = None,
    change: Callable[[Graph], Graph] | None = None,
) -> Step:
    """The compiled step where net and loss can be bound, the recorded one otherwise.

    `sample` holds one row of every input; it gave the parameters their shapes. `compiled=False` asks for the recorded
    step, for comparison and for debugging inside a net. `parts` are the contexts of a batch's micro-batches, in turn;
    None for one part a context. `change` may change the graph that is bound. Raises UsageError for an optimizer that
    does not take the net's parameters.
    """
    if compiled:
        try:
            graph = trace(net, loss, sample=sample, weighted=weighted)
        except CannotCompile as reason:
            why = str(reason)
        else:
            if change is not None:
                graph = change(graph)
            parameters = Parameters(net, loss, optimizer=optimizer, contexts=contexts, flat=not graph.has_convolution)
            return _in_parts(CompiledStep(graph, parameters, contexts), contexts, parts)
    else:
        why = "asked for"
    parameters = Parameters(net, loss, optimizer=optimizer, contexts=contexts, flat=False)
    return _in_parts(RecordedStep(net, loss, parameters, contexts, why=why), contexts, parts)


def _in_parts(step: CompiledStep | RecordedStep, contexts: Sequence[Context], parts: Sequence[Context] | None) -> Step:
    return step if parts is None else MicroBatchStep(step, contexts, parts)


__all__ = ["CompiledStep", "Gradients", "Parameters", "RecordedStep", "Step", "TrainingLoss", "make_step"]

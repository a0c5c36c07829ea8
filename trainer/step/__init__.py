"""One optimisation step: `forward_backward(batch)`, then `update()`; plugins run between them.

There are two implementations with the same results. The compiled step turns net and loss into one symbol, bound to the
parameters' own arrays. The recorded step runs them under autograd, for everything that cannot be bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from trainer.host_memory import is_host
from trainer.step.compiled import CompiledStep
from trainer.step.groups import Gradients, updates_rows
from trainer.step.losses import TrainingLoss
from trainer.step.micro_batches import MicroBatchStep
from trainer.step.parameters import Parameters
from trainer.step.recorded import RecordedStep
from trainer.step.symbol import CannotCompile, Graph, trace

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array, Context


class Step(Protocol):
    """The interface that the loop uses."""

    kind: str
    """`compiled` or `recorded`, or the solver's name."""
    why: str
    """Why it is recorded; empty if it is compiled."""
    parameters: Parameters
    gradients: Gradients
    loss: TrainingLoss
    symbol: Any
    """Losses and outputs as an MXNet symbol; None if the step is recorded."""
    draws_random_numbers: bool
    """Whether training may draw random numbers from MXNet's generator; true if unknown."""
    draws_in_inference: bool
    """Whether evaluation is known to draw random numbers too."""
    finished: str | None
    """Why more updates would change nothing; empty as long as they would, and None if it cannot know."""

    def forward_backward(self, batch: Batch) -> None:
        """Computes loss and gradients of a batch, summed over its rows and the contexts."""

    def update(self) -> None:
        """Updates the weights from the latest batch's gradients."""

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses in inference mode, one array per context with rows."""

    def outputs(self) -> list[Array]:
        """The outputs of the latest training batch, one array per context with rows."""


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
    """The compiled step if net and loss can be bound, otherwise the recorded one.

    `sample` holds one row of each input; the parameters' shapes come from it. `compiled=False` requests the recorded
    step, to compare the two or to debug inside a net. `parts` lists the contexts of a batch's micro-batches in order;
    None means one part per context. `change` may change the graph before it is bound. Raises UsageError if the
    optimizer does not accept the net's parameters.
    """
    if compiled:
        try:
            lazy = all(map(is_host, contexts)) and updates_rows(optimizer)
            graph = trace(net, loss, sample=sample, weighted=weighted, lean=parts is None, lazy=lazy)
        except CannotCompile as reason:
            why = str(reason)
        else:
            if change is not None:
                graph = change(graph)
            parameters = Parameters(
                net,
                loss,
                optimizer=optimizer,
                contexts=contexts,
                flat=not graph.has_convolution,
                lookups=graph.lookups,
            )
            return _in_parts(CompiledStep(graph, parameters, contexts, sample), contexts, parts)
    else:
        why = "requested"
    parameters = Parameters(net, loss, optimizer=optimizer, contexts=contexts, flat=False)
    return _in_parts(RecordedStep(net, loss, parameters, contexts, why=why), contexts, parts)


def _in_parts(step: CompiledStep | RecordedStep, contexts: Sequence[Context], parts: Sequence[Context] | None) -> Step:
    return step if parts is None else MicroBatchStep(step, contexts, parts)


__all__ = ["CompiledStep", "Gradients", "Parameters", "RecordedStep", "Step", "TrainingLoss", "make_step"]

"""What class weights of a loss do to a net's outputs, and how that is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_NAMED = 6
"""Classes whose weights are named."""


def shifted(outputs: Any, logs: NDArray[np.float64]) -> Any:
    """Outputs, arrays or symbols, minus the logarithms of the class weights; of one output, minus their difference."""
    if len(logs) == 2:
        return outputs - float(logs[1] - logs[0])
    from trainer.mxnet import mx

    if isinstance(outputs, mx.nd.NDArray):
        return outputs - mx.nd.array(logs.reshape(1, -1), ctx=outputs.context, dtype=outputs.dtype)
    # A symbol has no constants but numbers.
    columns = [
        mx.sym.slice_axis(outputs, axis=1, begin=number, end=number + 1) - float(log) for number, log in enumerate(logs)
    ]
    return mx.sym.concat(*columns, dim=1)


def notes_on_class_weights(task: Any) -> Iterator[str]:
    """What was done about them, if the loss has any."""
    weights = getattr(task, "_weights_in_loss", None)
    if weights is None:
        return
    names = list(task.class_names()) or [str(number) for number in range(len(weights))]
    named = ", ".join(f"{name} {weight:.4g}" for name, weight in list(zip(names, weights, strict=False))[:MOST_NAMED])
    more = f" and {len(weights) - MOST_NAMED} more" if len(weights) > MOST_NAMED else ""
    said = f"the loss weighs rows by class: {named}{more}"
    if task.keep_weighted_probabilities:
        yield f"{said}; probabilities keep these weights, so those of rare classes are too high"
        return
    if task.outputs() > 1:
        yield (
            f"{said}; probabilities are corrected for that, and the class with the highest weight × probability is "
            "predicted, as before the correction; --keep-weighted-probabilities turns it off"
        )
        return
    ours = getattr(task, "_threshold_is_ours", False)
    moved = (
        f"the threshold 0.5 becomes {task.threshold:.4g}, which decides the same"
        if ours
        else f"the given threshold {task.threshold:.4g} is for corrected ones"
    )
    yield f"{said}; probabilities are corrected for that, and {moved}; --keep-weighted-probabilities turns it off"

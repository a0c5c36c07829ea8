"""What a run's net gives for other rows: `Run.predict` and `Run.predict_proba`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import split_rows
from trainer.decisions.prior import without_class_weights
from trainer.errors import UsageError
from trainer.evaluation import evaluation_weights
from trainer.losses import kind_of, probabilities
from trainer.model.sizes import Collected, rows_at_a_time

if TYPE_CHECKING:
    from trainer.mxnet import Array

ROWS_AT_A_TIME = 256
"""As many rows as a saved model computes at a time, at least."""

Outputs = NDArray[Any] | tuple[NDArray[Any], ...]


def outputs_for(run: Any, data: Any) -> Outputs:
    """What the net of a run gives, (rows, …), or a tuple of such arrays. Raises UsageError for rows that do not fit."""
    found = _computed(run, data, lambda output: output)
    return found[0] if len(found) == 1 else tuple(found)


def probabilities_for(run: Any, data: Any) -> NDArray[Any]:
    """The probability of each class, (rows, classes), as the saved model gives it: calibrated, without class weights.

    Raises UsageError if the run's loss does not imply any.
    """
    kind = getattr(run.task, "kind", None) or kind_of(run.task.loss())
    fix = "Use run.predict(X), which gives the net's outputs."
    if kind.outputs in ("numbers", "score", "unknown"):
        raise UsageError(f"the loss {kind.name} gives no probabilities", where="predict_proba", fix=fix)
    found = _computed(run, data, lambda output: probabilities(output, kind.outputs))
    if len(found) != 1:
        raise UsageError(f"the net gives {len(found)} outputs", where="predict_proba", fix=fix)
    weights = run.task.class_weights()
    given = found[0] if weights is None else without_class_weights(found[0], weights)
    if kind.outputs in ("logit", "probability") and given.size == len(given):
        positive = run.calibrated(given.reshape(-1))
        return np.stack([1 - positive, positive], axis=1)
    return run.calibrated(given)  # type: ignore[no-any-return]


def _computed(run: Any, data: Any, then: Callable[[Array], Array]) -> list[NDArray[Any]]:
    """Each output of the net for all rows, after `then`, in batches that are split over the run's devices."""
    from trainer.mxnet import autograd

    sample = run.train.sample()
    interface = run.task.model_interface(run.task.model_info())
    encoded = interface.encode(data)
    wanted, found = [tuple(part.shape[1:]) for part in sample], [part.shape[1:] for part in encoded.inputs]
    if wanted != found:
        said, needed = (", ".join(map(str, each)) for each in (found, wanted))
        raise UsageError(f"the rows have shape {said}, and the net takes {needed}", where="predict")
    size = max(run.settings.batch_size, run.task.evaluation_batch_size or ROWS_AT_A_TIME)
    if run.symbol is not None:
        shapes = {f"batch:input{number}": shape for number, shape in enumerate(wanted)}
        size = rows_at_a_time(run.symbol, shapes, size)
    parts: list[Collected] = []
    with evaluation_weights(run), autograd.predict_mode():
        for start in range(0, encoded.rows, size):
            stop = min(start + size, encoded.rows)
            for outputs in _of_batch(run, encoded.inputs, sample, start, stop, then):
                parts = parts or [Collected(encoded.rows) for _ in outputs]
                for whole, part in zip(parts, outputs, strict=True):
                    whole.add(part)
    return [each.whole for each in parts]


def _of_batch(  # noqa: PLR0917
    run: Any,
    inputs: Sequence[NDArray[Any]],
    sample: Sequence[Array],
    start: int,
    stop: int,
    then: Callable[[Array], Array],
) -> list[list[NDArray[Any]]]:
    """The outputs for some rows, a list for each device; all devices compute before the first is waited for."""
    from trainer.mxnet import mx

    computed = []
    for context, rows in zip(run.contexts, split_rows(stop - start, len(run.contexts)), strict=True):
        if rows:
            given = [
                mx.nd.array(part[start : start + rows], ctx=context, dtype=like.dtype)
                for part, like in zip(inputs, sample, strict=True)
            ]
            outputs = run.net(*given)
            computed.append([then(each) for each in (outputs if isinstance(outputs, (list, tuple)) else [outputs])])
            start += rows
    return [[each.asnumpy() for each in outputs] for outputs in computed]

"""A loaded model: rows in, predictions out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.model.interface import Encoded, ModelInterface
from trainer.model.manifest import ABOUT, PARAMETERS, SYMBOL, About

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.mxnet import Array, Context
    from trainer.task import Task


class Model:
    """A trained model; `trainer.load_model` makes it from its folder.

    `net` is a Gluon block on one device, `about` what `model.json` says, `task` the task that was trained. May be used
    by several threads; they take turns on the device.
    """

    def __init__(self, folder: Path, about: About, task: Task, context: Context) -> None:
        self.folder = folder
        self.about = about
        self.task = task
        self.interface: ModelInterface = _interface(folder, about, task)
        self._context = context
        self._lock = Lock()
        self.net = _load_net(folder, about, task, context)
        """Takes the encoded inputs, each (rows, …), and gives what the task calls outputs: logits, say."""

    @property
    def threshold(self) -> float | None:
        """The one that it decides by: tuned where it was, otherwise as it was given; None for a task without."""
        found = self.about.threshold
        if found is None:
            return None
        return found.given if found.tuned is None else found.tuned

    def predict(self, data: Any, *, threshold: float | None = None) -> pa.Table:
        """Predictions for rows in memory, as a table with a row each, in their order.

        `data` is whatever the task takes: for tables a pyarrow Table, a data frame, a dict of columns, or an array
        (rows, columns). The columns of the result are the task's: `probability` and `class` for two classes. A
        `threshold` takes the place of the model's. Raises UsageError for what does not fit.
        """
        import pyarrow as pa

        threshold = check_threshold(threshold, self.threshold)
        encoded = self.encode(data)
        return pa.table(self.interface.columns(self.scores(encoded), threshold))

    def encode(self, data: Any) -> Encoded:
        """Rows in memory as the net takes them, with counts of missing and unseen values. Raises UsageError."""
        encoded = self.interface.encode(data)
        self._check(encoded)
        return encoded

    def scores(self, encoded: Encoded) -> NDArray[Any]:
        """What the task makes of the net's outputs, (rows, …): probabilities, say. Waits for the device."""
        return self.compute(encoded)[0]

    def compute(
        self, encoded: Encoded, loss: Callable[[Any, slice], Array] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The scores, and what `loss` gives for outputs and the rows that they are of, (rows,); empty without it."""
        from trainer.mxnet import autograd

        scores, losses = [], []
        with self._lock, autograd.predict_mode():
            for rows, inputs in self._batches(encoded):
                given = self.net(*inputs)
                outputs = list(given) if isinstance(given, (list, tuple)) else given
                scores.append(self.task.predictions(outputs).asnumpy())
                if loss is not None:
                    losses.append(loss(outputs, rows).asnumpy())
        if not scores:
            return np.empty(0, np.float32), np.empty(0, np.float32)
        return np.concatenate(scores), np.concatenate(losses) if losses else np.empty(0, np.float32)

    def _batches(self, encoded: Encoded) -> Iterator[tuple[slice, Sequence[Array]]]:
        from trainer.mxnet import mx

        size = self.about.batch_size
        for start in range(0, encoded.rows, size):
            rows = slice(start, min(start + size, encoded.rows))
            yield (
                rows,
                [
                    mx.nd.array(part[rows], ctx=self._context, dtype=entry.dtype)
                    for part, entry in zip(encoded.inputs, self.about.inputs, strict=True)
                ],
            )

    def _check(self, encoded: Encoded) -> None:
        wanted = [tuple(entry.shape) for entry in self.about.inputs]
        found = [part.shape[1:] for part in encoded.inputs]
        if wanted != found:
            raise UsageError(f"the rows have shape {found}, the model wants {wanted}", where="the data")


def check_threshold(given: float | None, own: float | None) -> float | None:
    """The threshold to decide by. Raises UsageError for one that means nothing."""
    if given is None:
        return own
    if own is None:
        raise UsageError("the model decides by no threshold", where="threshold")
    if not 0 <= given <= 1:
        raise UsageError(f"{given!r} is no probability", where="threshold", fix="Give a number from 0 to 1.")
    return given


def _interface(folder: Path, about: About, task: Task) -> ModelInterface:
    try:
        return task.model_interface(about.info)
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"it is damaged: info: {error}", where=str(folder / ABOUT)) from error


def _load_net(folder: Path, about: About, task: Task, context: Context) -> Any:
    """The net with its weights. Raises UsageError where the files do not fit each other."""
    from trainer.mxnet import gluon, mx

    names = [entry.name for entry in about.inputs]
    shapes = [(1, *entry.shape) for entry in about.inputs]
    try:
        if about.symbol:
            with warnings.catch_warnings():
                # That the inputs' types are not known: they follow from the parameters'.
                warnings.simplefilter("ignore")
                net = gluon.SymbolBlock.imports(str(folder / SYMBOL), names, str(folder / PARAMETERS), ctx=context)
            net.hybridize(static_alloc=True)
        else:
            net = task.net()
            net.load_parameters(str(folder / PARAMETERS), ctx=context)
        samples = zip(shapes, about.inputs, strict=True)
        net(*[mx.nd.zeros(shape, ctx=context, dtype=entry.dtype) for shape, entry in samples])
    except UsageError:
        raise
    except Exception as error:
        # MXNet raises its own errors, and whatever Python raises for names and shapes that do not fit.
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(f"symbol and parameters cannot be used: {first}", where=str(folder)) from error
    return net

"""How rows come into a model and predictions come out of it: what a task adds to what the engine knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError


@dataclass(frozen=True)
class Encoded:
    """Some rows as the net takes them, and what goes with them."""

    inputs: tuple[NDArray[Any], ...]
    """One array an input of the net, each (rows, …)."""
    rows: int
    labels: NDArray[Any] | None = None
    """What the metrics compare with, (rows, …); None where the source has none."""
    weights: NDArray[Any] | None = None
    """(rows,), to the scale of the run's own; None where rows count alike."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Columns that go into the output as they are: Arrow arrays of `rows` values by name."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """How many values of each column were missing."""
    unseen: Mapping[str, int] = field(default_factory=dict)
    """How many values of each column the training rows did not have."""


class RowSource(Protocol):
    """A file or a pipe of rows, read once and a part at a time, so that it may be larger than memory."""

    where: str
    """What to call it in a message."""
    total: int | None
    """How much there is to read, in units of its own; None where that is not known."""

    @property
    def ignored(self) -> Sequence[str]:
        """What it holds and the model has no use for, such as further columns."""

    @property
    def done(self) -> int:
        """How much was read."""

    def __iter__(self) -> Iterator[Encoded]:
        """The rows, some thousand at a time. Raises UsageError for what does not fit the model."""

    def close(self) -> None:
        """Gives the file free."""


class ModelInterface:
    """How rows come into a model and predictions come out of it; a task returns one from `model_interface`.

    This one is what a task gets that says nothing: arrays come in, and a column `prediction` comes out (`prediction-0`,
    … where a row has several numbers).
    """

    def open(self, source: str, *, keep: Sequence[str] | None, judged: bool) -> RowSource:
        """The rows of a file, or of standard input (`-`).

        `keep` names what is to be in `Encoded.kept`; None for all there is. `judged` asks for labels, and for weights
        where the run had some. Raises UsageError where the source does not fit the model.
        """
        raise UsageError(
            "the model's task reads no files",
            where=source,
            fix="In Python, load_model(path).predict takes its arrays.",
        )

    def encode(self, data: Any) -> Encoded:
        """Rows in memory: an array (rows, …), or a tuple of them for a net of several inputs.

        Raises UsageError for what does not fit the model.
        """
        parts = data if isinstance(data, tuple) else (data,)
        arrays = tuple(part.asnumpy() if hasattr(part, "asnumpy") else np.asarray(part) for part in parts)
        for array in arrays:
            if array.dtype.kind not in "fiub" or not array.ndim:
                raise UsageError(f"an array of {array.dtype.name} with {array.ndim} axes holds no rows of numbers")
        if len({len(array) for array in arrays}) > 1:
            raise UsageError(f"its arrays have different numbers of rows: {[len(array) for array in arrays]}")
        return Encoded(arrays, len(arrays[0]))

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """The columns of the output, by name: arrays of as many values as `predictions` (rows, …) has rows."""
        flat = predictions.reshape(len(predictions), -1) if len(predictions) else predictions.reshape(0, 1)
        names = ["prediction"] if flat.shape[1] == 1 else [f"prediction-{number}" for number in range(flat.shape[1])]
        found: dict[str, Any] = {name: flat[:, number] for number, name in enumerate(names)}
        if threshold is not None and len(names) == 1:
            found["class"] = (flat[:, 0].astype(np.float64) > threshold).astype(np.int64)
        return found

    def card(self) -> Mapping[str, Any]:
        """What the model card says of inputs and outputs, as JSON values: `predicts`, `columns`, `classes`, …"""
        return {}

    def scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Offset and divisor (inputs,) where `encode` makes (value - offset) / divisor of each input, in float64.

        A missing value is then the offset. None where encoding is something else.
        """
        return None

"""How a task reads rows for its model and presents the predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.model.ids import Ids


@dataclass(frozen=True)
class Encoded:
    """Rows as the net takes them, with their labels, weights and counts."""

    inputs: tuple[NDArray[Any], ...]
    """One array per input of the net, each (rows, …)."""
    rows: int
    labels: NDArray[Any] | None = None
    """What the metrics compare with, (rows, …); None if the source has none."""
    weights: NDArray[Any] | None = None
    """(rows,), on the scale of the run's weights; None if all rows count the same."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Columns that are copied to the output: Arrow arrays of `rows` values by name."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """How many values of each column were missing."""
    unseen: Mapping[str, int] = field(default_factory=dict)
    """How many values of each column the model does not know: they do not occur in the training rows, or too rarely."""


class RowSource(Protocol):
    """A file or a pipe of rows, read once and in parts, so it may be larger than memory."""

    where: str
    """Its name in messages."""
    total: int | None
    """How much there is to read, in the source's own unit; None if unknown."""

    @property
    def ignored(self) -> Sequence[str]:
        """What the model does not use, such as extra columns."""

    @property
    def notes(self) -> Sequence[str]:
        """How the source is understood, a line each: what the user should know."""

    @property
    def done(self) -> int:
        """How much was read, in the unit of `total`."""

    def __iter__(self) -> Iterator[Encoded]:
        """The rows, some thousands at a time. Raises UsageError if they do not fit the model."""

    def close(self) -> None:
        """Releases the file."""


class ModelInterface:
    """How a model reads rows and presents predictions; a task returns one from `model_interface`.

    This default takes arrays and returns a column `prediction` (`prediction-0`, … if there are several values per row).
    """

    def open(self, source: str | Sequence[str], *, keep: Sequence[str] | None, judged: bool) -> RowSource:
        """The rows of a file, of a folder or a pattern if the task reads them, or of standard input (`-`).

        A sequence names several, and has more than one part.
        `keep` names the columns for `Encoded.kept`; None means all. `judged` asks for labels and, if the run used
        weights, for weights. Raises UsageError if the source does not fit the model.
        """
        raise UsageError(
            "the model's task reads no files",
            where=source if isinstance(source, str) else ", ".join(source),
            fix="In Python, pass arrays to load_model(path).predict.",
        )

    def encode(self, data: Any) -> Encoded:
        """Rows in memory: an array (rows, …), or a tuple of them for a net with several inputs.

        Raises UsageError if they do not fit the model.
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
        """The columns of the output by name: arrays with one value per row of `predictions` (rows, …)."""
        flat = predictions.reshape(len(predictions), -1) if len(predictions) else predictions.reshape(0, 1)
        names = ["prediction"] if flat.shape[1] == 1 else [f"prediction-{number}" for number in range(flat.shape[1])]
        found: dict[str, Any] = {name: flat[:, number] for number, name in enumerate(names)}
        if threshold is not None and len(names) == 1:
            found["class"] = (flat[:, 0].astype(np.float64) > threshold).astype(np.int64)
        return found

    def card(self) -> Mapping[str, Any]:
        """The model card's entries on inputs and outputs, as JSON values: `predicts`, `columns`, `classes`, …"""
        return {}

    def scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Offset and divisor (inputs,) if `encode` computes (value - offset) / divisor for each input, in float64.

        A missing value is replaced by the offset. None if the encoding is anything else.
        """
        return None

    def ids(self) -> Ids | None:
        """What the ids are if one of the net's inputs holds row numbers of tables of weights; None if none does."""
        return None

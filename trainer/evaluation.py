"""The evaluation of one split: predictions, labels, weights and losses of its rows, collected over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.exact import ExactSum
from trainer.metrics.memory import Memory
from trainer.reading import in_gb

SAMPLE = 1 << 16
"""The most rows of a sample."""
FURTHER = 4
"""How many times the rows' bytes `--memory` must be: they are joined, and the other half is for metrics."""


class Evaluation:
    """A net's results for one split, on the host: the source of every metric and of threshold tuning.

    `predictions` is what the task makes of the net's outputs, (rows, …); `labels` is (rows, …); `weights` (rows,) or
    None; `loss` the mean over the rows (weighted, if there are weights); `rows` their number. If the task sets
    `collect` to False, the three arrays are empty.

    The arrays are kept as long as they, twice, fit in half of `--memory`. Beyond that `kept` is False, and reading one
    of them raises UsageError: a plugin that can do without checks `kept`, and uses `ranking()` of the task's metrics,
    or `sample`.
    """

    __slots__ = ("_arrays", "beyond", "loss", "rows", "split")

    def __init__(  # noqa: PLR0917
        self,
        split: str,
        predictions: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any] | None,
        loss: float,
        rows: int | None = None,
    ) -> None:
        self.split, self.loss, self.rows = split, loss, len(labels) if rows is None else rows
        self._arrays = predictions, labels, weights
        self.beyond: Beyond | None = None

    @property
    def kept(self) -> bool:
        """Whether the arrays can be read."""
        return self.beyond is None

    @property
    def predictions(self) -> NDArray[Any]:
        """(rows, …). Raises UsageError if the arrays are not kept."""
        return self._read()[0]

    @property
    def labels(self) -> NDArray[Any]:
        """(rows, …). Raises UsageError if the arrays are not kept."""
        return self._read()[1]

    @property
    def weights(self) -> NDArray[Any] | None:
        """(rows,), or None. Raises UsageError if the arrays are not kept."""
        return self._read()[2]

    @property
    def sample(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Predictions, labels and weights of all rows if they are kept, otherwise of some thousand, for charts.

        Which ones depends on their numbers in the split and on `--memory`: each is as likely as any other.
        """
        return self._arrays

    def _read(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        if self.beyond is not None:
            raise self.beyond.error(self.rows, self.split)
        return self._arrays


@dataclass(frozen=True, slots=True)
class Beyond:
    """Why the arrays of an evaluation are not kept: their bytes, and the setting `memory` in bytes."""

    size: int
    allowed: int
    reader: Callable[[], str]
    """The name of the plugin that is being called, or `engine`."""

    def error(self, rows: int, split: str) -> UsageError:
        """What to tell whoever reads the arrays."""
        plugin = self.reader()
        is_plugin = plugin != "engine"
        fix = f"Pass --memory {_size(FURTHER * self.size)} or more, or use a smaller {split} split"
        return UsageError(
            f"it reads the predictions of all {rows} {split} rows: {in_gb(self.size)}, which --memory "
            f"{_size(self.allowed)} does not keep",
            where=f"plugin {plugin!r}" if is_plugin else "run.evaluation",
            fix=f"{fix}, or leave it out: --no-plugin {plugin}." if is_plugin else f"{fix}.",
        )


def _size(size: int) -> str:
    """Bytes as `--memory` takes them, rounded up."""
    return f"{-(-size // 10**9)}GB" if size >= 10**10 else f"{-(-size // 10**6)}MB"


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows on the host, from which metrics and the mean loss are computed."""

    predictions: NDArray[Any]
    """(rows, …)"""
    labels: NDArray[Any]
    """(rows, …)"""
    weights: NDArray[Any] | None
    """(rows,), or None if every row counts as 1."""
    losses: NDArray[Any]
    """(rows,), multiplied by the rows' weights; empty if unknown."""

    @property
    def counted_losses(self) -> NDArray[Any]:
        """The losses, 0 for rows of weight 0: 0 times NaN is NaN."""
        losses = self.losses
        if self.weights is not None and losses.size == self.weights.size:
            losses = np.where(self.weights.reshape(losses.shape) == 0, 0, losses)
        return losses

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """The rows with these indices, in that order; an index may repeat."""
        weights = None if self.weights is None else self.weights[rows]
        losses = self.losses[rows] if len(self.losses) else self.losses
        return Rows(self.predictions[rows], self.labels[rows], weights, losses)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in order; empty arrays if there are no parts."""
    if not parts:
        return Rows(np.empty(0), np.empty(0), None, np.empty(0))
    if len(parts) == 1:
        return parts[0]
    weights = [part.weights for part in parts if part.weights is not None]
    return Rows(
        np.concatenate([part.predictions for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(weights) if weights else None,
        np.concatenate([part.losses for part in parts]),
    )


def state_of(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation for a checkpoint."""
    predictions, labels, weights = evaluation.sample
    arrays = {"predictions": predictions, "labels": labels, "weights": weights}
    found = {"split": evaluation.split, **arrays, "loss": evaluation.loss}
    beyond = evaluation.beyond
    return (
        found if beyond is None else {**found, "rows": evaluation.rows, "size": beyond.size, "allowed": beyond.allowed}
    )


def of_state(state: Mapping[str, Any], reader: Callable[[], str]) -> Evaluation:
    """The evaluation of a checkpoint."""
    arrays = state["split"], state["predictions"], state["labels"], state["weights"], state["loss"]
    if "size" not in state:
        return Evaluation(*arrays)
    found = Evaluation(*arrays, state["rows"])
    found.beyond = Beyond(state["size"], state["allowed"], reader)
    return found


class Collected:
    """The rows of an evaluation, kept while they fit in memory twice: they are joined at the end.

    Beyond that a sample of them is kept: the rows whose scrambled number is below a bound, which is halved if they are
    too many.
    """

    def __init__(self, memory: Memory, *, losses: bool = False) -> None:
        self._memory, self._losses = memory, losses
        self._parts: list[Rows] = []
        self._marks: list[NDArray[np.uint64]] = []
        """The scrambled numbers of the rows, once only a sample is kept."""
        self._bound = 1 << 64
        self._rows = self._kept = self.bytes = 0

    def add(self, rows: Rows) -> None:
        """Keeps some rows, or a sample of all rows if they are too many now."""
        if not self._losses:
            rows = Rows(rows.predictions, rows.labels, rows.weights, np.empty(0))
        columns = (rows.predictions, rows.labels, rows.weights, rows.losses)
        count = len(rows.labels)
        if not self.fits:
            marks = scrambled(np.arange(self._rows, self._rows + count, dtype=np.uint64))
            chosen = np.flatnonzero(marks < np.uint64(self._bound - 1))
            rows = rows.take(chosen)
            self._marks.append(marks[chosen])
        self._parts.append(rows)
        self._rows += count
        self._kept += len(rows.labels)
        did_fit = self.fits
        self.bytes += sum(column.nbytes for column in columns if column is not None)
        if did_fit and not self.fits:
            self._marks = [scrambled(np.arange(self._rows, dtype=np.uint64))]
        most = SAMPLE if self.fits else max(min(SAMPLE, self._memory.bytes * self._rows // (2 * self.bytes)), 1)
        if not self.fits and self._kept > most:
            self._thin(most)

    def _thin(self, most: int) -> None:
        marks = np.concatenate(self._marks)
        while np.count_nonzero(marks < np.uint64(self._bound - 1)) > most:
            self._bound //= 2
        chosen = np.flatnonzero(marks < np.uint64(self._bound - 1))
        self._parts, self._marks = [joined(self._parts).take(chosen)], [marks[chosen]]
        self._kept = len(chosen)

    @property
    def fits(self) -> bool:
        """Whether all rows are kept."""
        return self._memory.allows(2 * self.bytes)

    @property
    def allowed(self) -> int:
        """The bytes that the rows may take."""
        return self._memory.bytes

    def joined(self) -> Rows:
        """The rows, or the sample of them, in order."""
        found, self._parts = joined(self._parts), []
        return found


def scrambled(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that look random: SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


class MeanLoss:
    """The mean loss over rows that arrive in parts: exact, and rounded once, however they are divided."""

    def __init__(self) -> None:
        self._total, self._weight = ExactSum(), ExactSum()
        self._unweighted = self.rows = 0

    def add(self, rows: Rows) -> None:
        """Adds the losses of some rows, whose arrays must not change afterwards."""
        self._total.add(rows.counted_losses)
        self.rows += len(rows.labels)
        if rows.weights is None:
            self._unweighted += len(rows.labels)
        else:
            self._weight.add(rows.weights)

    @property
    def value(self) -> float:
        """The mean per row, or per unit of weight; NaN without rows."""
        if self._unweighted:
            self._weight.add(np.array([float(self._unweighted)]))
            self._unweighted = 0
        return self._total.per(self._weight)


@contextmanager
def evaluation_weights(run: Any) -> Iterator[None]:
    """Swaps in the weights that a plugin wants to be evaluated, and swaps them back even after an error."""
    weights = run.evaluation_weights
    if weights is None:
        yield
        return
    run.exchange_weights(weights)
    try:
        yield
    finally:
        run.exchange_weights(weights)

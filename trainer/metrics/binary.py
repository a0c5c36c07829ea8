"""Metrics of binary classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric
from trainer.metrics.exact import BLOCK, ExactSum
from trainer.metrics.memory import UNLIMITED, Memory
from trainer.metrics.ranked import Part, Ranked, Ranking, Vector, at_threshold, columns_of, confusion, ranked_of
from trainer.metrics.sorted_rows import SortedRows

EPSILON = float(np.finfo(np.float64).eps)


class BinaryClassification(Metric):
    """The usual metrics for probabilities of class 1 and labels 0 and 1.

    At `threshold`: `accuracy`, `f1`, `precision`, `recall`, `matthews-correlation` and the four counts of the confusion
    matrix. Independent of it: `roc-auc`, `average-precision`, `log-loss` and `brier-score`. A row is class 1 if its
    probability is above the threshold, compared in float64; at exactly the threshold, or if it is NaN, the row is class
    0. With weights, the counts are sums of weights. `threshold` may be changed between `reset` and `compute`.

    The Brier score is the mean squared difference of probability and label (Brier, 1950); the log loss is the mean
    negative log-likelihood. These two, `roc-auc` and `average-precision` are NaN if any probability is NaN.

    It keeps all rows, in temporary files once they need more memory than `keep_within` allows: 8 bytes per row, 17 with
    weights, and at most 24 more per distinct probability. The values are the same to the last bit.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "accuracy": "max",
        "f1": "max",
        "precision": "max",
        "recall": "max",
        "matthews-correlation": "max",
        "roc-auc": "max",
        "average-precision": "max",
        "log-loss": "min",
        "brier-score": "min",
    }

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self._memory = UNLIMITED
        self.reset()

    def keep_within(self, memory: Memory) -> None:
        self._memory = memory

    def reset(self) -> None:
        self._rows = SortedRows(self._memory, self._before_spill)
        self._resolution = EPSILON
        self._spilled = _Sums()
        self._means: tuple[float, float] | None = None
        self._ranked: Ranking | None = None

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch of n rows: probabilities, labels and weights with n elements each, in any shape.

        Raises UsageError unless there is one of each per row (a net with two output neurons gives two), and for labels
        other than 0 and 1.
        """
        given = np.asarray(predictions), np.asarray(labels), None if weights is None else np.asarray(weights)
        probabilities, labels, weights = columns_of(*_counting(*given))
        positive = labels == 1
        if np.count_nonzero(positive) + np.count_nonzero(labels == 0) != labels.size:
            strange = labels[~positive & (labels != 0)]
            raise UsageError(f"a label is {strange[0]:g}", where="binary metrics", fix="Use 0 and 1.")
        # Copies: the caller may write its next batch into the same arrays.
        if np.may_share_memory(probabilities, given[0]):
            probabilities = probabilities.copy()
        if weights is not None and given[2] is not None and np.may_share_memory(weights, given[2]):
            weights = weights.copy()
        dtype = given[0].dtype
        if not self._rows.rows and dtype.kind == "f":
            self._resolution = max(EPSILON, float(np.finfo(dtype).eps))
        self._add(Part(probabilities, positive, weights))

    def _add(self, part: Part) -> None:
        self._means = self._ranked = None
        self._rows.add(part)

    def _before_spill(self, part: Part) -> None:
        self._spilled.add(part, self._resolution)

    def compute(self) -> dict[str, float]:
        if self._means is None:
            sums = _Sums()
            sums.add(self._rows.kept(), self._resolution)
            self._means = sums.means(self._spilled)
        ranked = self.ranking()
        log_loss, brier = self._means
        return {
            **ranked.metrics_at(self.threshold),
            "roc-auc": ranked.roc_auc(),
            "average-precision": ranked.average_precision(),
            "log-loss": log_loss,
            "brier-score": brier,
        }

    def ranked(self, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> Ranking:
        """These rows, ranked. They are not sorted again if they are the ones that `compute` has seen."""
        part = Part(*columns_of(probabilities, labels, weights))
        part = part._replace(positive=part.positive > 0.5)
        columns: Any = None if self._rows.spilled else zip(self._rows.kept(), part, strict=True)
        if columns is not None and all(np.array_equal(seen, given) for seen, given in columns):
            return self.ranking()
        return ranked_of(part)

    def ranking(self) -> Ranking:
        if self._ranked is None:
            self._ranked = self._rows.ranked()
        return self._ranked

    @property
    def confusion(self) -> Vector:
        """[[true −, false +], [false −, true +]]: rows are the actual class, columns the predicted class."""
        return confusion(self._rows.unsorted(), self.threshold)

    def state(self) -> dict[str, NDArray[Any]]:
        """The rows so far, as three float64 arrays (rows,), and `resolution` (1,), their type's machine epsilon.

        Reads rows that are in temporary files back into memory.
        """
        parts = list(self._rows.unsorted())
        return {
            "probabilities": np.concatenate([part.scores for part in parts]),
            "labels": np.concatenate([part.positive for part in parts]).astype(np.float64),
            "weights": np.concatenate(
                [np.ones(part.positive.size) if part.weights is None else part.weights for part in parts]
            ),
            "resolution": np.array([self._resolution]),
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        probabilities, labels, weights = columns_of(state["probabilities"], state["labels"], state["weights"])
        self._resolution = max(self._resolution, float(state["resolution"][0]))
        self._add(Part(probabilities, labels > 0.5, weights))


class _Sums:
    """What adds up over rows: exact sums, so that they do not depend on how the rows are divided."""

    def __init__(self) -> None:
        self._losses, self._squares, self._weight = ExactSum(), ExactSum(), ExactSum()

    def add(self, part: Part, resolution: float) -> None:
        for start in range(0, len(part.scores), BLOCK):
            rows = slice(start, start + BLOCK)
            scores, positive = part.scores[rows], part.positive[rows]
            weights = None if part.weights is None else part.weights[rows]
            losses = _log_losses(scores, positive, resolution)
            off = scores - positive
            off *= off
            self._losses.add(losses if weights is None else losses * weights)
            self._squares.add(off if weights is None else off * weights)
            self._weight.add(np.array([float(len(scores))]) if weights is None else weights)

    def means(self, others: _Sums) -> tuple[float, float]:
        """Log loss and Brier score of these rows and others."""
        self._losses.merge(others._losses)
        self._squares.merge(others._squares)
        self._weight.merge(others._weight)
        return self._losses.per(self._weight), self._squares.per(self._weight)


def binary_metrics_at(
    threshold: float, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None
) -> dict[str, float]:
    """The metrics that depend on the threshold: accuracy, f1, precision, recall, matthews-correlation, the four counts.

    Probabilities, labels (0 and 1) and weights have one element per row, in any shape; raises UsageError otherwise.
    As in scikit-learn, precision, recall, F1 and the correlation are 0 if their denominator is 0. Without rows,
    everything but the counts is NaN.
    """
    probabilities, labels, weights = columns_of(probabilities, labels, weights)
    return at_threshold(*confusion([Part(probabilities, labels > 0.5, weights)], threshold).ravel().tolist())


def roc_auc(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The area under the receiver operating characteristic; NaN unless both classes have rows.

    Computed by the trapezoidal rule over the distinct scores, so a tie between the classes counts one half (Hanley and
    McNeil, 1982). Scores need not be probabilities. Arrays and errors as in `binary_metrics_at`; NaN if a score is NaN.
    """
    return Ranked(probabilities, labels, weights).roc_auc()


def average_precision(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The sum over thresholds of precision × gain in recall, not interpolated; NaN if no row is of class 1.

    As scikit-learn defines it. Scores need not be probabilities. Arrays and errors as in `binary_metrics_at`; NaN if a
    score is NaN.
    """
    return Ranked(probabilities, labels, weights).average_precision()


def _counting(
    predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """The rows without those of weight 0 whose predictions are not finite: 0 times NaN would be NaN.

    Arrays with other numbers of rows are returned unchanged.
    """
    if weights is None or weights.size != len(predictions):
        return predictions, labels, weights
    ignored = weights.reshape(-1) == 0
    if ignored.any():
        ignored &= ~np.isfinite(predictions.reshape(len(predictions), -1)).all(axis=1)
    if not ignored.any() or len(labels) != len(predictions):
        return predictions, labels, weights
    kept = ~ignored
    return predictions[kept], labels[kept], weights.reshape(-1)[kept]


def _log_losses(probabilities: Vector, positive: NDArray[np.bool_], resolution: float) -> Vector:
    """Negative log-likelihoods; as in scikit-learn, probabilities are clipped `resolution` from 0 and 1."""
    kept = np.minimum(np.maximum(probabilities, resolution), 1 - resolution)
    logs: Vector = np.negative(kept)
    # Each logarithm only of the rows that need it.
    np.log1p(logs, out=logs, where=~positive)
    np.log(kept, out=logs, where=positive)
    return np.negative(logs, out=logs)

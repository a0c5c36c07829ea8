"""Metrics of multi-class classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric
from trainer.metrics.class_rows import ClassPart, ClassRows
from trainer.metrics.memory import UNLIMITED, Memory

WHERE = "multi-class metrics"


FEW_CLASSES = 20
"""With more classes, `of_classes` gives no metric per class."""
MOST_RANKED = 100
"""With more classes, `of_classes` gives no `roc-auc`, which sorts all rows once per class."""


class MulticlassClassification(Metric):
    """`accuracy` for k = 1 and `top-k-accuracy` (such as `top-5-accuracy`) for every other k in `top_k`.

    It keeps sums only, nothing per row, unless `roc_auc` is set: then all rows, in a temporary file if they need more
    memory than `keep_within` allows, with the same value to the last bit. Predictions are scores (rows, classes); the
    highest is the predicted class. Labels are class numbers (rows,), or (rows, classes) with the highest value at the
    class. Among equal scores the lower class number ranks first. A row with a NaN score is wrong for every k and is not
    counted in `confusion`.

    `macro_f1` adds the unweighted mean of the classes' F1, like scikit-learn's `f1_score(average="macro")` over all
    classes; a class that has no rows and is never predicted counts 0. `classes`, the names of the classes, adds
    `precision/NAME`, the share of right ones among the rows that are predicted as the class (0 if there are none), and
    `recall/NAME`, the share of right ones among the rows of the class (NaN if there are none).

    Two are for probabilities, and NaN if one of them is NaN. `log_loss` adds the mean negative logarithm of the class's
    probability, clipped as by scikit-learn's `log_loss`. `roc_auc` adds the mean of the areas under the curves of each
    class against the rest, over the classes with rows, like scikit-learn's `roc_auc_score(multi_class="ovr")`; NaN for
    rows of one class. Raises UsageError for a k below 1.

    `class_weights` (classes,) are what probabilities are multiplied by before the highest is the predicted class, as in
    `Task.class_weights`; log loss and `roc-auc` are those of the probabilities themselves.
    """

    def __init__(
        self,
        top_k: Sequence[int] = (1,),
        *,
        macro_f1: bool = False,
        classes: Sequence[str] = (),
        log_loss: bool = False,
        roc_auc: bool = False,
        class_weights: NDArray[Any] | None = None,
    ) -> None:
        if not top_k or min(top_k) < 1:
            raise UsageError(f"top_k is {tuple(top_k)}", fix="Use numbers ≥ 1.")
        self._names = {k: "accuracy" if k == 1 else f"top-{k}-accuracy" for k in top_k}
        self._macro_f1 = macro_f1
        self._classes = tuple(classes)
        self._log_loss, self._roc_auc = log_loss, roc_auc
        self._class_weights = class_weights
        self._memory = UNLIMITED
        self.reset()

    @classmethod
    def of_classes(
        cls, names: Sequence[str], *, probabilities: bool = False, class_weights: NDArray[Any] | None = None
    ) -> MulticlassClassification:
        """The usual metrics of a task with named classes, with `log-loss` and `roc-auc` for `probabilities`.

        Top-5 for more than five classes, top-2 for three to five; up to 20 classes precision and recall of each.
        """
        count = len(names)
        return cls(
            (1, 5) if count > 5 else (1, 2) if count > 2 else (1,),
            macro_f1=True,
            classes=names if count <= FEW_CLASSES else (),
            log_loss=probabilities,
            roc_auc=probabilities and count <= MOST_RANKED,
            class_weights=class_weights,
        )

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        by_class = [f"{what}/{name}" for what in ("precision", "recall") for name in self._classes]
        further = ["macro-f1"] * self._macro_f1 + ["roc-auc"] * self._roc_auc + by_class
        higher: dict[str, Direction] = dict.fromkeys([*self._names.values(), *further], "max")
        return higher | ({"log-loss": "min"} if self._log_loss else {})

    def keep_within(self, memory: Memory) -> None:
        self._memory = memory

    def reset(self) -> None:
        self._losses = 0.0
        self._ranked = ClassRows(self._memory)
        self._hits = dict.fromkeys(self._names, 0.0)
        self._total = 0.0
        self._confusion: NDArray[np.float64] = np.zeros((0, 0))
        self._actual: NDArray[np.float64] = np.zeros(0)

    @property
    def confusion(self) -> NDArray[np.float64]:
        """Sums of weights (classes, classes): rows are the actual class, columns the predicted class.

        (0, 0) before the first row. Takes classes² × 8 bytes: 8 MB for a thousand classes.
        """
        return self._confusion.copy()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: scores (rows, classes), labels (rows,) or (rows, classes), and weights (rows,) or None.

        Raises UsageError for other shapes, for labels that are not class numbers, and if the number of classes changes.
        """
        classes = _class_numbers(predictions, labels)
        weights = np.ones(len(classes)) if weights is None else np.asarray(weights, np.float64).ravel()
        if len(weights) != len(classes):
            raise UsageError(f"{len(weights)} weights for {len(classes)} rows", where=WHERE)
        if not len(classes):
            return
        self._allow(predictions.shape[1])
        # Comparisons with NaN are false, which would rank the true class of a diverged net first.
        ordered = ~np.isnan(predictions).any(axis=1)
        judged = predictions if self._class_weights is None else predictions * self._class_weights
        own = judged[np.arange(len(classes)), classes][:, None]
        numbers = np.arange(predictions.shape[1])
        ahead = (judged > own) | ((judged == own) & (numbers < classes[:, None]))
        rank = ahead.sum(axis=1)
        for k in self._hits:
            self._hits[k] += float(weights[ordered & (rank < k)].sum())
        self._total += float(weights.sum())
        cells = (classes[ordered], judged[ordered].argmax(axis=1))
        np.add.at(self._confusion, cells, weights[ordered])
        np.add.at(self._actual, classes, weights)
        if self._log_loss:
            self._losses += _log_losses(predictions[np.arange(len(classes)), classes], weights)
        if self._roc_auc:
            counted = weights > 0
            # These are copies: the caller may write its next batch into the same arrays.
            self._ranked.add(ClassPart(predictions[counted], classes[counted], weights[counted]))

    def compute(self) -> dict[str, float]:
        found = {name: self._hits[k] / self._total if self._total else float("nan") for k, name in self._names.items()}
        right = self._confusion.diagonal()
        if self._macro_f1:
            # Rows with a NaN are in no cell, but they count as rows of their class.
            both = self._actual + self._confusion.sum(axis=0)
            found["macro-f1"] = float(np.mean(2 * right / np.where(both, both, 1))) if len(right) else float("nan")
        if self._log_loss:
            found["log-loss"] = self._losses / self._total if self._total else float("nan")
        if self._roc_auc:
            found["roc-auc"] = self._ranked.area()
        if self._classes:
            claimed = self._confusion.sum(axis=0)
            for number, name in enumerate(self._classes):
                # 0 for a class that is never predicted, as in scikit-learn.
                found[f"precision/{name}"] = (
                    float(right[number] / (claimed[number] or 1)) if len(right) else float("nan")
                )
            for number, name in enumerate(self._classes):
                rows = self._actual[number] if len(right) else 0.0
                found[f"recall/{name}"] = float(right[number] / rows) if rows else float("nan")
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums: `hits` (k,), `total` and `losses` (1,), `confusion` (classes, classes) and `actual` (classes,).

        For `roc-auc` also the rows' `scores` (rows, classes), `classes` and `weights` (rows,). Nothing has elements
        before the first row, but `hits`, `total` and `losses`.
        """
        ranked = (np.concatenate(columns) for columns in zip(*self._ranked.parts(), strict=True))
        return {
            "losses": np.array([self._losses]),
            **dict(zip(("scores", "classes", "weights"), ranked, strict=False)),
            "actual": self._actual.copy(),
            "hits": np.array(list(self._hits.values())),
            "total": np.array([self._total]),
            "confusion": self.confusion,
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Merges the sums of another process; raises UsageError if its number of classes differs."""
        confusion = state["confusion"]
        if len(confusion):
            self._allow(len(confusion))
            self._confusion += confusion
            self._actual += state["actual"]
        for k, hits in zip(self._hits, state["hits"].tolist(), strict=True):
            self._hits[k] += hits
        self._total += float(state["total"][0])
        self._losses += float(state["losses"][0])
        if "scores" in state:
            self._ranked.add(ClassPart(state["scores"], state["classes"], state["weights"]))

    def _allow(self, classes: int) -> None:
        """Checks the number of classes, which the first rows set; a process may have had no rows."""
        if not len(self._confusion):
            if self._classes and len(self._classes) != classes:
                raise UsageError(f"{len(self._classes)} names for {classes} classes", where=WHERE)
            self._confusion, self._actual = np.zeros((classes, classes)), np.zeros(classes)
        elif len(self._confusion) != classes:
            raise UsageError(f"{classes} classes after {len(self._confusion)}", where=WHERE)


def _log_losses(own: NDArray[Any], weights: NDArray[np.float64]) -> float:
    """The sum of the rows' negative log-likelihoods, from the probabilities of their classes; 0 for weight 0."""
    resolution = float(np.finfo(own.dtype if own.dtype.kind == "f" else np.float64).eps)
    losses = -np.log(own.astype(np.float64).clip(resolution, 1 - resolution))
    return float(np.dot(np.where(weights == 0, 0, losses), weights))


def _class_numbers(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as integers (rows,), each a column number of the predictions."""
    if labels.ndim == 2 and labels.shape == predictions.shape and labels.shape[1] > 1:
        if not np.isfinite(labels).all():
            raise UsageError("a label is NaN or infinite", where=WHERE)
        numbers: NDArray[np.int64] = labels.argmax(axis=1)
        return numbers
    labels = np.ravel(labels)
    if predictions.ndim != 2 or len(predictions) != len(labels):
        raise UsageError(
            f"predictions have shape {predictions.shape} for {len(labels)} rows",
            where=WHERE,
            fix="They have to be (rows, classes).",
        )
    inside = (labels >= 0) & (labels < predictions.shape[1]) & (labels == np.floor(labels))
    if not inside.all():
        raise UsageError(
            f"a label is {labels[~inside][0]:g}, but there are only {predictions.shape[1]} classes",
            where=WHERE,
            fix="Labels are class numbers from 0.",
        )
    return labels.astype(np.int64)

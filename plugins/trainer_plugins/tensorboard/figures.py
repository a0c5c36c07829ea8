"""Figures of what a net says about a split, as matplotlib's, for TensorBoard and for reports.

Arrays as an evaluation has them: scores in [0, 1] and labels 0 and 1 of one element a row, weights or None. Importing
matplotlib costs about 0.4 s of processor time and each figure 0.05 s, so nothing here runs unless it is asked for.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.binary import Ranked, binary_metrics_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 1000
"""A curve has at most so many points: more cannot be seen, and would fill the file."""
BINS = 10
MAX_CLASSES = 50


def binary_figures(
    scores: NDArray[Any],
    labels: NDArray[Any],
    weights: NDArray[Any] | None,
    *,
    thresholds: dict[str, float],
) -> dict[str, Figure]:
    """ROC, precision and recall, calibration, the threshold curve, and a confusion matrix for each named threshold.

    Empty where the rows are all of one class or a score is not a number: there is no curve then.
    """
    scores, labels = np.asarray(scores, np.float64).ravel(), np.asarray(labels, np.float64).ravel()
    ranked = Ranked(scores, labels, weights)
    if not ranked.has_both_classes:
        return {}
    figures = {
        "roc": roc(ranked),
        "precision-recall": precision_recall(ranked),
        "calibration": calibration(scores, labels, weights),
        "threshold-curve": threshold_curve(ranked, thresholds),
    }
    for name, threshold in thresholds.items():
        cells = binary_metrics_at(threshold, scores, labels, weights)
        counts = np.array(
            [
                [cells["true-negatives"], cells["false-positives"]],
                [cells["false-negatives"], cells["true-positives"]],
            ]
        )
        figures[f"confusion-{name}"] = confusion(counts, f"threshold {threshold:.4g} ({name})")
    return figures


def roc(ranked: Ranked) -> Figure:
    """Recall against the false-positive rate, with the area under it."""
    figure, axes = _axes("false-positive rate", "recall (true-positive rate)")
    rates = (np.append(0.0, part / part[-1]) for part in (ranked.false, ranked.true))
    axes.plot(*_thinned(*rates), label=f"area {ranked.roc_auc():.4f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.legend(loc="lower right")
    return figure


def precision_recall(ranked: Ranked) -> Figure:
    """Precision against recall, with the average precision."""
    figure, axes = _axes("recall", "precision")
    axes.step(
        *_thinned(ranked.true / ranked.true[-1], ranked.precision),
        where="post",
        label=f"average precision {ranked.average_precision():.4f}",
    )
    share = ranked.true[-1] / (ranked.true[-1] + ranked.false[-1])
    axes.axhline(share, color="grey", linestyle=":", label="chance")
    axes.legend(loc="lower left")
    return figure


def calibration(scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> Figure:
    """How often rows are of class 1, against how probable the net calls that, in ten equal bins (reliability)."""
    means, rates, shares = calibration_curve(scores, labels, weights)
    figure, axes = _axes("mean predicted probability", "rows of class 1")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(means, rates, marker="o", label="the net")
    axes.bar((np.arange(BINS) + 0.5) / BINS, shares, width=0.9 / BINS, alpha=0.2, color="grey", label="share of rows")
    axes.legend(loc="upper left")
    return figure


def calibration_curve(
    scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Mean score and rate of class 1 of each bin that has rows, and the share of the rows of all ten bins."""
    own = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64).ravel()
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    totals, sums, positives = (
        np.bincount(bins, weights=part, minlength=BINS) for part in (own, own * scores, own * labels)
    )
    filled = totals > 0
    return sums[filled] / totals[filled], positives[filled] / totals[filled], totals / totals.sum()


def threshold_curve(ranked: Ranked, thresholds: dict[str, float]) -> Figure:
    """Precision, recall and F1 against the threshold, with the given thresholds marked."""
    figure, axes = _axes("threshold", "")
    precision, recall = ranked.precision, ranked.true / ranked.true[-1]
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    for name, values in (("precision", precision), ("recall", recall), ("F1", f1)):
        axes.plot(*_thinned(ranked.probabilities, values), label=name)
    for (name, threshold), style in zip(thresholds.items(), ("--", ":", "-."), strict=False):
        axes.axvline(threshold, color="black", linestyle=style, linewidth=1, label=f"{name} {threshold:.4g}")
    axes.legend(loc="best")
    return figure


def confusion(counts: NDArray[Any], title: str = "") -> Figure:
    """A confusion matrix, (classes, classes): rows are what is, columns what the net says."""
    figure, axes = _axes("predicted", "actual", limits=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title)
    classes = len(counts)
    if classes <= 20:
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
        for row in range(classes):
            for column in range(classes):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", color=color)
    return figure


def multiclass_confusion(
    predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> Figure | None:
    """The confusion matrix of (rows, classes) predictions; None for too many classes to be looked at."""
    classes = predictions.shape[1]
    if classes > MAX_CLASSES:
        return None
    said, actual = predictions.argmax(axis=1), np.asarray(labels).ravel().astype(int)
    own = None if weights is None else np.asarray(weights, np.float64).ravel()
    counts = np.bincount(actual * classes + said, weights=own, minlength=classes * classes)
    return confusion(counts.reshape(classes, classes))


def png(figure: Figure) -> tuple[bytes, int, int]:
    """The figure as a PNG file, with its width and height in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    file = io.BytesIO()
    canvas.print_png(file)  # type: ignore[no-untyped-call]
    width, height = canvas.get_width_height()
    return file.getvalue(), width, height


def _axes(x: str, y: str, *, limits: bool = True) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    # Figure, not pyplot: no global state, and no window where there is none.
    figure = Figure(figsize=(5, 4), dpi=96, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if limits:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    return figure, axes


def _thinned(*curves: NDArray[Any]) -> list[NDArray[Any]]:
    """The curves with at most POINTS points, the ends included."""
    length = len(curves[0])
    chosen = np.unique(np.linspace(0, length - 1, min(length, POINTS)).astype(int))
    return [curve[chosen] for curve in curves]

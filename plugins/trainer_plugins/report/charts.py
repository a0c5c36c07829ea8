"""Charts of a net's predictions on a split, as matplotlib figures, for TensorBoard and for reports.

They are drawn from the numbers in `curves`. Importing matplotlib costs about 0.4 s of processor time and each chart
0.05 s or more, so charts are drawn only on request.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.runs import metric_text
from trainer_plugins.report.class_curves import ClassCurves
from trainer_plugins.report.curves import BinaryCurves
from trainer_plugins.report.points import BINS, POINTS, SCORE_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def binary_charts(curves: BinaryCurves, names: Sequence[str] = ()) -> dict[str, Figure]:
    """ROC, precision and recall, calibration, score histograms and the threshold curve, by name."""
    return {
        "roc": roc(curves),
        "precision-recall": precision_recall(curves),
        "calibration": calibration(curves, names),
        "scores": histogram(curves, names),
        "threshold-curve": threshold_curve(curves),
    }


def confusion_charts(curves: BinaryCurves, names: Sequence[str] = ()) -> dict[str, Figure]:
    """A confusion matrix for each threshold, by name."""
    return {
        f"confusion-{name}": confusion(np.array(entry["counts"]), f"threshold {entry['threshold']:.4g} ({name})", names)
        for name, entry in curves.confusion.items()
    }


def class_charts(curves: ClassCurves, names: Sequence[str] = ()) -> dict[str, Figure]:
    """ROC, precision and recall of each class against the rest, calibration and probabilities of the predictions."""
    lines = [_class(names, number, 14) for number in curves.classes]
    receiver, axes = new_axes("false-positive rate", "recall (true-positive rate)")
    for name, curve, area in zip(lines, curves.roc, curves.roc_auc, strict=True):
        axes.plot(curve["false-positive-rate"], curve["recall"], label=f"{name} {area:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    tradeoff, axes = new_axes("recall", "precision")
    for name, curve, average in zip(lines, curves.precision_recall, curves.average_precision, strict=True):
        axes.step(curve["recall"], curve["precision"], where="post", label=f"{name} {average:.3f}")
    for figure in (receiver, tradeoff):
        figure.legend(loc="outside lower center", ncols=2)
    return {
        "roc": receiver,
        "precision-recall": tradeoff,
        "calibration": _reliability(curves.calibration, "probability of the predicted class", "right predictions"),
        "scores": _histogram(curves.scores, "probability of the predicted class", "share", ("wrong", "right")),
    }


def roc(curves: BinaryCurves) -> Figure:
    """Recall against the false-positive rate, with the area under it."""
    figure, axes = new_axes("false-positive rate", "recall (true-positive rate)")
    axes.plot(curves.roc["false-positive-rate"], curves.roc["recall"], label=f"area {curves.roc_auc:.4f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.legend(loc="lower right")
    return figure


def precision_recall(curves: BinaryCurves) -> Figure:
    """Precision against recall, with the average precision."""
    figure, axes = new_axes("recall", "precision")
    axes.step(
        curves.precision_recall["recall"],
        curves.precision_recall["precision"],
        where="post",
        label=f"average precision {curves.average_precision:.4f}",
    )
    axes.axhline(curves.positive_share, color="grey", linestyle=":", label="chance")
    axes.legend(loc="lower left")
    return figure


def calibration(curves: BinaryCurves, names: Sequence[str] = ()) -> Figure:
    """A reliability diagram: the share of class 1 against the mean predicted probability, in ten equal bins."""
    return _reliability(curves.calibration, "mean predicted probability", f"rows of class {_class(names, 1)}")


def _reliability(found: Mapping[str, list[float]], x: str, y: str) -> Figure:
    figure, axes = new_axes(x, y)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(found["mean"], found["rate"], marker="o", label="the net")
    centers = (np.arange(BINS) + 0.5) / BINS
    axes.bar(centers, found["share"], width=0.9 / BINS, alpha=0.2, color="grey", label="share of rows")
    axes.legend(loc="upper left")
    return figure


def reliability(found: Mapping[str, Any]) -> Figure:
    """The observed shares against the mean probabilities before and after calibration, with their 95 % intervals."""
    figure, axes = new_axes("mean predicted probability", "observed share")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for name, line in (("the net", found["before"]), (f"calibrated ({found['method']})", found["after"])):
        error = "" if line["ece"] is None else f", ECE {line['ece']:.3g}"
        shape = axes.plot(line["predicted"], line["observed"], marker="o", label=f"{name}{error}")
        axes.fill_between(line["predicted"], line["low"], line["high"], alpha=0.15, color=shape[0].get_color())
    axes.legend(loc="upper left")
    return figure


def histogram(curves: BinaryCurves, names: Sequence[str] = ()) -> Figure:
    """The distribution of each class's scores; its bars add up to 1."""
    labels = [f"rows of class {_class(names, number)}" for number in (0, 1)]
    return _histogram(curves.scores, "predicted probability", "share of the class", labels)


def _histogram(scores: Mapping[str, list[float]], x: str, y: str, labels: Sequence[str]) -> Figure:
    figure, axes = new_axes(x, y, limits=False)
    edges = np.arange(SCORE_BINS) / SCORE_BINS
    for number, counts in scores.items():
        shares = np.array(counts) / max(sum(counts), 1e-12)
        axes.bar(
            edges,
            shares,
            width=1 / SCORE_BINS,
            align="edge",
            alpha=0.55,
            label=labels[int(number)],
        )
    axes.set_xlim(-0.02, 1.02)
    axes.legend(loc="best")
    return figure


def threshold_curve(curves: BinaryCurves) -> Figure:
    """Precision, recall and F1 against the threshold, with the named thresholds marked."""
    figure, axes = new_axes("threshold", "")
    for name, label in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
        axes.plot(curves.threshold["threshold"], curves.threshold[name], label=label)
    for (name, entry), style in zip(curves.confusion.items(), ("--", ":", "-."), strict=False):
        at = entry["threshold"]
        axes.axvline(at, color="black", linestyle=style, linewidth=1, label=f"{name} {at:.4g}")
    axes.legend(loc="best")
    return figure


def confusion(counts: NDArray[Any], title: str = "", names: Sequence[str] = ()) -> Figure:
    """A confusion matrix, (classes, classes): rows are the actual classes, columns the predicted ones."""
    figure, axes = new_axes("predicted", "actual", limits=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title)
    classes = len(counts)
    if classes <= 20:
        shown = [_plain_text(_shortened(name, 16)) for name in names or map(str, range(classes))]
        axes.set_xticks(range(classes), shown, rotation=90 if max(map(len, shown)) > 3 else 0)
        axes.set_yticks(range(classes), shown)
        for row in range(classes):
            for column in range(classes):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, metric_text("", float(counts[row, column])), ha="center", va="center", color=color
                )
    return figure


def pictures(images: NDArray[Any], predictions: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> Figure:
    """Images (rows, height, width, 3) with their predictions (rows, classes) and labels (rows,)."""
    from matplotlib.figure import Figure

    columns = min(8, len(images))
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.8 * lines), dpi=96)
    # One pair of axes for all images: sixteen pairs take five times as long to draw, in every epoch.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()

    def named(number: int) -> str:
        return _plain_text(_shortened(names[number] if names else str(number), 14))

    height, width = images.shape[1:3]
    wide, high = (0.94 * side / max(height, width) for side in (width, height))
    for place, (image, scores, label) in enumerate(zip(images, predictions, labels, strict=True)):
        x, y = place % columns + 0.5, 1.2 * (place // columns) + 0.72
        extent = (x - wide / 2, x + wide / 2, y + high / 2, y - high / 2)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
        predicted = int(scores.argmax())
        right = predicted == int(label)
        title = f"{named(predicted)} {scores[predicted]:.0%}" + ("" if right else f"\nis {named(int(label))}")
        axes.text(x, y - high / 2 - 0.02, title, ha="center", fontsize=8, color="black" if right else "#c0392b")
    # Last, because every image moves the limits to itself.
    axes.set(xlim=(0, columns), ylim=(1.2 * lines, 0))
    return figure


def series(
    lines: Mapping[str, Sequence[tuple[float, float]]], best: Sequence[tuple[float, float] | None] = ()
) -> Figure:
    """A run's metrics by epoch: a line of points (epoch, value) for each name, with a dot at its `best` point."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_axes("epoch", "", limits=False)
    for (name, points), top in zip_longest(lines.items(), best):
        kept = points if len(points) <= POINTS else [points[at] for at in _spread(len(points))]
        marker = "o" if len(kept) == 1 else ""
        (line,) = axes.plot(*zip(*kept, strict=True), label=_plain_text(name), marker=marker)
        if top is not None:
            axes.plot(*top, color=line.get_color(), marker="o", label="_best")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Below the axes: many lines leave no room between them.
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def weights(names: Sequence[str], values: Sequence[float]) -> Figure:
    """One bar per feature, the first on top."""
    figure, axes = new_axes("weight", "", limits=False, height=1.0 + 0.25 * len(names))
    axes.barh(range(len(names)), values)
    axes.set_yticks(range(len(names)), [_plain_text(_shortened(name)) for name in names])
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=1)
    return figure


def png(figure: Figure) -> tuple[bytes, int, int]:
    """The figure as a PNG file, with its width and height in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    file = io.BytesIO()
    canvas.print_png(file)  # type: ignore[no-untyped-call]
    width, height = canvas.get_width_height()
    return file.getvalue(), width, height


def new_axes(x: str, y: str, *, limits: bool = True, height: float = 4) -> tuple[Figure, Axes]:
    """A figure with axes of these names; `limits` makes both go from 0 to 1."""
    from matplotlib.figure import Figure

    # Figure, not pyplot: no global state, and no display needed.
    figure = Figure(figsize=(5, height), dpi=96, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if limits:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    return figure, axes


def _class(names: Sequence[str], number: int, length: int = 16) -> str:
    return _plain_text(_shortened(names[number] if names else str(number), length))


def _spread(length: int) -> list[int]:
    return [int(at) for at in np.unique(np.linspace(0, length - 1, POINTS).astype(int))]


def _plain_text(name: str) -> str:
    """The name with dollar signs escaped, which would start math mode."""
    return name.replace("$", r"\$")


def _shortened(name: str, length: int = 32) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"

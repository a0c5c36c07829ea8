"""Charts of a predicted number, as matplotlib figures, drawn from `numbers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer_plugins.report.charts import new_axes
from trainer_plugins.report.numbers import NumberCurves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "predicted": ("Predicted and true", "{What} against the true value; darker cells have more rows. The line is where "
                  "both are equal."),
    "residuals": ("Residuals", "The distribution of the true value minus {what}."),
    "spread": ("Residuals by prediction", "The median and the middle 80 % of the residuals, in bins of equally many "
               "rows. A median near 0 everywhere means that no bias depends on the prediction."),
    "coverage": ("Coverage", "The share of rows whose true value is not above a predicted quantile, against the "
                 "quantile."),
}  # fmt: skip


def caption_of(kind: str, curves: NumberCurves) -> tuple[str, str]:
    """A chart's title and caption."""
    title, caption = TITLES[kind]
    what = "the prediction" if curves.column is None else f"the predicted quantile {curves.column:g}"
    return title, caption.replace("{what}", what).replace("{What}", what.capitalize())


def number_charts(curves: NumberCurves) -> dict[str, Figure]:
    """Predicted against true, residuals, residuals by prediction and, for quantiles, their coverage, by name."""
    found = {"predicted": _plane(curves), "residuals": _residuals(curves), "spread": _spread(curves)}
    return {**found, **({"coverage": _coverage(curves)} if curves.coverage else {})}


def _plane(curves: NumberCurves) -> Figure:
    from matplotlib.colors import LogNorm

    figure, axes = new_axes("predicted", "true", limits=False)
    edges, counts = np.array(curves.plane["edges"]), np.array(curves.plane["counts"])
    low, high = float(edges[0]), float(edges[-1])
    shown = np.ma.masked_equal(counts, 0)  # type: ignore[no-untyped-call]
    axes.imshow(
        shown,
        origin="lower",
        extent=(low, high, low, high),
        cmap="Blues",
        # From below the smallest count, which would be white otherwise.
        norm=LogNorm(vmin=float(shown.min()) / 3, vmax=float(shown.max())),
        interpolation="nearest",
    )
    axes.plot([low, high], [low, high], color="grey", linestyle=":", label="equal")
    axes.legend(loc="upper left")
    return figure


def _residuals(curves: NumberCurves) -> Figure:
    figure, axes = new_axes("true - predicted", "share of rows", limits=False)
    edges = np.array(curves.residuals["edges"])
    axes.bar(edges[:-1], curves.residuals["share"], width=np.diff(edges), align="edge", alpha=0.7)
    axes.axvline(0, color="grey", linewidth=1)
    return figure


def _spread(curves: NumberCurves) -> Figure:
    figure, axes = new_axes("predicted", "true - predicted", limits=False)
    found = curves.spread
    axes.fill_between(found["predicted"], found["low"], found["high"], alpha=0.25, label="middle 80 %")
    axes.plot(found["predicted"], found["median"], marker="o", label="median")
    axes.axhline(0, color="grey", linewidth=1)
    axes.legend(loc="best")
    return figure


def _coverage(curves: NumberCurves) -> Figure:
    figure, axes = new_axes("quantile", "share of rows at or below it")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(curves.coverage["quantile"], curves.coverage["share"], marker="o", label="the net")
    axes.legend(loc="upper left")
    return figure

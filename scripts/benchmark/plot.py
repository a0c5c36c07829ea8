"""The picture: one panel per workload, times on a logarithmic axis; dots, because bars would need a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark import report
from benchmark.workloads import title


def draw(
    results: Mapping[str, Sequence[report.Round]], titles: Mapping[str, str], path: Path, source: str = ""
) -> None:
    """Writes the picture; medians as dots, the interval over the rounds as a line. `source` stands in its metadata."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size
    mpl.rcParams["svg.hashsalt"] = "benchmark"  # the same file for the same results
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    panels = {key: [row for row in report.rows(key, rounds) if row.counts] for key, rounds in results.items()}
    panels = {key: sorted(rows, key=_slowness) for key, rows in panels.items() if rows}
    if not panels:
        return
    heights = [len(rows) + 2 for rows in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.27 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (key, rows) in zip(axes[:, 0], panels.items(), strict=True):
        for place, row in enumerate(rows):
            assert row.seconds is not None
            middle = row.seconds.median
            colour = "#c44e52" if row.name == report.REFERENCE.get(key) else "#4c72b0"
            axis.plot([row.seconds.least, row.seconds.most], [place, place], color=colour, alpha=0.5)
            axis.plot([middle], [place], "o", color=colour, markersize=5)
            axis.annotate(report.show(middle), (middle, place), (0, 4), textcoords="offset points", fontsize=7)
        names = [titles.get(row.name, row.name).replace("`", "") for row in rows]
        axis.set_yticks(range(len(rows)), names)
        axis.grid(axis="y", alpha=0.25)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: report.show(value)))
        axis.xaxis.set_minor_formatter(axis.xaxis.get_major_formatter() if _narrow(rows) else NullFormatter())
        axis.set_title(f"({key}) {title(key)}; {report.UNITS[key]}", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Source": source or None})
    plt.close(figure)


def _slowness(row: report.Row) -> float:
    return -row.seconds.median if row.seconds is not None else 0.0


def _narrow(rows: Sequence[report.Row]) -> bool:
    """Whether the axis may contain no power of ten; only those are labelled by default."""
    times = [row.seconds for row in rows if row.seconds is not None]
    return max(time.most for time in times) < 5 * min(time.least for time in times)

"""The bars: one panel a workload, times on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark import report
from benchmark.workloads import title


def draw(results: Mapping[str, Sequence[report.Round]], titles: Mapping[str, str], path: Path) -> None:
    """Writes the picture; medians as bars, the range over the rounds as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    panels = {key: [row for row in report.rows(key, rounds) if row.counts] for key, rounds in results.items()}
    panels = {key: sorted(rows, key=lambda row: -(row.seconds or 0)) for key, rows in panels.items() if rows}
    if not panels:
        return
    heights = [len(rows) + 2 for rows in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.27 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (key, rows) in zip(axes[:, 0], panels.items(), strict=True):
        medians = [row.seconds or 0 for row in rows]
        spread = [
            [middle - (row.least or 0) for middle, row in zip(medians, rows, strict=True)],
            [(row.most or 0) - middle for middle, row in zip(medians, rows, strict=True)],
        ]
        names = [titles.get(row.name, row.name) for row in rows]
        colours = ["#c44e52" if row.name == report.REFERENCE.get(key) else "#8fa6c4" for row in rows]
        axis.barh(names, medians, xerr=spread, color=colours, ecolor="#555555")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: report.show(value)))
        axis.set_title(f"({key}) {title(key)}; {report.UNITS[key]}", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)

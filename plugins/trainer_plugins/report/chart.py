"""One chart of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A chart with its texts; `name` is its id in the page."""

    name: str
    title: str
    caption: str
    svg: Markup


def chart(name: str, title: str, caption: str, figure: Figure, shown: str = "") -> Chart:
    """A figure as a chart; `shown` names its lines for screen readers."""
    from trainer_plugins.report.svg import svg

    label = f"{title}. {caption}" + (f" Lines: {shown}." if shown else "")
    return Chart(name, title, caption, svg(figure, name, label))

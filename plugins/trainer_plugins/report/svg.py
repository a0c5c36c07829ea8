"""Charts as inline SVG that follows the page's colours, light or dark."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
SERIES = tuple(f"#0a0b{number:02x}" for number in range(1, 9))
"""Unlikely colours for matplotlib to draw with: each is replaced by a variable of the page's style sheet."""
VARIABLES = {INK: "var(--ink)", "#000000": "var(--ink)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(SERIES, 1)
}


@contextmanager
def style() -> Iterator[None]:
    """Figures made and drawn within it take the page's colours and are the same every time."""
    import matplotlib as mpl
    from cycler import cycler

    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(ink, INK),
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "font.size": 11,
        # Text stays text: small, searchable, and in the reader's own font.
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
    }
    # If matplotlib's font lacks a character, its width is slightly wrong; the browser has a font for it.
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(settings), _no_glyph_warnings():
            yield
    finally:
        fonts.setLevel(level)


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element. `name` makes its ids unique; `label` describes it for screen readers."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))  # type: ignore[no-untyped-call]
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Only tags: the text between them may come from the data and look like anything.
    text = re.sub(r"<[^>]*>", lambda tag: _themed(tag[0], name), re.sub(r">\s+<", "><", text))
    # The page sets the size; the view box keeps the proportions.
    opening, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None  # noqa: S101
    head = f'<svg {box[0]} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(label)}"'
    # matplotlib has escaped what comes from the data.
    return Markup(f"{head}>{rest}")  # noqa: S704


def _themed(tag: str, name: str) -> str:
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    for color, variable in VARIABLES.items():
        tag = tag.replace(color, variable)
    return tag

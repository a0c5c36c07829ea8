"""Aligned columns of text."""

from __future__ import annotations

from collections.abc import Sequence

MIN_WIDTH = 8
"""No column is cut below it."""


def fitted(rows: Sequence[Sequence[str]], width: int | None, cut: Sequence[int]) -> list[str]:
    """The rows aligned in `width` characters: the columns `cut` are shortened, in that order, as far as necessary."""
    cells = [list(row) for row in rows]
    if width is not None:
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        too_wide = max(map(len, aligned(cells)), default=0) - width
        for column in cut:
            keep = max(widths[column] - too_wide, MIN_WIDTH)
            if too_wide <= 0 or keep >= widths[column]:
                continue
            too_wide -= widths[column] - keep
            for row in cells:
                if len(row[column]) > keep:
                    row[column] = f"{row[column][: keep - 1]}…"
    return aligned(cells)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row; every column is as wide as its widest cell, and columns are two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

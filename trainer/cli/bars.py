"""Bars on standard error if it is a terminal; none elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.model.interface import RowSource


@contextmanager
def read_bar(what: str) -> Iterator[Callable[[RowSource, int], None] | None]:
    """Shows how much of a source has been read, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        task: Any = None

        def watch(source: RowSource, rows: int) -> None:
            nonlocal task
            if task is None:
                task = bars.add_task("", total=source.total)
            bars.update(task, completed=source.done, description=f"{rows:,} {what}")

        yield watch


@contextmanager
def count_bar(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Shows how many of a known number are done, if standard error is a terminal."""
    if not total or not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        task: Any = None

        def watch(count: int) -> None:
            nonlocal task
            if task is None:
                task = bars.add_task("", total=total)
            bars.update(task, completed=count, description=f"{count:,} {what}")

        yield watch


@contextmanager
def _bars() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield bars

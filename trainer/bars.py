"""Bars on standard error if it is a terminal; none elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.model.interface import RowSource

PATIENCE_SECONDS = 1.0
"""What is over earlier needs no bar."""


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
def reading_bar() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Shows for each pass over a table how much was read, if standard error is a terminal and a pass takes a while."""
    if not sys.stderr.isatty():
        yield None
        return
    began, shown = time.monotonic(), ""
    with ExitStack() as stack:
        bars: Any = None
        task: Any = None

        def watch(what: str, done: int, total: int | None) -> None:
            nonlocal bars, task, shown
            if bars is None:
                if time.monotonic() - began < PATIENCE_SECONDS:
                    return
                bars = stack.enter_context(_bars())
                task = bars.add_task("")
            if what != shown:
                bars.reset(task)
                shown = what
            bars.update(task, total=total, completed=done, description=f"reading the table: {what}")

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

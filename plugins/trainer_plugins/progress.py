"""Shows the progress of training: bars on a terminal, one display in a notebook, plain lines elsewhere."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer import Due, Phase, Plugin, Run
from trainer.cli import safe
from trainer.runs import metric_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

REFRESH_SECONDS = 0.1
"""The least time between two readings of the loss, which wait for the device."""
COLUMNS = 80
"""The longest line in a pipe or a file."""
NOTEBOOK_COLUMNS = 120
WIDE_COLUMNS = 76
"""A terminal with fewer has short bars, without rate and time."""


@dataclass
class Progress(Plugin):
    """One line per epoch with the task's headline metrics; on a terminal also bars for epochs and batches.

    The bars show the rate, the time left and the newest loss, ten times a second. In a notebook one display is updated
    in place: a bar, and the last epoch's metrics.
    """

    bars: Annotated[
        Literal["auto", "on", "off"], Field(description="Whether to draw bars; auto: on a terminal or in a notebook.")
    ] = "auto"

    phase = Phase.REPORT
    logs = ()
    on_error = "disable"

    def on_fit_begin(self, run: Run) -> None:
        """Prints the task's description and starts the bars."""
        self._notebook: NotebookBar | None = None
        self._bars: Bars | None = None
        self._drawn = 0.0
        if self.bars != "off" and in_notebook():
            self._text = LineText(run, NOTEBOOK_COLUMNS)
            self._notebook = NotebookBar(run)
            return
        self._console: Console | None = None
        if self.bars == "on" or _on_terminal():
            self._console = _console()
        terminal = self._console is not None and self._console.is_terminal
        self._text = LineText(run, self._console.width if self._console is not None and terminal else COLUMNS)
        for line in run.task.describe():
            self._print(line)
        if self._console is not None and (self.bars == "on" or (self.bars == "auto" and terminal)):
            self._start_bars(run, self._console)

    def on_epoch_begin(self, run: Run) -> None:
        """Resets the batch bar."""
        if self._bars is not None:
            self._bars.reset(self._batches, total=run.steps_per_epoch)

    def on_batch_end(self, run: Run) -> None:
        """Updates the bars, at most once per REFRESH_SECONDS."""
        if (self._bars is None and self._notebook is None) or perf_counter() - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = perf_counter()
        if self._notebook is not None:
            self._notebook.draw(run, f"loss {run.loss:.4f}")
        elif self._bars is not None:
            self._bars.update(self._batches, completed=run.step_in_epoch, loss=f"loss {run.loss:.4f}")

    def next_batch_end(self, run: Run) -> Due | None:
        return Due() if self._bars is None and self._notebook is None else Due(time=self._drawn + REFRESH_SECONDS)

    def on_epoch_end(self, run: Run) -> None:
        """Prints the epoch's line."""
        width = len(str(run.epochs))
        line = self._text.line(f"epoch {run.epoch:>{width}}/{run.epochs}", run.epoch_metrics, run.task.headline)
        if self._notebook is not None:
            self._notebook.keep(run, line)
        elif self._bars is not None:
            self._print(line)
            self._bars.update(self._epochs, completed=run.epoch)
        else:
            self._write(line)

    def on_fit_end(self, run: Run) -> None:
        """Removes the bars and keeps the lines."""
        if getattr(self, "_bars", None) is not None:
            self._bars.stop()  # type: ignore[union-attr]
        if getattr(self, "_notebook", None) is not None:
            self._notebook.close(run)  # type: ignore[union-attr]

    def on_calibration_end(self, run: Run) -> None:
        """Prints the metrics of the calibration rows."""
        self._keep(run, self._text.line("calibration", run.metrics, _names_of("calibration", run)))

    def on_test_end(self, run: Run) -> None:
        """Prints the test metrics, at the given and, if there is one, the tuned threshold."""
        names = _names_of("test", run)
        lines = [self._text.line("test", run.metrics, names)]
        if "test/threshold" in run.metrics:
            tuned = [name.replace("test/", "test/tuned-") for name in names]
            lines.append(self._text.line("tuned", run.metrics, ["test/threshold", *tuned]))
        for line in lines:
            self._keep(run, line)

    def _keep(self, run: Run, line: str) -> None:
        if self._notebook is not None:
            self._notebook.keep(run, line)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._console is None:
            self._write(line)
            return
        # markup=False: a column may be called [bold].
        self._console.print(safe(line), markup=False)

    @staticmethod
    def _write(line: str) -> None:
        # Without bars this writes the same as rich, which takes 0.25 ms for it, and as long as numpy to import.
        sys.stdout.write(safe(line) + "\n")
        sys.stdout.flush()

    def _start_bars(self, run: Run, console: Console) -> None:
        from rich import progress

        wide = console.width >= WIDE_COLUMNS
        rest = (progress.TimeRemainingColumn(), _rate_column()) if wide else ()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=40 if wide else 8),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[loss]}"),
            *rest,
            console=console,
            transient=True,
        )
        done = run.epoch - 1 if run.within_epoch else run.epoch
        self._epochs: TaskID = self._bars.add_task("epochs", total=run.epochs, completed=done, loss="")
        self._batches: TaskID = self._bars.add_task(
            "batches", total=run.steps_per_epoch, completed=run.step_in_epoch, loss=""
        )
        self._bars.start()


def _names_of(split: str, run: Run) -> list[str]:
    """The headline of the validation rows, for another split."""
    return [f"{split}/{name.partition('/')[2]}" for name in run.task.headline if name.startswith("validation/")]


class LineText:
    """The lines with metrics, in the longest of three forms that fits: by name, by split, and by a shortened split.

    The form is chosen once per run, so that the lines stay aligned.
    """

    def __init__(self, run: Run, columns: int) -> None:
        self._columns = columns
        self._form = 0
        names = run.task.headline
        sample = dict.fromkeys(names, 0.1234)
        prefix = f"epoch {run.epochs}/{run.epochs}"
        while self._form < 2 and len(self._with_all(prefix, sample, names)) > columns:
            self._form += 1

    def line(self, prefix: str, metrics: Mapping[str, float], names: Sequence[str]) -> str:
        """The prefix with the metrics of these names; those at the end that do not fit are left out."""
        names = [name for name in names if name in metrics]
        whole = self._with_all(prefix, metrics, names)
        kept = len(names)
        line = whole
        while len(line) > self._columns and kept > 1:
            kept -= 1
            line = f"{self._with_all(prefix, metrics, names[:kept])}  …"
        return line

    def _with_all(self, prefix: str, metrics: Mapping[str, float], names: Sequence[str]) -> str:
        parts, newest = [prefix], prefix
        for name in names:
            split, _, last = name.partition("/")
            label = name
            if self._form and last:
                short = "val" if split == "validation" and self._form == 2 else split
                label = last if split in (newest, "calibration", "test") else f"{short} {last}"
                newest = split
            parts.append(f"{label} {metric_text(name, metrics[name], '.4f')}")
        return "  ".join(parts)


class NotebookBar:
    """One display in a notebook's cell that is updated in place; it only needs IPython."""

    def __init__(self, run: Run) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._about = list(run.task.describe())
        self._lines: list[str] = []
        self._began = perf_counter()
        self._steps_before = run.step
        self._handle = display(HTML(self._text(run, "")), display_id=True)

    def draw(self, run: Run, note: str) -> None:
        """Updates the bar, with a note after it."""
        self._handle.update(self._html(self._text(run, note)))

    def keep(self, run: Run, line: str) -> None:
        """Adds a line above the bar; only the newest two stay, so the cell keeps its height."""
        self._lines = [*self._lines, line][-2:]
        self.draw(run, "")

    def close(self, run: Run) -> None:
        """Removes the bar and keeps the lines."""
        self._handle.update(self._html(self._lines_as_html()))

    def _text(self, run: Run, note: str) -> str:
        total = None if run.steps_per_epoch is None else run.epochs * run.steps_per_epoch
        if total is not None and run.settings.steps is not None:
            total = min(total, run.settings.steps)
        done = f' value="{run.step}" max="{total}"' if total else ""
        seconds = perf_counter() - self._began
        rate = (run.step - self._steps_before) / seconds if seconds > 0 else 0.0
        parts = [f"epoch {run.epoch}/{run.epochs}", f"step {run.step}" + (f"/{total}" if total else "")]
        parts += [f"{rate:.1f}/s"] * (rate > 0)
        if total and rate > 0 and run.step < total:
            parts.append(f"{(total - run.step) / rate:.0f} s left")
        text = escape("  ".join([*parts, *([note] if note else [])]))
        return f'{self._lines_as_html()}<div><progress{done} style="width:20em"></progress> <code>{text}</code></div>'

    def _lines_as_html(self) -> str:
        return "".join(f"<div><code>{escape(line)}</code></div>" for line in [*self._about, *self._lines])


def _on_terminal() -> bool:
    """Whether rich may find a terminal: there is one, or a variable says so."""
    return sys.stdout.isatty() or any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))


def _console() -> Console:
    """A console that leaves it to the run what happens when the reader goes away: Rich's own ends the process."""
    from rich.console import Console

    class Lines(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    # Rich supports notebooks too, but its bars there need ipywidgets.
    return Lines(highlight=False, soft_wrap=True, emoji=False, force_jupyter=False)


def in_notebook() -> bool:
    """Whether this runs in a kernel that shows HTML, as Jupyter's does. Does not import IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def _rate_column() -> ProgressColumn:
    """A column with the epochs or batches per second."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    return Rate()

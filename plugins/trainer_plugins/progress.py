"""Shows how training goes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer import Phase, Plugin, Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

REFRESH_SECONDS = 0.1
"""Between two looks at the loss, which wait for the device."""


@dataclass
class Progress(Plugin):
    """One line an epoch with the task's headline figures; on a terminal also bars for epochs and batches.

    The bars show the rate, the time left and the newest loss, ten times a second.
    """

    bars: Annotated[
        Literal["auto", "on", "off"], Field(description="Whether bars are drawn; auto: where a terminal is.")
    ] = "auto"

    phase = Phase.REPORT
    on_error = "disable"

    def on_fit_begin(self, run: Run) -> None:
        """What is about to be trained, and the bars."""
        from rich.console import Console

        self._console: Console = Console(highlight=False, soft_wrap=True)
        self._bars: Bars | None = None
        self._drawn = 0.0
        for line in run.task.describe():
            self._print(line)
        if self.bars == "on" or (self.bars == "auto" and self._console.is_terminal):
            self._start_bars(run)

    def on_epoch_begin(self, run: Run) -> None:
        """The batch bar starts anew."""
        if self._bars is not None:
            self._bars.reset(self._batches, total=run.steps_per_epoch)

    def on_batch_end(self, run: Run) -> None:
        """Draws the bars, a few times a second."""
        if self._bars is None or perf_counter() - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = perf_counter()
        self._bars.update(self._batches, completed=run.step_in_epoch, loss=f"loss {run.loss:.4f}")

    def on_epoch_end(self, run: Run) -> None:
        """The epoch's line."""
        figures = "  ".join(
            f"{name} {run.epoch_metrics[name]:.4f}" for name in run.task.headline if name in run.epoch_metrics
        )
        width = len(str(run.epochs))
        line = f"epoch {run.epoch:>{width}}/{run.epochs}  {figures}"
        if self._bars is not None:
            self._print(line)
            self._bars.update(self._epochs, completed=run.epoch)
        else:
            # What rich would write of a line that it need not keep clear of bars; it takes 0.25 ms to say so.
            self._console.file.write(line + "\n")
            self._console.file.flush()

    def on_fit_end(self, run: Run) -> None:
        """Takes the bars away; the lines stay."""
        if getattr(self, "_bars", None) is not None:
            self._bars.stop()  # type: ignore[union-attr]

    def on_test_end(self, run: Run) -> None:
        """The test split's lines: at the given threshold and, where another was tuned, at that."""
        names = [name.replace("validation/", "test/") for name in run.task.headline if name.startswith("validation/")]
        self._print(_line("test", run, names))
        if "test/threshold" in run.metrics:
            tuned = [name.replace("test/", "test/tuned-") for name in names]
            self._print(_line("tuned", run, ["test/threshold", *tuned]))

    def _print(self, line: str) -> None:
        # markup=False: a column called [bold] is a column.
        self._console.print(line, markup=False)

    def _start_bars(self, run: Run) -> None:
        from rich import progress

        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[loss]}"),
            progress.TimeRemainingColumn(),
            _rate_column(),
            console=self._console,
            transient=True,
        )
        done = run.epoch - 1 if run.within_epoch else run.epoch
        self._epochs: TaskID = self._bars.add_task("epochs", total=run.epochs, completed=done, loss="")
        self._batches: TaskID = self._bars.add_task(
            "batches", total=run.steps_per_epoch, completed=run.step_in_epoch, loss=""
        )
        self._bars.start()


def _line(title: str, run: Run, names: Sequence[str]) -> str:
    return f"{title}  " + "  ".join(f"{name} {run.metrics[name]:.4f}" for name in names if name in run.metrics)


def _rate_column() -> ProgressColumn:
    """How many epochs or batches a second."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    return Rate()

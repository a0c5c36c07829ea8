"""Measures the time of each operator over a window of steps, with MXNet's own profiler.

The process has one profiler, with traps that this module works around:

- `set_config` deletes an existing file: it gets a name in a temporary folder of ours.
- `dump(finished=True)` ends profiling for good, and a later `set_config` raises. `dump(finished=False)` omits the
  closing brackets, and after the first dump of a process also the opening ones and the devices' names. So the dump is
  parsed, and written again as a complete trace.
- It writes every operator twice (as a span of its thread and as an asynchronous one), under process and thread numbers
  that are too large for JavaScript, which trace viewers use.
- A bound symbol's operators appear as one entry, `[FullyConnected,relu,…]`, unless `aggregate_stats` was on when the
  symbol was bound.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.atomic import write_atomic, write_json
from trainer.cli import say

TRACE = "profile.json"
OPERATORS = "operators.json"
TABLE = "operators.table"

NUMPY = 1000
"""The number of the device that stands for numpy."""
_device_names: dict[int, str] = {NUMPY: "numpy"}
"""The devices' names by number; only the first dump of a process has them."""


@dataclass
class Profile(Plugin):
    """Profiles the operators of the steps from `first` to `last` with MXNet's profiler, and shows the most expensive.

    It writes to the run's folder: `profile.json`, a trace for Perfetto or chrome://tracing; `operators.json` with the
    times of every operator; and `operators.table` with the table that it shows. Evaluations in the window are left out.
    It waits for the device at both ends of the window, and until the window's end operators run one by one instead of
    in bulk; training computes the same. If the run ends inside the window, the profile covers the steps until then.
    """

    first: Annotated[int, Field(ge=1, description="The first step to profile.")] = 10
    last: Annotated[int, Field(ge=1, description="The last step to profile.")] = 19
    top: Annotated[int, Field(ge=1, description="How many operators the table shows.")] = 10

    phase = Phase.REPORT
    logs = ()
    on_error = "disable"

    def __post_init__(self) -> None:
        """Refuses a window that ends before it begins."""
        if self.first > self.last:
            raise ValueError(f"the last step, {self.last}, is before the first, {self.first}")
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._began: int | None = None
        self._ended = 0
        self._steps: list[tuple[int, int, int]] = []

    def on_setup(self, run: Run) -> None:
        """Configures MXNet's profiler before anything is bound, unless a resumed run is past the window."""
        others = [plugin.name for plugin in run.plugins if isinstance(plugin, Profile) and plugin is not self]
        if others:
            raise UsageError(
                f"{others[0]!r} profiles this run already, and MXNet has one profiler per process",
                where=f"plugin {self.name!r}",
                fix="Use one of them, with a window that covers both.",
            )
        if run.step < self.last:
            # ignore_cleanup_errors: a folder that is gone already is fine.
            self._scratch = tempfile.TemporaryDirectory(prefix="trainer-profile-", ignore_cleanup_errors=True)
            self._configure(on=True)

    def on_batch_begin(self, run: Run) -> None:
        """Opens the window; a run that resumes inside it profiles the rest."""
        if self._scratch is None:
            return
        if self._began is None and self.first <= run.step <= self.last:
            self._open(run.step)
        if self._began is not None:
            self._steps.append((run.step, _microseconds(), 0))

    def on_batch_end(self, run: Run) -> None:
        """Closes the window after its last step."""
        if self._began is None:
            return
        number, began, _ = self._steps[-1]
        self._steps[-1] = (number, began, _microseconds())
        self._ended = number
        if number >= self.last:
            self._finish(run)

    def on_evaluate_begin(self, run: Run) -> None:
        """Pauses: only training is profiled."""
        if self._began is not None:
            _profiler(wait=True).pause()

    def on_evaluate_end(self, run: Run) -> None:
        if self._began is not None:
            _profiler(wait=True).resume()

    def on_fit_end(self, run: Run) -> None:
        """Finishes a window that the run ends inside of; reports a run that ends before it."""
        if self._began is not None:
            self._finish(run)
        elif self._scratch is not None:
            self._stop()
            _show([f"nothing was profiled: the run ended at step {run.step}, before the window begins at {self.first}"])

    # ---- MXNet's profiler --------------------------------------------------------------------------------------------

    def _configure(self, *, on: bool) -> None:
        assert self._scratch is not None  # noqa: S101
        _profiler().set_config(
            filename=str(Path(self._scratch.name) / TRACE),
            profile_symbolic=on,
            profile_imperative=on,
            aggregate_stats=on,
        )

    def _open(self, step: int) -> None:
        # Operators that were queued before would otherwise count as part of the window.
        _profiler(wait=True).set_state("run")
        _recorded().calls = []
        self._began = step
        self._ended = step

    def _finish(self, run: Run) -> None:
        """Waits, then reads the record; also if waiting raises an error of the device."""
        try:
            _profiler(wait=True)
        finally:
            self._record(run)

    def _record(self, run: Run) -> None:
        """Shows the table and writes the files."""
        assert self._scratch is not None  # noqa: S101
        assert self._began is not None  # noqa: S101
        window = (self._began, self._ended)
        by_numpy, _recorded().calls = _recorded().calls or [], None
        try:
            _profiler().set_state("stop")
            _profiler().dump(finished=False)
            dumped = (Path(self._scratch.name) / TRACE).read_text(encoding="utf-8")
        finally:
            self._stop()
        spans = sorted(
            [*_spans(dumped), *(Span(name, NUMPY, 0, began, ended) for name, began, ended in by_numpy)],
            key=lambda span: span.began,
        )
        operators = _operators(spans)
        lines = _table(operators, window, self.top)
        _show(lines)
        if run.folder is not None:
            write_json(run.folder / OPERATORS, {"first": window[0], "last": window[1], "operators": operators})
            write_atomic(run.folder / TABLE, "\n".join(lines) + "\n")
            write_atomic(run.folder / TRACE, json.dumps(_trace(spans, self._steps)) + "\n")

    def _stop(self) -> None:
        """Resets the profiler and deletes the temporary folder."""
        if self._scratch is not None:
            self._began = None
            self._configure(on=False)
            self._scratch.cleanup()
            self._scratch = None


def _profiler(*, wait: bool = False) -> Any:
    """MXNet's profiler; with `wait`, after all pending work is done."""
    from trainer.mxnet import mx

    if wait:
        mx.nd.waitall()
    return mx.profiler


def _recorded() -> Any:
    """What numpy computes in the steps of a small net."""
    from trainer.calls import recorded

    return recorded


def _microseconds() -> int:
    """The current time on the clock of MXNet's profiler."""
    return time.time_ns() // 1000


# ---- what it recorded -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """One call of an operator: device and thread, and the times in microseconds since 1970."""

    name: str
    device: int
    thread: int
    began: int
    ended: int


def _spans(dumped: str) -> list[Span]:
    """The calls in a dump, which is the beginning or the middle of a JSON document."""
    body = dumped.strip()
    if body.startswith("{"):
        body = body.partition("[")[2]
    spans: list[Span] = []
    begun: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for event in json.loads("[" + body.strip(", \n") + "]"):
        if event["ph"] == "M" and event["name"] == "process_name":
            _device_names[event["pid"]] = event["args"]["name"]
        elif event["ph"] in ("B", "E"):
            key = (event["pid"], event["tid"], event["name"])
            if event["ph"] == "B":
                begun[key].append(event["ts"])
            elif begun[key]:
                spans.append(Span(event["name"], event["pid"], event["tid"], begun[key].pop(), event["ts"]))
    return spans


def _operators(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Each operator's times, the most expensive first. `share` is its fraction of the time of all operators."""
    durations: dict[str, list[int]] = defaultdict(list)
    for span in spans:
        durations[span.name].append(span.ended - span.began)
    total = sum(map(sum, durations.values()))
    rows = [
        {
            "name": name,
            "calls": len(times),
            "total_ms": sum(times) / 1000,
            "mean_ms": sum(times) / len(times) / 1000,
            "share": sum(times) / total if total else 0.0,
        }
        for name, times in durations.items()
    ]
    return sorted(rows, key=lambda row: (-row["total_ms"], row["name"]))


def _table(operators: Sequence[dict[str, Any]], window: tuple[int, int], top: int) -> list[str]:
    shown = operators[:top]
    width = max([len("operator"), *(len(row["name"]) for row in shown)])
    lines = [
        f"the most expensive operators of steps {window[0]} to {window[1]}",
        f"{'operator':<{width}}  {'calls':>7}  {'total ms':>10}  {'mean ms':>9}  {'share':>6}",
    ]
    lines += [
        f"{row['name']:<{width}}  {row['calls']:>7}  {row['total_ms']:>10.3f}  {row['mean_ms']:>9.4f}"
        f"  {row['share']:>6.1%}"
        for row in shown
    ]
    if len(operators) > top:
        rest = operators[top:]
        total, share = sum(row["total_ms"] for row in rest), sum(row["share"] for row in rest)
        lines.append(f"{f'{len(rest)} others':<{width}}  {'':>7}  {total:>10.3f}  {'':>9}  {share:>6.1%}")
    return lines


def _trace(spans: Sequence[Span], steps: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
    """A trace in Chrome's format: one row for the steps of the Python loop, and one per device and thread."""
    numbers = sorted({span.device for span in spans})
    names = {number: _device_names.get(number, f"device {number}") for number in numbers}
    python = max(numbers, default=0) + 1
    names[python] = "the loop"
    threads: dict[int, int] = {}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}} for number, name in names.items()
    ]
    for number, began, ended in steps:
        if ended:
            events.append(_event("step", f"step {number}", began, ended, process=python, thread=0))
    for span in spans:
        thread = threads.setdefault(span.thread, len(threads))
        events.append(_event("operator", span.name, span.began, span.ended, process=span.device, thread=thread))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(kind: str, name: str, began: int, ended: int, *, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "X", "cat": kind, "name": name, "ts": began, "dur": ended - began, "pid": process, "tid": thread}


def _show(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)

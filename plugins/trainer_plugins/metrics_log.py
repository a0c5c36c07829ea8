"""Writes every metric of a run to `metrics.jsonl`, the source of all other logs, and to CSV."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import Field

from trainer import Due, Phase, Plugin, Run, UsageError
from trainer.atomic import cut_back, write_atomic

log = logging.getLogger("trainer")

SCHEMA = 1
JSONL = "metrics.jsonl"
CSV = "metrics.csv"

_as_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass
class MetricsLog(Plugin):
    """Writes metrics.jsonl (steps, epochs, end) and metrics.csv (one row per epoch) into the run's folder.

    One object per line: `schema`, `event` (`step`, `epoch` or `end`), `epoch`, `step`, `time` (seconds since 1970) and
    `metrics`; the `end` line holds the test metrics, what plugins log at the end, and the run's `status` and `reason`.
    NaN and infinity, which JSON lacks, are null. Lines are written out at the end of each epoch.
    """

    every: Annotated[
        int, Field(ge=0, description="Steps between two step lines (batch loss, learning rate); 0: none.")
    ] = 100
    csv: Annotated[bool, Field(description="Whether to write metrics.csv too.")] = True

    phase = Phase.REPORT
    logs = ()
    varying = ("bytes",)
    on_error = "disable"

    def __post_init__(self) -> None:
        """Starts with no file open: teardown comes without setup if another plugin failed first."""
        self._file: TextIO | None = None
        self._table: TextIO | None = None
        self._size: int | None = None
        self._columns: list[str] = []
        self._row: Mapping[str, float] = {}

    def on_setup(self, run: Run) -> None:
        """Opens the file, so that a folder that cannot be written to is an error before training.

        In a resumed run it drops what was written after the checkpoint, in the CSV too.
        """
        if run.folder is None:
            return
        path = run.folder / JSONL
        if run.resumed and self._size is not None:
            cut_back(path, self._size)
        try:
            self._cut_damage(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", where=f"plugin {self.name!r}") from error
        if run.resumed and self.csv:
            self._rewrite_csv(run.folder, run)

    def _cut_damage(self, path: Path) -> None:
        """Cuts the file back to its whole lines: a power cut can leave half a line or zeros at its end."""
        if not path.is_file():
            return
        whole, size = _whole_lines(path), path.stat().st_size
        if whole < size:
            cut_back(path, whole)
            log.warning("%s: its last %d bytes were no whole lines and are gone", path, size - whole)

    def on_batch_end(self, run: Run) -> None:
        """Writes a step line every `every` steps (the loss waits for the device), and for what others logged."""
        if self.every and run.step % self.every == 0:
            own = {"train/batch-loss": run.loss, "learning-rate": run.learning_rate}
            self._write(run, "step", run.step_metrics | own)
        elif run.step_metrics:
            self._write(run, "step", run.step_metrics)

    def next_batch_end(self, run: Run) -> Due | None:
        return Due(run.step // self.every * self.every + self.every if self.every else math.inf, logged=True)

    def on_epoch_end(self, run: Run) -> None:
        """Writes the epoch's line to both files."""
        self._write(run, "epoch", run.epoch_metrics)
        if self._file is None or run.folder is None:
            return
        with self._closed_on_error():
            self._file.flush()
        if self.csv:
            self._write_csv(run.folder, run)

    def on_teardown(self, run: Run) -> None:
        """Writes the end line, and the last row of the CSV again if `fit_end` has added to it."""
        try:
            self._write(run, "end", run.end_metrics, status=run.status, reason=run.reason)
            if self._file is not None and run.folder is not None and self._columns and self._row != run.history[-1]:
                self._rewrite_csv(run.folder, run)
        finally:
            for file in (self._file, self._table):
                if file is not None:
                    file.close()

    def state_dict(self) -> Mapping[str, Any]:
        """The length of the file, after everything is on the disk."""
        if self._file is None:
            return {"bytes": None}
        with self._closed_on_error():
            self._file.flush()
            os.fsync(self._file.fileno())
            return {"bytes": os.fstat(self._file.fileno()).st_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._size = state["bytes"]

    def _write(self, run: Run, event: str, metrics: Mapping[str, float], **more: str) -> None:
        if self._file is None:
            return
        line = {
            "schema": SCHEMA,
            "event": event,
            "epoch": run.epoch,
            "step": run.step,
            "time": round(time.time(), 3),
            **more,
            "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        }
        with self._closed_on_error():
            self._file.write(_as_json(line) + "\n")

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """Closes a file that cannot be written to, with whole lines in it."""
        try:
            yield
        except OSError:
            file, self._file = self._file, None
            assert file is not None  # noqa: S101
            with suppress(OSError):
                file.close()  # tries once more to write what is left
            with suppress(OSError):
                cut_back(Path(file.name), Path(file.name).read_bytes().rfind(b"\n") + 1)
            raise

    def _write_csv(self, folder: Path, run: Run) -> None:
        """Adds the epoch's row; if it has a new column, all rows are written again."""
        row = run.history[-1]
        if not row.keys() <= set(self._columns):
            self._rewrite_csv(folder, run)
            return
        if self._table is None:
            self._table = (folder / CSV).open("a", encoding="utf-8", newline="")
        shown = _shown(row)
        csv.writer(self._table).writerow([shown.get(name, "") for name in self._columns])
        self._table.flush()
        self._row = dict(row)

    def _rewrite_csv(self, folder: Path, run: Run) -> None:
        """The table from the history, which has NaN and infinity, unlike the log's lines."""
        if self._table is not None:
            self._table.close()
            self._table = None
        rows = run.history
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(map(_shown, rows))
        write_atomic(folder / CSV, text.getvalue())
        self._row = dict(rows[-1]) if rows else {}


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    """A row whose epoch and step are whole numbers."""
    return {**row, "epoch": int(row["epoch"]), "step": int(row["step"])}


def _whole_lines(path: Path) -> int:
    """How many bytes of the file, from its start, are lines with one JSON object each."""
    size = 0
    with path.open("rb") as file:
        for line in file:
            try:
                is_whole = line.endswith(b"\n") and isinstance(json.loads(line), dict)
            except ValueError:
                is_whole = False
            if not is_whole:
                break
            size += len(line)
    return size

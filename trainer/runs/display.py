"""A run as a line, as a small table in a notebook, and its history as a data frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError
from trainer.runs.values import metric_text

LAST_EPOCHS = 5
"""Rows of the table in a notebook."""


class Shown:
    """The part of a run that shows it."""

    if TYPE_CHECKING:

        @property
        def history(self) -> list[dict[str, float]]: ...

    def history_frame(self) -> Any:
        """`history` as a pandas DataFrame with the epoch as its index. Raises UsageError if pandas is missing."""
        return frame_of(self.history)

    def __repr__(self) -> str:
        return line_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def line_of(run: Any) -> str:
    """One line: the task, the status, the main metrics, the folder."""
    return f"<Run {', '.join(_facts(run))}>"


def html_of(run: Any) -> str:
    """The line, and a table of the last epochs' main metrics."""
    names = [name for name in run.task.headline if any(name in entry for entry in run.history)]
    entries = run.history[-LAST_EPOCHS:]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("epoch", *names))
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(entry, name)}</td>" for name in ("epoch", *names)) + "</tr>" for entry in entries
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if entries else ""
    return f"<div><p>Run {escape(', '.join(_facts(run)))}</p>{table}</div>"


def frame_of(history: Sequence[dict[str, float]]) -> Any:
    """A pandas DataFrame, one row per epoch, with the epoch as the index. Raises UsageError without pandas."""
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise UsageError(
            "history_frame needs pandas, which is not installed",
            fix="Install it: pip install pandas; run.history is the same as a list of dicts.",
        ) from error
    frame = pandas.DataFrame(list(history) or {"epoch": [], "step": []})
    frame["epoch"] = frame["epoch"].astype(int)
    return frame.set_index("epoch")


def _facts(run: Any) -> list[str]:
    name = getattr(run.task, "net_name", "") or run.task.name or type(run.task).__name__
    said = [f"{name}: {run.status}", f"{run.epoch}/{run.epochs} epochs", f"{run.step} steps"]
    said += [f"{key} {metric_text(key, run.metrics[key], '.4g')}" for key in run.task.headline if key in run.metrics]
    if run.folder is not None:
        relative = os.path.relpath(run.folder)
        said.append(str(run.folder) if relative.startswith("..") else relative)
    return said


def _cell(entry: dict[str, float], name: str) -> str:
    if name == "epoch":
        return str(int(entry[name]))
    return metric_text(name, entry[name], ".4f") if name in entry else ""

"""What runs leave on disk: folders, checkpoints, listings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.runs.checkpoint import Checkpoint, complete_checkpoints, remove_checkpoint
    from trainer.runs.comparison import compare, flat
    from trainer.runs.find import find_run
    from trainer.runs.folder import (
        CONFIG,
        PLUGINS,
        RUN,
        check_writable,
        folder_path,
        plugins_of,
        record_of,
        remove_folder,
        this_process,
        write_run,
    )
    from trainer.runs.listing import RunEntry, entry_of, is_alive
    from trainer.runs.splits_file import split_rows
    from trainer.runs.values import metric_text

__all__ = [
    "CONFIG",
    "PLUGINS",
    "RUN",
    "Checkpoint",
    "RunEntry",
    "check_writable",
    "compare",
    "complete_checkpoints",
    "entry_of",
    "find_run",
    "flat",
    "folder_path",
    "is_alive",
    "metric_text",
    "plugins_of",
    "record_of",
    "remove_checkpoint",
    "remove_folder",
    "split_rows",
    "this_process",
    "write_run",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.runs.checkpoint": ("Checkpoint", "complete_checkpoints", "remove_checkpoint"),
        "trainer.runs.comparison": ("compare", "flat"),
        "trainer.runs.find": ("find_run",),
        "trainer.runs.folder": (
            "CONFIG",
            "PLUGINS",
            "RUN",
            "check_writable",
            "folder_path",
            "plugins_of",
            "record_of",
            "remove_folder",
            "this_process",
            "write_run",
        ),
        "trainer.runs.listing": ("RunEntry", "entry_of", "is_alive"),
        "trainer.runs.splits_file": ("split_rows",),
        "trainer.runs.values": ("metric_text",),
    },
)

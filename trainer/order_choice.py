"""Decides the order of a run's training rows, once, when it first starts."""

from __future__ import annotations

from typing import Any

from trainer.config.settings import OPTIMIZER, Settings
from trainer.data.addressed import Addressed
from trainer.errors import UsageError, type_of
from trainer.processes import Processes

BLOCK_BYTES = 512 << 10
"""A block's rows are read from the disk together; that many bytes take a disk no longer than finding them."""
WINDOW_BYTES = 256 << 20
"""512 blocks: sorted by label, halves of two classes are mixed to 50 ± 2.2 % in a window."""
SIZES = ("block_rows", "window_blocks")


def with_order(settings: Settings, source: Any, processes: Processes, *, resumed: bool = False) -> Settings:
    """The settings with the order of the training rows and, for windows, both sizes; collective.

    A run that is `resumed` without an order is one of a version that knew one permutation only. Raises UsageError for
    an order that the rows cannot have.
    """
    if settings.solver != OPTIMIZER:
        return settings
    if not isinstance(source, Addressed):
        _refuse_any(settings, source)
        return settings
    chosen = _chosen(settings, source, resumed=resumed)
    # What is free differs from machine to machine, and from moment to moment.
    order, block_rows, window_blocks = processes.gather(chosen)[0]
    return settings.model_copy(update={"order": order, "block_rows": block_rows, "window_blocks": window_blocks})


def _chosen(settings: Settings, source: Addressed, *, resumed: bool) -> list[Any]:
    own, row_bytes = source.own_block_rows, max(1, source.row_bytes)
    order = settings.order
    if own is not None:
        _check_streamed(settings, own)
        order = "windows"
    elif order == "auto" and (settings.block_rows or settings.window_blocks):
        order = "windows"
    elif order == "auto":
        fits = resumed or (settings.memory == "auto" and source.is_in_memory)
        order = "rows" if fits or row_bytes * len(source) <= settings.memory_bytes() else "windows"
    if order == "rows":
        return ["rows", None, None]
    block_rows = own or settings.block_rows or _power_of_two(BLOCK_BYTES // row_bytes)
    # Streamed rows are in memory for two windows: this one and the next.
    room = min(WINDOW_BYTES, settings.memory_bytes() // 4)
    return ["windows", block_rows, settings.window_blocks or max(1, room // (row_bytes * block_rows))]


def _power_of_two(most: int) -> int:
    """The largest power of two that is not above a number; 1 for numbers below."""
    return 1 << max(0, most.bit_length() - 1)


def _refuse_any(settings: Settings, source: Any) -> None:
    given = next((name for name in SIZES if getattr(settings, name) is not None), None)
    if settings.order != "auto" or given is not None:
        raise UsageError(
            f"the training rows come from {type_of(source)}, which has an order of its own",
            where=f"--{(given or 'order').replace('_', '-')}",
            fix="Leave it out, or give the rows as Arrays or as trainer.Streamed.",
        )


def _check_streamed(settings: Settings, own: int) -> None:
    if settings.order == "rows":
        raise UsageError(
            "the training rows are streamed by blocks, so all rows cannot be permuted at once",
            where="--order",
            fix="Leave it out, or give the rows as Arrays.",
        )
    if settings.block_rows not in (None, own):
        raise UsageError(
            f"the training rows are streamed by blocks of {own} rows, not of {settings.block_rows}",
            where="--block-rows",
            fix=f"Leave it out, or write Streamed(…, block_rows={settings.block_rows}).",
        )

"""A batch as the Estimator's handlers know it: data and label of all rows on the first context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trainer import Run, UsageError


def whole(run: Run, *, copy: bool) -> list[Any]:
    """Data and labels of the whole batch on the first context, like a batch of a DataLoader.

    With `copy`, later batches do not overwrite them.
    """
    assert run.batch is not None  # noqa: S101
    if not any(shard.rows for shard in run.batch.shards):
        return []
    parts = [*run.batch.inputs, run.batch.label]
    return copied(parts) if copy else parts


def put_back(run: Run, parts: Sequence[Any], *, where: str) -> None:
    """Trains on what handlers have made of the batch. Raises UsageError if it has other parts or other rows."""
    from trainer.data import Shard

    batch = run.batch
    assert batch is not None  # noqa: S101
    shards, begin = [], 0
    rows = sum(shard.rows for shard in batch.shards)
    kept = next((shard for shard in batch.shards if shard.rows), None)
    before = [] if kept is None else [*kept.inputs, kept.label]
    if len(parts) != len(before) or any(not _fits(part, like, rows) for part, like in zip(parts, before, strict=False)):
        found = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
        wanted = ", ".join(str((rows, *like.shape[1:])) for like in before)
        raise UsageError(
            f"a handler has changed the batch's arrays from {wanted} to {found}",
            where=where,
            fix="Change values in batch_begin, not the number of arrays or their shapes.",
        )
    for shard in batch.shards:
        end = begin + shard.rows
        if not shard.rows:
            shards.append(shard)
            continue
        mine = [part if shard.rows == rows else part[begin:end] for part in parts]
        moved = [
            part.as_in_context(shard.context).astype(like.dtype, copy=False)
            for part, like in zip(mine, before, strict=True)
        ]
        shards.append(Shard(shard.context, tuple(moved[:-1]), moved[-1], shard.weight, shard.rows))
        begin = end
    run.batch = replace(batch, shards=tuple(shards))


def _fits(part: Any, like: Any, rows: int) -> bool:
    return hasattr(part, "as_in_context") and part.shape == (rows, *like.shape[1:])


def copied(value: Any) -> Any:
    """Copies of arrays in lists of any depth; does not wait for the device."""
    return [copied(part) for part in value] if isinstance(value, (list, tuple)) else value.copy()

"""The splits of a table: reads it, splits it by the seed, and encodes it with the schema of the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trainer.bars import reading_bar
from trainer.data.cache import Key, Store
from trainer.data.split_names import NAMES, SPLITS
from trainer.data.tables.cached import built, files_of, key_of, splits_of, store_of
from trainer.data.tables.halves import rounded
from trainer.data.tables.held import Watch
from trainer.data.tables.options import TableOptions
from trainer.data.tables.plan import Plan, TableSplits, planned
from trainer.data.tables.schema import Rows, Schema
from trainer.data.tables.sources import where_of
from trainer.errors import UsageError, listed
from trainer.processes import Processes
from trainer.reading import free_memory, in_gb


def load_splits(
    options: TableOptions,
    *,
    seed: int,
    memory: int | None = None,
    processes: Processes | None = None,
    watch: Callable[[str, int, int | None], None] | None = None,
) -> TableSplits:
    """Reads the table, splits it (classes in equal shares), learns the schema from the training rows, and encodes.

    Files that would take more than `memory` bytes (default: this process's part of half of what is free) are read in
    passes, a few blocks at a time, and if their encoded rows would too, these go to a cache on the disk and are mapped
    from there (`TableOptions.cache`). The result does not depend on it. With several `processes`, one of each machine
    builds the cache, and all have to call this. `watch` is called with what is read for, how much was read, and how
    much there is (None if unknown).

    Raises UsageError like `Schema.encode`, for options that cannot be used, if there are too few rows to split or a
    split has only one class, on which a model cannot be evaluated, and if the cache cannot be written.
    """
    processes = processes or Processes()
    memory = free_memory() // 2 // processes.local_size if memory is None else memory
    files = files_of(options)
    if options.cache == "off" and options.cache_dir is not None:
        raise UsageError("there is no cache with --cache off", where="--cache-dir", fix="Leave one of the two out.")
    if options.cache == "off" or (files is None and options.cache == "auto"):
        with _shown(watch) as shown:
            return _in_memory(planned(options, seed=seed, memory=memory, watch=shown), options)
    if files is None:
        raise UsageError(
            "only the rows of files are kept, and these come from elsewhere",
            where=f"--cache {options.cache}",
            fix="Leave it out.",
        )
    key, store = key_of(options, files, seed=seed), store_of(options)
    mine = None
    if processes.local_rank == 0:
        with _shown(watch) as shown:
            mine = _loaded(options, store, key, seed, memory, shown)
    if processes.size == 1:
        assert mine is not None  # noqa: S101  a single process is the first one
        return mine
    # The others of this machine wait until its cache is there.
    processes.gather(None)
    if mine is None:
        entry = store.find(key)
        mine = splits_of(entry) if entry else _in_memory(planned(options, seed=seed, memory=memory), options)
    return mine


def _loaded(  # noqa: PLR0917
    options: TableOptions, store: Store, key: Key, seed: int, memory: int, watch: Watch | None
) -> TableSplits:
    """The splits from the cache, or from memory if they need none."""
    if options.cache != "rebuild":
        entry = store.find(key, verify=options.cache == "verify")
        if entry is not None:
            return splits_of(entry)
    plan = planned(options, seed=seed, memory=memory, watch=watch)
    if options.cache == "auto" and plan.bytes <= memory:
        return _in_memory(plan, options)
    return built(options, store, key, plan)


def _shown(watch: Watch | None) -> AbstractContextManager[Watch | None]:
    """What is called while the table is read: as given, or a bar on a terminal."""
    return reading_bar() if watch is None else nullcontext(watch)


def _in_memory(plan: Plan, options: TableOptions) -> TableSplits:
    """All rows in memory. Raises UsageError if they are more than what is free."""
    if plan.bytes > (free := free_memory()):
        raise UsageError(
            f"the encoded rows take {in_gb(plan.bytes)}, and {in_gb(free)} are free",
            where=where_of(options.data),
            fix="Leave out --cache off, so that they are kept on the disk."
            if options.cache == "off"
            else "Write them to files, which are read in parts.",
        )
    splits = plan.encode()
    if options.feature_type == "float16":
        for split in SPLITS:
            rows = getattr(splits, split)
            if rows is not None:
                rounded(rows.features, plan.schema, where=where_of(options.data))
    return splits


def describe(splits: TableSplits) -> list[str]:
    """What was read and how it was interpreted, in a few lines for the user, without the notes."""
    schema = splits.schema
    parts = {name: getattr(splits, split) for split, name in NAMES.items()}
    present: dict[str, Rows] = {name: rows for name, rows in parts.items() if rows is not None}
    kinds = [column.kind for column in schema.columns]
    columns = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    tallies = {name: splits.tallies[split] for split, name in NAMES.items() if split in splits.tallies}
    counted = ", ".join(f"{tally.rows} {name} ({schema.target.summary(tally)})" for name, tally in tallies.items())
    lines = [
        f"rows: {counted}",
        f"columns: {columns} → {_inputs(schema)}",
        schema.target.describe(schema.label),
    ]
    for what, counts in (
        ("missing values", _total(present, "missing")),
        (f"categories {schema.unseen_means}", _total(present, "unseen")),
    ):
        if counts:
            lines.append(f"{what}: " + listed((f"{name} {count}" for name, count in counts.items()), limit=8))
    return lines


def _inputs(schema: Schema) -> str:
    """The inputs of the net: `7 inputs, 3 ids (41,233 rows × 16 weights)`."""
    names = schema.feature_names
    parts = [f"{len(names)} input{'' if len(names) == 1 else 's'}"] if names or not schema.id_tables else []
    for table in schema.id_tables:
        count = len(table.columns)
        weights = f" × {table.units} weights" if table.units else " of weights"
        parts.append(f"{count} id{'' if count == 1 else 's'} ({table.rows:,} rows{weights})")
    return ", ".join(parts)


def _total(parts: Mapping[str, Rows], attribute: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for rows in parts.values():
        counts: Mapping[str, Any] = getattr(rows, attribute)
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total

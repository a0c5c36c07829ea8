"""The splits of a table from a cache of encoded rows, which is built when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.cache import Entry, Key, Layout, Store, Writer, cache_limit, tables_folder
from trainer.data.fingerprint import Fingerprint
from trainer.data.row_numbers import to_parquet
from trainer.data.split_names import JUDGED, SPLITS
from trainer.data.tables import sinks
from trainer.data.tables.frame import Frame
from trainer.data.tables.halves import rounded
from trainer.data.tables.options import TableOptions
from trainer.data.tables.plan import Plan, TableSplits
from trainer.data.tables.schema import Rows, Schema
from trainer.data.tables.sliced import from_tables, to_tables
from trainer.data.tables.sources import find_source, named, where_of
from trainer.data.tables.stream import STANDARD_INPUT, FileRows
from trainer.data.tables.targets.tally import Tally

VERSION = 1
"""The version of what is stored with the rows, and of how they are encoded."""
VOCABULARY, ROW_NUMBERS = "vocabulary.arrow", "splits.parquet"
NOT_IN_KEY = ("data", *(f"{split}_data" for split in JUDGED), "cache", "cache_dir")
"""Options that do not change what is encoded; the files are in the key by themselves."""


def key_of(options: TableOptions, files: Sequence[Sequence[Path]], *, seed: int) -> Key:
    """What the encoded rows of a table are found by; `files` are those of `files_of`.

    Raises UsageError if a file is not there.
    """
    return Key.of(chain.from_iterable(files), _settings(options, seed, list(map(len, files))))


def store_of(options: TableOptions) -> Store:
    """The caches in the folder that the options name. Raises UsageError for a limit that is not a size."""
    return Store(tables_folder(options.cache_dir), cache_limit())


def built(options: TableOptions, store: Store, key: Key, plan: Plan) -> TableSplits:
    """The splits from a new cache, or from the one that another process has built meanwhile.

    Raises CacheUnwritable, and UsageError like `Plan.encode`.
    """
    with store.build(key, again=options.cache == "rebuild") as found:
        if isinstance(found, Writer):
            _write(plan, found, options)
    entry = found.entry if isinstance(found, Writer) else found
    assert entry is not None  # noqa: S101  the block has ended without an error
    return splits_of(entry)


# ---- the key ---------------------------------------------------------------------------------------------------------


def files_of(options: TableOptions) -> list[list[Path]] | None:
    """The files of the data, and of each other split's own, in their order; None if some rows are not from files."""
    found: list[list[Path]] = []
    for given in (options.data, *options.own_tables().values()):
        if isinstance(given, Frame) or STANDARD_INPUT in named(given):
            return None
        found.append([file.path for file in find_source(given).files] if given else [])
    return found if any(found) else None


def _settings(options: TableOptions, seed: int, files: Sequence[int]) -> dict[str, Any]:
    """What the encoded rows depend on besides the files."""
    own = {field.name for base in type(options).__mro__ if issubclass(base, TableOptions) for field in _fields(base)}
    values = {name: getattr(options, name) for name in sorted(own) if name not in NOT_IN_KEY}
    return {
        "version": VERSION,
        "seed": seed,
        "files": files,
        "target": options.target_kind(),
        "linear": options.is_linear(),
        # As Python writes them: a fraction may still be no number.
        "options": {name: repr(value) for name, value in values.items()},
    }


def _fields(base: type) -> Any:
    """The fields of the classes of options of tables; a task's own are not among them."""
    return fields(base) if base.__module__ == TableOptions.__module__ else ()


# ---- from and to the cache -------------------------------------------------------------------------------------------


class _CacheSink:
    """Takes the encoded rows for the cache."""

    def __init__(self, writer: Writer, schema: Schema, where: str, *, half: bool) -> None:
        self._writer, self._schema, self._where, self._half = writer, schema, where, half
        self._width: dict[str, int] = {}

    def open(self, split: str, rows: int, layout: sinks.Layout) -> None:
        self._width[split] = layout.width
        self._writer.open(split, rows, Layout(layout.width, layout.ids, layout.weighted, self._half))

    def write(self, split: str, first: int, rows: Rows) -> None:
        if self._half:
            rounded(rows.features, self._schema, where=self._where)
        self._writer.write(split, first, rows)

    def close(self) -> Mapping[str, Rows]:
        """Rows without a row: they are read from the cache when it is complete."""
        none = np.empty(0, np.float32)
        return {split: Rows(np.empty((0, width), np.float32), none, none, {}) for split, width in self._width.items()}


def _write(plan: Plan, writer: Writer, options: TableOptions) -> None:
    """Fills a new cache."""
    half = options.feature_type == "float16"
    splits = plan.encode(_CacheSink(writer, plan.schema, where_of(options.data), half=half))
    parts = {split: getattr(splits, split) for split in SPLITS}
    assert splits.fingerprint is not None  # noqa: S101  a plan has one
    meta = {
        "version": VERSION,
        "schema": splits.schema.to_json(),
        "notes": list(splits.notes),
        "files": {option: [[file.path, file.rows] for file in found] for option, found in splits.files.items()},
        "fingerprint": splits.fingerprint.to_json(),
        "split_version": splits.split_version,
        "splits": {
            name: {
                "missing": dict(rows.missing),
                "unseen": dict(rows.unseen),
                "tally": splits.tallies[name].to_json(),
            }
            for name, rows in parts.items()
            if rows is not None
        },
    }
    further = {VOCABULARY: splits.schema.vocabulary(), ROW_NUMBERS: to_parquet(splits.fingerprint)}
    further |= to_tables(splits.slices)
    writer.finish(meta, {name: content for name, content in further.items() if content is not None})


def splits_of(entry: Entry) -> TableSplits:
    """The splits in a cache, mapped. The numbers of their rows stay on the disk."""
    meta = entry.meta
    schema = Schema.from_json(meta["schema"], entry.table(VOCABULARY) if VOCABULARY in entry.files else None)
    rows: dict[str, Rows] = {}
    for name, columns in entry.splits.items():
        about = meta["splits"][name]
        rows[name] = Rows(
            columns.features,
            columns.labels,
            columns.weights,
            about["unseen"],
            about["missing"],
            columns.ids,
            columns.prefetch,
        )
    fingerprint = Fingerprint.from_json(meta["fingerprint"])
    assert fingerprint is not None  # noqa: S101  the key has its version
    fingerprint = replace(fingerprint, stored=lambda: entry.file(ROW_NUMBERS) if ROW_NUMBERS in entry.files else None)
    return TableSplits(
        rows["train"],
        rows.get("validation"),
        rows.get("test"),
        schema,
        split_version=meta["split_version"],
        notes=tuple(meta["notes"]),
        files={
            option: tuple(FileRows(path, count) for path, count in found) for option, found in meta["files"].items()
        },
        fingerprint=fingerprint,
        calibration=rows.get("calibration"),
        slices=from_tables(entry.files, entry.table),
        tallies={name: Tally.from_json(about["tally"]) for name, about in meta["splits"].items()},
    )

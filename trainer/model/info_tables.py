"""Arrow tables among what a task's `model_info` returns: each is a file of its own in the model folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa


def file_of(name: str) -> str:
    """The file of a table: `vocabulary` → `model-vocabulary.arrow`."""
    return f"model-{name}.arrow"


def divided(info: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """The JSON values, and the tables."""
    tables = {name: value for name, value in info.items() if _is_table(value)}
    return {name: value for name, value in info.items() if name not in tables}, tables


def _is_table(value: Any) -> bool:
    if not type(value).__module__.startswith("pyarrow"):
        return False
    import pyarrow as pa

    return isinstance(value, pa.Table)


def write(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    """Writes the files into a new folder. Raises OSError."""
    import pyarrow as pa

    for name, table in tables.items():
        with (folder / file_of(name)).open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())


def read(folder: Path, names: Iterable[str]) -> dict[str, pa.Table]:
    """The tables of a folder whose checksums were checked. Raises UsageError for a file that Arrow cannot read."""
    found = {}
    for name in names:
        import pyarrow as pa

        path = folder / file_of(name)
        try:
            # Not mapped: a process that reads a file that another one shortens is killed.
            found[name] = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"it is damaged: {first_line(error)}", where=str(path)) from error
    return found

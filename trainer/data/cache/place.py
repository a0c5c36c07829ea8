"""Where caches lie, and how much room they may take."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.config.sizes import bytes_of

FOLDER_VARIABLE, LIMIT_VARIABLE = "TRAINER_CACHE_DIR", "TRAINER_CACHE_LIMIT"
TABLES = "tables"
"""The folder of the caches of tables inside the cache folder."""


def cache_folder(given: Path | None = None) -> Path:
    """The cache folder: as given, or $TRAINER_CACHE_DIR, $XDG_CACHE_HOME/gluon-trainer, or ~/.cache/gluon-trainer."""
    if given is not None:
        return given.expanduser().absolute()
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore relative paths.
    base = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    return base.absolute() / "gluon-trainer"


def tables_folder(given: Path | None = None) -> Path:
    """The folder of the caches of tables: `tables` in the cache folder."""
    return cache_folder(given) / TABLES


def cache_limit() -> int | None:
    """The bytes that all caches may take, from $TRAINER_CACHE_LIMIT; None if it is not set. Raises UsageError."""
    given = os.environ.get(LIMIT_VARIABLE)
    return bytes_of(given, where=f"${LIMIT_VARIABLE}") if given else None

"""Values of options as they are written on the command line."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any


def absolute(value: Any, base: Path | None) -> Any:
    """A path relative to `base`, or to the current folder; other values as they are."""
    return Path(base or Path.cwd(), value.expanduser()) if isinstance(value, Path) else value


def parts_of(text: str) -> tuple[str, ...]:
    """The parts of a list as it is written on the command line: `a,b`, and `"a,b",c` for one with a comma."""
    rows = list(csv.reader([text], skipinitialspace=True))
    return tuple(part.strip() for row in rows for part in row if part.strip())


def paths_of(text: str, base: Path | None = None) -> tuple[str, ...]:
    """The paths of a list as it is written on the command line; a path that exists may have commas."""
    # A text that cannot be a path at all does not exist either.
    exists = text.strip() and os.path.exists(absolute(Path(text), base))  # noqa: PTH110
    return (text,) if exists else parts_of(text)


def as_part(text: str) -> str:
    """A part of a list, in quotes if it has a comma or a quote."""
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def as_text(value: Any) -> str:
    """A value as the text of a flag."""
    if value is None:
        return ""
    if isinstance(value, (tuple, list)):
        return ",".join(as_part(as_text(each)) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)

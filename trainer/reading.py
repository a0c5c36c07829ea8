"""What is read from disk is checked at the door: JSON, its schema, and the memory that it asks for.

A file may come from anywhere, and a disk may have damaged it. Each function raises `Unreadable` with a reason, never
another exception; its callers say which file it is and what to do.
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trainer.errors import UsageError, first_line, in_short

DEEPEST = 100
"""Levels of nesting; deeper JSON would exhaust the stack of whoever walks through it."""
LARGEST = 1 << 28
"""Bytes of a JSON file; Python's objects take about ten times as much."""
LONGEST_REASON = 300
"""Characters of a reason, with what led to it."""
CGROUP = Path("/sys/fs/cgroup/memory.max")

Schema = TypeVar("Schema", bound=BaseModel)


MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # Before those of UTF-16, with which it begins.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, and the encodings that they tell."""


class Unreadable(Exception):  # noqa: N818  a reason, which its callers turn into their own error
    """Why something cannot be read, in one line: it may quote the file, which may hold anything."""

    def __init__(self, reason: str) -> None:
        super().__init__(in_short(reason, LONGEST_REASON))


def read_text(path: Path) -> str:
    """The text of a user's file: UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises FileNotFoundError if there is none, and UsageError if it cannot be read or is not text.
    """
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error
    except Unreadable as error:
        raise UsageError(str(error), where=str(path), fix="Save it as UTF-8.") from error


def decoded(content: bytes) -> str:
    """The text, without a byte order mark. Raises Unreadable, with the line, for what is not text."""
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG")
        place = (
            f" at line {content[: error.start].count(10) + 1}" if name == "UTF-8" else ", although it begins as such"
        )
        raise Unreadable(f"it is not {name} text{place}") from error
    if "\0" in text:
        raise Unreadable("it is not text: it has zero bytes, like UTF-16 without a byte order mark")
    return text


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises FileNotFoundError if there is none, otherwise Unreadable."""
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):
            raise Unreadable("it is not a file")
        if about.st_size > LARGEST:
            raise Unreadable(f"it has {about.st_size} bytes, and {LARGEST} are the limit")
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from error


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text, nested at most 100 levels deep. Raises Unreadable."""
    try:
        value = json.loads(content if isinstance(content, str) else decoded(content))
    except RecursionError:
        raise Unreadable(_too_deep()) from None
    except (ValueError, MemoryError) as error:
        # Also for numbers of thousands of digits.
        raise Unreadable(f"it is not JSON: {first_line(error)}") from error
    if is_deep(value):
        raise Unreadable(_too_deep())
    return value


def is_deep(value: Any) -> bool:
    """Whether a JSON value is nested more than 100 levels deep."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return False
    return True


def checked(schema: type[Schema], value: Any) -> Schema:
    """The value as its schema has it. Raises Unreadable with the first field that is wrong."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place, reason = in_short(".".join(map(str, first["loc"]))), in_short(first["msg"])
        raise Unreadable(f"{place}: {reason}" if place else reason) from error
    except (RecursionError, OverflowError) as error:
        raise Unreadable(first_line(error)) from error


def check_memory(size: int, what: str) -> None:
    """Raises Unreadable if `what` needs more bytes than there are free."""
    if size > (free := free_memory()):
        raise Unreadable(f"{what} would take {in_gb(size)}, and {in_gb(free)} are free")


def in_gb(size: int) -> str:
    """A number of bytes, in the unit that suits it."""
    if size < 1e5:
        return f"{size:,} bytes"
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def free_memory() -> int:
    """Bytes of memory that this process could take: the machine's, or its control group's if that has fewer."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = int(CGROUP.read_text(encoding="ascii"))
        return min(free, max(limit - int(psutil.Process().memory_info().rss), 0))
    except (OSError, ValueError):
        return free


def _too_deep() -> str:
    return f"it is nested more than {DEEPEST} levels deep"

"""Cuts a CSV file into blocks of whole rows, which are parsed one by one.

pyarrow's own streaming reader calls a Python file from its threads, also after an error: a process that ends then is
aborted. Blocks of bytes need no thread of Python's, and Ctrl-C reaches the main thread while it waits for a pipe.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

BLOCK_BYTES = 4 << 20
"""The size of a block. Several copies of it are in memory at once."""
SMALLEST_READ = 1 << 16
LONGEST_ROW = 256 << 20
"""A row that does not end within this many bytes is a quote that was not closed."""
QUOTE, NEWLINES = ord('"'), b"\n\r"


def blocks_of(file: Any, beginning: bytes, delimiter: str, where: str) -> Iterator[bytes]:
    """Blocks of whole rows: those of `beginning`, then those of the file. The last row may lack its newline."""
    rest, ended = beginning, False
    while not ended:
        parts, size = [rest], len(rest)
        while size < BLOCK_BYTES or len(parts) == 1:
            more = read_some(file, max(SMALLEST_READ, BLOCK_BYTES - size), where)
            if not more:
                ended = True
                break
            parts.append(more)
            size += len(more)
        block = b"".join(parts)
        if ended:
            if block:
                yield block
            return
        end = end_of_rows(block, delimiter)
        if end == 0 and len(block) > LONGEST_ROW:
            raise UsageError("a row does not end", where=where, fix="Close the quote that begins a value.")
        rest = block[end:]
        if end:
            yield block[:end]


def read_some(file: Any, size: int, where: str) -> bytes:
    """At most `size` bytes, as many as are there; none at the end. Raises UsageError if they cannot be read."""
    try:
        data: bytes = file.read1(size)
    except UnicodeError as error:
        raise UsageError("it begins as UTF-16 text, but is not", where=where, fix="Save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or error
        raise UsageError(f"it cannot be read: {what}", where=where) from error
    return data


def end_of_rows(block: bytes, delimiter: str) -> int:
    """Where the last whole row of a block ends that begins with a row; 0 if none does."""
    if QUOTE not in block:
        return max(block.rfind(newline) for newline in (b"\n", b"\r")) + 1
    quotes = np.flatnonzero(np.frombuffer(block, np.uint8) == QUOTE)
    if len(quotes) and not _in_pairs(block, quotes, delimiter):
        quotes = _that_count(block, quotes, delimiter)
    end = len(block)
    while True:
        end = max(block.rfind(newline, 0, end) for newline in (b"\n", b"\r")) + 1
        # An even number of quotes before it: the newline is not within a value.
        if end == 0 or np.searchsorted(quotes, end) % 2 == 0:
            return end
        # Back to the quote that begins this value.
        end = int(quotes[np.searchsorted(quotes, end) - 1])


def _in_pairs(block: bytes, quotes: NDArray[np.int64], delimiter: str) -> bool:
    """Whether every quote that would open a value begins one, or doubles the quote before it."""
    opening = quotes[::2]
    data = np.frombuffer(block, np.uint8)
    before = data[np.maximum(opening - 1, 0)]
    begins = (opening == 0) | np.isin(before, np.frombuffer(delimiter.encode() + NEWLINES, np.uint8))
    doubles = np.zeros(len(opening), bool)
    doubles[1:] = opening[1:] == quotes[1::2][: len(opening) - 1] + 1
    return bool((begins | doubles).all())


def _that_count(block: bytes, quotes: NDArray[np.int64], delimiter: str) -> NDArray[np.int64]:
    """The quotes that open and close values, without those that are part of a text such as 5" pipe."""
    starts = delimiter.encode() + NEWLINES
    found: list[int] = []
    places = quotes.tolist()
    number = 0
    while number < len(places):
        place = places[number]
        if len(found) % 2 == 0:
            if place == 0 or block[place - 1] in starts:
                found.append(place)
        elif number + 1 < len(places) and places[number + 1] == place + 1:
            # Two in a row within a value are one quote of its text.
            number += 1
        else:
            found.append(place)
        number += 1
    return np.array(found, np.int64)

"""Sizes of memory and files as text: `4GB`, `512 MiB`."""

from __future__ import annotations

import re

from trainer.errors import UsageError

UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)


def bytes_of(text: str, *, where: str, also: str = "") -> int:
    """The bytes of a size such as `4GB` (10⁹ bytes each), `512MiB` (2²⁰) or `4G` (2³⁰, as in the shell).

    `also` names what may be written instead, for the message. Raises UsageError for anything else, and for 0.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    size = int(float(found[1]) * UNITS[found[2]]) if found is not None and found[2] in UNITS else 0
    if size < 1:
        raise UsageError(
            f"{text!r} is not a size", where=where, fix=f"Write a number above 0 and a unit, such as 4GB{also}."
        )
    return size

"""Hashed categories: a table of weights of a fixed size, in which a hash of the value is the number of its row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.canonical import canonical, keyed
from trainer.data.tables.hashing import MISSING_SALT, MODULUS, bucket_of, salt_of, text_hashes
from trainer.data.tables.kinds.base import Counts, OneId, wrong_units
from trainer.data.tables.values import check_flat
from trainer.data.tables.vocabulary import MISSING, Form

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BITS = 30


@dataclass(frozen=True)
class Hashed(OneId):
    """A column of categories without a list of them: the row of a value is the first `bits` bits of a hash.

    All hashed columns of a table share the rows; each has a salt of its own, and so have its missing values. The hash
    is that of the text that all spellings of a value share (`form`), so it does not depend on how a file stores it.
    """

    bits: int = 20
    form: Form = "written"
    units: int = 0
    """How many weights a row has; 0 in a linear model, where they are as many as the net has outputs."""
    kind: Literal["hashed"] = "hashed"

    @property
    def rows(self) -> int:
        """The rows of weights, shared by all hashed columns."""
        return 1 << self.bits

    @property
    def shared_rows(self) -> tuple[int, ...]:
        """There are none: an unseen value has a row like any other."""
        return ()

    @cached_property
    def salt(self) -> int:
        """Added to the hash of a value."""
        return salt_of(self.name)

    @property
    def missing_salt(self) -> int:
        """Takes the place of the salt for a missing value, whose hash is 0."""
        return (self.salt + MISSING_SALT) % MODULUS

    def places(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.int64]:
        """The row of each value (n,), -2 for a missing one. Raises UsageError for lists, structs and bytes."""
        check_flat(self.name, values, where=where)
        found = [self._hashed(chunk) for chunk in keyed(canonical(values), self.form).chunks if len(chunk)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _hashed(self, texts: pa.Array) -> NDArray[np.int64]:
        places = bucket_of(text_hashes(texts), self.salt, self.bits).astype(np.int64)
        places[texts.is_null().to_numpy(zero_copy_only=False)] = MISSING
        return places

    def encode_ids(self, values: pa.ChunkedArray, target: NDArray[np.int32], *, first: int, where: str) -> Counts:
        """Writes the row of each value to `target` (n,); `first` is the table's first one.

        Raises UsageError for lists, structs and bytes.
        """
        places = self.places(values, where=where)
        missing = places == MISSING
        places[missing] = bucket_of(np.zeros(1, np.uint64), self.missing_salt, self.bits)[0]
        target[:] = places + first
        return Counts(int(missing.sum()))

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        if not 1 <= self.bits <= MOST_BITS:
            return f"column {self.name!r} has {self.bits} bits, not 1 to {MOST_BITS}"
        return wrong_units(self.name, self.units)

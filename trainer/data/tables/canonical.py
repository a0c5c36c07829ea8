"""Values as texts, one for all spellings of a value, and how often each occurs: Arrow does what it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.values import (
    FIRST_ROWS,
    Precision,
    cleaned,
    distinct,
    is_text,
    truth_key,
)
from trainer.data.tables.vocabulary import Form, form_of, key_in, spelled

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.texts import Texts

CANONICAL = r"^(0|-?[1-9][0-9]*)$"
"""A whole number in its shortest spelling, which is its own key."""


def canonical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values as `values.distinct` writes them, null if missing.

    Text, whole numbers and truth values cost no look in Python; of other types, each distinct value does.
    """
    import pyarrow as pa
    from pyarrow import compute

    if is_text(values):
        return cleaned(values)
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return compute.cast(values, pa.string())
    numbers, texts = distinct(values)
    return pa.chunked_array([pa.array(texts, pa.string()).take(pa.array(numbers))], pa.string())


def are_canonical(texts: pa.Array) -> NDArray[np.bool_]:
    """Which texts are whole numbers in their shortest spelling; False for nulls."""
    from pyarrow import compute

    found = compute.fill_null(compute.match_substring_regex(texts, CANONICAL), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)


def keyed(texts: pa.ChunkedArray, form: Form) -> pa.ChunkedArray:
    """The text that all spellings of a value share, for each text of `canonical`; null stays null."""
    import pyarrow as pa

    if form == "written":
        return texts
    parts = []
    for chunk in texts.chunks:
        encoded = chunk.dictionary_encode()
        words = encoded.dictionary
        plain = are_canonical(words) if form == "number" else np.zeros(len(words), bool)
        if not plain.all():
            keys = pa.array([key_in(words[int(each)].as_py(), form) for each in np.flatnonzero(~plain)], pa.string())
            words = _replaced(words, ~plain, keys)
        parts.append(words.take(encoded.indices))
    return pa.chunked_array(parts, pa.string())


def _replaced(words: pa.Array, where: NDArray[np.bool_], by: pa.Array) -> pa.Array:
    import pyarrow as pa
    from pyarrow import compute

    return compute.replace_with_mask(words, pa.array(where), by)


def form_of_many(texts: pa.Array, precision: Precision | None = None) -> Form:
    """`vocabulary.form_of` of distinct texts; most text and whole numbers cost no look at each in Python."""
    if precision is None:
        first = texts.slice(0, FIRST_ROWS).to_pylist()
        if form_of(first) == "written" and not all(map(truth_key, first)):
            # Each of the other forms asks something of all texts; these numbers, truth values or times are not all.
            return "written"
        if are_canonical(texts).all():
            return "number"
    return form_of(texts.to_pylist(), precision)


@dataclass(frozen=True)
class Counted:
    """The distinct values of a column under the spelling that stands for each, and how often each occurs."""

    texts: pa.Array
    counts: NDArray[np.int64]
    missing: int
    form: Form

    @classmethod
    def of(cls, found: Texts, precision: Precision | None) -> Counted:
        """The values behind texts, which may be half or single floats."""
        import pyarrow as pa

        texts, counts = found.counted
        absent = texts.is_null().to_numpy(zero_copy_only=False)
        if found.missing:
            texts, counts = texts.filter(pa.array(~absent)), counts[~absent]
        form = form_of_many(texts, precision)
        if form == "written" or (form == "number" and are_canonical(texts).all()):
            return cls(texts, counts, found.missing, form)
        return cls._merged(texts.to_pylist(), counts, found.missing, form)

    @classmethod
    def _merged(cls, texts: list[str], counts: NDArray[np.int64], missing: int, form: Form) -> Counted:
        """Other spellings of a value counted with it."""
        import pyarrow as pa

        words = spelled(texts, form)
        places = {key_in(word, form): place for place, word in enumerate(words)}
        numbers = np.array([places[key_in(text, form)] for text in texts], np.int64)
        sums = np.bincount(numbers, weights=counts, minlength=len(words)) if words else np.zeros(0)
        return cls(pa.array(words, pa.string()), sums.astype(np.int64), missing, form)

    def by_frequency(self, least: int) -> pa.Array:
        """The values that occur `least` times or more, the most frequent first; equally frequent ones as they sort."""
        import pyarrow as pa
        from pyarrow import compute

        kept = self.counts >= least
        table = pa.table({"text": self.texts.filter(pa.array(kept)), "count": self.counts[kept]})
        order = compute.sort_indices(table, sort_keys=[("count", "descending"), ("text", "ascending")])
        return table["text"].take(order).combine_chunks() if len(table) else pa.array([], pa.string())

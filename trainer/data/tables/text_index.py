"""Finds texts among many: their numbers in a vocabulary of millions, without a Python object per text."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.canonical import are_canonical, canonical
from trainer.data.tables.hashing import text_hashes
from trainer.data.tables.values import is_text, precision_of
from trainer.data.tables.vocabulary import MISSING, UNSEEN, Form, Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 8
"""Arrow's own look-up reads the whole vocabulary every time; it pays for more than this share of its size."""


class TextIndex:
    """The place of texts among distinct ones, an Arrow array of strings."""

    def __init__(self, texts: pa.Array) -> None:
        self.texts = texts

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]] | None:
        """The hashes in rising order and whose they are; None if two texts have the same."""
        hashes = text_hashes(self.texts)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        return None if (hashes[1:] == hashes[:-1]).any() else (hashes, order)

    def places(self, texts: pa.Array) -> NDArray[np.int64]:
        """The place of each text (n,), -1 for one that is not among them and for a null."""
        from pyarrow import compute

        if not len(self.texts) or not len(texts):
            return np.full(len(texts), UNSEEN, np.int64)
        by_hash = None if len(texts) * FEW >= len(self.texts) else self._by_hash
        if by_hash is None:
            found = compute.fill_null(compute.index_in(texts, self.texts), UNSEEN)
            return np.asarray(found.to_numpy(zero_copy_only=False)).astype(np.int64)
        hashes, order = by_hash
        at = np.minimum(np.searchsorted(hashes, text_hashes(texts)), len(hashes) - 1)
        candidates = order[at]
        same = compute.fill_null(compute.equal(texts, self.texts.take(candidates)), False)
        return np.where(same.to_numpy(zero_copy_only=False), candidates, UNSEEN)


class ManyTexts:
    """What `Vocabulary` does, for many texts: a value that is spelled as in the vocabulary is found by Arrow.

    Only other spellings, such as 7.0 for 7, cost a look at each distinct one in Python.
    """

    def __init__(self, texts: pa.Array, form: Form) -> None:
        self._index, self._form = TextIndex(texts), form

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._index.texts.to_pylist(), self._form)

    def places(self, values: pa.ChunkedArray) -> NDArray[np.int64]:
        """The place of each value (n,): -1 if it is not known, -2 if it is missing."""
        text = canonical(values)
        parts = [self._chunk(chunk, values) for chunk in text.chunks if len(chunk)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _chunk(self, text: pa.Array, values: pa.ChunkedArray) -> NDArray[np.int64]:
        places = self._index.places(text)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        places[missing] = MISSING
        typed, precision = not is_text(values), precision_of(values.type)
        if self._form == "written" and not typed:
            return places
        rows = np.flatnonzero(places == UNSEEN)
        if not len(rows):
            return places
        encoded = text.take(rows).dictionary_encode()
        words = encoded.dictionary
        # A whole number in plain digits is its own key, and would have been found.
        plain = are_canonical(words) if self._form == "number" and precision is None else np.zeros(len(words), bool)
        table = np.full(len(words), UNSEEN, np.int64)
        for number in np.flatnonzero(~plain):
            word = words[int(number)].as_py()
            table[number] = self._vocabulary.place(word, typed=typed, precision=precision)
        places[rows] = table[encoded.indices.to_numpy(zero_copy_only=False)]
        return places

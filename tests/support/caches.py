"""Small caches for tests: their files, their rows, and how they are built."""

import os
from types import SimpleNamespace

import numpy as np

from trainer.data.cache import Entry, Key, Layout, Store

LAYOUT = Layout(4, 1, weighted=False)
ROWS = 20_000
BLOCK = LAYOUT.block_rows


def rows_of(seed=0, rows=ROWS):
    generator = np.random.default_rng(seed)
    return SimpleNamespace(
        features=generator.normal(size=(rows, 4)).astype(np.float32),
        ids=generator.integers(0, 9, (rows, 1)).astype(np.int32),
        labels=np.ones(rows, np.float32),
        weights=None,
    )


def key_of(*files, **settings):
    return Key.of(files, settings)


def fill(writer, seed=0, rows=ROWS):
    writer.open("train", rows, LAYOUT)
    writer.write("train", 0, rows_of(seed, rows))
    writer.finish({"seed": seed})


def built(store, key, seed=0, rows=ROWS, **how):
    """The cache of a key, built here."""
    with store.build(key, **how) as writer:
        assert not isinstance(writer, Entry)
        fill(writer, seed, rows)
    return writer.entry


def made(folder, name="t.csv", content=b"a,b\n1,2\n", **settings):
    """A store, a file that is old enough to be certain, and the key of it."""
    path = folder / name
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return Store(folder / "cache" / "tables"), path, key_of(path, **settings)

"""Small caches for tests: their files, their rows, and how they are built."""

import multiprocessing
import os
import resource  # noqa: F401  for the processes' code
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

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


def part_of(rows, start, stop):
    return SimpleNamespace(**{name: None if each is None else each[start:stop] for name, each in vars(rows).items()})


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


class Process:
    """A process that runs code with `store`, `path`, `say(value)` and `listen()`; it starts in a few milliseconds.

    It is a fork of a server that has imported what it needs, not of the tests.
    """

    def __init__(self, folder, code):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["caches", "pyarrow"])
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(folder, code, theirs))
        # Until Python 3.13 the server looks for what it imports along this path alone.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent))
            # Otherwise each process would import pytest.
            patch.setitem(sys.modules, "__main__", ModuleType("__main__"))
            self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def hear(self):
        assert self._ours.poll(60)
        return self._ours.recv()

    def tell(self, value):
        self._ours.send(value)

    def kill(self):
        self._process.kill()
        self._process.join(60)

    def end(self):
        self._process.join(60)
        assert self._process.exitcode == 0


def _run(folder, code, pipe):
    names = {"store": Store(folder / "cache" / "tables"), "path": folder / "t.csv", "say": pipe.send}
    exec(code, {**globals(), **names, "listen": pipe.recv})

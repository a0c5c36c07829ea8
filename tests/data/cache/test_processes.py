"""Caches and several processes: killed ones, those that build the same, and those that build together."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from caches import LAYOUT, ROWS, built, key_of, made, rows_of

from trainer.data.cache import Entry, Joined, remove, stored_in

SUPPORT = Path(__file__).parents[2] / "support"
BEGIN = """
import os, sys, time
sys.path.insert(0, {support!r})
from pathlib import Path
from caches import *
folder = Path({folder!r})
store, path = Store(folder / "cache" / "tables"), folder / "t.csv"
"""


def started(folder, code):
    """A process that runs code with `store` and `path`; its output is read line by line."""
    text = BEGIN.format(support=str(SUPPORT), folder=str(folder)) + code
    return subprocess.Popen(
        [sys.executable, "-u", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


HALF = """
with store.build(key_of(path)) as writer:
    writer.open("train", ROWS, LAYOUT)
    writer.write("train", 0, rows_of(rows=ROWS // 2))
    print(writer.path)
    time.sleep(60)
"""


def test_nothing_counts_of_a_killed_process_and_the_next_one_takes_over_and_cleans(tmp_path, caplog):
    store, path, first = made(tmp_path)
    with started(tmp_path, HALF) as process:
        left = Path(process.stdout.readline().strip())
        (stored,) = stored_in(store.folder)
        assert (stored.folder, stored.state) == (left, "being built")
        assert not remove(stored)
        process.send_signal(signal.SIGKILL)
    (stored,) = stored_in(store.folder)
    assert stored.state == "leftover"
    assert left.is_dir()
    assert store.find(first) is None
    # Also if it builds something else.
    entry = built(store, key_of(path, other=1))
    assert [each.name for each in store.folder.iterdir() if "other" not in each.name] == [entry.id]
    assert caplog.records == []
    with started(tmp_path, HALF) as process:
        process.stdout.readline()
        process.kill()
    assert built(store, first).splits["train"].rows == ROWS
    assert len(stored_in(store.folder)) == 2


def test_two_processes_that_need_the_same_cache_build_it_once(tmp_path, caplog):
    store, _, first = made(tmp_path)
    code = """
with store.build(key_of(path)) as found:
    if isinstance(found, Entry):
        print("found", found.meta["seed"])
    else:
        print("builds")
        time.sleep(0.7)
        fill(found, seed=1)
"""
    with started(tmp_path, code) as process:
        assert process.stdout.readline() == "builds\n"
        begun = time.monotonic()
        with store.build(first) as found:
            waited = time.monotonic() - begun
            assert isinstance(found, Entry)
            assert found.meta == {"seed": 1}
        ended(process)
    assert waited > 0.3
    (note,) = caplog.messages
    assert note == (
        f"waiting for another process that builds the cache of these files: process {process.pid} on this host"
    )
    assert [each.id for each in stored_in(store.folder)] == [first.id]


def test_a_waiting_process_builds_if_the_one_it_waits_for_is_killed(tmp_path):
    store, _, first = made(tmp_path)
    waiting = "with store.build(key_of(path)) as writer:\n    fill(writer, seed=5)\nprint(writer.entry.meta['seed'])"
    with started(tmp_path, HALF) as process, started(tmp_path, waiting) as waiter:
        process.stdout.readline()
        # Its note is written by then.
        while not (store.folder.is_dir() and waiter.poll() is None and process.poll() is None):
            time.sleep(0.01)
        time.sleep(0.5)
        process.kill()
        out, _ = ended(waiter)
    assert out == "5\n"
    assert store.find(first).meta == {"seed": 5}
    assert len(list(store.folder.iterdir())) == 1


def test_processes_build_one_cache_together(tmp_path):
    store, _, first = made(tmp_path)
    third = ROWS // 3
    with store.build(first) as writer:
        writer.open("train", ROWS, LAYOUT)
        code = f"""
rows = rows_of()
joined = store.join(Path({str(writer.path)!r}))
joined.open("train", ROWS, LAYOUT)
start = int(input())
for at in range(start, start + {third}, 1000):
    stop = min(at + 1000, start + {third})
    joined.write("train", at, SimpleNamespace(
        features=rows.features[at:stop], ids=rows.ids[at:stop], labels=rows.labels[at:stop], weights=None))
joined.close()
"""
        text = BEGIN.format(support=str(SUPPORT), folder=str(tmp_path)) + code
        processes = [subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, text=True) for _ in range(2)]
        for number, process in enumerate(processes):
            process.stdin.write(f"{number * third}\n")
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [0, 0]
        rest = rows_of()
        for name in ("features", "ids", "labels"):
            setattr(rest, name, getattr(rest, name)[2 * third :])
        writer.write("train", 2 * third, rest)
        writer.finish()
    found = writer.entry
    found.verify()
    for name in ("features", "ids", "labels"):
        np.testing.assert_array_equal(getattr(found.splits["train"], name), getattr(rows_of(), name))


def test_a_process_can_join_only_what_is_being_built_for_the_same_rows(tmp_path):
    from trainer.data.cache import Damaged
    from trainer.errors import TrainerError

    store, _, first = made(tmp_path)
    with store.build(first) as writer:
        writer.open("train", ROWS, LAYOUT)
        joined = Joined.at(writer.path)
        with pytest.raises(TrainerError, match="was not created for 7 rows"):
            joined.open("train", 7, LAYOUT)
        fill_rest(writer)
    with pytest.raises(Damaged, match=r"building\.json is missing"):
        store.join(writer.entry.folder)


def fill_rest(writer):
    writer.write("train", 0, rows_of())
    writer.finish()


def test_a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing(tmp_path):
    """The system's own, in a real process: nothing is faked."""
    made(tmp_path)
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with store.build(key_of(path)) as writer:
        fill(writer)
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(store.folder))
"""
    with started(tmp_path, code) as process:
        out, _ = ended(process)
    assert out.startswith("CacheUnwritable ")
    assert "this process may not write files of that size. Raise the limit with: ulimit -f unlimited.\n[]\n" in out


def test_mapped_rows_do_not_count_as_memory_of_the_process(tmp_path):
    """Under a limit on private memory that is smaller than the rows."""
    store, _, first = made(tmp_path)
    built(store, first, rows=40 * ROWS)
    code = """
import resource
entry = store.find(key_of(path))
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (4 << 20), used + (4 << 20)))
entry = store.find(key_of(path))
assert sum(entry.splits["train"].spans[0].shape) > 0
print(float(entry.splits["train"].labels.sum()))
try:
    bytearray(16 << 20)
except MemoryError:
    print("limited")
"""
    with started(tmp_path, code) as process:
        out, _ = ended(process)
    assert out == f"{float(40 * ROWS)}\nlimited\n"

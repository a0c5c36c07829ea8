"""Caches and several processes: killed ones, those that build the same, and those that build together."""

import threading

import numpy as np
import pytest
from caches import LAYOUT, ROWS, Process, built, key_of, made, part_of, rows_of

from trainer.data.cache import Damaged, Entry, Joined, remove, stored_in
from trainer.errors import TrainerError

HALF = """
with store.build(key_of(path)) as writer:
    writer.open("train", ROWS, LAYOUT)
    writer.write("train", 0, rows_of(rows=ROWS // 2))
    say(writer.path)
    listen()
"""


def test_nothing_counts_of_a_killed_process_and_the_next_one_cleans(tmp_path, caplog):
    store, path, first = made(tmp_path)
    with Process(tmp_path, HALF) as process:
        left = process.hear()
        (stored,) = stored_in(store.folder)
        assert (stored.folder, stored.state) == (left, "being built")
        assert not remove(stored)
    (stored,) = stored_in(store.folder)
    assert (stored.folder, stored.state) == (left, "leftover")
    assert store.find(first) is None
    # Also if it builds something else.
    entry = built(store, key_of(path, other=1))
    assert [each.id for each in stored_in(store.folder)] == [entry.id]
    with Process(tmp_path, HALF) as process:
        process.hear()
    assert built(store, first).splits["train"].rows == ROWS
    assert len(list(store.folder.iterdir())) == 2
    assert caplog.messages == []


def test_two_processes_that_need_the_same_cache_build_it_once(tmp_path, caplog):
    store, _, first = made(tmp_path)
    code = """
with store.build(key_of(path)) as writer:
    say("builds")
    listen()
    fill(writer, seed=1)
"""
    with Process(tmp_path, code) as process:
        assert process.hear() == "builds"
        threading.Timer(0.2, process.tell, ["go"]).start()
        with store.build(first) as found:
            assert isinstance(found, Entry)
            assert found.meta == {"seed": 1}
        process.end()
    (note,) = caplog.messages
    assert note.endswith(f"another process that builds the cache of these files: process {process.pid} on this host")
    assert [each.name for each in store.folder.iterdir()] == [first.id]


def test_a_waiting_process_builds_if_the_one_it_waits_for_is_killed(tmp_path, caplog):
    store, _, first = made(tmp_path)
    with Process(tmp_path, HALF) as process:
        process.hear()
        threading.Timer(0.2, process.kill).start()
        assert built(store, first, seed=5).meta == {"seed": 5}
    assert len(caplog.messages) == 1
    assert [each.name for each in store.folder.iterdir()] == [first.id]


def test_processes_build_one_cache_together(tmp_path):
    store, _, first = made(tmp_path)
    third = ROWS // 3
    code = f"""
joined, start = store.join(listen()), listen()
joined.open("train", ROWS, LAYOUT)
for at in range(start, start + {third}, 1000):
    joined.write("train", at, part_of(rows_of(), at, min(at + 1000, start + {third})))
joined.close()
"""
    with (
        Process(tmp_path, code) as one,
        Process(tmp_path, code) as other,
        store.build(first) as writer,
    ):
        writer.open("train", ROWS, LAYOUT)
        for number, process in enumerate((one, other)):
            process.tell(writer.path)
            process.tell(number * third)
        writer.write("train", 2 * third, part_of(rows_of(), 2 * third, ROWS))
        one.end()
        other.end()
        writer.finish()
    writer.entry.verify()
    for name in ("features", "ids", "labels"):
        np.testing.assert_array_equal(getattr(writer.entry.splits["train"], name), getattr(rows_of(), name))


def test_a_process_can_join_only_what_is_being_built_for_the_same_rows(tmp_path):
    store, _, first = made(tmp_path)
    with store.build(first) as writer:
        writer.open("train", ROWS, LAYOUT)
        with pytest.raises(TrainerError, match="was not created for 7 rows"):
            Joined.at(writer.path).open("train", 7, LAYOUT)
        writer.write("train", 0, rows_of())
        writer.finish()
    with pytest.raises(Damaged, match=r"building\.json is missing"):
        store.join(writer.entry.folder)


def test_a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing(tmp_path):
    """The system's own limit, so nothing is faked."""
    made(tmp_path)
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    built(store, key_of(path))
except Exception as error:
    say((type(error).__name__, str(error), os.listdir(store.folder)))
"""
    with Process(tmp_path, code) as process:
        name, message, left = process.hear()
    assert (name, left) == ("CacheUnwritable", [])
    assert message.endswith("may not write files of that size. Raise the limit with: ulimit -f unlimited.")


def test_mapped_rows_do_not_count_as_memory_of_the_process(tmp_path):
    """They are larger than the limit on its private memory."""
    store, _, first = made(tmp_path)
    built(store, first, rows=40 * ROWS)
    code = """
used = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
limit = (int(used.split()[1]) << 10) + (4 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
columns = store.find(key_of(path)).splits["train"]
say(float(columns.labels.sum() + columns.features.max()))
try:
    bytearray(16 << 20)
except MemoryError:
    say("limited")
"""
    with Process(tmp_path, code) as process:
        assert process.hear() > 40 * ROWS
        assert process.hear() == "limited"

"""Caches are found by their files and settings, checked when they are opened, and removed when there is no room."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from caches import BLOCK, LAYOUT, ROWS, built, fill, key_of, made, rows_of

from trainer.data.cache import (
    CacheUnwritable,
    CorruptRows,
    Damaged,
    cache_folder,
    cache_limit,
    key,
    remove,
    reserve,
    split_file,
    stored_in,
)
from trainer.errors import TrainerError, UsageError


@pytest.fixture
def no_reading(monkeypatch):
    """From here on the sources are not opened."""
    monkeypatch.setattr(key, "content_of", None)


def names(store):
    return sorted(path.name for path in store.folder.iterdir()) if store.folder.is_dir() else []


# ---- found again -----------------------------------------------------------------------------------------------------


def test_what_was_built_is_found_without_opening_a_source(tmp_path, no_reading_later):
    store, path, made_for = made(tmp_path)
    table = pa.table({"words": ["a", "b"]})
    with store.build(made_for) as writer:
        writer.open("train", ROWS, LAYOUT)
        writer.open("test", 0, LAYOUT)
        writer.write("train", 0, rows_of())
        writer.finish({"schema": [1, None]}, {"notes": b"\0x", "vocabulary.arrow": table, "empty": b""})
    no_reading_later()
    entry = store.find(key_of(path))
    np.testing.assert_array_equal(entry.splits["train"].features, rows_of().features)
    assert entry.splits["test"].features.shape == (0, 4)
    assert entry.meta == {"schema": [1, None]}
    assert entry.files == ("notes", "vocabulary.arrow", "empty")
    assert (entry.file("notes"), entry.file("empty")) == (b"\0x", b"")
    assert entry.table("vocabulary.arrow") == table
    with pytest.raises(KeyError):
        entry.file("../manifest.json")
    entry.verify()
    assert names(store) == [made_for.id]


@pytest.fixture
def no_reading_later(monkeypatch):
    return lambda: monkeypatch.setattr(key, "content_of", None)


def test_other_settings_sizes_files_and_versions_are_another_cache(tmp_path, monkeypatch):
    store, path, first = made(tmp_path, bits=1)
    built(store, first)
    other = tmp_path / "u.csv"
    other.write_bytes(b"a,b\n3,4\n")
    for each in (key_of(path, bits=2), key_of(path, path, bits=1), key_of(other, bits=1)):
        assert store.find(each) is None
    path.write_bytes(b"a,b\n1,23\n")
    assert store.find(key_of(path, bits=1)) is None
    path.write_bytes(b"a,b\n1,2\n")
    assert store.find(key_of(path, bits=1)) is not None
    monkeypatch.setattr(key, "versions", lambda: {"gluon-trainer": "99"})
    assert store.find(key_of(path, bits=1)) is None


def test_with_another_time_or_path_the_content_decides_and_is_then_remembered(tmp_path, monkeypatch):
    store, path, first = made(tmp_path)
    built(store, first)
    moved = tmp_path / "moved.csv"
    path.rename(moved)
    os.utime(moved, ns=(10**18, 10**18 + 5))
    reads = []
    content_of = key.content_of
    monkeypatch.setattr(key, "content_of", lambda *given: reads.append(given) or content_of(*given))
    assert store.find(key_of(moved)) is not None
    assert len(reads) == 1
    assert store.find(key_of(moved)) is not None
    assert len(reads) == 1
    # The same size and another content: found by neither.
    moved.write_bytes(b"a,b\n1,9\n")
    assert store.find(key_of(moved)) is None


def test_a_file_that_changed_just_before_the_cache_was_built_is_compared(tmp_path):
    """Its time may stay the same if it changes once more."""
    store, path, _ = made(tmp_path)
    os.utime(path)
    now = path.stat().st_mtime_ns
    built(store, key_of(path))
    path.write_bytes(b"a,b\n1,9\n")
    os.utime(path, ns=(now, now))
    assert store.find(key_of(path)) is None


def test_verify_compares_content_whatever_the_times_say(tmp_path):
    store, path, first = made(tmp_path)
    built(store, first)
    path.write_bytes(b"a,b\n1,9\n")
    os.utime(path, ns=(10**18, 10**18))
    assert store.find(key_of(path)) is not None
    assert store.find(key_of(path), verify=True) is None


def test_a_folder_that_cannot_be_written_serves_what_it_has(tmp_path, monkeypatch):
    store, path, first = made(tmp_path)
    built(store, first)
    os.utime(path)
    original = os.open

    def read_only(name, flags, *more, **others):
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system", str(name))
        return original(name, flags, *more, **others)

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "utime", lambda *_: read_only("", os.O_RDWR))
    assert store.find(key_of(path)) is not None
    with (
        pytest.raises(CacheUnwritable, match="cannot be written: Read-only file system"),
        store.build(key_of(path, a=1)),
    ):
        pass
    with store.build(key_of(path, a=1), if_writable=True) as writer:
        assert writer is None


def test_a_file_in_place_of_the_folder_is_an_error_or_none(tmp_path):
    store, _, first = made(tmp_path)
    store.folder.parent.write_bytes(b"")
    with pytest.raises(
        CacheUnwritable, match=r"tables: the cache cannot be written: .* Choose another folder with --c"
    ):
        built(store, first)
    with store.build(first, if_writable=True) as writer:
        assert writer is None
    assert store.find(first) is None


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"x\.csv: it cannot be read: No such file"):
        key_of(tmp_path / "x.csv")


def fill_in_part(store, key):
    with store.build(key) as writer:
        writer.open("train", ROWS, LAYOUT)
        writer.write("train", 0, rows_of(rows=5))
        writer.finish()


# ---- whole or not at all ---------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_cache_that_is_not_finished(tmp_path):
    store, _, first = made(tmp_path)
    with pytest.raises(ZeroDivisionError), store.build(first) as writer:
        fill(writer, rows=1 // 0)
    assert names(store) == []
    with store.build(first) as writer:
        writer.open("train", 5, LAYOUT)
    assert (names(store), writer.entry) == ([], None)
    with pytest.raises(TrainerError, match="rows 5 to 20000 of the train rows were not written"):
        fill_in_part(store, first)
    assert names(store) == []


def test_a_source_that_changes_while_it_is_read_is_named_and_nothing_is_kept(tmp_path):
    store, path, first = made(tmp_path)
    message = r"t\.csv: the file changed while it was read: it has 12 bytes, and had 8\. Try"
    with pytest.raises(UsageError, match=message), store.build(first) as writer:
        fill(writer, rows=path.write_bytes(b"a,b\n1,2\n3,4\n"))
    assert names(store) == []


# ---- full disks ------------------------------------------------------------------------------------------------------


def full(number):
    def refuse(*_args, **_more):
        raise OSError(number, os.strerror(number))

    return refuse


NEEDED = r"tables: the cache needs 49\d,\d{3} bytes \(0\.5 MB\), and "


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.ENOSPC,
            NEEDED + r"[\d,]+ bytes \(.* GB\) are free\. Choose a folder on a larger disk with --cache-dir, or",
        ),
        (errno.EDQUOT, NEEDED + r"your quota is used up\. .* make room: .* trainer data cache remove ID"),
        (errno.EFBIG, NEEDED + r"this process may not write files of that size\. Raise the limit with: ulimit -f"),
    ],
)
@pytest.mark.parametrize("during", ["reserve", "write"])
def test_a_full_disk_is_an_error_with_the_bytes_needed_and_leaves_nothing(
    number, message, during, tmp_path, monkeypatch
):
    store, path, first = made(tmp_path)
    pwrite = os.pwrite
    monkeypatch.setattr(split_file, "reserve", full(number) if during == "reserve" else split_file.reserve)
    # Rows, after what stands before them.
    monkeypatch.setattr(os, "pwrite", lambda *given: (pwrite if len(given[1]) < ROWS else full(number))(*given))
    with pytest.raises(CacheUnwritable, match=message):
        built(store, first)
    assert names(store) == []
    monkeypatch.undo()
    assert built(store, key_of(path)) is not None


def test_without_a_way_to_reserve_room_the_free_room_is_compared(tmp_path, monkeypatch):
    store, _, first = made(tmp_path)
    monkeypatch.setattr(reserve, "_allocate", lambda *_: errno.EOPNOTSUPP)
    built(store, first)
    monkeypatch.setattr(reserve, "free_bytes", lambda _: ROWS)
    with pytest.raises(CacheUnwritable, match="needs 49"):
        built(store, first, again=True)
    assert names(store) == [first.id]


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_corrupt_blocks_are_named_and_built_again_on_request(tmp_path):
    store, _, first = made(tmp_path)
    rows = 3 * BLOCK + 5
    entry = built(store, first, rows=rows)
    for column, row in ((0, 5), (1, 2 * BLOCK), (2, rows - 1)):
        span = entry.splits["train"].spans[column]
        with (entry.folder / "train.arrow").open("r+b") as file:
            file.seek(span.offset + row * span.row_bytes)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CorruptRows) as caught:
        store.find(first, verify=True)
    assert caught.value.blocks == {"train": [0, 2, 3]}
    first_block, *_, last_block = str(caught.value).split(", block")
    assert first_block == f"{entry.folder}: block 0 of the training rows (rows 1 to {BLOCK})"
    assert last_block.startswith(
        f" 3 of the training rows (rows {3 * BLOCK + 1} to {rows}) are corrupt. Build it again with --cache rebuild"
    )
    assert f"trainer data cache remove {first.id} --cache-dir {store.folder.parent}." in last_block
    assert store.find(first) is not None
    built(store, first, rows=rows, again=True).verify()
    assert names(store) == [first.id]


def damage(name, change):
    def act(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes())) if change else path.unlink()

    return act


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (damage("train.arrow", lambda content: content[:-4096]), "bytes instead of"),
        (damage("train.arrow", lambda content: bytes(len(content))), "train.arrow is another file"),
        (damage("train.arrow", None), "cannot be opened"),
        (damage("manifest.json", lambda content: content[:-9]), "manifest.json: it is not JSON"),
        (damage("manifest.json", lambda _: b'{"version": 1}'), "manifest.json: mark: Field required"),
        (damage("manifest.json", None), "manifest.json is missing"),
        (damage("used", None), "used is missing"),
    ],
    ids=["cut", "zeros", "gone", "half a manifest", "another manifest", "no manifest", "no lock"],
)
def test_a_damaged_cache_is_not_used_and_is_built_again(act, reason, tmp_path, caplog):
    store, _, first = made(tmp_path)
    folder = built(store, first).folder
    act(folder)
    assert store.find(first) is None
    assert reason in caplog.text
    assert store.find(first) is None
    assert len(caplog.records) == 1
    assert built(store, first, seed=1).meta == {"seed": 1}
    assert names(store) == [first.id]


def test_a_cache_of_another_version_is_never_read_and_built_again(tmp_path, caplog):
    store, _, first = made(tmp_path)
    folder = built(store, first).folder
    value = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**value, "version": 2, "splits": "?"}))
    assert [each.state for each in stored_in(store.folder)] == ["other version"]
    assert store.find(first) is None
    assert caplog.records == []
    assert built(store, first, seed=1).meta == {"seed": 1}


def test_a_split_of_another_cache_in_its_place_is_refused(tmp_path, caplog):
    store, path, first = made(tmp_path)
    mine = built(store, first).folder
    shutil.copy(built(store, key_of(path, a=1)).folder / "train.arrow", mine / "train.arrow")
    assert store.find(first) is None
    assert "train.arrow is another file" in caplog.text


def test_a_further_file_that_changed_is_damaged(tmp_path):
    store, _, first = made(tmp_path)
    with store.build(first) as writer:
        writer.open("train", 0, LAYOUT)
        writer.finish(None, {"a": b"123"})
    (writer.entry.folder / "files" / "a").write_bytes(b"124")
    with pytest.raises(Damaged, match="a is not what was written"):
        writer.entry.file("a")


# ---- room ------------------------------------------------------------------------------------------------------------


def test_beyond_the_limit_the_cache_used_least_recently_makes_room(tmp_path):
    store, path, _ = made(tmp_path)
    keys = [key_of(path, number=number) for number in range(4)]
    size = sum(each.size for each in stored_in(built(store, keys[0]).folder.parent))
    store.limit = int(3.5 * size)
    for age, each in enumerate(keys[1:3]):
        built(store, each)
        os.utime(store.folder / each.id / "used", (age, age))
    kept = store.find(keys[1])
    os.utime(store.folder / keys[1].id / "used", (0, 0))
    os.utime(store.folder / keys[0].id / "used", (9, 9))
    built(store, keys[3])
    # The oldest is in use, so the second oldest goes.
    assert [store.find(each) is not None for each in keys] == [True, True, False, True]
    features = kept.splits["train"].features
    del kept
    store.limit = int(1.5 * size)
    with pytest.raises(
        CacheUnwritable, match=r"needs 0\.5 MB, and others that are in use take 0\.5 MB of the limit of 0"
    ):
        built(store, keys[2])
    # An array alone keeps its cache.
    np.testing.assert_array_equal(features, rows_of().features)
    del features
    built(store, keys[2])
    assert names(store) == [keys[2].id]
    store.limit = 1000
    with pytest.raises(
        CacheUnwritable, match=r"the cache needs 0\.5 MB, and the limit of all caches is 1,000 bytes\. Raise"
    ):
        built(store, keys[0])


def test_a_cache_in_use_is_not_removed(tmp_path):
    store, _, first = made(tmp_path)
    entry = built(store, first)
    (stored,) = stored_in(store.folder)
    assert (stored.state, stored.rows, stored.sources) == ("in use", {"train": ROWS}, (str(tmp_path / "t.csv"),))
    assert not remove(stored)
    del entry
    (stored,) = stored_in(store.folder)
    assert stored.state == "complete"
    assert remove(stored)
    assert names(store) == []


# ---- places ----------------------------------------------------------------------------------------------------------


def test_the_cache_folder_is_the_one_given_or_that_of_the_environment(monkeypatch, tmp_path):
    for name in ("TRAINER_CACHE_DIR", "XDG_CACHE_HOME", "TRAINER_CACHE_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gluon-trainer"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "gluon-trainer"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/gluon-trainer")
    monkeypatch.setenv("TRAINER_CACHE_DIR", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(Path("/given")) == Path("/given")
    assert cache_limit() is None
    monkeypatch.setenv("TRAINER_CACHE_LIMIT", "2GB")
    assert cache_limit() == 2 * 10**9
    monkeypatch.setenv("TRAINER_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match=r"\$TRAINER_CACHE_LIMIT: 'much' is not a size"):
        cache_limit()

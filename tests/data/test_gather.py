"""Batches do not depend on where rows lie: in memory, mapped or streamed; on one context or process, or several."""

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import Arrays, Streamed
from trainer.data import arrays as arrays_module
from trainer.data import gather as module
from trainer.data.arrays import ArrayBatches
from trainer.data.batches import Share
from trainer.data.mapped import MappedArrays
from trainer.data.order import Order
from trainer.data.streamed import StreamedBatches
from trainer.mxnet import mx

ROWS, COLUMNS = 200, 3


@pytest.fixture(scope="module")
def whole():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(ROWS, COLUMNS)).astype(np.float16).astype(np.float32)
    ids = generator.integers(0, 9, size=(ROWS, 2)).astype(np.int32)
    return Arrays((features, ids), np.arange(ROWS, dtype=np.float32), generator.random(ROWS).astype(np.float32))


@pytest.fixture(scope="module")
def mapped(whole, tmp_path_factory):
    """The columns in one file that is mapped read-only: features as single or half floats."""
    folder = tmp_path_factory.mktemp("mapped")

    def made(rows, kind, prefetch=None):
        features, *others = whole.columns
        columns = [features[:rows].astype(kind), *(each[:rows] for each in others)]
        path = folder / f"{kind}-{rows}"
        if not path.is_file():
            path.write_bytes(b"".join(each.tobytes().ljust(-(-each.nbytes // 64) * 64) for each in columns))
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        views, offset = [], 0
        for each in columns:
            views.append(np.frombuffer(memory, each.dtype, each.size, offset).reshape(each.shape))
            offset += -(-each.nbytes // 64) * 64
        return MappedArrays(tuple(views[:2]), *views[2:], prefetch=prefetch)

    return made


def part(arrays, rows):
    return Arrays(tuple(each[:rows] for each in arrays.inputs), arrays.labels[:rows], arrays.weights[:rows])


def streamed(arrays, block_rows, asked=None):
    def read(start, stop):
        if asked is not None:
            asked.append((start, stop))
        features, ids, labels, weights = (each[start:stop] for each in arrays.columns)
        return (features, ids), labels, weights

    return Streamed(read, rows=len(arrays), block_rows=block_rows)


def batches(source, order, *, size=7, contexts=1, shuffle=True, share=None, **more):
    made = {"batch_size": size, "shuffle": shuffle, "share": share, "order": order, **more}
    made["contexts"] = [mx.cpu(number) for number in range(contexts)]
    return StreamedBatches(source, **made) if isinstance(source, Streamed) else ArrayBatches(source, seed=0, **made)


def rows_of(made, epoch=1, skip=0):
    """All that the batches hold, as one array of the rows per column, with the rows' numbers."""
    columns, indices = [], []
    for batch in made.epoch(epoch, skip):
        shards = [shard for shard in batch.shards if shard.rows]
        assert all(each.context == shard.context for shard in shards for each in shard.arrays)
        columns += [[each.asnumpy() for each in shard.arrays] for shard in shards]
        indices.append(batch.indices)
    return [np.concatenate(each) for each in zip(*columns, strict=True)] if columns else [], np.concatenate(
        [np.empty(0, int), *indices]
    )


def check(found, whole, expected):
    columns, indices = found
    assert indices.tolist() == expected.tolist()
    for column, given_column in zip(columns, whole.columns, strict=len(expected) > 0):
        assert column.dtype == given_column.dtype
        assert (column == given_column[expected]).all()


@given(
    st.integers(1, ROWS),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([0, 1, 5, 16, 64, 500]),
    st.integers(1, 4),
    st.integers(0, 9),
    st.sampled_from(["memory", "float32", "float16", "streamed"]),
    st.sampled_from([1, 300, 1 << 20]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_batches_are_the_rows_that_the_order_says(
    whole, mapped, rows, size, contexts, block_rows, window, skip, kind, chunk_bytes, ahead, staged, shuffle
):
    block_rows = block_rows or (ROWS if kind == "streamed" else 0)
    order = Order(rows, 3, block_rows, window if block_rows else 0)
    held = part(whole, rows)
    source = {"memory": lambda: held, "streamed": lambda: streamed(held, block_rows)}.get(
        kind, lambda: mapped(rows, kind)
    )()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(module, "DEVICE_CHUNK_BYTES", chunk_bytes)
        patch.setattr(module, "AHEAD_BYTES", 0 if ahead else 1 << 30)
        patch.setattr(arrays_module, "LARGEST", 100)
        made = batches(source, order, size=size, contexts=contexts, shuffle=shuffle, staged=staged, epochs=2)
        for epoch in (1, 2, 1):
            expected = order.numbers(epoch, skip * size, rows) if shuffle else np.arange(rows)[skip * size :]
            check(rows_of(made, epoch, skip), whole, expected)
        for column, first in zip(made.sample(), whole.inputs, strict=True):
            assert (column.asnumpy() == first[:1]).all()


@given(st.integers(2, 3), st.integers(1, 2), st.booleans(), st.sampled_from(["memory", "float16", "streamed"]))
def test_processes_gather_their_rows_of_each_batch(whole, mapped, processes, contexts, shuffle, kind):
    order, size = Order(ROWS, 1, 16, 4), 32
    source = {"memory": whole, "streamed": streamed(whole, 16), "float16": None}[kind] or mapped(ROWS, "float16")
    ranks = [
        batches(source, order, size=size, contexts=contexts, shuffle=shuffle, share=Share(contexts, rank, processes))
        for rank in range(processes)
    ]
    whole_order = order.numbers(2, 0, ROWS) if shuffle else np.arange(ROWS)
    for number, parts in enumerate(zip(*(each.epoch(2) for each in ranks), strict=True)):
        expected = whole_order[number * size : (number + 1) * size]
        assert np.concatenate([batch.indices for batch in parts]).tolist() == expected.tolist()
        labels = [shard.label.asnumpy() for batch in parts for shard in batch.shards if shard.rows]
        assert np.concatenate(labels).tolist() == expected.tolist()


def test_contexts_on_the_cpu_share_the_memory_of_the_arrays(whole, mapped):
    for source in (whole, mapped(ROWS, "float32")):
        made = batches(source, None, contexts=3)
        for held, given_column in zip(made._host, source.columns, strict=True):
            assert np.shares_memory(held, given_column)
        in_order = batches(source, None, shuffle=False)
        first = next(iter(in_order.epoch(1))).shards[0]
        assert all(np.shares_memory(mine, ours) for mine, ours in zip(first.memory, source.columns, strict=True))


def test_the_values_of_mapped_columns_are_not_looked_at(whole, monkeypatch):
    def fail(*_given, **_more):
        raise AssertionError

    monkeypatch.setattr(arrays_module, "check_finite", fail)
    made = MappedArrays(whole.inputs, whole.labels, whole.weights)
    assert made.fingerprint() is None
    batches(made, None).sample()


@pytest.mark.parametrize("ahead", [True, False])
def test_the_blocks_of_the_next_window_are_asked_for_while_this_one_is_trained(whole, mapped, monkeypatch, ahead):
    monkeypatch.setattr(module, "AHEAD_BYTES", 0 if ahead else 1 << 30)
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * 28)
    asked = []
    order = Order(ROWS, 0, 10, 5)
    source = mapped(ROWS, "float32", lambda start, stop: asked.append((start, stop)))
    made = batches(source, order, epochs=1)
    known = {window: {(b * 10, b * 10 + 10) for b in order.blocks_of((1, window)).tolist()} for window in range(4)}
    for batch in made.epoch(1, skip=50 // 7 + 1):
        # The last rows of a window are in the same batch as the first of the next.
        window = int(np.flatnonzero(order.numbers(1, 0, ROWS) == batch.indices[0])[0]) // 50
        assert known[window] <= set(asked)
    assert set(asked) == known[1] | known[2] | known[3]
    assert len(asked) == len(set(asked))


def test_rows_in_no_order_are_asked_for_once(whole, mapped, monkeypatch):
    from threading import enumerate as threads

    monkeypatch.setattr("trainer.data.held.PIECE_BYTES", 28 * 64)
    asked = []
    made = batches(mapped(ROWS, "float32", lambda *rows: asked.append(rows)), None)
    for epoch in (1, 2):
        rows_of(made, epoch)
    for thread in threads():
        if thread.name == "prefetch":
            thread.join()
    assert asked == [(0, 64), (64, 128), (128, 192), (192, 200)]


# ---- streamed rows --------------------------------------------------------------------------------------------------


def test_a_block_is_read_once_per_epoch_and_a_resumed_epoch_reads_its_windows_only(whole):
    asked = []
    order = Order(ROWS, 0, 16, 3)
    made = batches(streamed(whole, 16, asked), order, epochs=1)
    asked.clear()
    rows_of(made)
    assert sorted(asked) == [(start, min(start + 16, ROWS)) for start in range(0, ROWS, 16)]
    again = batches(streamed(whole, 16, asked), order, epochs=1)
    asked.clear()
    skip = order.first_of((1, 3)) // 7 + 1
    check(rows_of(again, skip=skip), whole, order.numbers(1, skip * 7, ROWS))
    mine = [block * 16 for window in (3, 4) for block in order.blocks_of((1, window)).tolist()]
    assert [start for start, _ in asked] == mine


def test_nothing_is_read_after_the_last_epoch_nor_after_the_end(whole, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    asked = []
    made = batches(streamed(whole, 16, asked), Order(ROWS, 0, 16, 3), epochs=2)
    rows_of(made, 2)
    made.close()
    assert len(asked) == 1 + 13
    for _ in zip(made.epoch(1), range(3), strict=False):
        pass
    made.close()
    assert len(asked) <= 1 + 13 + 6
    check(rows_of(made, 1), whole, Order(ROWS, 0, 16, 3).numbers(1, 0, ROWS))


def test_a_source_may_use_its_memory_again(whole):
    memory = [np.empty((16, *each.shape[1:]), each.dtype) for each in whole.columns]

    def read(start, stop):
        for mine, given_column in zip(memory, whole.columns, strict=True):
            mine[: stop - start] = given_column[start:stop]
        features, ids, labels, weights = (each[: stop - start] for each in memory)
        return (features, ids), labels, weights

    source = Streamed(read, rows=ROWS, block_rows=16)
    order = Order(ROWS, 0, 16, 3)
    check(rows_of(batches(source, order)), whole, order.numbers(1, 0, ROWS))
    check(rows_of(batches(source, order, shuffle=False)), whole, np.arange(ROWS))

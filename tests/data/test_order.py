"""The order of an epoch: every row once, any part of it at once, in one permutation or in windows of blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import order as module
from trainer.data.batches import Share
from trainer.data.order import Order, Windows
from trainer.seeds import permutation


@st.composite
def orders(draw):
    rows = draw(st.integers(1, 200))
    block_rows = draw(st.sampled_from([0, 1, 2, 3, 7, 16, 64, 300]))
    return Order(rows, draw(st.integers(0, 5)), block_rows, draw(st.integers(1, 9)) if block_rows else 0)


def whole(order, epoch):
    return order.numbers(epoch, 0, order.rows)


@given(orders(), st.integers(1, 4))
def test_an_epoch_visits_every_row_once_and_is_the_same_every_time(order, epoch):
    found = whole(order, epoch)
    assert found.dtype == np.int64
    assert sorted(found.tolist()) == list(range(order.rows))
    assert found.tolist() == whole(Order(order.rows, order.seed, order.block_rows, order.window_blocks), epoch).tolist()


@given(orders(), st.integers(1, 3), st.data())
def test_any_part_of_an_epoch_is_known_at_once(order, epoch, data):
    start = data.draw(st.integers(0, order.rows))
    stop = data.draw(st.integers(start, order.rows + 3))
    assert order.numbers(epoch, start, stop).tolist() == whole(order, epoch)[start:stop].tolist()


@given(orders(), st.integers(1, 30), st.booleans())
def test_the_windows_that_are_kept_or_made_ahead_are_those_of_the_order(order, step, ahead):
    windows = Windows(order, ahead=ahead, epochs=2)
    for epoch in (1, 2, 1):
        parts = [part for start in range(0, order.rows, step) for part in windows.parts(epoch, start, start + step)]
        assert np.concatenate([part.numbers for part in parts]).tolist() == whole(order, epoch).tolist()


@given(orders(), st.integers(1, 3))
def test_a_window_has_the_rows_of_its_blocks(order, epoch):
    first = 0
    for number in range(order.windows):
        window = order.window((epoch, number))
        assert window.first == order.first_of((epoch, number)) == first
        if order.block_rows:
            blocks = order.blocks_of((epoch, number))
            assert order.blocks // order.windows <= len(blocks) <= order.window_blocks
            starts = blocks * order.block_rows
            near = np.concatenate([np.arange(s, min(s + order.block_rows, order.rows)) for s in starts])
            assert window.numbers.tolist() == near[order.places((epoch, number))].tolist()
        for position in (first, first + len(window.numbers) - 1):
            assert order.window_at(epoch, position) == number
        first += len(window.numbers)
    assert first == order.rows


def test_one_permutation_is_that_of_the_seed():
    assert whole(Order(50, 3), 2).tolist() == permutation(50, 3, 2).tolist()


@pytest.mark.parametrize("other", [Order(1000, 4, 10, 5), Order(1000, 3, 20, 5), Order(1000, 3, 10, 6)])
def test_the_order_depends_on_the_seed_the_epoch_and_both_sizes(other):
    order = Order(1000, 3, 10, 5)
    assert whole(order, 1).tolist() != whole(order, 2).tolist()
    assert whole(order, 1).tolist() != whole(other, 1).tolist()


def test_windows_mix_blocks_and_rows():
    """Of rows sorted by label, each window has both labels, and each batch of a window too."""
    order = Order(64_000, 0, 100, 64)
    labels = (whole(order, 1) >= 32_000).reshape(-1, 640)
    assert labels.mean(axis=1).min() > 0.1
    assert labels.mean(axis=1).max() < 0.9


@given(orders(), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_processes_and_contexts_have_disjoint_parts_of_the_same_batch(order, size, processes, contexts, fixed):
    for first in range(0, order.rows, size):
        batch = order.numbers(1, first, first + size)
        found = []
        for rank in range(processes):
            start, counts = Share(contexts, rank, processes, fixed).of(len(batch))
            for count in counts:
                found += batch[start : start + count].tolist()
                start += count
        assert found == batch.tolist()


def test_large_windows_are_shuffled_in_parts(monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 10)
    order = Order(5000, 1, 100, 25)
    found = whole(order, 1)
    assert sorted(found.tolist()) == list(range(5000))
    assert found.tolist() == whole(order, 1).tolist() != whole(order, 2).tolist()
    # Rows of the same part come from everywhere.
    near = {
        row: place
        for place, row in enumerate(
            np.concatenate([np.arange(b * 100, b * 100 + 100) for b in order.blocks_of((1, 0))])
        )
    }
    places = np.array([near[row] for row in found[:2500]])
    assert places.tolist() == order.places((1, 0)).tolist()
    assert abs(np.corrcoef(places, np.arange(2500))[0, 1]) < 0.1
    monkeypatch.setattr(module, "PART_ROWS", 1 << 14)
    assert found.tolist() != whole(order, 1).tolist()

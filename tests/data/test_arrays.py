"""Arrays in memory: the order of an epoch, resuming inside one, contexts, and every kind of array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Given, apart, regression
from tiny import engine

from trainer import Arrays, UsageError
from trainer.data import gather as module
from trainer.data.arrays import ArrayBatches
from trainer.data.batches import Batches
from trainer.data.sources import as_batches
from trainer.mxnet import mx
from trainer.seeds import permutation


def data(rows, columns=2, weighted=False):
    """Rows that say which they are: feature (n, n + 0.5), label n, weight n + 1."""
    number = np.arange(rows, dtype=np.float32)
    features = np.stack([number + column / columns for column in range(columns)], axis=1)
    return Arrays(features, number.copy(), number + 1 if weighted else None)


def batches(arrays, *, size=4, contexts=1, seed=3, shuffle=True):
    return ArrayBatches(
        arrays,
        batch_size=size,
        contexts=[mx.cpu(number) for number in range(contexts)],
        seed=seed,
        shuffle=shuffle,
        where="the train split",
    )


def read(batch):
    """What a batch holds, on the host, over all its contexts: inputs, label, weight, indices."""
    shards = [shard for shard in batch.shards if shard.rows]
    inputs = [
        np.concatenate([part.asnumpy() for part in parts]) for parts in zip(*[s.inputs for s in shards], strict=True)
    ]
    label = np.concatenate([shard.label.asnumpy() for shard in shards])
    weights = [shard.weight.asnumpy() for shard in shards if shard.weight is not None]
    assert sum(shard.rows for shard in batch.shards) == batch.rows == len(label) == len(batch.indices)
    for shard, number in zip(batch.shards, range(9), strict=False):
        assert shard.context == mx.cpu(number)
        assert all(part.context == shard.context for part in shard.inputs)
    return inputs, label, np.concatenate(weights) if weights else None, batch.indices


def epoch(made, number=1, skip=0):
    return [read(batch) for batch in made.epoch(number, skip)]


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all((a == b).all() for a, b in zip(one[0], other[0], strict=True))
        assert (one[1] == other[1]).all()
        assert (one[2] is None) == (other[2] is None)
        assert one[2] is None or (one[2] == other[2]).all()
        assert (one[3] == other[3]).all()


def order(made, number=1):
    return np.concatenate([part[3] for part in epoch(made, number)])


def test_an_array_source_is_batches():
    assert isinstance(batches(data(4)), Batches)


def test_the_order_is_a_function_of_seed_and_epoch():
    whole = data(50)
    made = batches(whole)
    first, second = order(made, 1).tolist(), order(made, 2).tolist()
    assert first != second
    assert first == order(made, 1).tolist() == order(batches(whole), 1).tolist()
    assert first != order(batches(whole, seed=4), 1).tolist()
    assert first == permutation(50, 3, 1).tolist()


def test_batch_size_and_contexts_do_not_change_the_order():
    whole = data(50)
    expected = order(batches(whole)).tolist()
    for size, contexts in ((1, 1), (7, 2), (50, 3), (64, 2), (2, 3)):
        assert order(batches(whole, size=size, contexts=contexts)).tolist() == expected


def test_without_shuffling_every_epoch_is_in_order():
    made = batches(data(10), shuffle=False)
    assert order(made, 1).tolist() == order(made, 2).tolist() == list(range(10))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("contexts", [1, 2, 3])
@pytest.mark.parametrize(("rows", "size"), [(12, 4), (13, 4), (7, 8), (5, 1), (1, 4)])
@pytest.mark.parametrize("chunk_bytes", [1, 200, 64 << 20])
@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "at once"])
def test_an_epoch_holds_every_row_once_and_the_rows_that_the_indices_say(
    rows, size, contexts, shuffle, chunk_bytes, ahead, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(module, "AHEAD_BYTES", 0 if ahead else 1 << 20)
    whole = data(rows, weighted=True)
    made = batches(whole, size=size, contexts=contexts, shuffle=shuffle)
    for number in (1, 2, 3):
        parts = epoch(made, number)
        assert [len(part[1]) for part in parts] == [size] * (rows // size) + [rows % size] * (rows % size > 0)
        assert len(parts) == made.batches_per_epoch
        for (features,), label, weight, indices in parts:
            assert (features == whole.features[indices]).all()
            assert (label == whole.labels[indices]).all()
            assert (weight == whole.weights[indices]).all()
        assert sorted(np.concatenate([part[3] for part in parts])) == list(range(rows))


@pytest.mark.parametrize("chunk_bytes", [1, 150, 64 << 20])
@pytest.mark.parametrize("contexts", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_can_be_entered_anywhere(shuffle, contexts, chunk_bytes, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(module, "AHEAD_BYTES", 0)
    whole = data(31)
    made = batches(whole, contexts=contexts, shuffle=shuffle)
    for number in (1, 5):
        expected = epoch(made, number)
        for skip in range(made.batches_per_epoch + 2):
            same(epoch(made, number, skip), expected[skip:])
            same(epoch(batches(whole, contexts=contexts, shuffle=shuffle), number, skip), expected[skip:])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    size=st.integers(1, 45),
    contexts=st.integers(1, 3),
    skip=st.integers(0, 6),
    chunk_bytes=st.sampled_from([1, 60, 100, 333, 1 << 20]),
    ahead=st.booleans(),
)
def test_skipping_gives_the_tail_of_the_epoch(rows, size, contexts, skip, chunk_bytes, ahead):
    whole = data(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(module, "AHEAD_BYTES", 0 if ahead else 1 << 20)
        made = batches(whole, size=size, contexts=contexts)
        tail = epoch(made, 2, skip)
        order = permutation(rows, 3, 2)
        for number, ((features,), label, _, indices) in enumerate(tail, skip):
            assert indices.tolist() == order[number * size : (number + 1) * size].tolist()
            assert (features == whole.features[indices]).all()
            assert (label == whole.labels[indices]).all()
        assert len(tail) == max(made.batches_per_epoch - skip, 0)


def test_an_epoch_that_is_left_half_way_does_not_change_the_next():
    made = batches(data(31))
    expected = epoch(made, 2)
    next(iter(made.epoch(1)))
    same(epoch(made, 2), expected)


def test_chunks_do_not_change_training(monkeypatch):
    def run():
        return engine(Given(regression(50)), epochs=4, batch_size=4).fit()

    whole = run()
    monkeypatch.setattr(module, "CHUNK_BYTES", 300)
    assert apart(whole, run()) == 0
    monkeypatch.setattr(module, "AHEAD_BYTES", 0)
    assert apart(whole, run()) == 0


def test_what_the_device_has_not_read_yet_is_not_overwritten(monkeypatch):
    """Operators that are queued read a buffer later than Python asks for the next one."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 60)
    monkeypatch.setattr(module, "AHEAD_BYTES", 0)
    whole = data(300)
    made = batches(whole)
    slow, found = mx.nd.ones((600, 600)), []
    for batch in made.epoch(1):
        slow = mx.nd.dot(slow, slow) * 1e-3
        found.append((batch.data + slow[0, 0] * 0, batch.indices.copy()))
    for features, indices in found:
        assert (features.asnumpy() == whole.features[indices]).all()


def test_several_contexts_cover_a_batch_in_order():
    first = next(iter(batches(data(12), size=8, contexts=3, shuffle=False).epoch(1)))
    assert [shard.rows for shard in first.shards] == [3, 3, 2]
    assert [shard.label.asnumpy().tolist() for shard in first.shards] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert first.data.asnumpy()[:, 0].tolist() == first.label.asnumpy().tolist() == list(range(8))


def test_a_context_without_rows_has_an_empty_shard():
    (_, last) = batches(data(5), size=4, contexts=3).epoch(1)
    assert [shard.rows for shard in last.shards] == [1, 0, 0]
    assert [shard.label for shard in last.shards[1:]] == [None, None]
    assert [shard.inputs for shard in last.shards[1:]] == [(), ()]


def test_the_callers_arrays_stay_as_they_are():
    features, labels, weights = (np.random.default_rng(0).normal(size=shape) for shape in ((20, 3), 20, 20))
    floats = [part.astype(np.float32) for part in (features, labels, np.abs(weights))]
    before = [part.copy() for part in floats]
    engine(Given(Arrays(*floats)), epochs=3, batch_size=4).fit()
    for part, copy in zip(floats, before, strict=True):
        assert part.flags.writeable
        assert (part == copy).all()
        part[0] = 7  # really writable


def test_read_only_and_strided_arrays_are_taken():
    whole = data(12, columns=4)
    fixed = whole.features[:, ::2]
    fixed.flags.writeable = False
    (features,), *_ = epoch(batches(Arrays(fixed, whole.labels[::-1]), size=12, shuffle=False))[0]
    assert (features == fixed).all()


@pytest.mark.parametrize("contexts", [1, 2])
@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("float64", "float32"),
        ("float32", "float32"),
        ("float16", "float32"),
        (">f4", "float32"),
        ("bool", "float32"),
        ("uint8", "uint8"),
        ("int8", "int32"),
        ("int16", "int32"),
        ("uint16", "int32"),
        ("int32", "int32"),
        ("int64", "int64"),
        (">i8", "int64"),
        ("uint32", "int64"),
    ],
)
def test_numbers_of_every_type_are_taken(given, taken, contexts):
    values = np.array([[0, 1], [1, 0], [1, 1], [0, 0]]).astype(given)
    made = batches(Arrays(values, np.arange(4.0)), size=3, contexts=contexts, shuffle=False)
    first, second = epoch(made)
    assert first[0][0].dtype == taken
    assert (np.concatenate([first[0][0], second[0][0]]) == values.astype(taken)).all()
    assert first[1].dtype == "float32"
    shuffled = epoch(batches(Arrays(values, np.arange(4.0)), contexts=contexts))
    assert (shuffled[0][0][0] == values.astype(taken)[shuffled[0][3]]).all()


@pytest.mark.parametrize("contexts", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_mxnet_arrays_are_taken(dtype, contexts):
    values = np.arange(10).reshape(5, 2)
    made = batches(Arrays(mx.nd.array(values, dtype=dtype), mx.nd.arange(5)), contexts=contexts, shuffle=False, size=3)
    parts = epoch(made)
    assert parts[0][0][0].dtype == ("int32" if dtype == "int32" else "float32")
    assert (np.concatenate([part[0][0] for part in parts]) == values).all()


def test_several_inputs_keep_their_rows_together():
    whole = data(11)
    other = np.arange(11 * 6, dtype=np.float32).reshape(11, 2, 3)
    made = batches(Arrays((whole.features, other), whole.labels), contexts=2)
    for (left, right), _, _, indices in epoch(made):
        assert (left == whole.features[indices]).all()
        assert (right == other[indices]).all()
    assert [part.shape for part in made.sample()] == [(1, 2), (1, 2, 3)]


def test_the_sample_is_the_first_row_on_the_first_context():
    (sample,) = batches(data(5), contexts=2).sample()
    assert sample.asnumpy().tolist() == [[0, 0.5]]
    assert sample.context == mx.cpu(0)


FOUR = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (Arrays(FOUR, np.zeros(3)), "different numbers of rows: 3, 4"),
        (Arrays((FOUR, np.zeros((5, 1))), np.zeros(4)), "different numbers of rows: 4, 5"),
        (Arrays(FOUR, np.zeros(4), np.ones(2)), "different numbers of rows: 2, 4"),
        (Arrays(FOUR, np.zeros(4), np.ones((4, 2))), r"weights have shape \(4, 2\), not one per row"),
        (Arrays(np.zeros((0, 2)), np.zeros(0)), "no rows"),
        (Arrays([[1.0], [2.0]], np.zeros(2)), "a list is not an array of rows"),
        (Arrays(FOUR, [0, 1, 0, 1]), "a list is not an array of rows"),
        (Arrays(FOUR, None), "a NoneType is not an array of rows"),
        (Arrays(FOUR, np.float32(1)), "not an array of rows"),
        (Arrays(np.array([["a"], ["b"]]), np.zeros(2)), "an array holds str.*, not numbers"),
        (Arrays(np.array([[1], [None]]), np.zeros(2)), "an array holds object, not numbers"),
        (Arrays(np.zeros((2, 1), complex), np.zeros(2)), "an array holds complex128, not numbers"),
    ],
)
def test_something_that_is_not_data_is_a_users_mistake(arrays, message):
    with pytest.raises(UsageError, match=message) as caught:
        batches(arrays)
    assert caught.value.where == "the train split"


def test_a_split_of_another_kind_is_a_users_mistake():
    with pytest.raises(UsageError, match="the train split is a list"):
        as_batches([1, 2], batch_size=2, contexts=[mx.cpu()], seed=0, shuffle=True, split="train")


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float64"])
def test_labels_of_any_type_go_with_a_loss_that_multiplies(dtype):
    from tiny import Tiny, engine, rows

    from trainer import Splits

    class Typed(Tiny):
        def splits(self, run):
            made = rows(6)
            return Splits(Arrays(made.features, made.labels.astype(dtype)))

    assert engine(Typed()).fit().metrics["train/loss"] == engine(Tiny(train_rows=6)).fit().metrics["train/loss"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64, "ndarray"])
def test_a_feature_that_is_not_a_number_is_refused_and_a_label_is_not(value, kind):
    features = np.ones((4, 2))
    features[2, 1] = value
    held = mx.nd.array(features) if kind == "ndarray" else features.astype(kind)
    with pytest.raises(UsageError, match=f"the train split: X holds {value:g} in row 2. Fill or drop such rows."):
        batches(Arrays(held, np.ones(4)))
    with pytest.raises(UsageError, match="input 2 holds"):
        batches(Arrays((np.ones((4, 1)), held), np.ones(4)))
    with pytest.raises(UsageError, match="the weights holds"):
        batches(Arrays(np.ones((4, 1)), np.ones(4), features[:, 1]))
    batches(Arrays(np.ones((4, 1)), features[:, 1]))

"""What plugins change in the batch is trained on every context, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Given, dense, regression
from tiny import Tiny, engine, plugin

from trainer import Phase, PluginError, fit
from trainer.data import Batch, Shard
from trainer.mxnet import gluon, mx

PARTS = {
    "one": {"devices": "cpu:0"},
    "two": {"devices": "cpu:0,1"},
    "three": {"devices": "cpu:0,1,2"},
    "micro-batches": {"micro_batches": 2},
    "micro-batches on two": {"micro_batches": 4, "devices": "cpu:0,1"},
}


def weights(change, *, compiled=True, **values):
    task = Given(regression(22, weighted=True), make_net=lambda: dense(4))
    changing = [plugin("changing", phase=Phase.TRANSFORM, batch_begin=change)] if change else []
    return engine(task, *changing, batch_size=8, epochs=2, compiled=compiled, **values).fit().copy_weights()


def data(run):
    run.batch.data[:] *= 0.5


def label(run):
    run.batch.label[:] = 3


def weight(run):
    run.batch.weight[:] = mx.nd.array(np.arange(run.batch.weight.size) % 3).reshape(run.batch.weight.shape)


def some_rows(run):
    held = run.batch.data
    held[1] = 7
    run.batch.inputs[0][-1] = held[1] * 2
    held[0] = run.batch.label.sum()


def in_between(run):
    """What was read before the batch is replaced still belongs to it."""
    held = run.batch.data
    run.batch = replace(run.batch, shards=tuple(_with_label(shard) for shard in run.batch.shards))
    held[:] = held * 2


def _with_label(shard):
    return replace(shard, label=shard.label * 2) if shard.rows else shard


def on_both_ways(run):
    """Rows that are changed in the shards stay so, although the whole was read before."""
    held = run.batch.data
    for shard in run.batch.shards:
        if shard.rows:
            shard.inputs[0][:] += 1
    assert (run.batch.data.asnumpy() == held.asnumpy()).all()
    held[0] = 5


CHANGES = {each.__name__: each for each in (data, label, weight, some_rows, in_between, on_both_ways)}


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_batch_in_place_is_trained_on_all_contexts(change, compiled):
    found = [weights(CHANGES[change], compiled=compiled, **values) for values in PARTS.values()]
    untouched = weights(None, compiled=compiled)
    assert any((value != untouched[name]).any() for name, value in found[0].items())
    for other in found[1:]:
        for name, value in found[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", PARTS.values(), ids=PARTS)
def test_reading_the_batch_changes_nothing(values):
    def read(run):
        assert len(run.batch.data) == len(run.batch.label) == len(run.batch.weight) == run.batch.rows

    before, after = weights(None, **values), weights(read, **values)
    assert all((value == after[name]).all() for name, value in before.items())


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    writes=st.lists(
        st.tuples(st.booleans(), st.integers(0, 11), st.sampled_from([0.0, 1.0, -2.0, float("nan")])), max_size=8
    ),
)
def test_shards_and_whole_agree_after_any_writes(sizes, writes):
    rows, contexts = sum(sizes), [mx.cpu(number) for number in range(len(sizes))]
    expected = np.arange(rows, dtype=np.float32)
    ends = np.cumsum(sizes)
    shards = tuple(
        Shard(
            context,
            (mx.nd.array(expected[end - size : end], ctx=context),) if size else (),
            mx.nd.zeros(size, ctx=context) if size else None,
            None,
            size,
        )
        for context, size, end in zip(contexts, sizes, ends, strict=True)
    )
    batch = Batch(shards, rows, None)
    held = batch.data
    for into_whole, place, value in writes:
        row = place % rows
        if into_whole:
            held[row] = value
        else:
            number = int(np.searchsorted(ends, row, side="right"))
            shards[number].inputs[0][row - (ends[number] - sizes[number])] = value
        batch.settle()
        expected[row] = value
    found = np.concatenate([shard.inputs[0].asnumpy() for shard in shards if shard.rows])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(batch.data.asnumpy(), expected)


def test_batches_that_were_given_as_a_list_are_not_changed():
    features = mx.nd.array(np.random.default_rng(0).normal(size=(4, 3)))
    labels = mx.nd.ones(4)
    before = features.asnumpy()
    change = plugin(phase=Phase.TRANSFORM, batch_begin=lambda run: run.batch.data.__imul__(0))
    fit(gluon.nn.Dense(1), train=[(features, labels)], loss="l2", epochs=2, plugins=[change], progress=False)
    assert (features.asnumpy() == before).all()
    assert (labels.asnumpy() == 1).all()


@pytest.mark.parametrize(
    ("event", "new", "message"),
    [
        ("batch_begin", lambda run: None, r"run.batch is None, not a Batch. .*run.skip_update"),
        ("batch_begin", lambda run: (1, 2), r"run.batch is a tuple, not a Batch"),
        ("batch_begin", lambda run: replace(run.batch, shards=()), r"has 0 shards, the old one 1"),
        (
            "batch_begin",
            lambda run: replace(run.batch, shards=(replace(run.batch.shards[0], rows=1),)),
            r"a shard of the new run.batch has 1 rows, and arrays of 2",
        ),
        ("batch_end", lambda run: run.batch, r"in on_batch_begin only"),
        ("epoch_begin", lambda run: run.batch, r"in on_batch_begin only"),
    ],
)
def test_a_batch_that_cannot_be_trained_is_refused(event, new, message):
    with pytest.raises(PluginError, match=rf"plugin 'changing' in on_{event} at .*{message}"):
        engine(Tiny(), plugin("changing", **{event: lambda run: setattr(run, "batch", new(run))})).fit()

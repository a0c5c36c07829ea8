"""A Gluon DataLoader as a source of batches."""

import itertools
import re

import numpy as np
import pytest
from nets import Given, TwoInputs, apart, regression
from tiny import engine, plugin

from trainer import UsageError
from trainer.data.loader import LoaderBatches
from trainer.mxnet import gluon, mx

WORKERS = pytest.mark.parametrize("workers", [0, 2])


def dataset(arrays):
    parts = [arrays.features, arrays.labels] + ([] if arrays.weights is None else [arrays.weights])
    return gluon.data.ArrayDataset(*parts)


def loader(arrays, **options):
    return gluon.data.DataLoader(dataset(arrays), **{"batch_size": 4, **options})


def fit(train, validation=None, *, compiled=True, **values):
    return engine(Given(train, validation), epochs=3, batch_size=4, compiled=compiled, **values).fit()


def batches(made, seed=3, contexts=1):
    return LoaderBatches(made, contexts=[mx.cpu(number) for number in range(contexts)], seed=seed)


def labels(made, epoch=1, skip=0):
    return [
        np.concatenate([shard.label.asnumpy() for shard in batch.shards if shard.rows]).ravel().tolist()
        for batch in made.epoch(epoch, skip)
    ]


@WORKERS
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_loader_trains_repeatably(workers, shuffle, weighted):
    data = regression(22, weighted=weighted)
    np.random.seed(1)
    first = fit(loader(data, shuffle=shuffle, num_workers=workers))
    np.random.seed(2)
    second = fit(loader(data, shuffle=shuffle, num_workers=workers))
    assert apart(first, second) == 0
    assert first.metrics == second.metrics
    assert first.step == 18
    assert first.train.weighted is weighted


@WORKERS
@pytest.mark.parametrize("weighted", [False, True])
def test_a_loader_in_order_trains_as_arrays_in_order(workers, weighted, monkeypatch):
    data = regression(22, weighted=weighted)
    loaded = fit(loader(data, num_workers=workers), loader(data, num_workers=workers))
    made = engine(Given(data, data), epochs=3, batch_size=4)
    made.run.train._shuffle = False
    assert apart(loaded, made.fit()) == 0
    assert loaded.metrics == made.run.metrics


def test_workers_do_not_change_the_order():
    data = regression(22)
    assert labels(batches(loader(data, shuffle=True))) == labels(batches(loader(data, shuffle=True, num_workers=2)))


def test_the_order_is_a_function_of_seed_and_epoch():
    data = regression(22)
    made = batches(loader(data, shuffle=True))
    first = labels(made)
    assert first != labels(made, 2)
    assert first == labels(made, 1) == labels(batches(loader(data, shuffle=True)))
    assert first != labels(batches(loader(data, shuffle=True), seed=4))
    assert sorted(itertools.chain(*first)) == sorted(data.labels.ravel().tolist())


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_can_be_entered_anywhere(shuffle):
    made = batches(loader(regression(22), shuffle=shuffle))
    whole = labels(made, 2)
    for skip in range(len(whole) + 1):
        assert labels(made, 2, skip) == whole[skip:]


def test_a_batch_sampler_holds():
    sampler = gluon.data.BatchSampler(gluon.data.SequentialSampler(22), 5, "discard")
    made = gluon.data.DataLoader(dataset(regression(22)), batch_sampler=sampler)
    sizes = []
    run = engine(Given(made), plugin(batch_end=lambda run: sizes.append(run.batch.rows)), epochs=2).fit()
    assert sizes == [5] * 8
    assert run.steps_per_epoch == 4
    assert np.isfinite(run.metrics["train/loss"])


@pytest.mark.parametrize("last", ["keep", "discard", "rollover"])
def test_the_loaders_own_way_with_the_last_batch_holds(last):
    run = fit(loader(regression(22), last_batch=last))
    assert run.step == {"keep": 18, "discard": 15, "rollover": 16}[last]


@WORKERS
@pytest.mark.parametrize("contexts", [2, 3])
def test_a_loader_is_split_over_contexts(workers, contexts):
    data = regression(22)
    one = fit(loader(data, num_workers=workers))
    devices = "cpu:" + ",".join(map(str, range(contexts)))
    several = fit(loader(data, num_workers=workers), devices=devices)
    assert apart(one, several) < 1e-6


@WORKERS
def test_a_recorded_net_takes_what_workers_load(workers):
    data = regression(22)
    first, second = (fit(loader(data, num_workers=workers), compiled=compiled) for compiled in (True, False))
    assert apart(first, second) < 1e-6


def test_float64_becomes_float32():
    data = regression(8)
    wide = gluon.data.ArrayDataset(data.features.astype("float64"), data.labels.astype("float64"))
    assert apart(fit(gluon.data.DataLoader(wide, 4)), fit(loader(data))) == 0


def test_several_inputs_come_as_a_list():
    data = regression(12)

    def batchify(rows):
        features, label = (mx.nd.array(np.stack([row[part] for row in rows])) for part in (0, 1))
        return [[features[:, :2], features[:, 2:]], label]

    made = gluon.data.DataLoader(dataset(data), 4, batchify_fn=batchify)
    run = engine(Given(made, make_net=TwoInputs), batch_size=4).fit()
    assert run.step_kind == "compiled"
    assert np.isfinite(run.metrics["train/loss"])


def giving(make):
    """A loader whose batches are what `make` says."""
    return gluon.data.DataLoader(gluon.data.SimpleDataset([0.0] * 4), 2, batchify_fn=make)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: gluon.data.DataLoader(gluon.data.SimpleDataset([]), 2), "yields no batch"),
        (lambda: gluon.data.DataLoader(gluon.data.ArrayDataset(np.zeros((4, 2))), 2), "yields NDArray of 2"),
        (lambda: gluon.data.DataLoader(gluon.data.ArrayDataset(*[np.zeros((4, 2))] * 4), 2), "yields list of 4"),
        (lambda: giving(lambda rows: {"data": 1}), "yields dict of 1"),
        (lambda: giving(lambda rows: 1.0), "yields float of 1"),
        (lambda: giving(lambda rows: (np.zeros((2, 1)), np.zeros(2))), "yields a ndarray, not an NDArray"),
        (lambda: giving(lambda rows: (mx.nd.zeros((2, 1)), [0, 1])), "yields a list, not an NDArray"),
        (lambda: giving(lambda rows: (mx.nd.zeros((2, 1)), mx.nd.zeros(3))), "different numbers of rows: 2, 3"),
        (lambda: giving(lambda rows: [mx.nd.zeros((2, 2))] * 3), "weights have shape (2, 2), not one per row"),
    ],
)
def test_an_odd_loader_is_a_users_mistake(made, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        fit(made())


def test_rows_that_roll_over_are_those_of_an_uninterrupted_run():
    """An epoch begins with what the epoch before left over, also in a process that has not trained it."""
    data = regression(22)
    made = loader(data, batch_size=5, shuffle=True, last_batch="rollover")
    straight = batches(made)
    expected = {epoch: labels(straight, epoch) for epoch in range(1, 6)}
    assert [len(expected[epoch]) for epoch in range(1, 6)] == [4, 4, 5, 4, 5]
    again = batches(loader(data, batch_size=5, shuffle=True, last_batch="rollover"))
    assert labels(again, 4, skip=1) == expected[4][1:]
    next(again.epoch(2))  # ends early
    assert labels(again, 3) == expected[3]
    assert labels(again, 5) == expected[5]

"""Tables of which a step trains only the rows that a batch uses: the same weights as a dense update gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.data.arrays import ArrayBatches, Arrays
from trainer.data.distinct import Finder
from trainer.mxnet import gluon, mx
from trainer.step import make_step
from trainer.step.host import HostBound

nn = gluon.nn
ROWS, COLUMNS, WORDS = 50, 3, 40
OPTIMIZERS = {
    "sgd": lambda: mx.optimizer.SGD(learning_rate=0.5),
    "adagrad": lambda: mx.optimizer.AdaGrad(learning_rate=0.1),
    "ftrl": lambda: mx.optimizer.Ftrl(learning_rate=0.5, lamda1=0.001),
    "clipped sgd": lambda: mx.optimizer.SGD(learning_rate=0.5, clip_gradient=0.02),
}
"""Those for which an update with a gradient of 0 changes nothing."""


class Sums(gluon.HybridBlock):
    """A weight per word, and dense columns beside them."""

    def __init__(self, *, sparse=True, outputs=1):
        super().__init__()
        with self.name_scope():
            self.table = nn.Embedding(WORDS, outputs, sparse_grad=sparse)
            self.dense = nn.Dense(outputs, in_units=2)

    def hybrid_forward(self, F, x, ids):
        return self.dense(x) + self.table(ids).sum(axis=1)


class SideBySide(gluon.HybridBlock):
    """Two tables for some columns each, joined with the dense columns."""

    def __init__(self, *, sparse=True, outputs=1):
        super().__init__()
        with self.name_scope():
            self.first = nn.Embedding(WORDS, 2, sparse_grad=sparse)
            self.second = nn.Embedding(WORDS, 3, sparse_grad=sparse)
            self.body = nn.Dense(4, activation="tanh", in_units=2 + 2 * 2 + 3)
            self.last = nn.Dense(outputs, in_units=4)

    def hybrid_forward(self, F, x, ids):
        first = self.first(F.slice_axis(ids, axis=1, begin=0, end=2)).reshape((0, -1))
        second = F.flatten(self.second(F.slice_axis(ids, axis=1, begin=2, end=3)))
        return self.last(self.body(F.concat(x, first, second, dim=1)))


class Biased(gluon.HybridBlock):
    """Sums of two tables' rows, and a bias."""

    def __init__(self, *, sparse=True, outputs=1):
        super().__init__()
        with self.name_scope():
            self.first = nn.Embedding(WORDS, outputs, sparse_grad=sparse)
            self.second = nn.Embedding(WORDS, outputs, sparse_grad=sparse)
            self.bias = self.params.get("bias", shape=(1, outputs))

    def hybrid_forward(self, F, ids, bias):
        first = self.first(F.slice_axis(ids, axis=1, begin=0, end=2)).sum(axis=1)
        second = self.second(F.slice_axis(ids, axis=1, begin=2, end=3)).sum(axis=1)
        return F.broadcast_add(first + second, bias)


class Only(gluon.HybridBlock):
    """Row numbers and nothing else, through operators that numpy does not compute."""

    def __init__(self, *, sparse=True, outputs=1):
        super().__init__()
        with self.name_scope():
            self.table = nn.Embedding(WORDS, 4, sparse_grad=sparse)
            self.last = nn.Dense(outputs, in_units=4)

    def hybrid_forward(self, F, ids):
        return self.last(F.max(self.table(ids), axis=1))


NETS = {"sums": Sums, "biased": Biased, "side by side": SideBySide, "by MXNet": Only}


def data(net, seed=0, dtype=np.int32):
    rng = np.random.default_rng(seed)
    # Most rows are never used, and some are used several times by one row of the batch.
    ids = (WORDS * rng.random((ROWS, COLUMNS)) ** 3).astype(dtype)
    dense = rng.normal(size=(ROWS, 2)).astype(np.float32)
    labels = (rng.random(ROWS) < 0.5).astype(np.float32)
    return Arrays(ids if net in (Only, Biased) else (dense, ids), labels)


def trained(
    net,
    optimizer,
    *,
    sparse=True,
    contexts=1,
    epochs=3,
    change=None,
    numpy=True,
    weights=None,
    outputs=1,
    ahead=True,
    dtype=np.int32,
):
    made = net(sparse=sparse, outputs=outputs)
    devices = [mx.cpu(number) for number in range(contexts)]
    mx.random.seed(3)
    made.initialize(mx.init.Zero() if "Ftrl" in type(optimizer).__name__ else mx.init.Normal(0.3), ctx=devices)
    given = data(net, dtype=dtype)
    if outputs > 1:
        given = Arrays(given.features, np.random.default_rng(5).integers(0, outputs, ROWS).astype(np.float32))
    if weights is not None:
        given = Arrays(given.features, given.labels, weights)
    batches = ArrayBatches(given, batch_size=16, contexts=devices, seed=1, shuffle=True)
    loss = gluon.loss.SigmoidBCELoss() if outputs == 1 else gluon.loss.SoftmaxCELoss()
    step = make_step(
        made,
        loss,
        optimizer=optimizer,
        contexts=devices,
        sample=batches.sample(),
        weighted=weights is not None,
    )
    if not numpy:
        step._plan = None
    if ahead and step.parameters.tables.are_found_ahead:
        batches.look_ahead = step.parameters.tables.distinct
    for epoch in range(epochs):
        for batch in batches.epoch(epoch):
            step.forward_backward(batch)
            if change is not None:
                change(step)
            step.update()
    return step


def weights_of(step):
    return step.parameters.copy().values()


def assert_same(first, second, tolerance=2e-6):
    for one, other in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "MXNet"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("net", sorted(NETS))
def test_the_weights_are_those_of_a_dense_update(net, optimizer, numpy):
    lazy = trained(
        NETS[net], OPTIMIZERS[optimizer](), numpy=numpy, dtype=np.float32 if optimizer == "ftrl" else np.int32
    )
    dense = trained(NETS[net], OPTIMIZERS[optimizer](), sparse=False)
    assert lazy.kind == dense.kind == "compiled"
    assert bool(lazy.parameters.tables)
    assert not dense.parameters.tables
    assert isinstance(lazy.newest[0], HostBound) == (numpy and net != "by MXNet")
    assert_same(lazy, dense)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("net", sorted(NETS))
def test_several_devices_come_to_the_same_weights(net, optimizer):
    one, three = (trained(NETS[net], OPTIMIZERS[optimizer](), contexts=contexts) for contexts in (1, 3))
    assert_same(one, three)
    for parameter in three.parameters.all:
        first, *others = (array.asnumpy() for array in parameter.list_data())
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_rows_have_weights_and_several_outputs():
    weights = np.random.default_rng(2).random((ROWS, 1)).astype(np.float32)
    lazy, dense = (
        trained(Sums, OPTIMIZERS["sgd"](), sparse=sparse, weights=weights, outputs=3) for sparse in (True, False)
    )
    assert isinstance(lazy.newest[0], HostBound)
    assert_same(lazy, dense)


def test_rows_that_no_batch_uses_keep_their_bits():
    used = set(np.unique(data(Sums).features[1]).tolist())
    before = trained(Sums, OPTIMIZERS["ftrl"](), epochs=0).parameters.copy()
    for optimizer in (mx.optimizer.Adam(), mx.optimizer.SGD(momentum=0.9, wd=0.1, learning_rate=0.1)):
        start = trained(Sums, optimizer, epochs=0).parameters.copy()["table.weight"]
        after = trained(Sums, optimizer).parameters.copy()["table.weight"]
        unused = [row for row in range(WORDS) if row not in used]
        assert unused
        np.testing.assert_array_equal(after[unused], start[unused])
        assert (after[sorted(used)] != start[sorted(used)]).all()
    assert not before["table.weight"].any()


@pytest.mark.parametrize("optimizer", [*sorted(OPTIMIZERS), "adam", "rmsprop"])
def test_looking_at_gradients_changes_no_bit(optimizer):
    made = {**OPTIMIZERS, "adam": mx.optimizer.Adam, "rmsprop": mx.optimizer.RMSProp}[optimizer]
    norms = []
    plain = trained(Sums, made())
    looked = trained(Sums, made(), change=lambda step: norms.append(step.gradients.norm()))
    inline = trained(Sums, made(), ahead=False)
    for other in (looked, inline):
        for one, two in zip(weights_of(plain), weights_of(other), strict=True):
            np.testing.assert_array_equal(one, two)
    dense = []
    trained(Sums, made(), sparse=False, change=lambda step: dense.append(step.gradients.norm()))
    assert norms[0] == pytest.approx(dense[0], rel=1e-5)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("numpy", [True, False])
def test_changed_gradients_are_obeyed(optimizer, numpy):
    def halve(step):
        for array in step.gradients.arrays:
            array[:] = array * 0.5

    def clip(step):
        step.gradients.clip(0.05)

    for change in (halve, clip):
        lazy = trained(Sums, OPTIMIZERS[optimizer](), change=change, numpy=numpy)
        dense = trained(Sums, OPTIMIZERS[optimizer](), sparse=False, change=change)
        assert_same(lazy, dense, 1e-5)


def test_the_gradient_by_name_has_the_shape_of_the_parameter():
    found = {True: [], False: []}
    for sparse, gradients in found.items():

        def look(step, gradients=gradients):
            gradients.append(dict(step.parameters.named_gradients())["table.weight"].asnumpy())

        trained(Sums, OPTIMIZERS["sgd"](), epochs=1, sparse=sparse, change=look)
    np.testing.assert_allclose(found[True], found[False], atol=1e-6)


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "MXNet"])
def test_gradients_that_are_sent_or_read_have_what_is_still_queued(numpy):
    def add_late(step):
        (table,) = step.parameters.tables.all
        gradients = step.gradients.arrays
        for name in ("sent", "by name"):
            late = mx.nd.ones((700, 700))
            for _ in range(5):
                late = mx.nd.dot(late, mx.nd.ones((700, 700))) / 700
            for array in gradients:
                array[:] = array * 0 + late[0, 0]
            found = table.used()[1] if name == "sent" else table.sparse_gradient().data.asnumpy()
            np.testing.assert_allclose(found[: len(table.ids)], 1, rtol=1e-4, err_msg=name)
            for array in gradients:
                array[:] = 0

    trained(Sums, OPTIMIZERS["sgd"](), epochs=1, numpy=numpy, change=add_late)


def test_row_numbers_that_a_plugin_changes_are_the_ones_that_train():
    def shifted(ahead):
        step = trained(Sums, OPTIMIZERS["ftrl"](), epochs=0)
        batches = ArrayBatches(data(Sums), batch_size=16, contexts=[mx.cpu()], seed=1, shuffle=True)
        batches.look_ahead = step.parameters.tables.distinct if ahead else None
        for batch in batches.epoch(0):
            batch.inputs[1][:] = 1
            step.forward_backward(batch)
            step.update()
        return step.parameters.copy()["table.weight"]

    changed = shifted(ahead=True)
    assert np.flatnonzero(changed).tolist() == [1]
    np.testing.assert_array_equal(changed, shifted(ahead=False))


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("row", [-1, WORDS])
def test_a_row_that_the_table_does_not_have_is_refused(row, numpy):
    step = trained(Sums, OPTIMIZERS["sgd"](), epochs=0, numpy=numpy)
    batches = ArrayBatches(data(Sums), batch_size=16, contexts=[mx.cpu()], seed=1, shuffle=False)
    batch = next(iter(batches.epoch(0)))
    batch.inputs[1][3, 1] = row
    mx.nd.waitall()
    with pytest.raises(UsageError, match=f"row {row} is looked up in table.weight, which has {WORDS} rows"):
        step.forward_backward(batch)


class Mixed(gluon.HybridBlock):
    """Uses its row numbers as numbers, too."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.table = nn.Embedding(WORDS, 1, sparse_grad=True)
            self.dense = nn.Dense(1, in_units=2)

    def hybrid_forward(self, F, x, ids):
        return self.dense(x) + self.table(ids).sum(axis=1) + F.cast(ids, "float32").sum(axis=1, keepdims=True)


class Computed(gluon.HybridBlock):
    """Looks up rows whose numbers are computed."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.table = nn.Embedding(WORDS, 1, sparse_grad=True)
            self.dense = nn.Dense(1, in_units=2)

    def hybrid_forward(self, F, x, ids):
        return self.dense(x) + self.table(F.abs(ids)).sum(axis=1)


@pytest.mark.parametrize("net", [Mixed, Computed])
def test_other_uses_of_row_numbers_are_recorded(net):
    made = net()
    made.initialize(mx.init.Normal(0.1))
    batches = ArrayBatches(data(Sums), batch_size=16, contexts=[mx.cpu()], seed=1, shuffle=True)
    step = make_step(
        made,
        gluon.loss.SigmoidBCELoss(),
        optimizer=mx.optimizer.SGD(),
        contexts=[mx.cpu()],
        sample=batches.sample(),
        weighted=False,
    )
    assert (step.kind, step.why) == ("recorded", f"the parameter {made.table.weight.name} is sparse")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=30), min_size=1, max_size=4))
def test_distinct_numbers_and_places(parts):
    arrays = [np.array(part, np.int32) for part in parts]
    finder = Finder(100)
    finder.distinct([np.arange(100)])  # leaves something behind
    found = finder.distinct(arrays)
    assert sorted(found.ids.tolist()) == sorted({number for part in parts for number in part})
    for array, places in zip(arrays, found.places, strict=True):
        np.testing.assert_array_equal(found.ids[places], array)
    assert found.is_of(arrays)
    changed = [*arrays[:-1], arrays[-1] + 1]
    assert not found.is_of(changed)

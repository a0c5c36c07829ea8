"""The built-in plugins on a net of which only the rows of an embedding that a batch uses are trained."""

import numpy as np
import pytest
from nets import Given
from tiny import engine, plugin

from trainer import Arrays, UsageError
from trainer.mxnet import gluon
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.gradient_clipping import GradientClipping
from trainer_plugins.mixed_precision import MixedPrecision
from trainer_plugins.mixing import Mixup
from trainer_plugins.proximal import Proximal
from trainer_plugins.stop_on_non_finite import StopOnNonFinite
from trainer_plugins.weight_averaging import WeightAveraging

WORDS, ROWS = 40, 60


class Net(gluon.HybridBlock):
    """With `numpy` the sum of rows, which numpy computes, otherwise their maximum, which MXNet does."""

    def __init__(self, sparse, numpy):
        super().__init__()
        self.numpy = numpy
        with self.name_scope():
            self.table = gluon.nn.Embedding(WORDS, 2, sparse_grad=sparse)
            self.out = gluon.nn.Dense(2, in_units=2)

    def hybrid_forward(self, F, ids):
        rows = self.table(ids)
        return self.out(rows.sum(axis=1) if self.numpy else F.max(rows, axis=1))


def trained(*plugins, sparse=True, numpy=True, labels=None, **values):
    rng = np.random.default_rng(0)
    ids = (WORDS * rng.random((ROWS, 3)) ** 3).astype(np.int32)
    if labels is None:
        labels = rng.normal(size=(ROWS, 2)).astype(np.float32)
    task = Given(Arrays(ids, labels), make_net=lambda: Net(sparse, numpy))
    settings = {"batch_size": 8, "epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.3}, **values}
    run = engine(task, *plugins, **settings).fit()
    return run, [parameter.data(run.contexts[0]).asnumpy() for parameter in run.net.collect_params().values()]


WORKING = {
    "clipping by norm": lambda: GradientClipping(norm=0.2),
    "clipping by value": lambda: GradientClipping(value=0.02),
    "averaging": lambda: WeightAveraging(kind="exponential", decay=0.8),
    "proximal": lambda: Proximal(l1=0.01),
    "stop on non-finite": StopOnNonFinite,
}


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "MXNet"])
@pytest.mark.parametrize("name", sorted(WORKING))
def test_a_plugin_does_the_same_as_with_dense_updates(name, numpy):
    (run, lazy), (_, dense) = (trained(WORKING[name](), sparse=sparse, numpy=numpy) for sparse in (True, False))
    assert run.gradients.tables == ("table.weight",)
    for one, other in zip(lazy, dense, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "MXNet"])
def test_a_step_that_is_not_finite_changes_nothing(numpy):
    labels = np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
    labels[17] = np.nan
    kept = []

    def keep(run):
        if run.step == 1:
            kept.extend(parameter.data().asnumpy() for parameter in run.net.collect_params().values())

    run, after = trained(StopOnNonFinite(), plugin(batch_begin=keep), labels=labels, numpy=numpy, batch_size=ROWS)
    assert run.status == "stopped"
    for before, now in zip(kept, after, strict=True):
        np.testing.assert_array_equal(before, now)


def test_a_frozen_table_stays_as_it_is_and_trains_again_when_told_to():
    seen = []

    def freeze(run):
        table = run.net.table.weight
        seen.append(table.data().asnumpy())
        table.grad_req = "null" if run.epoch == 2 else "write"

    run, _ = trained(plugin(epoch_begin=freeze), epochs=4)
    seen.append(run.net.table.weight.data().asnumpy())
    first, second, third, fourth, fifth = seen
    np.testing.assert_array_equal(second, third)
    for before, after in ((first, second), (third, fourth), (fourth, fifth)):
        assert (before != after).any()


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: GradientAccumulation(2), "gradients of other rows of table.weight.*--updates dense"),
        (lambda: MixedPrecision("float16"), "only some rows of an embedding.*--updates dense"),
        (lambda: Mixup(1.0), "inputs of int32 cannot be mixed"),
    ],
)
def test_a_plugin_that_needs_all_rows_is_refused_by_name(refused, message):
    with pytest.raises(UsageError, match=f"(?s){refused().name}.*{message}"):
        trained(refused())

"""Several contexts compute what one computes. CPU contexts stand for devices: they behave as several GPUs do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Given, Plain, apart, dense, regression, values
from tiny import Tiny, plugin, settings

from trainer import Arrays, Engine, UsageError
from trainer.data.batches import split_rows
from trainer.metrics import Regression
from trainer.mxnet import gluon, mx

DEVICES = {1: "cpu:0", 2: "cpu:0,1", 3: "cpu:0,1,2"}
MOMENTUM = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight-decay": 0.001}
PATHS = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])


def on(contexts, task, *plugins, steps=100, batch_size=4, compiled=True, optimizer=MOMENTUM):
    chosen = settings(epochs=1000, steps=steps, batch_size=batch_size, devices=DEVICES[contexts], optimizer=optimizer)
    run = Engine(task, chosen, plugins, compiled=compiled).fit()
    assert len(run.contexts) == contexts
    return run


def assert_alike(one, several):
    assert apart(one, several) < 1e-6
    assert several.metrics == pytest.approx(one.metrics, rel=1e-5, abs=1e-6)
    for context in several.contexts[1:]:
        on_first, on_other = values(several), values(several, context)
        assert all((on_first[name] == on_other[name]).all() for name in on_first)


@PATHS
@pytest.mark.parametrize("contexts", [2, 3])
@pytest.mark.parametrize(
    ("rows", "batch_size"),
    [(24, 6), (23, 5), (13, 4), (7, 3), (7, 2), (5, 1), (20, 32)],
    ids=["even", "uneven", "last of one row", "last of one of three", "two rows", "one row", "one short batch"],
)
def test_contexts_equal_one_context_for_every_batch_size(contexts, rows, batch_size, compiled):
    def task():
        metrics = lambda: [Regression()]  # noqa: E731
        return Given(regression(rows), regression(11, seed=1), make_net=lambda: dense(6), make_metrics=metrics)

    one, several = (on(count, task(), batch_size=batch_size, compiled=compiled) for count in (1, contexts))
    assert_alike(one, several)
    assert [entry["train/loss"] for entry in several.history] == pytest.approx(
        [entry["train/loss"] for entry in one.history], rel=1e-5, abs=1e-7
    )


@pytest.mark.parametrize("contexts", [2, 3])
@pytest.mark.parametrize("optimizer", ["adam", "lamb"])
def test_contexts_equal_one_context_with_other_optimizers(contexts, optimizer):
    chosen = {"name": optimizer, "learning_rate": 0.01}
    one, several = (
        on(count, Given(regression(23), make_net=lambda: dense(6)), batch_size=5, optimizer=chosen, steps=60)
        for count in (1, contexts)
    )
    # Adam and LAMB divide by small second moments, which makes float rounding larger.
    assert apart(one, several) < 1e-5


@PATHS
@pytest.mark.parametrize("contexts", [2, 3])
def test_weighted_rows_count_the_same_on_every_number_of_contexts(contexts, compiled):
    def task():
        data = regression(23, weighted=True)
        return Given(data, regression(5, seed=1, weighted=True), make_metrics=lambda: [Regression()])

    one, several = (on(count, task(), batch_size=5, compiled=compiled) for count in (1, contexts))
    assert_alike(one, several)


@pytest.mark.parametrize("contexts", [2, 3])
def test_a_net_that_is_not_hybrid_equals_one_context(contexts):
    one, several = (on(count, Given(regression(13), make_net=Plain)) for count in (1, contexts))
    assert several.step_kind == "recorded"
    assert apart(one, several) < 1e-6


@pytest.mark.parametrize("contexts", [2, 3])
def test_binary_metrics_equal_those_of_one_context(contexts):
    one, several = (on(count, Tiny(train_rows=20, validation_rows=13, test_rows=7)) for count in (1, contexts))
    assert {"validation/f1", "test/f1"} <= set(one.metrics)
    assert_alike(one, several)


@PATHS
def test_a_gradient_norm_counts_each_parameter_once(compiled):
    def norms(contexts):
        found = []
        watching = plugin(backward_end=lambda run: found.append(run.gradients.norm()))
        on(contexts, Given(regression(13)), watching, steps=8, compiled=compiled)
        return found

    assert norms(2) == pytest.approx(norms(1), rel=1e-5)
    assert norms(3) == pytest.approx(norms(1), rel=1e-5)


@PATHS
def test_the_batch_loss_is_the_mean_over_the_rows_of_all_contexts(compiled):
    def losses(contexts):
        found = []
        on(contexts, Given(regression(13)), plugin(batch_end=lambda run: found.append(run.loss)), compiled=compiled)
        return found

    assert losses(3) == pytest.approx(losses(1), rel=1e-5, abs=1e-7)


def test_predictions_come_in_the_order_of_the_rows():
    data = regression(11, seed=1)
    one, several = (on(count, Given(regression(13), data), steps=3) for count in (1, 3))
    assert (several.evaluation.labels == data.labels).all()
    assert np.abs(several.evaluation.predictions - one.evaluation.predictions).max() < 1e-6


@PATHS
def test_every_context_draws_its_own_dropout_masks_and_trains_repeatably(compiled):
    def task():
        return Given(regression(24), make_net=lambda: dense(16, dropout=0.5))

    first, second = (on(2, task(), batch_size=8, compiled=compiled, steps=30) for _ in range(2))
    assert apart(first, second) == 0


def running(run, context):
    return {name: value for name, value in values(run, context).items() if "running" in name}


@PATHS
@pytest.mark.parametrize(("contexts", "rows"), [(2, 24), (3, 25)])
def test_running_statistics_are_the_mean_over_the_rows_of_all_contexts(contexts, rows, compiled):
    # A BatchNorm in front sees the data as it is, so what it has to hold after one step can be computed.
    def net():
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.BatchNorm(), gluon.nn.Dense(1))
        return made

    data = regression(rows)
    parts = []
    looking = plugin(
        batch_begin=lambda run: parts.extend(shard.inputs[0].asnumpy() for shard in run.batch.shards if shard.rows)
    )
    run = on(contexts, Given(data, make_net=net), looking, steps=1, batch_size=rows, compiled=compiled)
    held = {name.rpartition("_")[2]: value for name, value in running(run, run.contexts[0]).items()}
    assert np.abs(held["mean"] - 0.1 * data.features.mean(axis=0)).max() < 1e-6
    within = sum(len(part) * part.var(axis=0) for part in parts) / rows
    assert np.abs(held["var"] - (0.9 + 0.1 * within)).max() < 1e-6


@PATHS
def test_running_statistics_are_the_same_on_every_context_and_evaluations_do_not_depend_on_the_split(compiled):
    evaluated = []
    for size in (1, 5, 11):

        class Task(Given):
            evaluation_batch_size = size

        task = Task(regression(23), regression(11, seed=1), make_net=lambda: dense(6, norm=True))
        run = on(3, task, batch_size=7, compiled=compiled, steps=40)
        assert_alike(run, run)
        evaluated.append(run.evaluation.predictions)
    assert np.abs(evaluated[0] - evaluated[1]).max() < 1e-5
    assert np.abs(evaluated[0] - evaluated[2]).max() < 1e-5


def test_a_net_that_is_initialised_already_moves_to_the_contexts():
    def made():
        net = gluon.nn.Dense(1, in_units=5)
        net.initialize(mx.init.One(), ctx=mx.cpu(0))
        return net

    one, several = (on(count, Given(regression(13), make_net=made), steps=10) for count in (1, 3))
    assert_alike(one, several)


def test_fewer_rows_than_devices_are_a_users_mistake():
    with pytest.raises(UsageError, match="2 training rows are fewer than the 3 devices") as caught:
        on(3, Given(regression(2)))
    assert caught.value.where == "--devices"


def test_validation_rows_may_be_fewer_than_devices():
    run = on(3, Given(regression(6), regression(2, seed=1)), steps=3)
    assert len(run.evaluation.predictions) == 2
    assert np.isfinite(run.metrics["validation/loss"])


def test_labels_and_inputs_of_any_shape_are_split_by_rows():
    generator = np.random.default_rng(0)
    data = Arrays(generator.normal(size=(10, 2, 3)), generator.normal(size=(10, 4)))
    one, several = (on(count, Given(data, make_net=lambda: gluon.nn.Dense(4)), steps=20) for count in (1, 3))
    assert apart(one, several) < 1e-6


@given(rows=st.integers(0, 10_000), parts=st.integers(1, 64))
def test_rows_are_split_as_evenly_as_can_be(rows, parts):
    sizes = split_rows(rows, parts)
    assert len(sizes) == parts
    assert sum(sizes) == rows
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(rows=st.integers(0, 200), fewer=st.integers(0, 200), parts=st.integers(1, 8))
def test_no_part_of_a_shorter_batch_is_larger_than_that_of_a_longer_one(rows, fewer, parts):
    short, long = split_rows(min(rows, fewer), parts), split_rows(max(rows, fewer), parts)
    assert all(a <= b for a, b in zip(short, long, strict=True))

"""Both ways to compute a step give the same training, and what they evaluate is what the parameters say."""

import numpy as np
import pytest
from nets import (
    AsksForShape,
    BothHeads,
    Embedded,
    Given,
    MeanOverRows,
    OneInAList,
    PerElement,
    Plain,
    Recurrent,
    Shared,
    Sometimes,
    SplitOutputs,
    SquaresOfTheFirst,
    TwoInputs,
    TwoOutputs,
    apart,
    convolutions,
    dense,
    images,
    regression,
    values,
)
from tiny import Tiny, engine, plugin, settings

from trainer import Arrays, Engine, UsageError
from trainer.data.arrays import ArrayBatches
from trainer.mxnet import autograd, gluon, mx
from trainer.seeds import permutation
from trainer.step.groups import ELEMENTWISE
from trainer.step.losses import FLUSH_EVERY, TrainingLoss

PATHS = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
ADAM = {"name": "adam", "learning_rate": 0.01}

ARGUMENTS = {
    "adadelta": {"learning_rate": 1.0},
    "adagrad": {"learning_rate": 0.05, "eps": 1e-5},
    "nag": {"momentum": 0.9},
    "rmsprop": {"centered": True, "learning_rate": 0.002},
    "sgd": {"momentum": 0.9},
    "signum": {"momentum": 0.9, "wd_lh": 0.01},
}


def trained(task, *plugins, steps=50, batch_size=4, optimizer=None, seed=7, compiled=True, prepare=None, **values):
    """The run after so many steps; `prepare` may change the net before it is built into a step."""
    if prepare is not None:
        make = task.make_net or (lambda: gluon.nn.Dense(1))

        def prepared():
            net = make()
            prepare(net)
            return net

        task.make_net = prepared
    chosen = settings(epochs=1000, steps=steps, batch_size=batch_size, seed=seed, optimizer=optimizer or SGD, **values)
    return Engine(task, chosen, plugins, compiled=compiled).fit()


def both(make_task, **arguments):
    """A compiled and a recorded run of the same training."""
    first, second = (trained(make_task(), compiled=compiled, **arguments) for compiled in (True, False))
    assert (first.step_kind, second.step_kind, second.step_why) == (
        "compiled",
        "recorded",
        "requested",
    )
    return first, second


# ---- compiled and recorded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAM, {**SGD, "weight-decay": 0.01}], ids=["momentum", "adam", "decay"])
def test_compiled_and_recorded_train_the_same(optimizer):
    first, second = both(lambda: Given(regression(30), make_net=lambda: dense(8, 6)), optimizer=optimizer)
    assert apart(first, second) < 1e-6
    assert [entry["train/loss"] for entry in first.history] == pytest.approx(
        [entry["train/loss"] for entry in second.history], rel=1e-5
    )


@pytest.mark.parametrize(
    "net",
    [
        lambda: dense(8, norm=True),
        lambda: dense(8, dropout=0.5),
        lambda: dense(8, 6, dropout=0.3),
        lambda: dense(8, 6, dropout=0.3, norm=True),
    ],
    ids=["norm", "dropout", "two dropouts", "norm and dropout"],
)
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["momentum", "adam"])
def test_compiled_and_recorded_train_the_same_with_batch_norm_and_dropout(net, optimizer):
    first, second = both(lambda: Given(regression(32), make_net=net), batch_size=8, optimizer=optimizer)
    assert apart(first, second) < 1e-6


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["rows", "column"])
def test_weights_of_rows_weigh_each_row_by_its_own(shape):
    data = regression(30, weighted=True)
    given = Arrays(data.features, data.labels, data.weights.reshape(shape))
    first, second = both(lambda: Given(given, make_net=lambda: dense(4)))
    assert apart(first, second) < 1e-6

    one = trained(Given(given, given), steps=1, batch_size=30, optimizer={"name": "sgd", "learning_rate": 0.0})
    weight, bias = values(one).values()
    losses = ((data.features @ weight.T + bias - data.labels) ** 2 / 2)[:, 0].astype("float64") * data.weights
    assert one.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert one.metrics["validation/loss"] == pytest.approx(losses.sum() / data.weights.sum(dtype="float64"), rel=1e-6)
    gradient = ((data.features @ weight.T + bias - data.labels)[:, 0] * data.weights) @ data.features / 30
    bias_gradient = ((data.features @ weight.T + bias - data.labels)[:, 0] * data.weights).mean()
    assert one.gradients.norm() == pytest.approx(np.sqrt((gradient**2).sum() + bias_gradient**2), rel=1e-5)


def test_a_last_short_batch_counts_by_its_rows():
    first, second = both(lambda: Given(regression(11), make_net=lambda: dense(4)), batch_size=4)
    assert apart(first, second) < 1e-6
    assert first.history[0]["step"] == 3


@PATHS
def test_frozen_parameters_stay_as_they_are(compiled):
    def freeze(net):
        net[0].collect_params().setattr("grad_req", "null")

    task = Given(regression(30), make_net=lambda: dense(4))
    before = []
    run = trained(
        task,
        plugin(fit_begin=lambda run: before.append(values(run))),
        steps=5,
        prepare=freeze,
        compiled=compiled,
    )
    moved = [bool((before[0][name] != value).any()) for name, value in values(run).items()]
    assert moved == [False, False, True, True]
    assert [len(group.names) for group in run._state.step.parameters.groups] == ([2] if compiled else [1, 1])


def multiply(net):
    net[0].weight.lr_mult, net[0].bias.lr_mult = 0.1, 2.0
    net[1].weight.wd_mult = 0.0


def test_multipliers_hold_for_their_own_parameters():
    optimizer = {**SGD, "weight-decay": 0.1}
    first, second = both(
        lambda: Given(regression(30), make_net=lambda: dense(4)), optimizer=optimizer, prepare=multiply
    )
    assert apart(first, second) < 1e-6
    groups = first._state.step.parameters.groups
    assert sorted(len(group.names) for group in groups) == [1, 1, 1, 1]
    assert sorted((group.first.lr_mult, group.first.wd_mult) for group in groups) == [
        (0.1, 1.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (2.0, 1.0),
    ]


def test_a_net_may_have_two_inputs():
    def task():
        left, right = regression(30), regression(30, columns=3, seed=1)
        return Given(Arrays((left.features, right.features), left.labels), make_net=TwoInputs)

    first, second = both(task)
    assert apart(first, second) < 1e-6


@pytest.mark.parametrize("net", [TwoOutputs, SplitOutputs])
def test_a_net_may_have_two_outputs(net):
    seen = []

    class Task(Given):
        def predictions(self, outputs):
            seen.append([tuple(output.shape) for output in outputs])
            return outputs[0]

    def task():
        return Task(regression(30), regression(4), make_net=net, make_loss=BothHeads)

    first, second = both(task, steps=8)
    assert apart(first, second) < 1e-6
    assert {tuple(map(tuple, shapes)) for shapes in seen} == {((4, 1), (4, 2 if net is TwoOutputs else 1))}
    assert first.metrics["validation/loss"] == pytest.approx(second.metrics["validation/loss"], rel=1e-5)
    compiled, recorded = first.outputs[0], second.outputs[0]
    for one, other in zip(compiled, recorded, strict=True):
        assert np.allclose(one.asnumpy(), other.asnumpy(), atol=1e-6)


def test_a_single_output_in_a_list_is_an_output():
    first, second = both(
        lambda: Given(regression(30), regression(4), make_net=OneInAList, make_loss=SquaresOfTheFirst), steps=8
    )
    assert apart(first, second) < 1e-6
    assert first.evaluation.predictions.shape == second.evaluation.predictions.shape == (4, 1)


def words(rows):
    generator = np.random.default_rng(0)
    return Arrays(generator.integers(0, 10, size=(rows, 5)), generator.normal(size=(rows, 1)))


def hybridized():
    net = dense(8, dropout=0.3)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


SEQUENCES = Arrays(np.random.default_rng(1).normal(size=(22, 6, 3)), np.random.default_rng(2).normal(size=(22, 1)))


@pytest.mark.parametrize(
    ("net", "data"),
    [(Recurrent, SEQUENCES), (Embedded, words(22)), (Shared, regression(22)), (hybridized, regression(22))],
)
@pytest.mark.parametrize("devices", ["cpu:0", "cpu:0,1"])
def test_other_nets_train_and_evaluate_the_same(net, data, devices):
    first, second = both(lambda: Given(data, data, make_net=net), devices=devices)
    assert first._state.step.parameters.flat
    assert apart(first, second) < 1e-6
    assert np.abs(first.evaluation.predictions - second.evaluation.predictions).max() < 1e-6
    assert first.history[-1]["train/loss"] < first.history[0]["train/loss"]


@pytest.mark.parametrize("devices", ["cpu:0", "cpu:0,1", "cpu:0,1,2"])
def test_sparse_gradients_train_as_dense_ones_do(devices):
    plain = {"name": "sgd", "learning_rate": 0.05}
    norms = {True: [], False: []}
    runs = [
        trained(
            Given(words(22), make_net=lambda sparse=sparse: Embedded(sparse)),
            plugin(backward_end=lambda run, sparse=sparse: norms[sparse].append(run.gradients.norm())),
            optimizer=plain,
            devices=devices,
        )
        for sparse in (False, True)
    ]
    assert runs[1].step_kind == "compiled"
    assert apart(*runs) < 1e-6
    assert norms[True] == pytest.approx(norms[False], rel=1e-5)


def test_a_parameter_that_a_batch_does_not_use_has_no_gradient_in_it():
    used, norms = [], []

    def look(run):
        used.append(float(run.batch.data[:, 0].mean().asscalar()) > 0)
        norms.append([float(array.norm().asscalar()) for array in run.gradients.arrays])

    run = trained(Given(regression(30), make_net=Sometimes), plugin(backward_end=look), steps=20)
    assert run.step_kind == "recorded"
    assert set(used) == {True, False}
    assert [norm[2] > 0 for norm in norms] == used
    assert all(norm[0] > 0 for norm in norms)


@PATHS
@pytest.mark.parametrize("loss", [MeanOverRows, PerElement])
def test_a_loss_that_does_not_give_a_value_a_row_is_a_users_mistake(compiled, loss):
    with pytest.raises(UsageError, match=r"for 4 rows.*Return one value per row"):
        trained(Given(regression(8), make_loss=loss), compiled=compiled)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (Plain, "the net (Plain) is not a HybridBlock"),
        (AsksForShape, "it cannot be traced"),
        (Sometimes, "the net (Sometimes) is not a HybridBlock"),
    ],
)
def test_a_net_without_a_symbolic_form_is_recorded_and_says_why(net, why):
    run = trained(Given(regression(30), regression(4), make_net=net), steps=40, batch_size=8)
    assert run.step_kind == "recorded"
    assert run.step_why.startswith(why)
    assert run.history[-1]["train/loss"] < run.history[0]["train/loss"]


def test_a_loss_without_a_symbolic_form_is_recorded_and_trains_the_same():
    def squares(outputs, label):
        return (outputs - label).square().mean(axis=1) / 2

    first = trained(Given(regression(30), make_loss=lambda: squares))
    second = trained(Given(regression(30)))
    assert first.step_why == "the loss (function) is not a HybridBlock"
    assert apart(first, second) < 1e-6


def test_parameters_may_be_called_like_the_inputs_of_the_step():
    def task():
        return Given(regression(30, weighted=True), make_net=lambda: gluon.nn.Dense(1, prefix=""))

    first, second = both(task)
    assert apart(first, second) < 1e-6


# ---- evaluation -----------------------------------------------------------------------------------------------------


def numpy_forward(run, features):
    """The output of a chain of Dense (relu) and BatchNorm layers, from the parameters' values alone."""
    x = features.astype("float64")
    blocks = list(run.net._children.values())
    for block in blocks:
        if isinstance(block, gluon.nn.Dense):
            x = x @ block.weight.data().asnumpy().T.astype("float64") + block.bias.data().asnumpy()
            x = np.maximum(x, 0) if block is not blocks[-1] else x
        elif isinstance(block, gluon.nn.BatchNorm):
            gamma, beta, mean, variance = (
                parameter.data().asnumpy().astype("float64")
                for parameter in (block.gamma, block.beta, block.running_mean, block.running_var)
            )
            x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    return x


@PATHS
@pytest.mark.parametrize("optimizer", [SGD, {"name": "lamb", "learning_rate": 0.01}], ids=["flat", "separate"])
@pytest.mark.parametrize(
    "net",
    [
        lambda: dense(8, 6),
        lambda: dense(8, 6, dropout=0.5),
        lambda: dense(8, 6, norm=True),
        lambda: dense(128, 256, 64),
    ],
    ids=["dense", "dropout", "norm", "wide"],
)
def test_an_evaluation_gives_what_the_parameters_say(net, optimizer, compiled):
    data = regression(40, columns=6, seed=3)
    task = Given(regression(64, columns=6), data, make_net=net)
    looked = []

    def look(run):
        forward = numpy_forward(run, data.features)
        assert np.abs(run.evaluation.predictions - forward).max() < 1e-5
        assert run.evaluation.loss == pytest.approx(((forward - data.labels) ** 2 / 2).mean(), rel=1e-5)
        looked.append(run.step)

    asking = plugin(batch_end=lambda run: run.evaluate("look") if run.step in (1, 2, 17) else None, evaluate_end=look)
    run = trained(task, asking, batch_size=16, optimizer=optimizer, compiled=compiled, steps=30)
    assert run._state.step.parameters.flat is (compiled and optimizer is SGD)
    assert looked[:3] == [1, 2, 4]
    assert looked[-1] == 30


@PATHS
def test_convolutions_keep_their_own_arrays_and_evaluate_right(compiled):
    data = images(12, seed=3)
    looked = []

    def look(run):
        # A hybridized net of its own, with copies of the values, is the reference.
        reference = convolutions()
        reference.initialize()
        reference(mx.nd.array(data.features))
        for to, value in zip(reference.collect_params().values(), values(run).values(), strict=True):
            to.set_data(mx.nd.array(value))
        reference.hybridize()
        expected = reference(mx.nd.array(data.features)).asnumpy()
        assert np.abs(run.evaluation.predictions - expected).max() < 1e-5
        looked.append(run.step)

    task = Given(images(48), data, make_net=convolutions)
    run = trained(task, plugin(evaluate_end=look), batch_size=12, steps=40, optimizer=ADAM, compiled=compiled)
    assert not run._state.step.parameters.flat
    assert run.history[-1]["train/loss"] < run.history[0]["train/loss"] / 2
    assert len(looked) == 10


def test_convolutions_train_the_same_compiled_and_recorded():
    # A convolution adds up in another order than its reference, and Adam divides by small numbers: hence 1e-5.
    first, second = both(lambda: Given(images(48), make_net=convolutions), batch_size=12, steps=30)
    assert apart(first, second) < 1e-5


@PATHS
@pytest.mark.parametrize(
    ("net", "data"),
    [
        (lambda: dense(8, 6), regression(32)),
        (lambda: dense(8, dropout=0.4, norm=True), regression(32)),
        (convolutions, images(32)),
    ],
    ids=["dense", "dropout and norm", "convolutions"],
)
def test_evaluating_between_batches_never_changes_training(net, data, compiled):
    asking = plugin(batch_end=lambda run: run.evaluate("look"))
    rest = Arrays(data.features[:7], data.labels[:7])
    arguments = {"steps": 24, "batch_size": 8, "compiled": compiled}
    quiet = trained(Given(data, make_net=net), **arguments)
    looking = trained(Given(data, rest, make_net=net), asking, **arguments)
    assert apart(quiet, looking) == 0
    assert [entry["train/loss"] for entry in quiet.history] == [entry["train/loss"] for entry in looking.history]


# ---- the optimizers -------------------------------------------------------------------------------------------------


def with_gluon_trainer(data, name, arguments, *, steps, batch_size, seed=7):
    """The same training by MXNet's own means: eager autograd, gluon.Trainer, the engine's initial weights and order."""
    run = Engine(
        Given(data, make_net=lambda: dense(6)),
        settings(batch_size=batch_size, seed=seed, optimizer={"name": name, **arguments}),
        compiled=False,
    ).run
    trainer = gluon.Trainer(list(run.net.collect_params().values()), run.settings.optimizer.build(), kvstore=None)
    loss = gluon.loss.L2Loss()
    done = epoch = 0
    while done < steps:
        epoch += 1
        order = permutation(len(data), seed, epoch)
        for start in range(0, len(data), batch_size):
            rows = order[start : start + batch_size]
            with autograd.record():
                losses = loss(run.net(mx.nd.array(data.features[rows])), mx.nd.array(data.labels[rows]))
            losses.backward()
            trainer.step(len(rows))
            done += 1
            if done == steps:
                break
    return run


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_elementwise_optimizers_on_flat_buffers_equal_gluons_trainer(name):
    data = regression(20)
    arguments = {"weight-decay": 0.01, **ARGUMENTS.get(name, {})}
    flat = trained(
        Given(data, make_net=lambda: dense(6)), steps=20, optimizer={"learning_rate": 0.01, "name": name, **arguments}
    )
    assert flat._state.step.parameters.flat
    assert len(flat._state.step.parameters.groups) == 1
    reference = with_gluon_trainer(data, name, {"learning_rate": 0.01, **arguments}, steps=20, batch_size=4)
    assert apart(flat, reference) < 1e-6


@pytest.mark.parametrize("name", ["lamb", "lars", "lbsgd", "nadam"])
def test_other_optimizers_get_an_array_a_parameter_and_equal_gluons_trainer(name):
    data = regression(20)
    arguments = {"learning_rate": 0.01}
    run = trained(Given(data, make_net=lambda: dense(6)), steps=20, optimizer={"name": name, **arguments})
    assert run.step_kind == "compiled"
    assert not run._state.step.parameters.flat
    assert [len(group.names) for group in run._state.step.parameters.groups] == [1, 1, 1, 1]
    reference = with_gluon_trainer(data, name, arguments, steps=20, batch_size=4)
    assert apart(run, reference) < 1e-6


def test_flat_parameters_are_views_of_one_buffer():
    run = trained(Given(regression(20), make_net=lambda: dense(6)), steps=3)
    (group,) = run._state.step.parameters.groups
    together = np.concatenate([value.ravel() for value in values(run).values()])
    assert (group.weights[0].asnumpy() == together).all()
    group.weights[0][:] = 0
    assert all((value == 0).all() for value in values(run).values())


# ---- gradients and losses -------------------------------------------------------------------------------------------


@PATHS
def test_the_gradients_are_those_of_the_sum_and_their_norm_that_of_the_mean(compiled):
    data, seen = regression(16), []

    def look(run):
        weight, bias = values(run).values()
        rows = run.batch.indices
        error = (data.features[rows] @ weight.T + bias - data.labels[rows])[:, 0].astype("float64")
        gradient = np.append(error @ data.features[rows], error.sum())
        got = np.concatenate([array.asnumpy().ravel() for array in run.gradients.arrays])
        assert np.abs(got - gradient).max() < 1e-5
        assert run.gradients.rows == len(rows)
        assert run.gradients.norm() == pytest.approx(np.linalg.norm(gradient / len(rows)), rel=1e-5)
        run.gradients.factor = 0.5
        assert run.gradients.norm() == pytest.approx(np.linalg.norm(gradient / len(rows)) / 2, rel=1e-5)
        seen.append(len(rows))

    trained(Given(data), plugin(backward_end=look), steps=6, batch_size=6, compiled=compiled)
    assert seen == [6, 6, 4, 6, 6, 4]


@PATHS
def test_the_factor_scales_one_update(compiled):
    before, after = [], []

    def halve(run):
        if run.step == 2:
            run.gradients.factor = 0.5

    def keep(place):
        return lambda run: place.append(np.concatenate([value.ravel() for value in values(run).values()]))

    plain = {"name": "sgd", "learning_rate": 0.1}
    watching = plugin(batch_begin=keep(before), backward_end=halve, batch_end=keep(after))
    run = trained(Given(regression(4)), watching, steps=3, batch_size=4, compiled=compiled, optimizer=plain)
    steps = [(b - a) / 0.1 for b, a in zip(before, after, strict=True)]
    for number, step in enumerate(steps):
        rate = 0.5 if number == 1 else 1.0
        # One batch is the whole data: its gradient at the weights before the step is known.
        weight, bias = before[number][:-1], before[number][-1]
        data = regression(4)
        error = data.features @ weight + bias - data.labels[:, 0]
        gradient = np.append(error @ data.features, error.sum()) / 4
        assert np.abs(step - rate * gradient).max() < 1e-5
    assert run.updates == 3


@PATHS
def test_written_gradients_are_what_the_update_takes(compiled):
    def zero(run):
        for array in run.gradients.arrays:
            array[:] = 0

    before = []
    watching = plugin(fit_begin=lambda run: before.append(values(run)), backward_end=zero)
    run = trained(Given(regression(8), make_net=lambda: dense(4)), watching, steps=4, compiled=compiled)
    assert all((before[0][name] == value).all() for name, value in values(run).items())


@PATHS
def test_the_batch_loss_is_the_mean_over_its_rows(compiled):
    data = regression(10)
    means, losses = [], []

    def look(run):
        weight, bias = values(run).values()
        rows = run.batch.indices
        errors = data.features[rows].astype("float64") @ weight.T + bias - data.labels[rows]
        means.append((errors**2 / 2).mean())

    watching = plugin(batch_begin=look, batch_end=lambda run: losses.append(run.loss))
    trained(Given(data), watching, steps=9, compiled=compiled)
    assert losses == pytest.approx(means, rel=1e-5)


@PATHS
def test_the_loss_of_an_epoch_is_the_exact_mean_over_its_rows(compiled, monkeypatch):
    monkeypatch.setattr("trainer.step.losses.FLUSH_EVERY", 5)
    sums = []
    adding = plugin(batch_end=lambda run: sums.append(run.loss * run.batch.rows))
    run = trained(Given(regression(50)), adding, steps=26, compiled=compiled)
    assert run.history[0]["train/loss"] == pytest.approx(sum(sums[:13]) / 50, rel=1e-6)
    assert run.history[1]["train/loss"] == pytest.approx(sum(sums[13:]) / 50, rel=1e-6)


def test_sums_of_losses_do_not_lose_precision_over_long_epochs():
    total, exact = TrainingLoss([mx.cpu()]), 0.0
    generator = np.random.default_rng(0)
    for number in range(3 * FLUSH_EVERY + 7):
        losses = mx.nd.array(generator.uniform(0, 1, size=3 if number % 5 else 2))
        total.add([losses], [len(losses)])
        exact += float(losses.asnumpy().sum(dtype="float64"))
    assert total.take_sum() == pytest.approx(exact, rel=1e-6)
    assert total.take_sum() == 0.0


def test_a_loss_is_not_changed_by_adding_it_up():
    total, losses = TrainingLoss([mx.cpu()]), mx.nd.array([1.0, 2.0])
    for _ in range(3):
        total.add([losses], [2])
    assert losses.asnumpy().tolist() == [1.0, 2.0]
    assert total.take_sum() == 9.0


@PATHS
def test_running_statistics_can_be_read_as_soon_as_the_gradients_exist(compiled):
    wide = regression(256, columns=300)

    def statistics(run):
        return [value for name, value in values(run).items() if "running" in name]

    def look(run):
        run.skip_update("so that nothing else waits for the backward pass")
        at_once = statistics(run)
        mx.nd.waitall()
        assert all((one == other).all() for one, other in zip(at_once, statistics(run), strict=True))

    def net():
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.BatchNorm(), gluon.nn.Dense(300), gluon.nn.BatchNorm(), gluon.nn.Dense(1))
        return made

    run = trained(Given(wide, make_net=net), plugin(backward_end=look), steps=30, batch_size=128, compiled=compiled)
    assert run.updates == 0


def test_batches_of_many_shapes_do_not_fill_the_memory():
    from trainer.data.batches import Batch, Shard
    from trainer.step.compiled import KEPT_SHAPES

    made = engine(Tiny(validation_rows=0))
    step = made.run._state.step
    whole = ArrayBatches(regression(40, columns=3), batch_size=40, contexts=made.run.contexts, seed=0, shuffle=False)
    shard = next(iter(whole.epoch(1))).shards[0]
    for size in [*range(1, 40), *range(1, 40)]:
        cut = Shard(shard.context, (shard.inputs[0][:size],), shard.label[:size], None, size)
        outputs, losses = step.forward(Batch((cut,), size, None))
        assert outputs[0].shape == (size, 1)
        assert losses[0].shape == (size,)
        assert len(step._bound[0]) <= KEPT_SHAPES


def test_an_optimizer_that_does_not_take_a_parameter_is_a_users_mistake():
    with pytest.raises(UsageError, match=r"groupadagrad does not accept the parameter bias of shape \(1,\)"):
        engine(Tiny(), optimizer={"name": "groupadagrad"})


def test_weights_of_convolutions_can_be_put_back_before_the_first_step():
    # oneDNN has laid them out in its own way by then, which numpy's values cannot be written into.
    parameters = Engine(Given(images(6), make_net=convolutions), settings()).run._state.step.parameters
    before = parameters.copy()
    parameters.assign({name: value + 1 for name, value in before.items()})
    assert all(np.allclose(value, before[name] + 1) for name, value in parameters.copy().items())


def test_the_norm_of_gradients_of_several_types_is_that_of_all():
    class Mixed(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.body, self.out = gluon.nn.Dense(3, in_units=5), gluon.nn.Dense(1, in_units=3)
            self.out.cast("float64")

        def hybrid_forward(self, F, x):
            return F.cast(self.out(F.cast(self.body(x), "float64")), "float32")

    found = []

    def look(run):
        squares = [float((gradient.asnumpy() ** 2).sum()) for _, gradient in run.named_gradients()]
        found.append((run.gradients.norm() * run.gradients.rows, sum(squares) ** 0.5))

    Engine(Given(regression(6), make_net=Mixed), settings(steps=1), [plugin(backward_end=look)]).fit()
    assert found[0][0] == pytest.approx(found[0][1], rel=1e-6)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
def test_biases_decay_unless_the_option_says_no(compiled):
    def run(**more):
        optimizer = {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.5, **more}
        made = engine(Tiny(make_net=lambda: dense(4)), optimizer=optimizer, compiled=compiled, steps=1)
        for parameter in made.run.net.collect_params().values():
            parameter.set_data(mx.nd.ones(parameter.shape))
        before = {name: value.copy() for name, value in made.run.copy_weights().items()}
        made.run._state.step.parameters.gradients.rows = 1
        made.run._state.step.update()  # the gradients are still 0
        return {name: value / before[name] for name, value in made.run.copy_weights().items()}

    assert all(np.allclose(share, 0.95) for share in run().values())
    without = run(decay_bias=False)
    assert all(np.allclose(share, 1 if name.endswith("bias") else 0.95) for name, share in without.items())

"""Small nets on the CPU that numpy computes: the same steps as MXNet's, to rounding."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from trainer import NumberLoss
from trainer.data.batches import Batch, Shard
from trainer.mxnet import gluon, mx
from trainer.step import make_step
from trainer.step.host import HostBound
from trainer.step.host_update import HostUpdate
from trainer.step.numpy_operators import ACTIVATIONS

nn = gluon.nn
ROWS, WIDTH = 7, 5


class Residual(gluon.HybridBlock):
    """A sum of two branches that read the same value, one of them through two layers."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.second, self.last = nn.Dense(6, activation="tanh"), nn.Dense(6), nn.Dense(2)

    def hybrid_forward(self, F, x):
        h = self.first(x)
        return self.last(h + F.relu(self.second(h)))


def sequence(*layers):
    net = nn.HybridSequential()
    for layer in layers:
        net.add(layer)
    return net


NETS = {
    **{
        f"activation {name}": lambda name=name: sequence(nn.Dense(6, activation=name), nn.Dense(2))
        for name in ACTIVATIONS
    },
    "linear": lambda: nn.Dense(2),
    "no bias": lambda: sequence(nn.Dense(6, use_bias=False), nn.Activation("relu"), nn.Dense(2, use_bias=False)),
    "leaky": lambda: sequence(nn.Dense(6), nn.LeakyReLU(0.2), nn.Dense(2)),
    "elu": lambda: sequence(nn.Dense(6), nn.ELU(), nn.Dense(2)),
    "activation last": lambda: sequence(nn.Dense(6), nn.Activation("sigmoid"), nn.Dense(2, activation="tanh")),
    "residual": Residual,
    "frozen": lambda: frozen(sequence(nn.Dense(6, activation="relu"), nn.Dense(4, activation="tanh"), nn.Dense(2))),
}
LOSSES = {
    "sigmoid": gluon.loss.SigmoidBCELoss,
    "squared": gluon.loss.L2Loss,
    "absolute": gluon.loss.L1Loss,
    "Huber": lambda: gluon.loss.HuberLoss(rho=0.3),
    "classes": gluon.loss.SoftmaxCELoss,
    "shares": lambda: gluon.loss.SoftmaxCELoss(sparse_label=False),
    "with a weight": lambda: gluon.loss.L2Loss(weight=3.0),
    "number squared": lambda: NumberLoss.of("squared", offset=0.4, scale=0.3),
    "number absolute": lambda: NumberLoss.of("absolute", offset=0.4, scale=0.3),
    "number huber": lambda: NumberLoss.of("huber", offset=0.4, scale=0.3, delta=0.2),
    "quantile": lambda: NumberLoss.of("quantile", offset=0.4, scale=0.3, quantiles=(0.2, 0.7)),
    "number poisson": lambda: NumberLoss.of("poisson", scale=0.3),
}
OPTIMIZERS = {
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01},
    "nag": {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01},
    "adam": {"learning_rate": 0.01, "wd": 0.01, "clip_gradient": 0.2},
    "rmsprop": {"learning_rate": 0.01},
}


def frozen(net):
    # Whole layers: with oneDNN, MXNet computes no gradient of a bias if the weight has none.
    for parameter in net[0].collect_params().values():
        parameter.grad_req = "null"
    return net


def step_of(make_net, make_loss, optimizer="sgd", *, weighted=False, contexts=1, by_numpy=True):
    mx.random.seed(3)
    devices = [mx.cpu(number) for number in range(contexts)]
    net, sample = make_net(), mx.nd.ones((1, WIDTH))
    net.initialize(mx.init.Xavier(), ctx=devices)
    net(sample)
    made = mx.optimizer.create("sgd" if optimizer == "momentum" else optimizer, **OPTIMIZERS[optimizer])
    step = make_step(net, make_loss(), optimizer=made, contexts=devices, sample=[sample], weighted=weighted)
    if not by_numpy:
        step._plan = None
    return step


def batches(loss, count=6, *, weighted=False, contexts=1):
    generator = np.random.default_rng(1)
    for number in range(count):
        x = generator.standard_normal((ROWS - number % 2, WIDTH)).astype(np.float32)
        label = generator.integers(0, 2, len(x)).astype(np.float32)
        if loss not in ("classes", "quantile"):
            label = generator.random((len(x), 2)).astype(np.float32)
        weight = generator.random((len(x), 1)).astype(np.float32) if weighted else None
        parts = np.array_split(np.arange(len(x)), contexts)
        shards = tuple(
            Shard(
                context,
                (mx.nd.array(x[part], ctx=context),),
                mx.nd.array(label[part], ctx=context),
                None if weight is None else mx.nd.array(weight[part], ctx=context),
                len(part),
            )
            for context, part in zip([mx.cpu(each) for each in range(contexts)], parts, strict=True)
        )
        yield Batch(shards, len(x), None)


def train(step, loss, **options):
    """Weights, sums of losses, mean losses, losses by row and outputs of a few steps."""
    seen = []
    for batch in batches(loss, **options):
        step.forward_backward(batch)
        seen += [step.loss.newest(), *(part.asnumpy() for part in step.loss.by_row)]
        seen += [part.asnumpy() for part in step.outputs()]
        step.update()
    return [*step.parameters.copy().values(), step.loss.take_sum(), *seen]


def assert_near(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def by_numpy(step):
    return all(isinstance(bound, HostBound) for bound in step.newest)


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_net_trains_as_with_mxnet(name):
    ours, theirs = (step_of(NETS[name], gluon.loss.L2Loss, by_numpy=by) for by in (True, False))
    assert_near(train(ours, "squared"), train(theirs, "squared"))
    assert by_numpy(ours)
    assert not by_numpy(theirs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_gives_the_same_gradients_and_values(name, weighted):
    ours, theirs = (step_of(NETS["linear"], LOSSES[name], weighted=weighted, by_numpy=by) for by in (True, False))
    assert_near(train(ours, name, weighted=weighted), train(theirs, name, weighted=weighted))
    assert by_numpy(ours)


@pytest.mark.parametrize("contexts", [1, 2])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimizer_comes_to_the_same_weights(name, contexts):
    ours, theirs = (
        step_of(NETS["activation relu"], gluon.loss.L2Loss, name, contexts=contexts, by_numpy=by)
        for by in (True, False)
    )
    assert_near(train(ours, "squared", contexts=contexts), train(theirs, "squared", contexts=contexts))
    assert by_numpy(ours)


SHARED = nn.Dense(WIDTH, in_units=WIDTH)
BY_MXNET = {
    "dropout": lambda: sequence(nn.Dense(6), nn.Dropout(0.5), nn.Dense(2)),
    "batch norm": lambda: sequence(nn.Dense(6), nn.BatchNorm(), nn.Dense(2)),
    "shared weights": lambda: sequence(SHARED, nn.Activation("relu"), SHARED, nn.Dense(2)),
    "steep": lambda: sequence(nn.Dense(6), nn.LeakyReLU(1.5), nn.Dense(2)),
    "in halves": lambda: sequence(nn.Dense(6), nn.HybridLambda(lambda F, x: F.slice_axis(x, 1, 0, 3)), nn.Dense(2)),
    "large": lambda: sequence(nn.Dense(10_000), nn.Dense(2)),
}


@pytest.mark.parametrize("name", sorted(BY_MXNET))
def test_other_nets_are_left_to_mxnet(name):
    step = step_of(BY_MXNET[name], gluon.loss.L2Loss)
    train(step, "squared", count=1)
    assert not by_numpy(step)


def test_losses_without_a_closed_form_are_left_to_mxnet():
    step = step_of(NETS["linear"], gluon.loss.LogisticLoss)
    train(step, "squared", count=1)
    assert not by_numpy(step)


def test_operators_that_plugins_have_queued_are_done_first():
    step, other = step_of(NETS["linear"], gluon.loss.L2Loss), step_of(NETS["linear"], gluon.loss.L2Loss)
    large = mx.nd.ones((500, 500))
    for batch in batches("squared", 3):
        slow = mx.nd.dot(large, mx.nd.dot(large, large))[0, 0] / 500**2  # 1, after a while
        data = batch.shards[0].inputs[0]
        data[:] = data * (1 + slow)
        step.forward_backward(batch)
        held = [array.copy() for array in step.gradients.arrays]
        for array in step.gradients.arrays:
            array[:] = array * slow * 2
        step.update()
        other.forward_backward(batch)
        assert_near([2 * array.asnumpy() for array in held], [2 * array.asnumpy() for array in other.gradients.arrays])
        for array in other.gradients.arrays:
            array[:] = array * 2
        other.update()
        assert_near(step.parameters.copy().values(), other.parameters.copy().values())


def test_numbers_that_are_not_finite_reach_the_loss_without_a_warning(recwarn):
    step = step_of(NETS["activation relu"], gluon.loss.SigmoidBCELoss)
    (batch,) = batches("sigmoid", 1)
    batch.shards[0].inputs[0][0, 0] = float("inf")
    step.forward_backward(batch)
    step.update()
    assert not np.isfinite(step.loss.newest())
    assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]


def test_runs_in_several_threads_do_not_disturb_each_other():
    def run(step):
        result = train(step, "squared", count=40)
        assert np.geterr()["over"] == "warn"
        return result

    # Made one after another: all draw their weights from one generator.
    first, *others = [step_of(NETS["activation relu"], gluon.loss.L2Loss) for _ in range(5)]
    alone = run(first)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(run, others):
            for ours, theirs in zip(result, alone, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_numpys_own_settings_stay_as_they_are():
    threads = [pool["num_threads"] for pool in threadpool_info()]
    with np.errstate(invalid="raise"):
        train(step_of(NETS["linear"], gluon.loss.L2Loss), "squared", count=1)
        assert np.geterr()["invalid"] == "raise"
    assert [pool["num_threads"] for pool in threadpool_info()] == threads


NUMBERS = st.floats(0.001, 2)


@settings(deadline=None, max_examples=60)
@given(
    operator=st.sampled_from(
        ["sgd_update", "multi_sgd_update", "multi_sgd_mom_update", "nag_mom_update", "adam_update"]
    ),
    rate=NUMBERS,
    decay=st.just(0.0) | st.floats(0.001, 0.5),
    scale=NUMBERS,
    clip=st.none() | NUMBERS,
    momentum=st.floats(0.1, 0.99),
    seed=st.integers(0, 1000),
)
def test_an_update_is_the_one_of_mxnets_operator(operator, rate, decay, scale, clip, momentum, seed):
    generator = np.random.default_rng(seed)
    states = {"multi_sgd_mom_update": 1, "nag_mom_update": 1, "adam_update": 2}.get(operator, 0)
    values = [generator.standard_normal(40).astype(np.float32) for _ in range(2 + states)]
    values[2:] = [abs(each) for each in values[2:]]
    ours, theirs = ([mx.nd.array(each) for each in values] for _ in range(2))
    given = {"rescale_grad": scale} | ({} if clip is None else {"clip_gradient": clip})
    given |= {"lrs": [rate], "wds": [decay], "num_weights": 1} if "multi" in operator else {"lr": rate, "wd": decay}
    given |= {"momentum": momentum} if "mom" in operator else {}
    given |= {"beta1": momentum, "beta2": 0.99, "epsilon": 1e-8} if operator == "adam_update" else {}
    HostUpdate(ours)(operator, given)
    getattr(mx.nd, operator)(*theirs, out=theirs[0], **given)
    assert_near([each.asnumpy() for each in ours], [each.asnumpy() for each in theirs])

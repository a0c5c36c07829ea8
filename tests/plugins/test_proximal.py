"""proximal: the penalties' step after each update, its step size, and weights that are exactly zero."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Given, dense, regression
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from tiny import engine, plugin

from trainer import Arrays, Phase, UpdatedWeight, UsageError
from trainer.calls import wait_for_all
from trainer.catalog.registry import create_plugin
from trainer.mxnet import gluon, mx
from trainer_plugins.proximal import _Step

OPTIMIZERS = {
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "nag": {"name": "nag", "learning_rate": 0.1, "momentum": 0.9},
    "adam": {"name": "adam", "learning_rate": 0.01},
    "adagrad": {"name": "adagrad", "learning_rate": 0.1},
}


def made(name="proximal", **options):
    return create_plugin(name, options, where="here")


def task(**options):
    return Given(regression(24), make_net=lambda: dense(4, **options))


def trained(*plugins, of=task, **values):
    return engine(of(), *plugins, **{"epochs": 1, "batch_size": 6, "steps": 1, **values}).fit()


def shrunk(weight, rate, l1, l2):
    return np.sign(weight) * np.maximum(np.abs(weight) - rate * l1, 0) / (1 + rate * l2)


# ---- against scikit-learn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("l1", "l2", "epochs", "optimizer"),
    [
        (0.05, 0.0, 500, {"learning_rate": 0.2, "momentum": 0.95}),
        (0.01, 0.02, 400, {"learning_rate": 0.5}),
        (0.01, 0.02, 200, {"name": "adam", "learning_rate": 0.1}),
    ],
    ids=["l1-momentum", "elastic-net-sgd", "elastic-net-adam"],
)
def test_it_comes_to_the_weights_and_the_zeros_of_scikit_learn(l1, l2, epochs, optimizer):
    features, labels = load_breast_cancer(return_X_y=True)
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    rows = len(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the names of the penalties are on their way out
        reference = LogisticRegression(
            penalty="elasticnet", l1_ratio=l1 / (l1 + l2), C=1 / (rows * (l1 + l2)), solver="saga", max_iter=5000
        ).fit(features, labels)
    given = Given(
        Arrays(features, labels.astype(np.float32).reshape(-1, 1)), make_loss=gluon.loss.SigmoidBinaryCrossEntropyLoss
    )
    run = engine(given, made(l1=l1, l2=l2), epochs=epochs, batch_size=rows, optimizer=optimizer).fit()
    weight, expected = run.copy_weights()["weight"].ravel(), reference.coef_.ravel()
    np.testing.assert_allclose(weight, expected, atol=1e-2)
    np.testing.assert_array_equal(weight == 0, np.abs(expected) < 1e-5)
    assert run.metrics["train/zero-weights"] == np.mean(weight == 0) > 0.3


# ---- the step --------------------------------------------------------------------------------------------------------


def rates(run, name):
    """The step size of each weight, from the optimizer's state."""
    optimizer = run.optimizer
    weight = next(each for each in run.after_update(lambda weights: None) if each.name == name)
    shape = run.copy_weights()[name].shape
    if type(optimizer) is mx.optimizer.Adam:
        unbiased = weight.state[1].asnumpy().reshape(shape).astype(np.float64) / (1 - optimizer.beta2**run.updates)
        return optimizer.lr / (np.sqrt(unbiased) + optimizer.epsilon / np.sqrt(1 - optimizer.beta2**run.updates))
    if type(optimizer) is mx.optimizer.AdaGrad:
        return optimizer.lr / np.sqrt(weight.state.asnumpy().reshape(shape).astype(np.float64) + 1e-7)
    return optimizer.lr / (1 - optimizer.momentum)


@pytest.mark.parametrize("values", [{}, {"compiled": False}, {"devices": "cpu:0,1"}], ids=["numpy", "mxnet", "devices"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_update_ends_with_the_step_of_the_penalties_and_biases_have_none(optimizer, values):
    before = trained(optimizer=optimizer, **values)
    after = trained(made(l1=0.2, l2=0.3), optimizer=optimizer, **values)
    weights = after.copy_weights()
    for name, weight in before.copy_weights().items():
        if name.endswith("bias"):
            np.testing.assert_array_equal(weights[name], weight)
            continue
        expected = shrunk(weight, rates(after, name), 0.2, 0.3)
        np.testing.assert_allclose(weights[name], expected, rtol=2e-4, atol=1e-6)
        assert (weights[name] != weight).any()
    zeros = [(weight == 0).mean() * weight.size for name, weight in weights.items() if name.endswith("weight")]
    total = sum(weight.size for name, weight in weights.items() if name.endswith("weight"))
    assert after.metrics["train/zero-weights"] == pytest.approx(sum(zeros) / total)
    for parameter in after.net.collect_params().values():
        one, *others = (each.asnumpy() for each in parameter.list_data())
        assert all((one == other).all() for other in others)


@given(
    values=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=9),
    size=st.floats(0.001, 2),
    l1=st.floats(0, 1),
    l2=st.floats(0, 1),
    adaptive=st.booleans(),
)
def test_numpy_and_mxnet_shrink_to_the_same_zeros_and_never_past_them(values, size, l1, l2, adaptive):
    before = np.array(values, np.float32)
    optimizer = mx.optimizer.AdaGrad() if adaptive else mx.optimizer.SGD()
    results = []
    for on_host in (True, False):
        array, history = mx.nd.array(before), mx.nd.ones(len(values))
        step = _Step(UpdatedWeight("weight", array, history if adaptive else None, optimizer, 0), with_l2=l2 > 0)
        wait_for_all()
        step(size * l1, size * l2, on_host=on_host)
        results.append(array.asnumpy())
    after, other = results
    np.testing.assert_allclose(after, other, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(after == 0, other == 0)
    np.testing.assert_allclose(after, shrunk(before.astype(np.float64), size, l1, l2), rtol=1e-4, atol=1e-5)
    assert (np.abs(after) <= np.abs(before)).all()
    assert (after * before >= 0).all()
    limit = np.float32(size * l1)
    if not adaptive:
        np.testing.assert_array_equal(after == 0, np.abs(before) <= limit)


def test_the_parameters_of_batch_norm_are_not_weights_and_patterns_choose():
    def net():
        return task(norm=True)

    plain = trained(of=net).copy_weights()
    for patterns, chosen in (
        (("*weight",), {"0.weight", "2.weight"}),
        (("0.*",), {"0.weight", "0.bias"}),
        (("2.weight", "*.bias"), {"2.weight", "0.bias", "2.bias"}),
    ):
        weights = trained(made(l1=0.3, parameters=list(patterns)), of=net).copy_weights()
        changed = {name for name, weight in weights.items() if (weight != plain[name]).any()}
        assert changed <= chosen
        assert {name for name in chosen if plain[name].any()} == changed


# ---- when ------------------------------------------------------------------------------------------------------------


def moves(run_plugins, **values):
    """Whether each batch has changed any weight."""
    seen = []
    looking = plugin("look", phase=Phase.REPORT, batch_end=lambda run: seen.append(run.copy_weights()))
    trained(*run_plugins, looking, **{"steps": 8, "epochs": 2, **values})
    return [any((now[name] != then[name]).any() for name in now) for then, now in pairwise(seen)]


def test_a_skipped_update_is_not_followed_by_a_shrinkage():
    skipping = plugin("skip", phase=Phase.TRANSFORM, backward_end=lambda run: run.step % 2 and run.skip_update("odd"))
    assert moves([made(l1=0.01), skipping]) == [True, False] * 3 + [True]
    accumulating = create_plugin("gradient-accumulation", {"batches": 2}, where="here")
    assert moves([made(l1=0.01), accumulating]) == [True, False] * 3 + [True]


def test_learning_rates_and_their_multipliers_count():
    still = plugin("still", fit_begin=lambda run: setattr(run, "learning_rate", 0.0))
    assert not any(moves([made(l1=0.5), still]))

    def halve(run):
        run.net[0].weight.lr_mult = 0.5

    for optimizer in (OPTIMIZERS["sgd"], OPTIMIZERS["adam"]):
        halving = plugin("halve", phase=Phase.TRANSFORM, fit_begin=halve)
        plain = trained(halving, optimizer=optimizer)
        run = trained(made(l1=0.2), halving, optimizer=optimizer)
        for name, factor in (("0.weight", 0.5), ("1.weight", 1.0)):
            expected = shrunk(plain.copy_weights()[name], factor * rates(run, name), 0.2, 0.0)
            np.testing.assert_allclose(run.copy_weights()[name], expected, rtol=2e-4, atol=1e-6)


def test_a_frozen_weight_is_not_shrunk():
    def freeze(run):
        run.net[0].weight.grad_req = "null"

    start = engine(task()).run.copy_weights()
    run = trained(made(l1=0.3), plugin("freeze", phase=Phase.TRANSFORM, fit_begin=freeze))
    np.testing.assert_array_equal(run.copy_weights()["0.weight"], start["0.weight"])
    assert (run.copy_weights()["1.weight"] != start["1.weight"]).any()


@pytest.mark.parametrize("on_host", [True, False])
def test_an_update_that_is_undone_is_undone_with_its_shrinkage(on_host, monkeypatch):
    if not on_host:
        monkeypatch.setattr("trainer.step.host.MOST_MULTIPLICATIONS", 0)
    seen = []
    looking = plugin("look", phase=Phase.REPORT, batch_end=lambda run: seen.append(run.copy_weights()))

    def spoil(run):
        assert run.gradients.on_host is on_host
        if run.step == 3:
            run.gradients.arrays[0][:] = np.nan

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    guard = create_plugin("stop-on-non-finite", {"every": 50}, where="here")
    run = trained(made(l1=0.01), looking, spoiling, guard, steps=4)
    assert run.status == "stopped"
    assert all((run.copy_weights()[name] == value).all() for name, value in seen[1].items())


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "optimizer", "message"),
    [
        ({}, {}, r"neither l1 nor l2 is given; set one, as in --set proximal\.l1=0\.001"),
        ({"l1": -1}, {}, "greater than or equal to 0|at least 0|≥ 0"),
        ({"l1": 0.1}, {"name": "rmsprop"}, "step size of rmsprop is not known.* sgd, nag, adam or adagrad"),
        ({"l1": 0.1}, {"name": "ftrl"}, r"an L1 penalty of its own: .*optimizer\.lamda1"),
        ({"l1": 0.1}, {"momentum": 1.0}, "momentum is 1"),
        ({"l1": 0.1, "parameters": ["*wieght"]}, {}, r"'\*wieght' matches no parameter.*0\.weight, 0\.bias"),
    ],
    ids=["no-penalty", "negative", "rmsprop", "ftrl", "momentum", "pattern"],
)
def test_what_would_be_another_objective_is_refused(options, optimizer, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        trained(made(**options), optimizer=optimizer)


@pytest.mark.parametrize("kind", ["float16", "sparse"])
def test_weights_of_other_kinds_are_refused_by_name(kind):
    array = mx.nd.ones((2, 2), dtype="float16") if kind == "float16" else mx.nd.ones((2, 2)).tostype("row_sparse")
    with pytest.raises(UsageError, match=f"the parameter 0.weight is {kind}; only dense weights of float32, float64"):
        made(l1=0.1)._prepare([UpdatedWeight("0.weight", array, None, mx.optimizer.SGD(), 0)])


def test_two_of_them_log_a_share_each():
    first, second = made("proximal@first", l1=9, parameters=["0.weight"]), made("proximal@b", l2=1)
    metrics = trained(first, second).metrics
    assert metrics["train/zero-weights/first"] == 1
    assert metrics["train/zero-weights/b"] == pytest.approx(20 / 24)

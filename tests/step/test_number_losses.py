"""Losses of numbers: gradients on the net's scale, values in the label's unit, and predictions."""

import numpy as np
import pytest
from forms import gradient_and_losses, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer import NumberLoss, UsageError
from trainer.mxnet import autograd, mx
from trainer.number_losses import LOSSES

LEVELS = (0.1, 0.5, 0.9)


def made(name, scale=3.0):
    offset = 0.0 if name == "poisson" else 5.0
    return NumberLoss.of(name, offset=offset, scale=scale, delta=2.0, quantiles=LEVELS)


def columns_of(name):
    return len(LEVELS) if name == "quantile" else 1


def rows(name, count=7):
    generator = np.random.default_rng(3)
    x = mx.nd.array(generator.normal(size=(count, columns_of(name))) * 2)
    labels = np.abs(generator.normal(size=count)) * 9
    labels[::3] = 0
    return x, mx.nd.array(labels), mx.nd.array(generator.uniform(0, 2, (count, 1)))


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_and_values_are_the_same_however_they_are_computed(name, weighted):
    loss, (x, label, weight) = made(name), rows(name)
    x.attach_grad()
    with autograd.record():
        expected = loss(x, label, *([weight] if weighted else []))
    expected.backward()
    graph = traced(loss, x.shape[1], weighted=weighted)
    gradient, by_row, total = gradient_and_losses(graph, x, label, weight if weighted else None)
    np.testing.assert_allclose(gradient, x.grad.asnumpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_row, expected.asnumpy(), rtol=1e-5, atol=1e-6)
    assert total == pytest.approx(float(expected.asnumpy().sum(dtype=np.float64)), rel=1e-5)
    on_host = np.empty(x.shape, np.float32)
    graph.lean.on_host.write(x.asnumpy(), label.asnumpy(), on_host)
    on_host *= graph.lean.on_host.factor * (weight.asnumpy() if weighted else 1)
    np.testing.assert_allclose(on_host, x.grad.asnumpy(), rtol=1e-5, atol=2e-6)


SCIKIT = {
    "squared": sk.mean_squared_error,
    "absolute": sk.mean_absolute_error,
    "poisson": sk.mean_poisson_deviance,
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_is_that_of_the_predictions_in_the_labels_unit(name):
    loss, (x, label, _) = made(name), rows(name)
    found, y = loss.predictions(x).asnumpy().astype(float), label.asnumpy().astype(float)
    if name in SCIKIT:
        expected = SCIKIT[name](y, found)
    elif name == "quantile":
        expected = np.mean([sk.mean_pinball_loss(y, each, alpha=q) for q, each in zip(LEVELS, found.T, strict=True)])
    else:
        error = np.abs(y - found)
        expected = np.where(error <= 2, error**2 / 2, 2 * (error - 1)).mean()
    assert loss(x, label).mean().asscalar() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_does_not_depend_on_the_unit(name):
    x, label, _ = rows(name)
    found = []
    for factor in (1.0, 1000.0):
        offset = 0.0 if name == "poisson" else 5.0 * factor
        loss = NumberLoss.of(name, offset=offset, scale=3 * factor, delta=2 * factor, quantiles=LEVELS)
        x.attach_grad()
        with autograd.record():
            losses = loss(x, label * factor)
        losses.backward()
        found.append(x.grad.asnumpy())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=30))
@settings(max_examples=40, deadline=None)
def test_quantiles_never_cross(outputs):
    z = np.array(outputs[: len(outputs) // 3 * 3], np.float32).reshape(-1, 3)
    found = made("quantile").predictions(mx.nd.array(z)).asnumpy()
    assert (np.diff(found, axis=1) >= 0).all()


def test_a_deviance_of_close_numbers_is_exact():
    lean = traced(NumberLoss.of("poisson"), 1).lean
    y = np.array([1e-3, 1.0, 30.0, 1e4])
    z = np.log(y) + 1e-3
    found = lean.losses(z.astype(np.float32).reshape(1, -1, 1), y.astype(np.float32)[None])[0]
    exact = 2 * (y * (np.log(y) - z) - y + np.exp(z))
    np.testing.assert_allclose(found, exact, rtol=5e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cubic", {}, "no loss 'cubic' of a number"),
        ("huber", {"delta": 0.0}, "delta is 0"),
        ("quantile", {"quantiles": (0.9, 0.1)}, "rising numbers"),
        ("quantile", {"quantiles": (0.5, 1.0)}, "between 0 and 1"),
        ("quantile", {"quantiles": ()}, "rising numbers"),
    ],
)
def test_impossible_losses_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        NumberLoss.of(name, **options)

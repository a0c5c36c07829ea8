"""Losses in closed form: the gradients and the values of Gluon's own losses, whenever they are computed."""

import numpy as np
import pytest
from forms import gradient_and_losses, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Given, apart, dense

from trainer import Arrays, Engine
from trainer.mxnet import autograd, gluon, mx
from trainer.step.losses import KEPT_BATCHES, TrainingLoss

OF = gluon.loss
NUMBERS = {
    "sigmoid": OF.SigmoidBinaryCrossEntropyLoss,
    "weighted sigmoid": lambda: OF.SigmoidBCELoss(weight=3.0),
    "squared": OF.L2Loss,
    "doubled squared": lambda: OF.L2Loss(weight=2.0),
    "absolute": OF.L1Loss,
    "huber": lambda: OF.HuberLoss(rho=0.5),
}
CLASSES = {
    "classes": OF.SoftmaxCrossEntropyLoss,
    "weighted classes": lambda: OF.SoftmaxCELoss(weight=0.5),
    "shares": lambda: OF.SoftmaxCrossEntropyLoss(sparse_label=False),
}
ALL = {**NUMBERS, **CLASSES}


def labels_for(name, generator, rows, columns):
    if name == "shares":
        # Not summing to one: a share of a batch's labels may be cut away.
        return generator.random((rows, columns)).astype(np.float32)
    if name in CLASSES:
        return generator.integers(0, columns, rows).astype(np.float32)
    return (generator.random((rows, columns)) < 0.5).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_gradient_and_losses_are_those_of_gluon(name, columns, weighted):
    if name in CLASSES and columns == 1:
        columns = 5
    generator = np.random.default_rng(columns)
    loss = ALL[name]()
    x = mx.nd.array(generator.normal(size=(7, columns)) * 3)
    label = mx.nd.array(labels_for(name, generator, 7, columns))
    weight = mx.nd.array(generator.uniform(0, 2, size=(7, 1))) if weighted else None
    x.attach_grad()
    with autograd.record():
        expected = loss(x, label, *([weight] if weighted else []))
    expected.backward()
    graph = traced(loss, columns, weighted=weighted)
    gradient, by_row, total = gradient_and_losses(graph, x, label, weight)
    np.testing.assert_allclose(gradient, x.grad.asnumpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(by_row, expected.asnumpy(), rtol=1e-6, atol=1e-7)
    assert total == pytest.approx(float(expected.asnumpy().sum(dtype=np.float64)), rel=1e-5)


@given(st.lists(st.floats(-120, 120, width=32), min_size=1, max_size=40), st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_cross_entropy_is_exact_for_large_and_tiny_logits(logits, label):
    lean = traced(OF.SigmoidBCELoss(), 1).lean
    z = np.array(logits, np.float32)
    found = lean.losses(z.reshape(1, -1, 1), np.full((1, len(z)), label, np.float32))[0]
    wide = z.astype(np.float64)
    exact = np.maximum(wide, 0) - wide * label + np.log1p(np.exp(-np.abs(wide)))
    np.testing.assert_allclose(found, exact, rtol=3e-6, atol=1e-38)


def test_the_gradient_at_exactly_zero_is_that_of_the_loss():
    # Gluon's differentiates a maximum and an absolute value there, and gives 0 and -1.
    graph = traced(OF.SigmoidBCELoss(), 1)
    gradient, _, _ = gradient_and_losses(graph, mx.nd.zeros((2, 1)), mx.nd.array([[0], [1]]), None)
    assert gradient.ravel().tolist() == [0.5, -0.5]


class Own(OF.L2Loss):
    pass


def hooked():
    loss = OF.L2Loss()
    loss.register_forward_hook(lambda *_: None)
    return loss


@pytest.mark.parametrize(
    "loss",
    [
        Own,
        hooked,
        OF.HingeLoss,
        lambda: OF.SigmoidBCELoss(from_sigmoid=True),
        lambda: OF.SoftmaxCELoss(from_logits=True),
        lambda: OF.SoftmaxCELoss(axis=1),
    ],
    ids=["subclass", "hook", "hinge", "probabilities", "log-probabilities", "axis"],
)
def test_other_losses_are_computed_in_the_step(loss):
    assert traced(loss(), 3).lean is None


def test_labels_that_are_not_float32_are_computed_in_the_step():
    generator = np.random.default_rng(0)
    rows = gluon.data.ArrayDataset(
        generator.normal(size=(12, 3)).astype(np.float32), generator.integers(0, 3, 12).astype(np.int32)
    )

    def losses(*, compiled):
        task = Given(
            gluon.data.DataLoader(rows, 4), make_net=lambda: dense(outputs=3), make_loss=OF.SoftmaxCrossEntropyLoss
        )
        return [each["train/loss"] for each in Engine(task, settings_of(2), compiled=compiled).fit().history]

    assert losses(compiled=True) == pytest.approx(losses(compiled=False), rel=1e-5)


def settings_of(epochs, **values):
    from tiny import settings

    return settings(epochs=epochs, batch_size=4, optimizer={"name": "sgd", "learning_rate": 0.05}, **values)


@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
@pytest.mark.parametrize("name", [*NUMBERS, "classes"])
def test_a_run_learns_as_with_the_loss_in_the_step(name, devices, monkeypatch):
    kept = TrainingLoss.keep
    generator = np.random.default_rng(1)
    columns = 3 if name == "classes" else 1
    train = Arrays(
        generator.normal(size=(22, 5)).astype(np.float32),
        labels_for(name, generator, 22, columns),
        generator.uniform(0.1, 2, 22).astype(np.float32) if name == "huber" else None,
    )

    def run(*, compiled):
        task = Given(train, train, make_net=lambda: dense(6, outputs=columns), make_loss=ALL[name])
        return Engine(task, settings_of(3, devices=devices), compiled=compiled).fit()

    computed = []
    monkeypatch.setattr(TrainingLoss, "keep", lambda loss, *given: computed.append(kept(loss, *given)))
    lean, recorded = run(compiled=True), run(compiled=False)
    assert apart(lean, recorded) < 1e-6
    assert [each["train/loss"] for each in lean.history] == pytest.approx(
        [each["train/loss"] for each in recorded.history], rel=1e-5
    )
    assert lean.loss == pytest.approx(recorded.loss, rel=1e-5)
    assert len(computed) == lean.step


@given(st.lists(st.integers(1, 3 * KEPT_BATCHES), max_size=6), st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_the_sum_does_not_depend_on_when_losses_are_computed(looks, resumed_at):
    lean = traced(OF.SigmoidBCELoss(), 1).lean
    generator = np.random.default_rng(3)
    batches = [
        [mx.nd.array(generator.normal(size=(4, 1)) * 5), mx.nd.array(generator.integers(0, 2, 4))] for _ in range(9)
    ]

    def total(looks, resumed_at=None):
        loss = TrainingLoss([mx.cpu()])
        for step in range(3 * KEPT_BATCHES + 5):
            loss.keep([batches[step % 9]], [4], lean, lambda: [mx.nd.ones(4)])
            if step in looks:
                state = loss.state_dict()
                if looks.index(step) == resumed_at:
                    loss = TrainingLoss([mx.cpu()])
                    loss.load_state_dict(state)
        return loss.take_sum(), loss.take_sum()

    assert total(looks, resumed_at) == total([]) != (0, 0)
    assert total([])[1] == 0

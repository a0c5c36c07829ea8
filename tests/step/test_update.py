"""Prepared operator calls give the bits that MXNet's own optimizers give, whatever is changed between two steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.calls import Call
from trainer.mxnet import mx
from trainer.step.update import PREPARED, make_update


class Scheduled(mx.lr_scheduler.LRScheduler):
    def __call__(self, num_update):
        return 0.3 / (1 + num_update)


ARGUMENTS = {
    "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.5, "wd": 0.01, "clip_gradient": 0.02}, {"momentum": -0.5}],
    "nag": [{}, {"momentum": 0.9}, {"wd": 0.1, "momentum": 0.3, "clip_gradient": 0.1}],
    "adam": [{}, {"wd": 0.01, "beta1": 0.5, "epsilon": 1e-3}, {"clip_gradient": 0.05, "lazy_update": False}],
}


def pair(name, arguments, dtype="float32"):
    """Twice the same optimizer, weight, gradient and state; the first is moved by ours, the second by MXNet's way."""
    generator = np.random.default_rng(3)
    start, slope = generator.standard_normal((2, 57)).astype(dtype)
    both = []
    for _ in range(2):
        optimizer = mx.optimizer.create(name, multi_precision=dtype == "float16", **arguments)
        weight, gradient = mx.nd.array(start, dtype=dtype), mx.nd.array(slope, dtype=dtype)
        both.append((optimizer, weight, gradient, optimizer.create_state_multi_precision(0, weight)))
    return both


def arrays(*parts):
    """The values of arrays, however they are nested in tuples."""
    return [
        value
        for part in parts
        if part is not None
        for value in (arrays(*part) if isinstance(part, tuple) else [part.asnumpy()])
    ]


CASES = [(name, arguments) for name, cases in ARGUMENTS.items() for arguments in cases]


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_updates_equal_mxnets_bit_for_bit(name, arguments, dtype):
    (optimizer, weight, gradient, state), (other, *others) = pair(name, arguments, dtype)
    update = make_update(optimizer, 0, weight, gradient, state)
    for step in range(12):
        for each in (optimizer, other):
            each.rescale_grad = 1 / (1 + step % 3)
            if step == 5:
                each.set_learning_rate(0.07)
            if step == 7:
                each.clip_gradient = 0.2
            if step == 9:
                each.set_lr_mult({0: 0.5})
                each.wd = 0.003
        update(False)
        other.update_multi_precision(0, *others)
        for ours, theirs in zip(arrays(weight, state), arrays(others[0], others[2]), strict=True):
            assert ours.tobytes() == theirs.tobytes()
    assert optimizer.num_update == other.num_update == 12


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_schedule_of_mxnets_is_followed(name):
    (optimizer, weight, gradient, state), (other, *others) = pair(name, {"lr_scheduler": Scheduled()})
    update = make_update(optimizer, 0, weight, gradient, state)
    for _ in range(5):
        update(False)
        other.update_multi_precision(0, *others)
    assert weight.asnumpy().tobytes() == others[0].asnumpy().tobytes()


@pytest.mark.parametrize("name", ["sgd", "nag"])
def test_momentum_may_be_switched_off_and_on_again(name):
    (optimizer, weight, gradient, state), (other, *others) = pair(name, {"momentum": 0.9})
    update = make_update(optimizer, 0, weight, gradient, state)
    for momentum in (0.9, 0.0, 0.0, 0.4, 0.9):
        optimizer.momentum = other.momentum = momentum
        update(False)
        other.update_multi_precision(0, *others)
        for ours, theirs in zip(arrays(weight, state), arrays(others[0], others[2]), strict=True):
            assert ours.tobytes() == theirs.tobytes()


def test_a_class_derived_from_a_known_one_keeps_its_own_update():
    class Backwards(mx.optimizer.SGD):
        def update_multi_precision(self, index, weight, grad, state):
            weight += grad

    weight, gradient = mx.nd.ones(3), mx.nd.ones(3)
    make_update(Backwards(), 0, weight, gradient, None)(False)
    assert weight.asnumpy().tolist() == [2, 2, 2]
    assert Backwards not in PREPARED


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    # MXNet refuses attributes that are not normal numbers.
    st.floats(-10, 10, allow_subnormal=False),
)
def test_a_call_does_what_mxnets_function_does(numbers, factor):
    source, target = mx.nd.array(numbers), mx.nd.zeros(len(numbers))
    Call("_mul_scalar", [source], target, scalar=factor)()
    assert target.asnumpy().tobytes() == (source * factor).asnumpy().tobytes()


def test_inputs_and_attributes_can_be_exchanged():
    first, second, target = mx.nd.array([1, 2]), mx.nd.array([10, 20]), mx.nd.zeros(2)
    call = Call("_mul_scalar", [first], target, scalar=2.0)
    call.on(0, second)
    assert target.asnumpy().tolist() == [20, 40]
    call.having(3.0)
    assert target.asnumpy().tolist() == [30, 60]
    call()
    assert target.asnumpy().tolist() == [30, 60]


def test_what_an_operator_does_not_take_is_mxnets_error():
    with pytest.raises(mx.MXNetError):
        Call("broadcast_add", [mx.nd.zeros(2), mx.nd.zeros(3)], mx.nd.zeros(2))()
    with pytest.raises(mx.MXNetError):
        Call("there_is_no_such_operator", [mx.nd.zeros(2)], mx.nd.zeros(2))

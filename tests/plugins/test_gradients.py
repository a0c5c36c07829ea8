"""Gradient clipping and gradient accumulation."""

import json

import numpy as np
import pytest
from tiny import Tiny, engine, plugin, weights

from trainer import Gradients, Phase, UsageError
from trainer.config.options import build
from trainer.mxnet import mx
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.gradient_clipping import GradientClipping


def trained(*plugins, rows=24, **settings):
    run = engine(Tiny(train_rows=rows, validation_rows=0), *plugins, **{"batch_size": 6, **settings}).fit()
    return run, weights(run)


def assert_close(first, second, tolerance=1e-6):
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def clipped_by_hand(limit, *, by_norm, rows=24, batch_size=6, epochs=2):
    """Plain SGD on the same batches, written with numpy: the gradient of the mean loss is clipped."""
    made = engine(Tiny(train_rows=rows, validation_rows=0), batch_size=batch_size, epochs=epochs)
    w, b = (part.astype(np.float64) for part in weights(made.run))
    for epoch in range(1, epochs + 1):
        for batch in made.run.train.epoch(epoch):
            x, y = batch.data.asnumpy().astype(float), batch.label.asnumpy()
            error = 1 / (1 + np.exp(-(x @ w.T + b).ravel())) - y
            gradients = [(error[:, None] * x).mean(axis=0, keepdims=True), np.array([error.mean()])]
            if by_norm:
                norm = np.sqrt(sum((g**2).sum() for g in gradients))
                gradients = [g * min(1.0, limit / norm) for g in gradients]
            else:
                gradients = [g.clip(-limit, limit) for g in gradients]
            w, b = w - 0.1 * gradients[0], b - 0.1 * gradients[1]
    return [w, b]


@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_clipping_by_norm_limits_the_norm_of_the_mean_gradient_however_many_devices(devices):
    run, ours = trained(GradientClipping(norm=0.1), devices=devices)
    assert_close(ours, clipped_by_hand(0.1, by_norm=True))
    assert run.metrics["train/gradient-norm"] > 0.1


def test_clipping_by_value_limits_every_element():
    _, ours = trained(GradientClipping(value=0.02))
    assert_close(ours, clipped_by_hand(0.02, by_norm=False))


def test_a_gradient_within_the_limits_is_left_as_it_is():
    _, plain = trained()
    _, clipped = trained(GradientClipping(norm=100, value=100))
    for ours, theirs in zip(clipped, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"norm": 0}, {"value": -1}])
def test_limits_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match=r"neither norm nor value is given|has to be above 0"):
        build(GradientClipping, options, where="")


@pytest.mark.parametrize("optimizer", [{"momentum": 0.9}, {"name": "adam", "learning_rate": 0.01}])
@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_accumulating_equals_the_larger_batch(optimizer, devices):
    whole, expected = trained(batch_size=12, epochs=4, optimizer=optimizer)
    run, ours = trained(GradientAccumulation(batches=3), batch_size=4, epochs=4, optimizer=optimizer, devices=devices)
    assert_close(ours, expected)
    assert (run.step, run.updates) == (24, 8)
    assert whole.updates == 8


def test_what_is_left_at_the_end_of_an_epoch_is_updated_with_its_own_rows():
    # 22 rows in batches of 4: groups of 12 rows, then of 4 + 4 + 2.
    _, expected = trained(rows=22, batch_size=12)
    run, ours = trained(GradientAccumulation(batches=3), rows=22, batch_size=4)
    assert_close(ours, expected)
    assert run.updates == 4


def test_clipping_sees_the_accumulated_gradient():
    _, expected = trained(GradientClipping(norm=0.1), batch_size=12)
    both = (GradientClipping(norm=0.1), GradientAccumulation(batches=3))
    _, ours = trained(*both, batch_size=4)
    assert_close(ours, expected)


def test_an_epoch_that_is_ended_early_leaves_nothing_for_the_next():
    ending = plugin("end", phase=Phase.DECIDE, batch_end=lambda run: run.end_epoch("short") if run.step == 1 else None)
    run, _ = trained(GradientAccumulation(batches=2), ending, batch_size=6)
    assert (run.step, run.updates) == (5, 2)


def test_a_group_that_is_under_way_goes_through_a_state():
    accumulation, other = GradientAccumulation(batches=3), GradientAccumulation(batches=3)
    states = []
    looking = plugin("look", phase=Phase.SAVE, batch_end=lambda run: states.append(accumulation.state_dict()))
    trained(accumulation, looking, batch_size=4, epochs=1)
    assert [(state["count"], state["rows"]) for state in states] == [(1, 4), (2, 8), (0, 0)] * 2
    other.load_state_dict(states[1])
    again = other.state_dict()
    assert (again["count"], again["rows"]) == (2, 8)
    for ours, theirs in zip(again["held"], states[1]["held"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    json.dumps({name: value for name, value in again.items() if name != "held"})


def test_the_norm_is_logged_every_so_many_steps_and_at_the_end_of_each_epoch():
    seen = []
    looking = plugin("look", batch_end=lambda run: seen.append(run.step) if run.step_metrics else None)
    engine(Tiny(train_rows=10), GradientClipping(norm=1.0, log_every=4), looking, epochs=2).fit()
    assert seen == [4, 5, 8, 10]
    engine(Tiny(train_rows=10), GradientClipping(norm=1.0, log_every=0), looking, epochs=2).fit()
    assert seen == [4, 5, 8, 10]


def test_the_norm_is_that_of_all_elements():
    norms = []
    looking = plugin("look", backward_end=lambda run: norms.append((run.gradients.norm(), by_hand(run))))

    def by_hand(run):
        squares = sum(float((array.asnumpy().astype(float) ** 2).sum()) for array in run.gradients.arrays)
        return np.sqrt(squares) / run.gradients.rows

    for compiled in (True, False):
        engine(Tiny(train_rows=10), looking, compiled=compiled).fit()
    assert all(ours == pytest.approx(reference, rel=1e-5) for ours, reference in norms)


def test_a_rest_at_the_limit_of_steps_is_updated_with_too():
    run, _ = trained(GradientAccumulation(batches=4), rows=60, batch_size=6, steps=6)
    assert (run.step, run.updates) == (6, 2)


def test_the_rest_of_an_epoch_weighs_its_rows():
    """22 rows in batches of 4, three to a group: the second group has 10 rows, as a batch of 10 would."""
    _, ours = trained(GradientAccumulation(batches=3), rows=22, batch_size=4, epochs=3)
    _, larger = trained(rows=22, batch_size=12, epochs=3)
    assert_close(ours, larger)
    _, ours = trained(GradientAccumulation(batches=4), rows=22, batch_size=4, epochs=3)
    _, larger = trained(rows=22, batch_size=16, epochs=3)
    assert_close(ours, larger)


def test_a_batch_that_another_plugin_leaves_out_is_not_in_the_sum():
    skipping = plugin(
        "skip", phase=Phase.TRANSFORM, batch_begin=lambda run: run.skip_update("no") if run.step % 4 == 2 else None
    )
    run, _ = trained(skipping, GradientAccumulation(batches=3), rows=48, batch_size=6, epochs=1)
    assert (run.step, run.updates) == (8, 2)


def test_a_gradient_that_is_not_finite_is_left_for_others_to_find():
    def spoil(run):
        if run.step == 2:
            run.gradients.arrays[0][:] = np.inf

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    run, _ = trained(spoiling, GradientClipping(norm=1.0, value=1.0))
    assert run.status == "finished"


def test_value_is_a_limit_of_the_mean_after_the_norm_was_limited():
    limits = []

    def look(run):
        largest = max(float(np.abs(array.asnumpy()).max()) for array in run.gradients.arrays)
        limits.append(largest * abs(run.gradients.factor) / run.gradients.rows)

    looking = plugin("look", phase=Phase.DECIDE, backward_end=look)
    trained(GradientClipping(norm=0.05, value=0.01), looking)
    assert max(limits) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("types", [("float32",), ("float32", "float64"), ("float16", "float32")])
@pytest.mark.parametrize("values", [[3, 4], [0, 0], [0.01, 0.02], [np.inf, 1], [np.nan, 1], [1e4, -1e4]])
def test_clip_scales_to_the_limit_and_leaves_what_is_within_it_or_not_finite(types, values):
    gradients = Gradients([mx.nd.array(values, dtype=kind) for kind in types], rows=2, factor=-0.5)
    before, norm = [array.asnumpy() for array in gradients.arrays], gradients.norm()
    for _ in range(2):  # what was clipped is within the limit
        gradients.clip(0.1)
    share = 0.1 / norm if 0.1 < norm < np.inf else 1
    for array, old in zip(gradients.arrays, before, strict=True):
        expected = old if share == 1 else old * share
        np.testing.assert_allclose(array.asnumpy(), expected, rtol=2e-3 if "float16" in types else 1e-6)


def test_clip_takes_other_limits_and_rows_and_arrays():
    gradients = Gradients([mx.nd.array([3, 4])], rows=1)
    for limit, rows, expected in ((2, 1, 2), (1, 1, 1), (0.1, 2, 0.2), (1e38, 10, 0.2)):
        gradients.rows = rows
        gradients.clip(limit)
        assert float(gradients.arrays[0].norm().asscalar()) == pytest.approx(expected, rel=1e-6)
    gradients.arrays.append(mx.nd.array([30, 40], dtype="float64"))
    gradients.rows = 1
    gradients.clip(1)
    assert gradients.norm() == pytest.approx(1, rel=1e-6)

"""Mixed precision: what is computed in bfloat16 and what is not, and the scale of the loss."""

import json
import subprocess
import sys

import numpy as np
import pytest
from nets import Given, Plain, apart, dense, regression
from processor import HAS_BFLOAT16, needs_bfloat16
from soft import in_the_middle
from tiny import engine, plugin

from trainer import Arrays, Changed, Phase, Plugin, UsageError
from trainer.config.options import build
from trainer.runs.state import capture
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.gradient_clipping import GradientClipping
from trainer_plugins.mixed_precision import LARGEST_SCALE, MixedPrecision

STEPS = {
    "epochs": 100,
    "steps": 30,
    "batch_size": 6,
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
}

HUGE = 2.0**127
"""A scale that brings gradients of 2 and more beyond float32."""


def task(rows=24, net=lambda: dense(16), **values):
    return Given(regression(rows, **values), regression(9, seed=1, **values), make_net=net)


def loud():
    """Labels, and so gradients, that are a hundred times as large."""
    data = regression(24)
    return Given(Arrays(data.features, data.labels * 100), regression(9, seed=1), make_net=lambda: dense(16))


SLOW = {"optimizer": {"name": "sgd", "learning_rate": 0.0005}}


def trained(*plugins, **values):
    return engine(values.pop("task", None) or task(), *plugins, **{**STEPS, **values}).fit()


@needs_bfloat16
@pytest.mark.parametrize("weighted", [False, True])
def test_it_trains_to_nearly_what_float32_trains_to(weighted):
    whole = trained(task=task(weighted=weighted), steps=200)
    half = trained(MixedPrecision(), task=task(weighted=weighted), steps=200)
    # bfloat16 has 8 binary digits: a relative 0.004 a number. Weights of the size of one came out 0.04 and 0.053 apart.
    assert 0 < apart(whole, half) < 0.1
    assert half.metrics["validation/loss"] == pytest.approx(whole.metrics["validation/loss"], rel=0.1)
    assert half.metrics["train/loss"] < 0.5 * half.history[0]["train/loss"]


@needs_bfloat16
def test_weights_gradients_and_states_of_the_optimizer_are_float32():
    kinds = []

    def look(run):
        kinds.extend(array.dtype for array in (*run.gradients.arrays, *run.outputs, *run.losses))

    def floats(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            return [kind for part in value for kind in floats(part)]
        return [value.dtype] if getattr(value, "ndim", 0) else []

    run = trained(MixedPrecision(), plugin(phase=Phase.REPORT, backward_end=look))
    state = capture(run, run._state)
    of_the_optimizer = floats(state["optimizer"])
    assert of_the_optimizer
    kinds += floats(state["parameters"]) + of_the_optimizer
    assert {np.dtype(kind) for kind in kinds} == {np.dtype(np.float32)}


@needs_bfloat16
def test_evaluations_are_those_of_the_float32_net():
    run = trained(MixedPrecision())
    # A run without the plugin, whose rate is too small to move a weight, evaluates the same weights.
    putting = plugin(fit_begin=lambda other: other.set_weights(run.copy_weights()))
    plain = trained(putting, steps=1, optimizer={"name": "sgd", "learning_rate": 1e-30})
    assert apart(run, plain) == 0
    np.testing.assert_array_equal(run.evaluation.predictions, plain.evaluation.predictions)
    assert run.metrics["validation/loss"] == plain.metrics["validation/loss"]


class Keep(Plugin):
    """Keeps the symbol that is trained, after the others have changed it."""

    phase = Phase.REPORT
    name = "keep"

    def change_symbol(self, run, symbol):
        self.symbol = symbol
        return Changed(symbol)


def casts(symbol):
    """The types that a symbol casts to, one a cast."""
    # MXNet leaves casts out of what it writes, unless told otherwise.
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]
    return [node["attrs"]["dtype"] for node in nodes if node["op"] == "amp_cast"]


@needs_bfloat16
def test_the_symbol_that_is_trained_has_casts_and_the_one_that_evaluates_has_none():
    keep = Keep()
    run = trained(MixedPrecision(), keep)
    # Data, weight and bias of each of the two layers: those that come out of a cast need no other.
    assert casts(keep.symbol).count("bfloat16") >= 5
    assert casts(run.symbol) == []
    trained(keep)
    assert casts(keep.symbol) == []


def scales(made, seen):
    """Notes the scale after every step."""
    return plugin("scales", phase=Phase.REPORT, batch_end=lambda run: seen.append(made.state_dict()["scale"]))


@needs_bfloat16
@pytest.mark.parametrize("scale", [0.25, 1.0, 1024.0])
def test_a_scale_changes_no_bit(scale):
    plain, scaled = trained(MixedPrecision()), trained(MixedPrecision(scale=scale))
    assert apart(plain, scaled) == 0
    assert [entry["train/loss"] for entry in scaled.history] == [entry["train/loss"] for entry in plain.history]
    assert scaled.history[0]["loss-scale"] == scale
    assert "loss-scale" not in plain.history[0]


@needs_bfloat16
def test_the_loss_that_is_logged_is_without_the_scale():
    losses = []
    looking = plugin(phase=Phase.REPORT, batch_end=lambda run: losses.append(run.loss))
    trained(MixedPrecision(scale=2.0**60), looking, steps=3)
    assert max(losses) < 100


@needs_bfloat16
@pytest.mark.parametrize("values", [{}, {"devices": "cpu:0,1"}])
def test_a_step_that_overflows_is_left_out_and_halves_the_scale(values):
    made, seen, moved, weights = MixedPrecision(scale=HUGE), [], [], []

    def look(run):
        now = run.copy_weights()
        moved.append(any((now[name] != weights[-1][name]).any() for name in now))
        weights.append(now)

    first = plugin("first", fit_begin=lambda run: weights.append(run.copy_weights()))
    looking = plugin("look", batch_end=look)
    run = trained(made, scales(made, seen), first, looking, task=loud(), steps=60, **{**values, **SLOW})
    # The first steps for certain, and few once the scale is small enough.
    assert moved[:3] == [False] * 3
    assert moved[-20:].count(True) > 15
    assert run.updates == sum(moved)
    left_out = np.cumsum([not does_move for does_move in moved])
    assert seen == [HUGE / 2.0**count for count in left_out]
    told = [each for each in run.decisions if each.action == "skip_update"]
    assert [each.step for each in told] == [number + 1 for number, does_move in enumerate(moved) if not does_move]
    assert {each.plugin for each in told} == {"mixed-precision"}
    assert told[0].reason == f"a gradient is not finite with the loss times {HUGE:g}"
    assert np.isfinite(list(run.metrics.values())).all()
    assert run.metrics["train/loss"] < run.history[0]["train/loss"]


@needs_bfloat16
def test_a_scale_of_1_is_not_halved():
    made, seen = MixedPrecision(scale=1.0), []
    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    type(spoiling).before = ("mixed-precision",)
    run = trained(made, spoiling, scales(made, seen), steps=5)
    assert seen == [1.0] * 5
    assert run.updates == 3


def spoil(run):
    """The gradients of the second and the fourth step."""
    if run.step in (2, 4):
        run.gradients.arrays[0][:] = np.nan


@needs_bfloat16
def test_sound_steps_in_a_row_double_the_scale():
    made, seen = MixedPrecision(scale=8.0, scale_window=3), []
    run = trained(made, scales(made, seen), steps=10)
    assert seen == [8, 8, 16, 16, 16, 32, 32, 32, 64, 64]
    assert apart(run, trained(MixedPrecision(), steps=10)) == 0
    made, seen = MixedPrecision(scale=8.0, scale_window=3), []
    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    type(spoiling).before = ("mixed-precision",)
    trained(made, spoiling, scales(made, seen), steps=10)
    # A step that is left out begins the window anew.
    assert seen == [8, 4, 4, 2, 2, 2, 4, 4, 4, 8]
    made, seen = MixedPrecision(scale=LARGEST_SCALE / 2, scale_window=1), []
    trained(made, scales(made, seen), steps=4)
    assert seen == [LARGEST_SCALE] * 4


@needs_bfloat16
@pytest.mark.parametrize("options", [{}, {"scale": 8.0, "scale_window": 3}, {"scale": HUGE}])
def test_a_resumed_run_comes_to_the_same_bits(options, tmp_path):
    made = []

    def plugins():
        made.append(MixedPrecision(**options))
        return made[-1:]

    whole, resumed = in_the_middle(tmp_path, loud, plugins, **{**STEPS, **SLOW})
    assert apart(whole, resumed) == 0
    assert resumed.metrics == whole.metrics
    assert resumed.updates == whole.updates
    assert made[0].state_dict() == made[-1].state_dict()
    if options:
        assert made[0].state_dict()["scale"] != options["scale"]


@needs_bfloat16
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_contexts_with_micro_batches_come_to_the_same_bits(scale):
    runs = [trained(MixedPrecision(scale=scale), devices=each, micro_batches=2) for each in ("cpu", "cpu:0,1")]
    assert apart(*runs) == 0
    assert runs[0].metrics == runs[1].metrics
    assert runs[0].updates == 30


@needs_bfloat16
def test_clipping_sees_gradients_without_the_scale():
    plain, scaled = (
        trained(GradientClipping(norm=0.1), MixedPrecision(scale=scale), steps=30) for scale in (None, 1024.0)
    )
    assert apart(plain, scaled) < 1e-6
    assert scaled.metrics["train/gradient-norm"] == pytest.approx(plain.metrics["train/gradient-norm"], rel=1e-5)
    assert apart(plain, trained(MixedPrecision())) > 1e-3


@needs_bfloat16
def test_accumulation_adds_up_gradients_without_the_scale_and_leaves_out_what_overflows():
    plain, scaled = (
        trained(GradientAccumulation(batches=2), MixedPrecision(scale=scale, scale_window=3)) for scale in (None, 8.0)
    )
    assert apart(plain, scaled) == 0
    assert plain.updates == scaled.updates == 15
    run = trained(GradientAccumulation(batches=2), MixedPrecision(scale=HUGE), task=loud(), steps=60, **SLOW)
    assert 0 < run.updates < 30
    assert np.isfinite(run.metrics["validation/loss"])


def test_float16_on_a_cpu_is_a_users_mistake_and_bfloat16_the_way_out():
    with pytest.raises(UsageError, match="does not compute in float16") as caught:
        trained(MixedPrecision(dtype="float16"))
    assert "--set mixed-precision.dtype=bfloat16" in str(caught.value)


@pytest.mark.skipif(HAS_BFLOAT16, reason="this processor computes in bfloat16")
def test_a_processor_without_bfloat16_is_told_to_leave_the_plugin_out():
    with pytest.raises(
        UsageError, match=r"does not compute in bfloat16.*with AVX-512 for it: leave mixed-precision out"
    ):
        trained(MixedPrecision())


@needs_bfloat16
def test_a_net_that_cannot_be_compiled_is_a_users_mistake():
    with pytest.raises(UsageError, match=r"cannot be compiled: the net .Plain. is not a HybridBlock") as caught:
        trained(MixedPrecision(), task=task(net=Plain))
    assert "mixed-precision" in str(caught.value)


def test_without_onednn_it_says_how_to_get_it(tmp_path):
    command = ["run", "logreg", "--train-rows", "60", "--epochs", "1", "--plugin", "mixed-precision", "--onednn", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "does not compute in bfloat16" in done.stderr
    assert "--onednn on" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scale": 1000}, "power of two"),
        ({"scale": 0}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"scale-window": 0}, "scale-window"),
        ({"dtype": "float8"}, "bfloat16"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        build(MixedPrecision, options, where="")

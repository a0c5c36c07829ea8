"""Mixed precision: what is computed in bfloat16 and what is not, and the scale of the loss."""

import math
from pathlib import Path

import numpy as np
import pytest
from nets import Given, Plain, apart, convolutions, dense, images, regression
from packages import trainer
from tiny import engine, plugin

from trainer import Phase, UsageError, checkpoint
from trainer._mxnet import mx
from trainer.options import build
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.gradient_clipping import GradientClipping
from trainer_plugins.mixed_precision import MixedPrecision

CPU = Path("/proc/cpuinfo")
needs_bfloat16 = pytest.mark.skipif(
    not CPU.exists() or "avx512bw" not in CPU.read_text(encoding="utf-8"),
    reason="oneDNN computes in bfloat16 on CPUs with avx512bw alone",
)
MOMENTUM = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}


def task(net=lambda: dense(16), **values):
    return Given(regression(24, **values), regression(9, seed=1, **values), make_net=net)


def trained(*plugins, task=task, **values):
    chosen = {"epochs": 100, "steps": 30, "batch_size": 6, "optimizer": MOMENTUM, **values}
    return engine(task(), *plugins, **chosen).fit()


def made(**options):
    found = build(MixedPrecision, {name.replace("_", "-"): value for name, value in options.items()}, where="")
    found.name = "mixed-precision"
    return found


@needs_bfloat16
@pytest.mark.parametrize("weighted", [False, True])
def test_it_trains_to_nearly_what_float32_trains_to(weighted):
    whole = trained(task=lambda: task(weighted=weighted), steps=200)
    half = trained(made(), task=lambda: task(weighted=weighted), steps=200)
    # bfloat16 has 8 binary digits: it is close, and it is not the same.
    assert 0 < apart(whole, half) < 0.1
    assert half.metrics["validation/loss"] == pytest.approx(whole.metrics["validation/loss"], rel=0.1)
    assert half.metrics["train/loss"] < 0.5 * half.history[0]["train/loss"]


@needs_bfloat16
def test_the_trained_symbol_has_the_casts_and_the_evaluated_one_has_not():
    symbols = []

    class Looks(MixedPrecision):
        def change_symbol(self, run, symbol):
            changed = super().change_symbol(run, symbol)
            symbols.append(changed.symbol)
            return changed

    looking = Looks()
    looking.name = "looks"
    run = trained(looking, task=lambda: Given(images(12), images(6, seed=1), make_net=convolutions), steps=3)
    names = symbols[0].get_internals().list_outputs()
    assert sum("weight_amp_cast_bfloat16" in name for name in names) == 3
    assert not any("amp_cast" in name for name in run.engine_step.symbol.get_internals().list_outputs())


@needs_bfloat16
def test_weights_gradients_losses_and_states_are_float32_and_evaluations_are_the_nets_own():
    kinds = []

    def look(run):
        kinds.extend(array.dtype for array in [*run.gradients.arrays, *run.outputs, *run.losses])

    run = trained(made(), plugin(phase=Phase.REPORT, backward_end=look))
    kinds += [value.dtype for value in run.copy_weights().values()]
    kinds += [state.dtype for state in run.engine_step.parameters.states]
    assert {np.dtype(kind) for kind in kinds} == {np.dtype(np.float32)}
    expected = run.net(mx.nd.array(run.task.validation.features)).asnumpy()
    assert run.evaluation.predictions == pytest.approx(expected, abs=1e-6)


@needs_bfloat16
def test_a_scale_that_is_a_power_of_two_changes_no_bit():
    assert apart(trained(made()), trained(made(scale=1024.0))) == 0


@needs_bfloat16
def test_an_overflow_leaves_the_step_out_and_halves_the_scale():
    seen = []

    def look(run):
        seen.append((run.step, run.updates, {name: value.copy() for name, value in run.copy_weights().items()}))

    scaling = made(scale=2.0**127)
    run = trained(scaling, plugin(phase=Phase.REPORT, batch_end=look), steps=40, batch_size=24)
    assert seen[0][1] == 0
    left_out = [each for each in run.decisions if each.plugin == "mixed-precision"]
    assert left_out
    assert all("a gradient is not finite with the loss times" in each.reason for each in left_out)
    assert all(np.isfinite(value).all() for value in run.copy_weights().values())
    assert run.updates > 20
    lost = 40 - run.updates
    assert scaling._scale == 2.0 ** (127 - lost)
    first, second = seen[0][2], seen[1][2] if seen[1][1] == 0 else seen[0][2]
    assert all((first[name] == second[name]).all() for name in first)
    assert run.history[-1]["loss-scale"] == scaling._scale


@needs_bfloat16
def test_sound_steps_double_the_scale():
    scaling = made(scale=8.0, scale_window=10)
    trained(scaling, steps=35)
    assert scaling._scale == 64.0
    # The scale reaches the step: the gradients, and so the weights, are those of no scale at all.
    assert apart(trained(made()), trained(made(scale=8.0, scale_window=10))) == 0


@needs_bfloat16
def test_its_state_goes_on_after_a_resume(tmp_path):
    def plugins():
        return [made(scale=2.0**127, scale_window=5), plugin(batch_end=lambda run: run.step == 13 and run.save("here"))]

    whole = trained(*plugins(), batch_size=24)
    chosen = {"epochs": 100, "batch_size": 24, "optimizer": MOMENTUM}
    engine(task(), *plugins(), folder=tmp_path, steps=15, **chosen).fit()
    saved = checkpoint.complete(tmp_path)[0]
    assert saved.step == 13
    resumed = engine(task(), *plugins(), resume_from=saved, steps=30, **chosen).fit()
    assert apart(whole, resumed) == 0


@needs_bfloat16
@pytest.mark.parametrize("scale", [None, 256.0])
def test_clipping_and_accumulation_see_gradients_without_the_scale(scale):
    def run(**options):
        return trained(GradientAccumulation(batches=2), GradientClipping(norm=0.1), made(**options))

    assert apart(run(), run(scale=scale)) == 0


@needs_bfloat16
@pytest.mark.parametrize("scale", [None, 256.0])
def test_two_contexts_come_to_the_bits_of_one(scale):
    one, two = (trained(made(scale=scale), micro_batches=2, devices=devices) for devices in ("cpu", "cpu:0,1"))
    assert apart(one, two) == 0


def test_float16_on_a_cpu_is_an_error_that_names_bfloat16():
    with pytest.raises(UsageError, match=r"cpu\(0\) does not compute in float16.*mixed-precision\.dtype=bfloat16"):
        trained(made(dtype="float16"))


def test_bfloat16_without_onednn_is_an_error_that_names_it(tmp_path):
    done = trainer("run", "logreg", "--plugin", "mixed-precision", "--onednn", "off", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not compute in bfloat16" in done.stderr
    assert "--onednn on" in done.stderr
    assert "Traceback" not in done.stderr


@needs_bfloat16
def test_a_net_that_cannot_be_compiled_is_an_error():
    with pytest.raises(UsageError, match=r"plugin 'mixed-precision': it changes how a net is computed"):
        trained(made(), task=lambda: task(net=Plain))


@pytest.mark.parametrize("scale", [3.0, 0.0, -2.0, math.inf])
def test_a_scale_that_would_change_digits_is_refused(scale):
    with pytest.raises(UsageError, match="scale"):
        made(scale=scale)

"""What is changed on Gluon's parameters while a run trains is obeyed as `gluon.Trainer` obeys it."""

import numpy as np
import pytest
from nets import dense
from tiny import Tiny, engine, plugin

from trainer import Phase, Plugin, UsageError
from trainer.mxnet import autograd, gluon, mx
from trainer.testing import plugin_checks
from trainer_plugins.weight_averaging import WeightAveraging

STEPS = 12
OPTIMIZERS = {
    "sgd": {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01},
    "adam": {"learning_rate": 0.02, "wd": 0.01},
    "nag": {"learning_rate": 0.05, "momentum": 0.9},
}


def net():
    made = gluon.nn.HybridSequential()
    made.add(gluon.nn.Dense(4, activation="tanh"), gluon.nn.Dense(1))
    return made


def first(net):
    """Weight and bias of the first layer: MXNet's gradient of a bias is wrong if its weight has none."""
    return list(net.collect_params().values())[:2]


def biases(net):
    return [each for each in net.collect_params().values() if each.name.endswith("bias")]


def setting(attribute, value, of=biases):
    def change(net):
        for parameter in of(net):
            setattr(parameter, attribute, value)

    return change


def every(attribute, value):
    return lambda net: net.collect_params().setattr(attribute, value)


CHANGES = {
    "a layer is frozen": {4: setting("grad_req", "null", first)},
    "biases are frozen and thawed": {3: setting("grad_req", "null"), 8: setting("grad_req", "write")},
    "everything is frozen and thawed": {3: every("grad_req", "null"), 6: every("grad_req", "write")},
    "biases learn faster": {1: setting("lr_mult", 3.0), 7: setting("lr_mult", 0.5)},
    "biases no longer decay": {5: setting("wd_mult", 0.0)},
    "everything learns slower": {5: every("lr_mult", 0.1)},
    "one is frozen, another learns faster": {
        2: setting("grad_req", "null", first),
        5: setting("lr_mult", 2.0),
        9: setting("grad_req", "write", first),
    },
    "new weights": {1: lambda net: net.initialize(mx.init.Constant(0.1), force_reinit=True)},
    "new weights in between": {6: lambda net: net.initialize(mx.init.Constant(-0.2), force_reinit=True)},
}


def trained(changes, optimizer, *plugins, event="batch_begin", build=net, compiled=True, steps=STEPS, **values):
    def apply(run):
        if run.step in changes:
            changes[run.step](run.net)

    changing = plugin("changing", phase=Phase.TRANSFORM, **{event: apply})
    arguments = {"name": optimizer, **OPTIMIZERS[optimizer]}
    arguments["weight_decay"] = arguments.pop("wd", 0.0)
    made = engine(
        Tiny(train_rows=10, make_net=build),
        changing,
        *plugins,
        batch_size=4,
        epochs=4,
        steps=steps,
        optimizer=arguments,
        compiled=compiled,
        **values,
    )
    start = made.run.copy_weights()
    return made.fit(), start


def by_gluon(run, start, changes, optimizer, build=net, steps=STEPS):
    """The weights that Gluon's own loop arrives at."""
    made = build()
    made.initialize()
    made(mx.nd.zeros((1, 3)))
    for name, parameter in made._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(start[name]))
    trainer = gluon.Trainer(made.collect_params(), optimizer, dict(OPTIMIZERS[optimizer]), kvstore=None)
    loss, step = gluon.loss.SigmoidBinaryCrossEntropyLoss(), 0
    for epoch in range(1, 5):
        for batch in run.train.epoch(epoch):
            step += 1
            if step > steps:
                break
            changes.get(step, lambda net: None)(made)
            made.collect_params().zero_grad()  # the engine never adds to the gradients of an earlier batch
            with autograd.record():
                value = loss(made(batch.data), batch.label)
            if any(parameter.grad_req != "null" for parameter in made.collect_params().values()):
                value.backward()
            trainer.step(batch.rows, ignore_stale_grad=True)
    return {name: each.data().asnumpy() for name, each in made._collect_params_with_prefix().items()}


def same(run, expected):
    found = run.copy_weights()
    return all(np.allclose(found[name], value, atol=2e-6) for name, value in expected.items())


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_obeyed_as_gluons_trainer_does(name, optimizer, compiled):
    run, start = trained(CHANGES[name], optimizer, compiled=compiled)
    assert run.step_kind == ("compiled" if compiled else "recorded")
    assert same(run, by_gluon(run, start, CHANGES[name], optimizer))


@pytest.mark.parametrize("values", [{"devices": "cpu:0,1"}, {"micro_batches": 2}], ids=["contexts", "micro-batches"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reaches_every_part_of_a_batch(name, values):
    run, _ = trained(CHANGES[name], "adam", **values)
    assert same(run, trained(CHANGES[name], "adam")[0].copy_weights())
    for parameter in run.net.collect_params().values():
        one, *others = (each.asnumpy() for each in parameter.list_data())
        assert all((one == other).all() for other in others)


def frozen():
    made = net()
    setting("grad_req", "null", first)(made)
    return made


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("values", [{}, {"devices": "cpu:0,1"}, {"micro_batches": 2}], ids=str)
def test_a_parameter_that_was_frozen_when_the_run_was_built_is_trained_once_it_is_thawed(compiled, values):
    changes = {5: setting("grad_req", "write", first)}
    average = WeightAveraging()
    average.name = "weight-averaging"
    average.keep = False
    run, start = trained(changes, "adam", average, build=frozen, compiled=compiled, **values)
    if not values:
        assert same(run, by_gluon(run, start, changes, "adam", build=frozen))
    else:
        assert same(run, trained(changes, "adam", build=frozen)[0].copy_weights())
    assert (run.copy_weights()["0.weight"] != start["0.weight"]).any()


@pytest.mark.parametrize("event", ["backward_end", "batch_begin"])
def test_a_frozen_parameter_has_no_gradient_and_no_part_in_the_norm(event):
    norms = []
    seen = plugin("norms", phase=Phase.REPORT, backward_end=lambda run: norms.append(run.gradients.norm()))
    run, _ = trained({5: every("grad_req", "null")}, "sgd", seen, event="batch_begin")
    assert all(norm > 0 for norm in norms[:4])
    assert norms[4:] == [0.0] * (STEPS - 4)
    assert list(run.named_gradients()) == []
    before, _ = trained({}, "sgd", steps=4)
    assert all((value == before.copy_weights()[name]).all() for name, value in run.copy_weights().items())


def test_a_change_between_gradient_and_update_counts_for_this_update():
    changes = {4: every("grad_req", "null")}
    run, _ = trained(changes, "sgd", event="backward_end", steps=4)
    before, _ = trained({}, "sgd", steps=3)
    assert all((value == before.copy_weights()[name]).all() for name, value in run.copy_weights().items())


def test_weights_drawn_anew_before_training_are_those_that_train():
    fresh = plugin("fresh", fit_begin=lambda run: run.net.initialize(mx.init.Constant(0.25), force_reinit=True))
    seen = []
    look = plugin("look", epoch_begin=lambda run: seen.append(run.copy_weights()))
    run = engine(Tiny(make_net=net), fresh, look, epochs=1).fit()
    assert all((value == 0.25).all() for name, value in seen[0].items() if name.endswith("weight"))
    assert all((value != seen[0][name]).any() for name, value in run.copy_weights().items())


def test_another_type_in_mid_training_is_refused():
    casting = plugin("cast", epoch_begin=lambda run: run.net.cast("float64"))
    with pytest.raises(UsageError, match=r"the parameter weight was .1, 3. float32 when the step was built, and is"):
        engine(Tiny(), casting).fit()


NAN, INF = float("nan"), float("inf")
NEW_LAYER = lambda run: run.net.add(gluon.nn.Dense(1))  # noqa: E731
REFUSED = {
    "a new layer": (NEW_LAYER, r"the net: it has a new Dense '2', and what is trained is fixed"),
    "a layer less": (lambda run: run.net._children.pop("1"), r"it no longer has its Dense '1'"),
    "another layer": (lambda run: run.net.register_child(gluon.nn.Dense(1), "1"), r"it has another Dense '1'"),
    "another parameter": (
        lambda run: run.net[0]._reg_params.update(weight=gluon.Parameter("weight", shape=(4, 3))),
        r"it has another Parameter 'weight'",
    ),
    "gradients that add up": (
        lambda run: every("grad_req", "add")(run.net),
        r'grad_req is "add", but .*run.skip_update',
    ),
    "lr_mult": (
        lambda run: every("lr_mult", NAN)(run.net),
        r"the parameter 0.weight: its lr_mult is nan, not a finite",
    ),
    "wd_mult": (lambda run: setting("wd_mult", "0", first)(run.net), r"its wd_mult is '0', not a finite number"),
    "the rate": (lambda run: run.optimizer.set_learning_rate(INF), r"run.optimizer: learning_rate is inf"),
    "weight decay": (lambda run: setattr(run.optimizer, "wd", None), r"wd is None, not a finite number"),
    "clipping": (lambda run: setattr(run.optimizer, "clip_gradient", "1"), r"clip_gradient is '1', not a finite"),
    "momentum": (lambda run: setattr(run.optimizer, "momentum", 0.9), r"the run began without, .*no state for it"),
    "the scale": (lambda run: setattr(run.optimizer, "rescale_grad", 0.1), r"Set run.gradients.factor"),
    "multipliers": (lambda run: run.optimizer.set_lr_mult({0: 0.1}), r"Set lr_mult or wd_mult of the net's parameters"),
}


@pytest.mark.parametrize("event", ["batch_begin", "epoch_begin"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_step_cannot_obey_is_refused_and_names_the_plugin(name, event):
    change, message = REFUSED[name]
    other = plugin("other", epoch_end=lambda run: None)
    hooks = {event: lambda run: change(run) if run.epoch == 2 else None}
    made = engine(Tiny(make_net=net), plugin("culprit", **hooks), other)
    with pytest.raises(UsageError, match=r"plugin 'culprit'[^:]*: .*" + message):
        made.fit()
    assert made.run.status == "failed"


def test_a_change_that_one_of_several_plugins_has_made_names_them():
    changing = plugin("culprit", batch_end=lambda run: NEW_LAYER(run) if run.step == 2 else None)
    other = plugin("other", batch_begin=lambda run: None)
    third = plugin("third", epoch_end=lambda run: None)
    for compiled in (True, False):
        with pytest.raises(UsageError, match=r"one of the plugins 'culprit', 'other', up to step 2: the net: it has a"):
            engine(Tiny(make_net=net), changing, other, third, steps=2, compiled=compiled).fit()


def test_gradients_that_would_add_up_are_refused_before_training():
    def adding():
        made = net()
        every("grad_req", "add")(made)
        return made

    with pytest.raises(UsageError, match=r'the parameter 0.weight: its grad_req is "add".*Leave it at "write"'):
        engine(Tiny(make_net=adding))


def test_numbers_of_the_optimizer_are_obeyed_from_the_next_update_on():
    def change(run):
        if run.step == 2:
            run.optimizer.wd, run.optimizer.momentum, run.optimizer.clip_gradient = 0.2, 0.5, 0.01

    values = {"optimizer": {"momentum": 0.9}, "steps": 1}
    runs = [
        engine(Tiny(), plugin(batch_begin=change, phase=Phase.TRANSFORM), **{**values, "steps": 2}).fit(),
        engine(Tiny(), **{**values, "steps": 2}).fit(),
    ]
    before = engine(Tiny(), **values).fit()
    held = before.optimizer_states[0].asnumpy()
    weight = np.concatenate([each.ravel() for each in before.copy_weights().values()])
    mine, usual = (np.concatenate([each.ravel() for each in run.copy_weights().values()]) for run in runs)
    # The usual step gives the gradient: w' = w + 0.9 m - 0.1 g.
    gradient = (weight + 0.9 * held - usual) / 0.1
    expected = weight + 0.5 * held - 0.1 * (np.clip(gradient, -0.01, 0.01) + 0.2 * weight)
    np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_gradients_that_are_replaced_are_those_of_the_update():
    def halve(run):
        run.gradients.arrays = [array * 0.5 for array in run.gradients.arrays]

    def halve_in_place(run):
        run.gradients.arrays[0] *= 0.5

    for compiled in (True, False):
        results = [
            engine(Tiny(), plugin(backward_end=change, phase=Phase.TRANSFORM), compiled=compiled).fit().copy_weights()
            for change in (halve, halve_in_place, lambda run: setattr(run.gradients, "factor", 0.5))
            if compiled or change is not halve_in_place
        ]
        for other in results[1:]:
            assert all(np.allclose(value, other[name], atol=1e-6) for name, value in results[0].items())
    for wrong in ([], [mx.nd.zeros(1)]):
        with pytest.raises(UsageError, match=r"run.gradients: its arrays of shapes .* were replaced"):
            engine(Tiny(), plugin(backward_end=lambda run, w=wrong: setattr(run.gradients, "arrays", w))).fit()
    with pytest.raises(UsageError, match=r"run.gradients: its factor is '2', not a number"):
        engine(Tiny(), plugin(backward_end=lambda run: setattr(run.gradients, "factor", "2"))).fit()


class Thaws(Plugin):
    """Changes at steps that a resumed run does not see again."""

    phase = Phase.TRANSFORM

    def on_batch_begin(self, run):
        if run.step == 2:
            setting("grad_req", "null", first)(run.net)
            setting("lr_mult", 2.0)(run.net)
        if run.step == 5:
            setting("grad_req", "write", first)(run.net)


class Late(Plugin):
    """Trains a layer that was frozen when the run was built."""

    phase = Phase.TRANSFORM

    def on_batch_begin(self, run):
        if run.step == 2:
            setting("grad_req", "write", first)(run.net)


@pytest.mark.parametrize(("make", "build"), [(Thaws, lambda: dense(4)), (Late, frozen)])
def test_a_resumed_run_has_the_changes(make, build):
    for check in plugin_checks(make, task=lambda: Tiny(train_rows=21, validation_rows=3, make_net=build)):
        if "resumed" in check.name or "several" in check.name:
            check()

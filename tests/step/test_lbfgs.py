"""--solver lbfgs: an epoch is an iteration over all rows, it ends by itself, and it can be resumed."""

import gc
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Recorder, Tiny, engine, rows, weights

from trainer import Engine, Phase, Plugin, UsageError, fit, resume
from trainer.config.settings import Settings
from trainer.errors import ChangeError
from trainer.mxnet import gluon, mx
from trainer.processes import Processes
from trainer.runs import state
from trainer.step.iterations import Iterations
from trainer.step.objective import Objective
from trainer.step.symbol import trace

OVERLAPPING = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0], np.float32)


class Overlapping(Tiny):
    """Twelve rows that no line separates, with features on different scales."""

    def splits(self, run):
        splits = super().splits(run)
        features = rows(12, seed=5).features * np.array([1, 5, 0.2], np.float32)
        object.__setattr__(splits, "train", type(splits.train)(features, OVERLAPPING))
        return splits


def solved(*plugins, task=None, **values):
    values = {"epochs": 60, "solver": "lbfgs", **values}
    return engine(task or Overlapping(), *plugins, **values)


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_it_ends_by_itself_at_the_optimum():
    run = solved().fit()
    assert run.status == "stopped"
    assert run.reason.startswith(f"lbfgs has converged after {run.epoch} iterations")
    assert run.step == run.updates == run.epoch < 60
    losses = [entry["train/loss"] for entry in run.history]
    assert losses == sorted(losses, reverse=True)
    features = rows(12, seed=5).features * np.array([1, 5, 0.2])
    weight, bias = weights(run)
    errors = 1 / (1 + np.exp(-(features @ weight[0] + bias[0]))) - OVERLAPPING
    np.testing.assert_allclose([errors.mean(), *(errors @ features / 12)], 0, atol=1e-6)


def test_an_epoch_has_the_usual_events_with_one_batch():
    recorder = Recorder()
    run = solved(recorder, epochs=2).fit()
    events = [
        event
        for event in recorder.events
        if event in ("epoch_begin", "batch_begin", "backward_end", "batch_end", "epoch_end")
    ]
    assert events == ["epoch_begin", "batch_begin", "backward_end", "batch_end", "epoch_end"] * 2
    assert run.epoch_rows == 12
    assert run.metrics["validation/loss"]


def test_it_says_that_it_has_not_converged(caplog):
    solved(epochs=2).fit()
    assert "lbfgs has not converged in 2 epochs. Give it more with --epochs." in caplog.text
    caplog.clear()
    solved().fit()
    assert "not converged" not in caplog.text


def test_gradients_losses_and_outputs_are_those_of_all_rows():
    seen = {}

    class Reads(Plugin):
        def on_batch_end(self, run):
            if run.epoch == 1:
                seen.update(loss=run.loss, losses=run.losses[0].asnumpy(), outputs=run.outputs[0].asnumpy())
                seen.update({name: each.asnumpy() for name, each in run.named_gradients()}, rows=run.gradients.rows)

    solved(Reads(), epochs=1).fit()
    other = {}

    class Same(Plugin):
        def on_batch_end(self, run):
            other.update({name: each.asnumpy() for name, each in run.named_gradients()})
            other.update(loss=run.loss, outputs=run.outputs[0].asnumpy())

    engine(Overlapping(), Same(), epochs=1, batch_size=12).fit()
    assert seen["rows"] == len(seen["losses"]) == 12
    assert seen["loss"] == pytest.approx(seen["losses"].mean()) == pytest.approx(other["loss"])
    # The optimizer's batch is shuffled.
    np.testing.assert_allclose(np.sort(seen["outputs"], axis=None), np.sort(other["outputs"], axis=None), rtol=1e-5)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(seen[name], other[name], rtol=1e-4, atol=1e-5)


def test_hidden_layers_are_trained_too():
    def deep():
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Dense(4, activation="tanh"), gluon.nn.Dense(1))
        return net

    run = solved(task=Overlapping(make_net=deep), epochs=25, optimizer={"weight_decay": 1e-3}).fit()
    assert run.history[-1]["train/loss"] < 0.5 * run.history[0]["train/loss"]


def test_frozen_parameters_stay():
    def frozen():
        net = gluon.nn.Dense(1, in_units=3, bias_initializer=mx.init.Constant(0.25))
        net.bias.grad_req = "null"
        return net

    run = solved(task=Overlapping(make_net=frozen)).fit()
    assert "has converged" in run.reason
    np.testing.assert_array_equal(weights(run)[1], np.float32([0.25]))


# ---- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 4])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, at):
    whole = solved(folder=None)
    whole.fit()
    first = fit(Overlapping(), solver="lbfgs", epochs=at, seed=7, runs_dir=tmp_path, name="one", plugins=["checkpoint"])
    again = resume(first.folder, epochs=60, task=Overlapping())
    assert again.reason == whole.run.reason
    assert again.epoch == whole.run.epoch > at
    for ours, theirs in zip(weights(again), weights(whole.run), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [entry["train/loss"] for entry in again.history] == [entry["train/loss"] for entry in whole.run.history]


def test_a_converged_run_stays_so_when_it_is_resumed(tmp_path):
    first = fit(Overlapping(), solver="lbfgs", seed=7, runs_dir=tmp_path, name="one", plugins=["checkpoint"])
    before = [each.copy() for each in weights(first)]
    again = resume(first.folder, epochs=2000, task=Overlapping())
    assert again.reason == first.reason
    for ours, theirs in zip(weights(again), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_with_other_rows_it_starts_anew_at_the_weights_reached(caplog):
    first = solved(epochs=4)
    first.fit()
    second = solved(epochs=60)
    saved = state.capture(first.run, first.state)
    state.restore(second.run, second.state, saved)
    second.run.train._host[0][:] *= 1.5
    run = second.fit()
    assert "lead to other weights" in caplog.text
    assert "has converged" in run.reason


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"batch_size": 4}, "batch_size"),
        ({"micro_batches": 2}, "micro_batches"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"optimizer": {"name": "sgd", "momentum": 0.9}}, "optimizer"),
    ],
)
def test_options_of_optimizers_are_refused_by_name(values, where):
    with pytest.raises(UsageError, match="means nothing with --solver lbfgs") as caught:
        fit(Tiny(), solver="lbfgs", runs_dir=None, **values)
    assert where in caught.value.where.replace("-", "_")


def test_its_configuration_can_be_used_again(tmp_path):
    first = fit(Overlapping(), solver="lbfgs", weight_decay=0.01, seed=7, runs_dir=tmp_path, name="one")
    config = (first.folder / "config.toml").read_text()
    assert "batch-size" not in config
    assert "learning-rate" not in config
    again = fit(Overlapping(), config=first.folder / "config.toml", runs_dir=None)
    for ours, theirs in zip(weights(again), weights(first), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Changes(Plugin):
    phase = Phase.TRANSFORM


class Declares(Plugin):
    alters = ("objective",)


class Mistaken(Plugin):
    alters = ("step",)


class Harmless(Plugin):
    phase = Phase.TRANSFORM
    alters = ()


def test_plugins_say_whether_they_can_be_used():
    with pytest.raises(UsageError, match="changes what is minimized and the optimizer's steps, which lbfgs does not"):
        solved(Changes())
    with pytest.raises(UsageError, match="changes what is minimized, which"):
        solved(Declares())
    with pytest.raises(UsageError, match=r"its alters is \('step',\)"):
        engine(Tiny(), Mistaken())
    assert "has converged" in solved(Harmless()).fit().reason


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda run: run.gradients.arrays[0].__imul__(2), "they were changed"),
        (lambda run: setattr(run.gradients, "factor", 0.5), "they were changed"),
        (lambda run: run.net.weight.data().__imul__(2), "weight was changed"),
        (lambda run: setattr(run.optimizer, "wd", 0.5), "weight decay was changed"),
        (lambda run: setattr(run, "learning_rate", 0.5), "it|lbfgs has none"),
    ],
    ids=["gradients", "factor", "weights", "decay", "rate"],
)
def test_undeclared_changes_are_noticed(change, what):
    class Meddles(Plugin):
        def on_backward_end(self, run):
            if run.epoch == 2:
                change(run)

    with pytest.raises(ChangeError, match=what):
        solved(Meddles()).fit()


def dropping():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dropout(0.5), gluon.nn.Dense(1))
    return net


def normalising():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.BatchNorm(), gluon.nn.Dense(1))
    return net


@pytest.mark.parametrize(
    ("task", "values", "what"),
    [
        (Tiny(make_net=dropping), {}, "draws random numbers"),
        (Tiny(make_net=normalising), {}, "statistics over its rows"),
        (Tiny(make_loss=gluon.loss.L1Loss), {}, "the gradient of L1Loss jumps"),
        (Tiny(make_loss=lambda: lambda outputs, labels: (outputs[:, 0] - labels) ** 2), {}, "can be traced"),
        (Tiny(), {"devices": "cpu:0,1"}, "not on 2 devices"),
    ],
    ids=["dropout", "batchnorm", "l1", "function", "devices"],
)
def test_what_has_no_one_smooth_loss_is_refused(task, values, what):
    with pytest.raises(UsageError, match=what):
        solved(task=task, **values)


def test_rows_that_come_in_batches_are_refused():
    class Loads(Tiny):
        def splits(self, run):
            splits = super().splits(run)
            data = gluon.data.ArrayDataset(splits.train.features, splits.train.labels)
            return type(splits)(gluon.data.DataLoader(data, batch_size=2))

    with pytest.raises(UsageError, match="needs all training rows in memory, and the task gives a DataLoader"):
        solved(task=Loads())


def test_several_processes_are_refused():
    class Two(Processes):
        size = 2

        def compare(self, values, what):
            pass

    values = Settings.checked({"epochs": 1, "batch-size": 1, "seed": 0, "solver": "lbfgs"})
    with pytest.raises(UsageError, match="not on 2 processes"):
        Engine(Tiny(), values, processes=Two())


# ---- its parts -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.booleans(), st.integers(0, 50))
def test_the_objective_is_the_same_however_it_is_divided(part, weighted, seed):
    net, data = gluon.nn.Dense(1, in_units=3), rows(9, seed=seed, weighted=weighted)
    net.initialize(mx.init.Zero())  # where Gluon's own derivative is wrong
    from trainer.data.arrays import ArrayBatches

    batches = ArrayBatches(data, batch_size=9, contexts=[mx.cpu()], seed=0, shuffle=False)
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    graph = trace(net, loss, sample=batches.sample(), weighted=weighted)
    named = {each.name: each for each in net.collect_params().values()}
    (shard,) = next(batches.epoch(1)).shards
    objective = Objective(graph, loss, shard, trained=named, decays=[0.1, 0.0], fixed={})
    objective._rows = part
    for point in (np.zeros(4), np.random.default_rng(seed).normal(size=4)):
        value, gradient = objective(point)
        logits = data.features.astype(np.float64) @ point[:3] + point[3]
        counted = np.ones(9) if data.weights is None else data.weights[:, 0].astype(np.float64)
        errors = (1 / (1 + np.exp(-logits)) - data.labels) * counted
        expected = np.append(errors @ data.features.astype(np.float64) / 9 + 0.1 * point[:3], errors.mean())
        np.testing.assert_allclose(gradient, expected, atol=1e-12)
        losses = (np.logaddexp(0, logits) - logits * data.labels) * counted
        assert value == pytest.approx(losses.mean() + 0.05 * (point[:3] ** 2).sum(), rel=1e-12)


def test_iterations_are_made_one_by_one_and_leave_no_thread():
    calls = []

    def bowl(point):
        calls.append(point)
        return float((point - [1, 2]) ** 2 @ [1, 50]), 2 * (point - [1, 2]) * [1, 50]

    iterations = Iterations(np.zeros(2), bowl)
    assert calls == []
    points = []
    while (point := iterations.advance()) is not None:
        points.append(point)
    np.testing.assert_allclose(points[-1], [1, 2], atol=1e-6)
    assert iterations.has_converged
    left = Iterations(np.zeros(2), bowl)
    left.advance()
    thread = left._thread
    del left
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_scipys_optimizers_are_loaded_by_runs_that_use_them():
    code = "import trainer.engine, trainer.step.lbfgs, sys; sys.exit('scipy.optimize' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_error_of_the_function_reaches_the_caller():
    def fails(point):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Iterations(np.zeros(1), fails).advance()


def test_losses_that_are_not_finite_end_the_run():
    task = Overlapping(make_net=lambda: gluon.nn.Dense(1, in_units=3, weight_initializer=mx.init.Constant(np.inf)))
    run = solved(task=task, epochs=5).fit()
    assert run.epoch == 1
    assert "the loss is nan after 0 iterations" in run.reason

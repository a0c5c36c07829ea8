"""weight-averaging: what is averaged, where the average is used, and that training does not notice."""

import numpy as np
import pytest
from nets import Given, dense, regression
from tiny import Tiny, engine, plugin, weights

from trainer import Phase, PluginError
from trainer.catalog.registry import create_plugin


def made(**options):
    return create_plugin(
        "weight-averaging", {key.replace("_", "-"): value for key, value in options.items()}, where="here"
    )


def task(norm=False):
    return Given(regression(23), regression(9, seed=1), make_net=lambda: dense(4, norm=norm))


class Watching:
    """The weights behind every update, in the order of the net."""

    def __init__(self):
        self.seen, self.evaluated = [], []
        self.plugin = plugin(
            "watch",
            phase=Phase.REPORT,
            batch_end=lambda run: self.seen.append(weights(run)),
            evaluate_end=lambda run: self.evaluated.append(weights(run)),
        )


def trained(*plugins, net=task, **values):
    watching = Watching()
    run = engine(net(), *plugins, watching.plugin, **{"epochs": 3, "batch_size": 5, **values}).fit()
    return run, watching


def apart(first, second):
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


def mean(seen):
    return [np.mean(parts, axis=0) for parts in zip(*seen, strict=True)]


def exponential(seen, decay):
    average = [part.astype(np.float64) for part in seen[0]]
    for number, now in enumerate(seen[1:], start=2):
        share = 1 - min(decay, (1 + number) / (10 + number))
        average = [old + share * (new - old) for old, new in zip(average, now, strict=True)]
    return average


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_exponential_average_is_that_of_the_formula(decay, compiled):
    run, watching = trained(made(decay=decay), compiled=compiled)
    assert apart(weights(run), exponential(watching.seen, decay)) < 1e-6


def test_the_stochastic_average_is_the_mean_over_the_ends_of_epochs():
    run, watching = trained(made(kind="stochastic"))
    assert apart(weights(run), mean(watching.seen[4::5])) < 1e-6


def test_it_counts_from_an_epoch_on():
    run, watching = trained(made(kind="stochastic", start_from_epoch=2))
    assert apart(weights(run), mean(watching.seen[9::5])) < 1e-6


def test_it_counts_every_so_many_updates():
    run, watching = trained(made(kind="stochastic", every=4))
    assert apart(weights(run), mean(watching.seen[3::4])) < 1e-6


def test_updates_are_counted_not_batches():
    accumulating = create_plugin("gradient-accumulation", {"batches": 2}, where="here")
    run, watching = trained(accumulating, made(kind="stochastic", every=1))
    moved = [now for now, before in zip(watching.seen[1:], watching.seen, strict=False) if apart(now, before) > 0]
    assert apart(weights(run), mean(moved)) < 1e-6


def test_running_statistics_are_averaged_too():
    run, watching = trained(made(kind="stochastic"), net=lambda: task(norm=True))
    assert apart(weights(run), mean(watching.seen[4::5])) < 1e-5


def test_training_does_not_notice():
    _, quiet = trained()
    _, watching = trained(made(decay=0.5))
    assert apart(quiet.seen[-1], watching.seen[-1]) == 0


def test_evaluations_use_the_average():
    _, watching = trained(made(decay=0.5))
    assert apart(watching.evaluated[-1], exponential(watching.seen, 0.5)) < 1e-6


@pytest.mark.parametrize("keep", [True, False])
def test_both_uses_can_be_left_out(keep):
    run, watching = trained(made(decay=0.5, evaluate=False, keep=keep))
    assert apart(watching.evaluated[-1], watching.seen[-1]) == 0
    assert (apart(weights(run), watching.seen[-1]) == 0) is not keep


def test_the_test_split_is_judged_once_with_the_average():
    def net():
        return Tiny(train_rows=8, validation_rows=6, test_rows=30)

    kept, _ = trained(made(decay=0.5), net=net)
    left, _ = trained(made(decay=0.5, keep=False), net=net)
    without, _ = trained(net=net)
    assert kept.metrics["test/loss"] == left.metrics["test/loss"] != without.metrics["test/loss"]


def test_several_contexts_average_as_one():
    one, _ = trained(made(decay=0.5))
    several, _ = trained(made(decay=0.5), devices="cpu:0,1,2")
    assert apart(weights(one), weights(several)) < 1e-6
    for context in several.contexts:
        parameters = several.net.collect_params().values()
        assert apart([p.data(context).asnumpy() for p in parameters], weights(several)) == 0


def test_the_best_weights_of_early_stopping_are_those_of_the_average():
    stopping = create_plugin("early-stopping", {"restore-best": True, "patience": 99}, where="here")
    run, watching = trained(made(decay=0.9), stopping, epochs=6, optimizer={"learning_rate": 0.3})
    losses = [entry["validation/loss"] for entry in run.history]
    assert apart(weights(run), watching.evaluated[int(np.argmin(losses))]) == 0


def test_an_error_in_an_evaluation_leaves_the_weights_of_training():
    def fail(run):
        raise ValueError("broken")

    watching = Watching()
    made_engine = engine(task(), made(decay=0.5), watching.plugin, plugin("fail", evaluate_end=fail), batch_size=5)
    with pytest.raises(PluginError, match="broken"):
        made_engine.fit()
    assert apart(weights(made_engine.run), watching.seen[-1]) == 0

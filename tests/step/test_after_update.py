"""`Run.after_update`: what it hands over, when it is called, and who is charged and blamed."""

import pytest
from nets import Given, dense, regression
from tiny import engine, plugin

from trainer import Phase, PluginError


def trained(*plugins, **values):
    given = Given(regression(24), make_net=lambda: dense(4))
    return engine(given, *plugins, **{"batch_size": 6, "epochs": 2, **values}).fit()


def test_it_is_called_at_the_end_of_every_update_and_charged_to_the_plugin():
    seen = []

    def look(weights):
        seen.append([(each.name, each.updates, round(each.learning_rate, 6)) for each in weights])

    skipping = plugin("skip", backward_end=lambda run: run.skip_update("no") if run.step == 2 else None)
    run = trained(plugin("look", setup=lambda run: run.after_update(look)), skipping, optimizer={"learning_rate": 0.25})
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert seen == [[(name, count, 0.25) for name in names] for count in range(1, 8)]
    charged = next(row for row in run.ledger() if row["event"] == "update")
    assert (charged["plugin"], charged["calls"]) == ("look", 7)


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_weights_and_states_are_those_of_the_optimizer(name):
    """One buffer for all, and after a change of multipliers each for itself; lamb has no buffer."""
    handed = []

    def double(run):
        if run.step == 4:
            run.net[0].weight.lr_mult = 2.0

    run = trained(
        plugin("look", setup=lambda run: run.after_update(handed.append)),
        plugin("double", phase=Phase.TRANSFORM, batch_begin=double),
        optimizer={"name": name, "learning_rate": 0.01},
    )
    assert handed[0] is handed[2]
    assert handed[0] is not handed[3]
    assert handed[3] is handed[-1]
    final = run.copy_weights()
    for weights in (handed[0], handed[-1]):
        assert [each.name for each in weights] == list(final)
        for each in weights:
            assert (each.array.asnumpy().ravel() == final[each.name].ravel()).all()
            assert all(state.shape == each.array.shape for state in each.state or ())
    assert {each.updates for each in handed[-1]} == {8}
    assert [each.learning_rate for each in handed[-1]] == [0.02, 0.01, 0.01, 0.01]


def test_an_error_names_the_plugin_and_one_that_only_watches_is_switched_off():
    calls = []

    def fail(weights):
        calls.append(1)
        raise ValueError("broken")

    with pytest.raises(PluginError, match="plugin 'bad' in an update at epoch 1, step 1 raised ValueError: broken"):
        trained(plugin("bad", setup=lambda run: run.after_update(fail)))
    calls.clear()
    run = trained(plugin("bad", setup=lambda run: run.after_update(fail), on_error="disable"))
    assert (run.status, len(calls)) == ("finished", 1)

"""The first number that is not finite stops the run, and is named."""

import json

import numpy as np
import pytest
from nets import dense
from tiny import Tiny, engine, plugin, rows

from trainer import Phase, Splits
from trainer_plugins.stop_on_non_finite import StopOnNonFinite


class Spoilt(Tiny):
    """Row 5 has an input, or a label, that is not finite: it turns so once the rows have been checked."""

    where = "features"
    value = np.nan

    def splits(self, run):
        self.rows = rows(8)
        return Splits(self.rows)

    def spoil(self):
        getattr(self.rows, self.where)[5] = self.value


def stopped(task, *plugins, folder=None, **options):
    guard = StopOnNonFinite(**options)
    guard.name = "stop-on-non-finite"
    made = engine(task, guard, *plugins, folder=folder, batch_size=2, epochs=3)
    if hasattr(task, "spoil"):
        task.spoil()  # the engine's arrays share their memory
    return made.fit()


@pytest.mark.parametrize(("where", "kind"), [("features", "input"), ("labels", "label")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_are_not_finite_are_named_with_their_rows(tmp_path, where, kind, value):
    task = Spoilt()
    task.where, task.value = where, value
    run = stopped(task, folder=tmp_path / "run")
    assert run.status == "stopped"
    assert run.reason == f"the {kind} is not finite at epoch 1, step {run.step}"
    record = json.loads((tmp_path / "run" / "non-finite.json").read_text())
    assert (record["kind"], record["step"], record["rows_not_finite"]) == (kind, run.step, [5])
    assert 5 in record["rows"]
    assert len(record["rows"]) == 2


def test_the_weights_stay_as_they_were_before_the_broken_batch():
    kept = []
    looking = plugin("look", phase=Phase.TRANSFORM, batch_begin=lambda run: kept.append(run.copy_weights()))
    run = stopped(Spoilt(), looking)
    assert all((value == kept[-1][name]).all() for name, value in run.copy_weights().items())
    assert run.updates == run.step - 1
    assert {decision.action for decision in run.decisions} == {"stop", "skip_update"}


def test_a_broken_weight_is_named():
    def spoil(run):
        if run.step == 3:
            next(iter(run.net.collect_params().values())).data()[:] = np.nan

    run = stopped(Tiny(train_rows=8), plugin("spoil", phase=Phase.TRANSFORM, batch_begin=spoil))
    assert run.reason == "the weight 'weight' is not finite at epoch 1, step 3"


def test_a_broken_gradient_is_seen_where_it_is_looked_for():
    def spoil(run):
        if run.step == 2:
            run.gradients.arrays[0][:] = np.inf

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    run = stopped(Tiny(train_rows=8), spoiling)
    assert run.reason == "the gradient 'weight' is not finite at epoch 1, step 2"
    assert run.step == 2


def test_it_looks_every_so_many_steps():
    run = stopped(Spoilt(), every=3)
    assert run.step % 3 == 0


def test_a_healthy_run_goes_to_its_end():
    run = stopped(Tiny(train_rows=8))
    assert (run.status, run.decisions) == ("finished", [])


def hidden(relu="relu"):
    """A net whose relu turns NaN into 0, so that the loss stays finite."""
    return dense(4, activation=relu)


class SpoiltRow(Tiny):
    """One feature of one training row is not a number."""

    def splits(self, run):
        self.held = super().splits(run)
        return self.held

    def spoil(self):
        self.held.train.features[5, 1] = np.nan


def test_an_input_is_found_though_a_relu_hides_it_from_the_loss(tmp_path):
    run = stopped(SpoiltRow(train_rows=8, make_net=hidden), folder=tmp_path / "run")
    assert run.reason.startswith("the input is not finite at epoch 1")
    saved = json.loads((tmp_path / "run" / "non-finite.json").read_text())
    assert saved["rows_not_finite"] == [5]
    assert all(np.isfinite(value).all() for value in run.copy_weights().values())
    careless = stopped(SpoiltRow(train_rows=8, make_net=hidden), loss_only=True)
    assert careless.status == "finished"


def test_a_sample_weight_is_named(tmp_path):
    class Weighted(Tiny):
        def splits(self, run):
            self.held = super().splits(run)
            return self.held

        def spoil(self):
            self.held.train.weights[3] = np.inf

    run = stopped(Weighted(train_rows=8, weighted=True), folder=tmp_path / "run")
    assert run.reason.startswith("the sample weight is not finite")
    assert json.loads((tmp_path / "run" / "non-finite.json").read_text())["rows_not_finite"] == [3]


def test_what_the_last_update_broke_is_seen_at_the_end_of_the_epoch():
    def spoil(run):
        if run.step == run.steps_per_epoch:
            run.gradients.arrays[0][:] = 1e38
            run.learning_rate = 1e9

    run = stopped(Tiny(train_rows=8, make_net=hidden), plugin("spoil", phase=Phase.REPORT, backward_end=spoil))
    assert run.status == "stopped"
    assert run.reason.startswith("the weight ")
    assert run.epoch == 1

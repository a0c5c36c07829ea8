"""The first number that is not finite stops the run, and is named."""

import json

import numpy as np
import pytest
from nets import Given, convolutions, dense, images, regression
from tiny import Tiny, engine, plugin, rows

from trainer import Phase, Splits
from trainer.runs import checkpoint
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.stop_on_non_finite import StopOnNonFinite


@pytest.fixture(autouse=True)
def by_mxnet(request, monkeypatch):
    """MXNet computes the steps, which are looked at later, unless a test asks for numpy."""
    if "by_numpy" not in request.fixturenames:
        monkeypatch.setattr("trainer.step.compiled.plan_for", lambda *_: None)


@pytest.fixture
def by_numpy():
    """numpy computes the steps of a small net."""


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
@pytest.mark.parametrize("every", [1, 50])
def test_data_that_are_not_finite_are_named_with_their_rows(tmp_path, where, kind, value, every):
    task = Spoilt()
    task.where, task.value = where, value
    run = stopped(task, folder=tmp_path / "run", every=every)
    assert run.status == "stopped"
    # With this seed, row 5 is in the third of four batches.
    assert run.step == (3 if every == 1 else 4)
    assert run.reason == f"the {kind} is not finite at epoch 1, step 3"
    record = json.loads((tmp_path / "run" / "non-finite.json").read_text())
    assert (record["kind"], record["step"], record["rows_not_finite"]) == (kind, 3, [5])
    assert 5 in record["rows"]
    assert len(record["rows"]) == 2


OPTIMIZERS = [
    {},
    {"momentum": 0.9},
    {"name": "nag", "momentum": 0.9},
    {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
    {"name": "ftml"},
    {"name": "nadam"},
]


def normed():
    return dense(4, 3, norm=True)


def whole_state(run):
    """Weights, optimizer states and the numbers of updates."""
    return {
        "weights": list(run.copy_weights().values()),
        "states": [each.asnumpy() for each in flat(list(run.optimizer_states))],
        "counts": dict(run.optimizer._index_update_count),
        "updates": (run.updates, run.optimizer.num_update),
    }


def flat(states):
    if isinstance(states, (list, tuple)):
        return [each for state in states for each in flat(state)]
    return [] if states is None else [states]


def assert_same(first, second):
    for name, value in first.items():
        for ours, theirs in zip(value, second[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert first["counts"] == second["counts"]


@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=lambda each: each.get("name", "sgd") + "-m" * ("momentum" in each)
)
@pytest.mark.parametrize("make_net", [None, normed], ids=["linear", "norm"])
def test_the_state_stays_as_it_was_before_the_broken_batch(optimizer, make_net):
    kept = []
    looking = plugin("look", phase=Phase.TRANSFORM, batch_begin=lambda run: kept.append(whole_state(run)))
    guard = StopOnNonFinite(every=50)
    guard.name = "guard"
    task = Tiny(train_rows=16, make_net=make_net)

    def spoil(run):
        if run.step == 5:
            run.gradients.arrays[-1][:] = np.nan

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    run = engine(task, guard, looking, spoiling, batch_size=2, epochs=3, optimizer=optimizer).fit()
    assert run.reason.endswith("is not finite at epoch 1, step 5")
    # Nadam keeps numbers of its own: the host looks in every step.
    is_guarded = optimizer.get("name") != "nadam"
    assert run.step == (8 if is_guarded else 5)
    assert run.updates == 4
    assert {decision.action for decision in run.decisions} == {"stop", "skip_update"}
    if make_net is None or is_guarded:  # the host notices too late for the running statistics
        assert_same(whole_state(run), kept[4])


@pytest.mark.parametrize("make", [lambda: dense(4, norm=True), convolutions], ids=["dense", "convolutions"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:3], ids=["sgd", "nag"])
def test_a_healthy_run_comes_to_the_same_bits(make, optimizer):
    data = images(20) if make is convolutions else regression(20)
    runs = []
    for guards in ([], [StopOnNonFinite(every=7)]):
        task = Given(data, make_net=make)
        runs.append(engine(task, *guards, epochs=4, batch_size=3, optimizer={"learning_rate": 0.01, **optimizer}).fit())
    assert runs[1].status == "finished"
    assert_same(*map(whole_state, runs))


@pytest.mark.parametrize("at", [2, 5])
def test_a_run_that_is_resumed_before_the_look_stops_as_the_other(tmp_path, at):
    """At step 2 all is well; at step 5 the broken step 3 was not looked at yet."""

    def made(folder=None, resume_from=None, *others):
        task = SpoiltRow(train_rows=16)
        guard = StopOnNonFinite(every=50)
        guard.name = "guard"
        run = engine(task, guard, *others, folder=folder, resume_from=resume_from, batch_size=2, epochs=3)
        task.spoil()
        return run.fit()

    saving = plugin("saving", phase=Phase.SAVE, batch_end=lambda run: run.step == at and run.save("here"))
    whole = made(tmp_path / "run", None, saving)
    saved = next(each for each in checkpoint.complete_checkpoints(tmp_path / "run") if each.step == at)
    resumed = made(None, saved)
    assert resumed.reason == whole.reason
    assert resumed.reason.endswith("step 3")
    assert (resumed.step, resumed.updates) == (whole.step, whole.updates) == (8, 2)
    assert_same(whole_state(whole), whole_state(resumed))


def test_two_guards_keep_the_state_both():
    def spoil(run):
        if run.step == 3:
            run.gradients.arrays[0][:] = np.inf

    other = StopOnNonFinite(loss_only=True)
    other.name = "other"
    run = stopped(Tiny(train_rows=16), plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil), other)
    assert run.reason == "the gradient 'weight' is not finite at epoch 1, step 3"
    assert run.updates == 2
    assert all(np.isfinite(value).all() for value in run.copy_weights().values())


def test_accumulated_gradients_are_guarded_too():
    def spoil(run):
        if run.step == 3:
            run.gradients.arrays[0][:] = np.inf

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    run = stopped(Tiny(train_rows=16), spoiling, GradientAccumulation(batches=2))
    assert run.reason == "the gradient 'weight' is not finite at epoch 1, step 3"
    assert run.updates == 1
    assert all(np.isfinite(value).all() for value in run.copy_weights().values())


@pytest.mark.parametrize("values", [{"devices": "cpu:0,1"}, {"micro_batches": 2}, {"compiled": False}])
def test_a_step_that_cannot_be_guarded_is_looked_at_every_time(values):
    task = Spoilt()
    guard = StopOnNonFinite()
    guard.name = "guard"
    made = engine(task, guard, batch_size=2, epochs=3, **values)
    made.run.train._host[0][5] = np.nan
    run = made.fit()
    assert run.reason == "the input is not finite at epoch 1, step 3"
    assert (run.step, run.updates) == (3, 2)


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
    assert (run.step, run.updates) == (4, 1)


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


# ---- steps that numpy computes are known at once ---------------------------------------------------------------------


@pytest.mark.parametrize(("where", "kind"), [("features", "input"), ("labels", "label")])
def test_a_step_of_numpy_stops_the_run_at_once(tmp_path, by_numpy, where, kind):
    task = Spoilt()
    task.where = where
    run = stopped(task, folder=tmp_path / "run", every=50)
    assert run.reason == f"the {kind} is not finite at epoch 1, step 3"
    assert (run.step, run.updates) == (3, 2)
    assert json.loads((tmp_path / "run" / "non-finite.json").read_text())["rows_not_finite"] == [5]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.get("name", "sgd"))
def test_numpy_does_not_update_after_a_broken_batch(by_numpy, optimizer):
    kept = []
    looking = plugin("look", phase=Phase.TRANSFORM, batch_begin=lambda run: kept.append(whole_state(run)))

    def spoil(run):
        if run.step == 5:
            run.gradients.arrays[-1][:] = np.nan

    spoiling = plugin("spoil", phase=Phase.TRANSFORM, backward_end=spoil)
    guard = StopOnNonFinite(every=50)
    guard.name = "guard"
    run = engine(Tiny(train_rows=16), guard, looking, spoiling, batch_size=2, epochs=3, optimizer=optimizer).fit()
    assert run.reason.endswith("is not finite at epoch 1, step 5")
    assert (run.step, run.updates) == (5, 4)
    assert_same(whole_state(run), kept[4])


def test_large_numbers_whose_squares_overflow_are_finite(by_numpy):
    def enlarge(run):
        run.gradients.arrays[0][:] = 1e25

    run = stopped(Tiny(train_rows=8), plugin("enlarge", phase=Phase.TRANSFORM, backward_end=enlarge))
    assert run.reason != "the gradient 'weight' is not finite at epoch 1, step 1"

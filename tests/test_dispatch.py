"""Order, validation and cost of plugins."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import Tiny, engine, hooked, plugin

from trainer import Due, Phase, Plugin, PluginError, TrainerError, UsageError
from trainer.dispatch import check, ordered


def nothing(run):
    pass


def named(name, phase=Phase.MEASURE, before=(), after=()):
    made = plugin(name, phase=phase, batch_end=nothing)
    type(made).before, type(made).after = before, after
    return made


def names(plugins):
    return [made.name for made in ordered(plugins)]


def test_phases_come_in_their_order_whatever_the_listing():
    plugins = [named(phase.name, phase) for phase in reversed(Phase)]
    assert names(plugins) == ["TRANSFORM", "MEASURE", "TUNE", "DECIDE", "SAVE", "REPORT"]


def test_within_a_phase_the_listing_decides():
    assert names([named("c"), named("a"), named("b")]) == ["c", "a", "b"]


def test_before_and_after_decide_ahead_of_the_listing():
    assert names([named("a"), named("b", before=("a",))]) == ["b", "a"]
    assert names([named("a", after=("b",)), named("b"), named("c")]) == ["b", "a", "c"]


def test_a_plain_name_means_every_instance_and_a_full_one_only_that():
    assert names([named("stop@f1"), named("stop@loss"), named("x", before=("stop",))]) == ["x", "stop@f1", "stop@loss"]
    assert names([named("stop@f1"), named("stop@loss"), named("x", before=("stop@loss",))]) == [
        "stop@f1",
        "x",
        "stop@loss",
    ]


def test_names_that_the_run_does_not_use_are_passed_over():
    assert names([named("a", after=("absent",)), named("b")]) == ["a", "b"]


def test_a_cycle_is_an_error_that_names_its_plugins():
    with pytest.raises(UsageError, match="a, b each have to run before the other"):
        ordered([named("a", before=("b",)), named("b", before=("a",))])


def test_an_order_against_the_phases_is_an_error():
    with pytest.raises(UsageError, match="'b' cannot run before 'a'"):
        ordered([named("a", Phase.MEASURE, after=("b",)), named("b", Phase.REPORT)])


def test_two_plugins_of_one_name_are_an_error_that_shows_the_way_out():
    with pytest.raises(UsageError, match=r"two plugins are called 'a'.*a@first and a@second"):
        ordered([named("a"), named("a")])


@given(st.lists(st.tuples(st.sampled_from(list(Phase)), st.sets(st.integers(0, 7)))))
def test_every_order_keeps_phases_and_wishes_or_is_refused(wishes):
    plugins = [named(str(n), phase, after=tuple(map(str, after - {n}))) for n, (phase, after) in enumerate(wishes)]
    try:
        result = ordered(plugins)
    except UsageError:
        return
    assert sorted(result, key=lambda made: made.phase) == result
    assert sorted(made.name for made in result) == sorted(made.name for made in plugins)
    position = {made.name: place for place, made in enumerate(result)}
    assert all(position[other] < position[made.name] for made in result for other in made.after if other in position)


def test_an_unknown_hook_is_an_error_with_the_likely_name():
    with pytest.raises(UsageError, match=r"no event for its method on_epoch_ended.*Did you mean 'on_epoch_end'"):
        check(hooked(epoch_ended=nothing)())


@pytest.mark.parametrize(
    "hook",
    [
        lambda self: None,
        lambda self, run, more: None,
        lambda self, *, run: None,
    ],
)
def test_a_hook_with_another_signature_is_an_error(hook):
    made = type("Odd", (Plugin,), {"on_batch_end": hook})()
    with pytest.raises(UsageError, match="on_batch_end has to take exactly one argument"):
        check(made)


def test_an_async_hook_is_an_error():
    async def hook(self, run):
        pass

    with pytest.raises(UsageError, match="on_batch_end is not an ordinary method"):
        check(type("Odd", (Plugin,), {"on_batch_end": hook})())


def test_something_that_is_not_a_plugin_is_an_error():
    with pytest.raises(UsageError, match="is not a plugin"):
        engine(Tiny(), object())


def test_a_phase_that_is_invalid_is_an_error():
    made = plugin(batch_end=nothing)
    type(made).phase = 3
    with pytest.raises(UsageError, match="its phase is 3"):
        check(made)


def test_the_ledger_counts_every_call_and_its_seconds():
    slow = plugin("slow", batch_end=lambda run: sum(range(20_000)), epoch_end=nothing)
    run = engine(Tiny(), slow).fit()
    ledger = {row["event"]: row for row in run.ledger()}
    assert {event: row["calls"] for event, row in ledger.items()} == {"batch_end": 4, "epoch_end": 2}
    assert ledger["batch_end"]["seconds"] > ledger["epoch_end"]["seconds"] > 0
    assert {row["plugin"] for row in ledger.values()} == {"slow"}


def test_equal_requests_add_up_in_one_line_of_the_record():
    run = engine(Tiny(), plugin("p", backward_end=lambda run: run.skip_update("always"))).fit()
    (decision,) = run.decisions
    assert (decision.plugin, decision.action, decision.reason) == ("p", "skip_update", "always")
    assert (decision.count, decision.epoch, decision.step, decision.last_step) == (4, 1, 1, 4)
    assert run.updates == 0


def test_requests_of_several_plugins_are_all_recorded_and_the_first_gives_the_reason():
    plugins = [plugin(name, batch_end=lambda run, name=name: None) for name in ("a", "b")]
    for made in plugins:
        type(made).on_batch_end = lambda self, run: run.stop(f"says {self.name}")
    run = engine(Tiny(), *plugins).fit()
    assert run.reason == "says a"
    assert [(d.plugin, d.reason) for d in run.decisions] == [("a", "says a"), ("b", "says b")]


def test_a_request_needs_its_reason():
    with pytest.raises(TrainerError, match="needs its reason"):
        engine(Tiny(), plugin(batch_end=lambda run: run.stop(""))).fit()


def test_skip_update_outside_a_batch_is_an_error():
    with pytest.raises(TrainerError, match="skip_update has an effect only in"):
        engine(Tiny(), plugin(epoch_end=lambda run: run.skip_update("late"))).fit()


def test_an_engine_trains_once():
    made = engine()
    made.fit()
    with pytest.raises(TrainerError, match="trained already"):
        made.fit()


def test_equal_instances_are_told_apart_by_their_names():
    @dataclass
    class Twin(Plugin):
        pass

    first, second = Twin(), Twin()
    first.name, second.name = "twin@a", "twin@b"
    second.before = ("twin@a",)
    assert first == second
    assert [plugin.name for plugin in ordered([first, second])] == ["twin@b", "twin@a"]


class Sparse(Plugin):
    """Wants the batches that `due` tells, and notes which ones it gets."""

    phase = Phase.REPORT

    def __init__(self, due):
        self.due, self.got = due, []

    def on_batch_end(self, run):
        self.got.append(run.step)

    def next_batch_end(self, run):
        return self.due(run)


def steps_of(*plugins, epochs=2):
    """The training has four steps per epoch."""
    run = engine(Tiny(train_rows=8), *plugins, epochs=epochs, batch_size=2).fit()
    assert run.step == 4 * epochs
    return plugins[0].got


def test_a_plugin_gets_the_batch_ends_that_it_asks_for():
    assert steps_of(Sparse(lambda run: Due(run.step // 3 * 3 + 3))) == [1, 3, 6]
    assert steps_of(Sparse(lambda run: Due())) == [1]
    assert steps_of(Sparse(lambda run: Due(time=0.0))) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert steps_of(Sparse(lambda run: None if run.step < 3 else Due(7))) == [1, 2, 3, 7, 8]


def test_a_value_that_is_logged_in_the_batch_wakes_a_resting_plugin():
    speaking = plugin("speaking", batch_end=lambda run: run.log({"x": 1.0}) if run.step in (2, 7) else None)
    assert steps_of(Sparse(lambda run: Due(logged=True)), speaking) == [1, 2, 7]
    early = plugin(
        "early", phase=Phase.TRANSFORM, batch_begin=lambda run: run.log({"x": 1.0}) if run.step == 5 else None
    )
    assert steps_of(Sparse(lambda run: Due(logged=True)), early) == [1, 5]


def test_a_plugin_that_rests_keeps_no_other_from_its_batches():
    seen = []
    steps_of(Sparse(lambda run: Due()), plugin("all", batch_end=lambda run: seen.append(run.step)))
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_derived_class_with_another_hook_is_called_after_every_batch():
    class Derived(Sparse):
        def on_batch_end(self, run):
            self.got.append(-run.step)

    assert steps_of(Derived(lambda run: Due()), epochs=1) == [-1, -2, -3, -4]


def test_an_error_in_next_batch_end_is_the_plugins():
    with pytest.raises(
        PluginError, match="plugin 'sparse' in on_batch_end at epoch 1, step 1 raised ZeroDivisionError"
    ):
        steps_of(Sparse(lambda run: 1 / 0))

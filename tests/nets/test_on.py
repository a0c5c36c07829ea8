"""`on`: functions as plugins."""

import copy
import inspect
import pickle
import re
import sys
from types import SimpleNamespace

import pytest
from tiny import Tiny, engine

from trainer import Phase, UsageError, fit, on
from trainer.events import EVENTS


def test_there_is_one_for_every_event():
    assert set(dir(on)) == set(EVENTS)
    source = inspect.getsource(type(on))
    assert re.findall(r"^ +(\w+): Event$", source, re.MULTILINE) == list(EVENTS)
    with pytest.raises(AttributeError, match="Did you mean 'epoch_end'"):
        _ = on.epoch_ended


def test_a_function_is_called_at_its_event():
    seen = []
    fit(Tiny(), epochs=2, plugins=[on.epoch_end(lambda run: seen.append(run.epoch), name="look")], runs_dir=None)
    assert seen == [1, 2]


def test_decorators_take_the_functions_name():
    seen = []

    @on.batch_end(every=2)
    def every_other_step(run):
        seen.append(run.step)

    @on.epoch_end
    def afterwards(run):
        seen.append("end")

    run = engine(Tiny(train_rows=8), every_other_step, afterwards, epochs=1).fit()
    assert seen == [2, 4, "end"]
    assert [plugin.name for plugin in run.plugins] == ["every-other-step", "afterwards"]


def test_once_is_once_in_a_run():
    seen = []
    plugin = on.epoch_end(lambda run: seen.append(run.epoch), once=True, name="first")
    engine(Tiny(), plugin, epochs=3).fit()
    engine(Tiny(), plugin, epochs=3).fit()
    assert seen == [1, 1]


def test_a_phase_gives_the_function_its_turn():
    seen = []
    late = on.epoch_end(lambda run: seen.append("late"), name="late", phase=Phase.REPORT)
    early = on.epoch_end(lambda run: seen.append("early"), name="early", phase=Phase.TRANSFORM)
    engine(Tiny(), late, early, epochs=1).fit()
    assert seen == ["early", "late"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: on.epoch_end(3), "3 is not a function"),
        (lambda: on.epoch_end(lambda: None), "does not take one argument, the run"),
        (lambda: on.batch_end(print, every=0), "every=0 is not a positive integer"),
        (lambda: on.setup(print, every=2), "every= has no effect here"),
        (lambda: on.batch_end(print, phase=3), "phase=3 is not a phase"),
        (lambda: on.batch_end(print, name="a b"), "'a b' is not a plugin's name"),
    ],
)
def test_a_mistake_is_said_at_once(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def say(run):
    """A function with a name of its own."""


@on.epoch_end(every=2)
def said(run):
    """A function whose name stands for the plugin."""


def test_it_can_be_pickled_and_copied(monkeypatch):
    # pytest's way of importing leaves the module out.
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(say=say, said=said))
    plugin = on.batch_end(say, every=3, once=True, name="told", phase=Phase.SAVE)
    plugin.on_error = "disable"
    for made in (pickle.loads(pickle.dumps(plugin)), copy.deepcopy(plugin)):
        assert (made.event, made.function, made.every, made.once) == ("batch_end", say, 3, True)
        assert (made.name, made.phase, made.on_error) == ("told", Phase.SAVE, "disable")
    assert pickle.loads(pickle.dumps(said)) is said

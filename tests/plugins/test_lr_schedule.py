"""The learning rate of every step, for every shape."""

import json
import math
import sys

import pytest
from tiny import Tiny, engine, plugin

from trainer import Phase, UsageError
from trainer.config.options import build
from trainer.runs import checkpoint
from trainer_plugins.lr_schedule import LearningRateSchedule

BASE = 0.1
STEPS = 8  # four epochs of two batches


def rates(schedule, *plugins, epochs=4, **settings):
    """The learning rate that each step was taken with, as a part of the run's own."""
    seen = []
    looking = plugin("look", phase=Phase.REPORT, batch_end=lambda run: seen.append(run.learning_rate / BASE))
    engine(Tiny(), schedule, looking, *plugins, epochs=epochs, **settings).fit()
    return seen


def made(**options):
    return build(LearningRateSchedule, options, where="")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "constant"}, [1] * 8),
        ({"schedule": "step", "every": 2, "factor": 0.5}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ({"schedule": "step", "every": 3, "unit": "steps", "factor": 0.5}, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"schedule": "multi-step", "milestones": "1,3"}, [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ({"schedule": "polynomial", "power": 1}, [1 - n / 8 for n in range(8)]),
        ({"schedule": "polynomial", "power": 2, "final": 0.5}, [0.5 + 0.5 * (1 - n / 8) ** 2 for n in range(8)]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]),
        ({"schedule": "constant", "warmup": 2}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 2, "unit": "steps", "warmup-from": 0.5}, [0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "constant:2,cosine:1,constant"}, [1, 1, 1, 1, 1, 0.5, 1, 1]),
        (
            {"schedule": "cosine", "warmup": 2},
            [0, 0.25, 0.5, 0.75, 1, *[(1 + math.cos(math.pi * n / 4)) / 2 for n in (1, 2, 3)]],
        ),
    ],
)
def test_the_rate_of_every_step(options, expected):
    assert rates(made(**options)) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_rises_to_the_full_rate_and_falls_to_the_final_one():
    seen = rates(made(schedule="one-cycle", rise=0.25, start=0.2, final=0.1))
    assert seen[0] == pytest.approx(0.2)
    assert max(seen) == seen[2] == pytest.approx(1.0)
    assert seen[:3] == sorted(seen[:3])
    assert seen[2:] == sorted(seen[2:], reverse=True)
    assert seen[-1] == pytest.approx(0.1)


def test_a_rate_that_another_plugin_chooses_at_the_start_is_the_one_that_is_scheduled(caplog):
    chooses = plugin("chooses", fit_begin=lambda run: setattr(run, "learning_rate", 2 * BASE))
    assert rates(made(schedule="polynomial", power=1), chooses) == pytest.approx([2 - n / 4 for n in range(8)])
    assert caplog.text == ""


def test_a_rate_that_another_plugin_sets_later_has_no_effect_and_is_told_so_once(caplog):
    sets = plugin("sets", epoch_begin=lambda run: setattr(run, "learning_rate", 0.5))
    schedule = made(schedule="constant")
    schedule.name = "lr-schedule"
    assert rates(schedule, sets) == pytest.approx([5.0] * 8)  # the first epoch begins before the first step
    sets = plugin("sets", epoch_end=lambda run: setattr(run, "learning_rate", 0.5))
    assert rates(made(schedule="constant"), sets) == pytest.approx([1] * 8)
    assert caplog.text.count("so the rate 0.5 that was set before step 3 has no effect") == 1


def test_plateau_lowers_the_rate_when_nothing_gets_better():
    values = [3, 2, 2, 2, 2, 1]
    logging = plugin("log", phase=Phase.TRANSFORM, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
    type(logging).before = ("lr-schedule",)
    seen = rates(made(schedule="plateau", monitor="score", mode="min", patience=2, factor=0.5), logging, epochs=6)
    assert seen[::2] == pytest.approx([1, 1, 1, 1, 0.5, 0.5])


def test_the_schedule_spans_the_steps_that_were_asked_for():
    assert rates(made(schedule="polynomial", power=1), steps=4) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_the_rate_is_logged_each_epoch():
    run = engine(Tiny(), made(schedule="step", every=1, factor=0.5), epochs=3).fit()
    assert [entry["learning-rate"] for entry in run.history] == pytest.approx([0.1, 0.05, 0.025])


def test_the_updates_use_the_rate():
    after = {}
    looking = plugin(batch_end=lambda run: after.setdefault(run.step, run.copy_weights()))
    warming = engine(Tiny(), made(schedule="constant", warmup=2), looking, epochs=1)
    before = warming.run.copy_weights()
    warming.fit()
    assert all((before[name] == after[1][name]).all() for name in before)
    assert any((before[name] != after[2][name]).any() for name in before)


def test_its_state_keeps_the_base_rate_and_the_plateau():
    first = made(schedule="plateau", monitor="validation/loss")
    engine(Tiny(), first, epochs=2).fit()
    second = made(schedule="plateau", monitor="validation/loss")
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == first.state_dict()
    assert first.state_dict()["base"] == BASE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "cosin"}, "'cosin' is not a shape. Did you mean 'cosine'?"),
        ({"schedule": "cosine,constant"}, "'cosine' is followed by another shape, so it needs a length"),
        ({"schedule": "cosine:0"}, "'cosine:0' has no length"),
        ({"schedule": "multi-step"}, "multi-step needs milestones"),
        ({"schedule": ""}, "schedule"),
        ({"factor": 1}, "factor: 1 does not fit"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert said in str(refused.value)


def test_a_monitor_that_is_never_logged_is_an_error_with_the_names():
    with pytest.raises(UsageError, match=r"the metric 'validation/los' is not logged.*Did you mean 'validation/loss'"):
        engine(Tiny(), made(schedule="plateau", monitor="validation/los")).fit()


def test_a_plateau_acts_in_its_own_part_alone():
    values = [3, 2, 2, 2, 2, 2, 2, 2]
    logging = plugin("log", phase=Phase.TRANSFORM, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
    type(logging).before = ("lr-schedule",)
    later = made(schedule=("constant:4", "plateau"), monitor="score", mode="min", patience=2, factor=0.5)
    assert rates(later, logging, epochs=8)[::2] == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.5])
    warming = made(schedule="plateau", warmup=4, monitor="score", mode="min", patience=2, factor=0.5)
    assert rates(warming, logging, epochs=8)[::2][4:] == pytest.approx([1, 1, 1, 0.5])


def test_a_plateau_of_a_metric_that_rises_waits_for_more():
    values = [0.1, 0.2, 0.3, 0.3, 0.3]
    logging = plugin("log", phase=Phase.TRANSFORM, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
    type(logging).before = ("lr-schedule",)
    seen = rates(made(schedule="plateau", monitor="score", mode="max", patience=2, factor=0.5), logging, epochs=6 - 1)
    assert seen[::2] == pytest.approx([1, 1, 1, 1, 1])


def test_a_metric_that_is_not_finite_is_never_the_best_of_a_plateau():
    values = [float("nan"), 3, 2, 1, 0.5]
    logging = plugin("log", phase=Phase.TRANSFORM, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
    type(logging).before = ("lr-schedule",)
    seen = rates(made(schedule="plateau", monitor="score", mode="min", patience=1, factor=0.5), logging, epochs=5)
    assert seen[::2] == pytest.approx([1, 1, 1, 1, 1])


def test_more_steps_than_the_epochs_have_do_not_stretch_the_schedule():
    short, long = (rates(made(schedule="cosine"), epochs=3, steps=steps) for steps in (6, 1000))
    assert long == pytest.approx(short)


def test_a_schedule_that_the_run_does_not_come_to_the_end_of_is_said(caplog):
    rates(made(schedule=("constant:8", "cosine:8")), epochs=3)
    assert "too few to reach every part of the schedule" in caplog.text


def gluoncv_rates(*parts, epochs=8, **options):
    """What GluonCV's own classes give for each step of two an epoch."""
    import gluoncv  # its import takes seconds

    schedulers = [
        gluoncv.utils.LRScheduler(mode, nepochs=length, iters_per_epoch=2, **{"base_lr": 1, **options, **values})
        for mode, length, values in parts
    ]
    sequence = gluoncv.utils.LRSequential(schedulers)
    return [sequence(step) for step in range(2 * epochs)]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"schedule": "gluoncv-constant"}, [("constant", 8, {})]),
        ({"schedule": "gluoncv-linear"}, [("linear", 8, {})]),
        ({"schedule": "gluoncv-linear", "final": 0.3}, [("linear", 8, {"target_lr": 0.3})]),
        ({"schedule": "gluoncv-poly", "power": 0.9}, [("poly", 8, {"power": 0.9})]),
        ({"schedule": "gluoncv-poly", "final": 0.1}, [("poly", 8, {"target_lr": 0.1})]),
        ({"schedule": "gluoncv-cosine"}, [("cosine", 8, {})]),
        (
            {"schedule": "gluoncv-step", "milestones": "2,5", "factor": 0.3},
            [("step", 8, {"step_epoch": [2, 5], "step_factor": 0.3})],
        ),
        (
            {"schedule": "gluoncv-cosine", "warmup": 3},
            [("linear", 3, {"base_lr": 0, "target_lr": 1}), ("cosine", 5, {})],
        ),
        (
            {"schedule": "gluoncv-step", "warmup": 2, "warmup-from": 0.1, "milestones": "1,4"},
            [("linear", 2, {"base_lr": 0.1, "target_lr": 1}), ("step", 6, {"step_epoch": [1, 4]})],
        ),
        (
            {"schedule": "gluoncv-linear:2,gluoncv-poly:3,gluoncv-cosine", "final": 0.2},
            [("linear", 2, {"target_lr": 0.2}), ("poly", 3, {"target_lr": 0.2}), ("cosine", 3, {"target_lr": 0.2})],
        ),
        # The last one ends before the run: its rate stays.
        ({"schedule": "gluoncv-cosine:3", "final": 0.5}, [("cosine", 3, {"target_lr": 0.5})]),
    ],
    ids=lambda value: value["schedule"] if isinstance(value, dict) else "",
)
def test_gluoncvs_shapes_are_gluoncvs_own_at_every_step(options, parts):
    expected = gluoncv_rates(*parts)
    assert rates(made(**options), epochs=8) == pytest.approx(expected, abs=1e-12)


def test_gluoncvs_shapes_continue_after_a_resume_where_they_were(tmp_path):
    def schedule():
        return made(schedule="gluoncv-linear:3,gluoncv-cosine", warmup=1)

    expected = gluoncv_rates(("linear", 1, {"base_lr": 0, "target_lr": 1}), ("linear", 3, {}), ("cosine", 4, {}))
    saving = plugin("saving", batch_end=lambda run: run.step == 7 and run.save("here"))
    engine(Tiny(), schedule(), saving, epochs=8, steps=9, folder=tmp_path).fit()
    # Nine steps shorten the last shape of the first run alone; the second is as long as it was asked to be.
    saved = checkpoint.complete_checkpoints(tmp_path)[0]
    seen = []
    looking = plugin("look", phase=Phase.REPORT, batch_end=lambda run: seen.append(run.learning_rate / BASE))
    plugins = [schedule(), plugin("saving"), looking]
    engine(Tiny(), *plugins, epochs=8, resume_from=saved).fit()
    assert seen == pytest.approx(expected[7:], abs=1e-12)


def test_a_shape_of_gluoncv_that_is_one_step_long_is_not_division_by_zero():
    assert rates(made(schedule="gluoncv-cosine:1,gluoncv-constant", unit="steps")) == pytest.approx([1.0] * STEPS)


def test_without_gluoncv_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv", None)
    monkeypatch.setitem(sys.modules, "gluoncv.utils", None)
    with pytest.raises(UsageError, match=r"gluon-trainer\[vision\]"):
        rates(made(schedule="gluoncv-cosine"))

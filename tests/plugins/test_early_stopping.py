"""Early stopping: when it stops, why, and what it leaves behind."""

import inspect
import math
import os
import re
import signal
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tiny import Tiny, engine, plugin, weights

from trainer import Interrupted, Phase, PluginError, UsageError
from trainer.runs import checkpoint
from trainer_plugins.early_stopping import EarlyStopping


def watching(values, event="epoch_end", **options):
    """A run in which `score` takes these values, one per epoch, watched with these options."""
    stopping = EarlyStopping(monitor="score", **{"mode": "min", **options})
    stopping.name = "early-stopping"
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
    return engine(Tiny(), stopping, logging, epochs=len(values)).fit()


@pytest.mark.parametrize(
    ("values", "options", "epochs", "reason"),
    [
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, 5, "score was no better than 1 for 2 epochs"),
        ([3, 2, 1, 1, 1, 0], {"patience": 3}, 6, None),
        ([1, 2, 3, 3, 3], {"patience": 1, "mode": "max"}, 4, "score was no better than 3 for 1 epoch"),
        ([1.0, 0.95, 0.9, 0.85], {"patience": 2, "min_delta": 0.2}, 3, "no better than 1 for 2 epochs"),
        ([100, 95, 90, 80], {"patience": 2, "min_delta": 0.08, "relative": True}, 4, None),
        ([3, 3, 3, 3], {"patience": 2, "baseline": 2.5}, 2, "no better than the baseline, 2.5 for 2 epochs"),
        ([3, 2, 1, 1], {"stopping_threshold": 2}, 2, "score is 2, which is as good as 2"),
        ([3, 9, 1, 1], {"divergence_threshold": 8}, 2, "score is 9, which is worse than 8"),
        ([1, 2, 2, 2, 2, 2], {"patience": 2, "start_from_epoch": 3}, 5, "no better than 2 for 2 epochs"),
        ([3, math.nan, 1], {}, 2, "score is nan"),
        ([3, math.nan, 1], {"check_finite": False}, 3, None),
        ([3, math.nan, math.nan, 1], {"check_finite": False, "patience": 2}, 3, "no better than 3 for 2 epochs"),
        ([math.nan] * 3, {"check_finite": False, "patience": 2}, 2, "score was never finite for 2 epochs"),
        # Gains of 0.1 add up to more than 0.15, or are forgotten one by one.
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], {"patience": 2, "min_delta": 0.15}, 6, None),
        ([1.0, 0.9, 0.8, 0.7], {"patience": 2, "min_delta": 0.15, "cumulative": False}, 3, "no better than 0.8 for 2"),
        ([1.0, 0.9, 0.6, 0.7, 0.55], {"patience": 2, "min_delta": 0.25, "cumulative": False}, 5, "no better than 0.55"),
        ([3, 2.8, 2.7, 2.7], {"patience": 3, "baseline": 2.5}, 4, "no better than the baseline, 2.5 for 4 epochs"),
        ([3, 2.8, 2.7, 2], {"patience": 3, "baseline": 2.5}, 4, None),
        ([3, 2.4, 2.4, 2.4], {"patience": 2, "baseline": 2.5, "min_delta": 1}, 4, "no better than 2.4 for 2 epochs"),
        ([3, 2, 2, 2], {"patience": 4, "patience_unit": "steps"}, 4, "no better than 2 for 4 steps"),
        ([3, 2, 2, 2], {"patience": 2, "patience_unit": "evaluations"}, 4, "no better than 2 for 2 evaluations"),
    ],
)
def test_it_stops_when_and_why(values, options, epochs, reason):
    run = watching(values, **options)
    assert run.epoch == epochs
    if reason is None:
        assert (run.status, run.decisions) == ("finished", [])
    else:
        assert run.status == "stopped"
        assert reason in run.reason
        assert [(d.plugin, d.action) for d in run.decisions] == [("early-stopping", "stop")]


def test_the_direction_is_the_metrics_own():
    for monitor, better in (("validation/loss", "min"), ("validation/f1", "max"), ("validation/log-loss", "min")):
        stopping = EarlyStopping(monitor=monitor)
        made = engine(Tiny(), stopping, epochs=1)
        assert made.run.direction(monitor) == better
        made.fit()


def test_a_direction_that_is_unknown_has_to_be_given():
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"score": 1}))
    with pytest.raises(UsageError, match=r"whether higher or lower 'score' is better.*mode=max"):
        engine(Tiny(), EarlyStopping(monitor="score"), logging).fit()


def test_a_monitor_that_is_never_logged_is_an_error_with_the_names():
    with pytest.raises(UsageError, match=r"'validation/los' is not logged. Did you mean 'validation/loss'"):
        engine(Tiny(), EarlyStopping(monitor="validation/los")).fit()


def test_a_validation_metric_without_a_validation_split_is_an_error_at_once():
    with pytest.raises(UsageError, match="there is no validation split"):
        engine(Tiny(validation_rows=0), EarlyStopping()).fit()


@pytest.mark.parametrize("ended_by", ["patience", "epochs", "another plugin"])
def test_restore_best_goes_back_to_the_best_weights_whatever_ended_the_run(ended_by):
    values = [3, 1, 2, 2, 2, 2]
    kept = {}

    def log(run):
        run.log({"score": values[run.epoch - 1]})
        kept[run.epoch] = [w.copy() for w in weights(run)]
        if ended_by == "another plugin" and run.epoch == 3:
            run.stop("something else")

    patience = 2 if ended_by == "patience" else 9
    stopping = EarlyStopping(monitor="score", mode="min", patience=patience, restore_best=True)
    run = engine(Tiny(test_rows=3), stopping, plugin("log", phase=Phase.MEASURE, epoch_end=log), epochs=6).fit()
    for restored, best in zip(weights(run), kept[2], strict=True):
        np.testing.assert_array_equal(restored, best)
    assert any((a != b).any() for a, b in zip(kept[2], kept[run.epoch], strict=True))


def test_restore_best_has_the_best_weights_even_where_none_beats_the_baseline():
    values, kept = [3, 2, 4], {}

    def log(run):
        run.log({"score": values[run.epoch - 1]})
        kept[run.epoch] = [w.copy() for w in weights(run)]

    stopping = EarlyStopping(monitor="score", mode="min", patience=3, baseline=1, restore_best=True)
    run = engine(Tiny(), stopping, plugin("log", phase=Phase.MEASURE, epoch_end=log), epochs=9).fit()
    assert run.reason == "score was no better than the baseline, 1 for 3 epochs"
    for restored, best in zip(weights(run), kept[2], strict=True):
        np.testing.assert_array_equal(restored, best)


def looks(monitor, look):
    """At which steps and events a metric is looked at: epochs of four batches with an evaluation in the second, too."""
    stopping, seen = EarlyStopping(monitor=monitor, look=look, mode="min", patience=99), []
    judge = stopping._look

    def look_on(run):
        before = stopping._looks
        judge(run)
        seen.extend([run.step] * (stopping._looks - before))

    stopping._look = look_on
    logging = plugin("log", phase=Phase.MEASURE, batch_end=lambda run: run.step % 3 == 0 and run.log({"score": 1.0}))
    asking = plugin(
        "ask", phase=Phase.MEASURE, batch_end=lambda run: run.step_in_epoch == 2 and run.evaluate("for a look")
    )
    engine(Tiny(train_rows=8), stopping, logging, asking, epochs=2).fit()
    return seen


@pytest.mark.parametrize(
    ("monitor", "look", "steps"),
    [
        ("validation/loss", "auto", [2, 4, 6, 8]),
        ("validation/loss", "evaluation", [2, 4, 6, 8]),
        ("validation/loss", "epoch", [4, 8]),
        # Where it is new: logged in steps 3 and 6, between evaluations of steps 2, 4, 6 and 8.
        ("score", "auto", [4, 6]),
        ("score", "batch", [3, 6]),
        # It has no value at step 2.
        ("score", "evaluation", [4, 6, 8]),
    ],
)
def test_when_it_looks(monitor, look, steps):
    assert looks(monitor, look) == steps


def test_a_look_in_a_batch_ends_the_run_after_it():
    stopping = EarlyStopping(monitor="score", look="batch", mode="min", patience=3, patience_unit="steps")
    logging = plugin("log", phase=Phase.MEASURE, batch_end=lambda run: run.log({"score": max(0, 4 - run.step)}))
    run = engine(Tiny(train_rows=40), stopping, logging).fit()
    assert (run.step, run.reason) == (7, "score was no better than 0 for 3 steps")


def test_a_metric_that_comes_late_is_waited_for_where_strict_is_off():
    def log(run):
        if run.epoch >= 3:
            run.log({"score": 1})

    logging = plugin("log", phase=Phase.MEASURE, epoch_end=log)
    with pytest.raises(UsageError, match="the metric 'score' is not logged"):
        engine(Tiny(), EarlyStopping(monitor="score", mode="min"), logging, epochs=9).fit()
    stopping = EarlyStopping(monitor="score", mode="min", patience=2, strict=False)
    assert engine(Tiny(), stopping, logging, epochs=9).fit().epoch == 5
    without = EarlyStopping(monitor="validation/loss", strict=False)
    assert engine(Tiny(validation_rows=0), without).fit().status == "finished"


def test_several_instances_watch_side_by_side():
    first, second = (EarlyStopping(monitor=name, mode="min", patience=p) for name, p in (("a", 5), ("b", 1)))
    first.name, second.name = "early-stopping@a", "early-stopping@b"
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"a": 1, "b": 1}))
    run = engine(Tiny(), first, second, logging, epochs=9).fit()
    assert (run.epoch, run.decisions[0].plugin) == (2, "early-stopping@b")


def test_its_state_goes_through_json_and_on():
    import json

    def trained(stopping, values):
        logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"score": values[run.epoch - 1]}))
        return engine(Tiny(), stopping, logging, epochs=len(values)).fit()

    first = EarlyStopping(monitor="score", mode="min", patience=3)
    trained(first, [2, 1, 1])
    second = EarlyStopping(monitor="score", mode="min", patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == first.state_dict()


def test_a_negative_patience_is_refused():
    from trainer.config.options import build

    with pytest.raises(UsageError, match="patience: -1 does not fit: it should be greater than or equal to 0"):
        build(EarlyStopping, {"patience": -1}, where="")


def logs(values, *, event="epoch_end", name="score"):
    """Logs one value per epoch, NaN included; None logs nothing."""

    def log(run):
        if values[run.epoch - 1] is not None:
            run.log({name: values[run.epoch - 1]})

    return plugin("log", phase=Phase.MEASURE, **{event: log})


def test_a_metric_of_validation_that_is_logged_after_the_evaluation_is_seen_in_its_epoch():
    values = [3.0, 1.0, 2.0, 2.0, 0.0]
    stopping = EarlyStopping(monitor="validation/mine", mode="min", patience=2, restore_best=True)
    run = engine(Tiny(train_rows=8), logs(values, name="validation/mine"), stopping, epochs=5).fit()
    assert (run.status, run.epoch) == ("stopped", 4)
    assert run.decisions[-1].reason == "validation/mine was best at epoch 2, step 8"


def test_a_metric_that_comes_later_is_waited_for_where_the_first_epoch_says_so():
    values = [None, None, 3.0, 3.0, 3.0]
    waiting = EarlyStopping(monitor="score", mode="min", patience=1, start_from_epoch=3)
    run = engine(Tiny(), logs(values), waiting, epochs=5).fit()
    assert (run.status, run.epoch) == ("stopped", 4)
    with pytest.raises(UsageError, match="the metric 'score' is not logged"):
        engine(Tiny(), logs(values), EarlyStopping(monitor="score", mode="min"), epochs=5).fit()


def test_nothing_but_nan_uses_patience_up_where_it_is_not_to_be_stopped_at():
    values = [float("nan")] * 5
    run = engine(
        Tiny(), logs(values), EarlyStopping(monitor="score", mode="min", patience=2, check_finite=False), epochs=5
    ).fit()
    assert run.reason == "score was never finite for 2 epochs"


def test_the_metrics_at_the_end_are_those_of_the_weights_that_were_gone_back_to():
    stopping = EarlyStopping(patience=9, restore_best=True)
    run = engine(Tiny(train_rows=8, validation_rows=9), stopping, epochs=6, optimizer={"learning_rate": 3.0}).fit()
    losses = [entry["validation/loss"] for entry in run.history]
    assert run.metrics["validation/loss"] == min(losses) != losses[-1]


@pytest.mark.parametrize("kind", ["failed", "interrupted"])
def test_a_run_that_is_cut_short_ends_with_the_best_weights_too_and_continues_with_the_newest(tmp_path, kind):
    kept, newest = {}, {}

    def end(run):
        kept[run.epoch] = weights(run)
        if run.epoch == 4 and kind == "failed":
            raise ValueError("broken")
        if run.epoch == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    values = [3.0, 1.0, 2.0, 2.0, 2.0]
    saving = plugin("save", phase=Phase.SAVE, fit_end=lambda run: run.save("it is cut short"))
    made = engine(
        Tiny(train_rows=8),
        logs(values, event="evaluate_end"),
        EarlyStopping(monitor="score", mode="min", patience=9, restore_best=True),
        saving,
        plugin("end", phase=Phase.REPORT, epoch_end=end),
        folder=tmp_path / "run",
        epochs=5,
    )
    with pytest.raises((PluginError, Interrupted)):
        made.fit()
    assert all((a == b).all() for a, b in zip(weights(made.run), kept[2], strict=True))
    newest = checkpoint.complete_checkpoints(tmp_path / "run")[0].read()["parameters"]
    assert all((a == b).all() for a, b in zip(newest.values(), kept[4], strict=True))


def test_the_threshold_goes_back_with_the_weights():
    class Deciding(Tiny):
        threshold = 0.5

    def tune(run):
        run.threshold = run.epoch / 10

    values = [3.0, 1.0, 2.0, 2.0]
    tuning = plugin("tune", phase=Phase.TUNE, evaluate_end=tune)
    stopping = EarlyStopping(monitor="score", mode="min", patience=9, restore_best=True)
    run = engine(Deciding(), logs(values, event="evaluate_end"), tuning, stopping, epochs=4).fit()
    assert run.threshold == 0.2


def test_a_relative_difference_is_of_the_best_values_size_whatever_its_sign():
    values = [-10.0, -9.5, -9.5, -8.0]
    stopping = EarlyStopping(monitor="score", mode="max", min_delta=0.1, relative=True, patience=2)
    run = engine(Tiny(), logs(values), stopping, epochs=4).fit()
    assert (run.epoch, run.reason) == (3, "score was no better than -10 for 2 epochs")


# ---- the table of what others have ----------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "early-stopping.md"

OTHERS = {
    "Lightning": "monitor min_delta patience verbose mode strict check_finite stopping_threshold divergence_threshold "
    "check_on_train_epoch_end log_rank_zero_only",
    "Keras": "monitor min_delta patience verbose mode baseline restore_best_weights start_from_epoch",
    "Ignite": "patience score_function trainer threshold cumulative threshold_mode mode min_delta min_delta_mode "
    "cumulative_delta",
    "Composer": "monitor dataloader_label comp min_delta patience",
}
"""The arguments of Lightning 2.6.6, Keras 3.15.1, Ignite 0.5.5 and Composer 0.32.1, from their sources."""


def table():
    """The page's table: the heading's names, and for each row the names in backticks of each column."""
    text = PAGE.read_text(encoding="utf-8").split("## What other libraries have")[1]
    heading, _, *rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    names = [cell.strip().split(" ")[0] for cell in heading]
    return names, [[set(re.findall(r"`([^`]+)`", cell)) for cell in row] for row in rows]


def column(name):
    names, rows = table()
    return set().union(*(row[names.index(name)] for row in rows))


def test_the_table_has_every_option_of_ours_and_no_other():
    from trainer.config.options import options_of

    assert column("ours") == {option.name for option in options_of(EarlyStopping)}


@pytest.mark.parametrize("library", OTHERS)
def test_the_table_has_every_option_of_the_other_libraries(library):
    assert column(library) == set(OTHERS[library].split())


def test_the_table_has_every_option_of_gluons_estimator():
    from trainer.mxnet import mx

    handlers = import_module(f"{mx.__name__}.gluon.contrib.estimator.event_handler")
    arguments = set(inspect.signature(handlers.EarlyStoppingHandler).parameters)
    assert column("Estimator") == arguments


def by_keras(values, mode, patience, baseline):
    """The epoch that Keras's EarlyStopping ends after; the last one if it does not stop (its documented algorithm)."""

    def improves(value, reference):
        return value < reference if mode == "min" else value > reference

    best, wait = math.inf if mode == "min" else -math.inf, 0
    for epoch, value in enumerate(values):
        wait += 1
        if improves(value, best):
            best = value
            if baseline is None or improves(value, baseline):
                wait = 0
        elif wait >= patience and epoch > 0:
            return epoch + 1
    return len(values)


class Asked:
    """As much of a run as early stopping looks at."""

    def __init__(self, mode):
        self.metrics, self.times_logged, self.epoch, self.step, self.stopped = {}, {}, 0, 0, 0
        self.mode = mode

    def sign(self, name, mode):
        return 1.0 if mode == "max" else -1.0

    def stop(self, reason):
        self.stopped = self.epoch


@pytest.mark.parametrize("baseline", [None, 2.6])
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_it_stops_where_keras_stops(mode, patience, baseline):
    """Of 132 such sequences, 16 differed: an improvement that did not beat the baseline could stop the run."""
    for values in product([2.5, 2.6, 2.7], repeat=5):
        run, stopping = Asked(mode), EarlyStopping(monitor="score", mode=mode, patience=patience, baseline=baseline)
        for run.epoch, value in enumerate(values, start=1):
            run.metrics["score"], run.step = value, run.epoch
            stopping._look(run)
            if run.stopped:
                break
        assert run.epoch == by_keras(values, mode, patience, baseline), values

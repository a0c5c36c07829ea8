"""Early stopping: when it stops, why, and what it leaves behind."""

import math

import numpy as np
import pytest
from tiny import Tiny, engine, plugin, weights

from trainer import Phase, UsageError
from trainer_plugins.early_stopping import EarlyStopping


def watching(values, event="epoch_end", **options):
    """A run in which `figure` takes these values, one an epoch, watched with these options."""
    stopping = EarlyStopping(monitor="figure", **{"mode": "min", **options})
    stopping.name = "early-stopping"
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"figure": values[run.epoch - 1]}))
    return engine(Tiny(), stopping, logging, epochs=len(values)).fit()


@pytest.mark.parametrize(
    ("values", "options", "epochs", "reason"),
    [
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, 5, "figure was no better than 1 for 2 epochs"),
        ([3, 2, 1, 1, 1, 0], {"patience": 3}, 6, None),
        ([1, 2, 3, 3, 3], {"patience": 1, "mode": "max"}, 4, "figure was no better than 3 for 1 epoch"),
        ([1.0, 0.95, 0.9, 0.85], {"patience": 2, "min_delta": 0.2}, 3, "no better than 1 for 2 epochs"),
        ([100, 95, 90, 80], {"patience": 2, "min_delta": 0.08, "relative": True}, 4, None),
        ([3, 3, 3, 3], {"patience": 2, "baseline": 2.5}, 2, "no better than the baseline, 2.5 for 2 epochs"),
        ([3, 2, 1, 1], {"stopping_threshold": 2}, 2, "figure is 2, which is as good as 2"),
        ([3, 9, 1, 1], {"divergence_threshold": 8}, 2, "figure is 9, which is worse than 8"),
        ([1, 2, 2, 2, 2, 2], {"patience": 2, "start_from_epoch": 3}, 5, "no better than 2 for 2 epochs"),
        ([3, math.nan, 1], {}, 2, "figure is nan"),
        ([3, math.nan, 1], {"check_finite": False}, 3, None),
        ([3, math.nan, math.nan, 1], {"check_finite": False, "patience": 2}, 3, "no better than 3 for 2 epochs"),
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


def test_a_direction_that_nobody_knows_has_to_be_given():
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"figure": 1}))
    with pytest.raises(UsageError, match=r"whether more or less of 'figure' is better.*mode=max"):
        engine(Tiny(), EarlyStopping(monitor="figure"), logging).fit()


def test_a_monitor_that_nobody_logs_is_an_error_with_the_names():
    with pytest.raises(UsageError, match=r"nobody logs 'validation/los'.*train/loss.*Did you mean 'validation/loss'"):
        engine(Tiny(), EarlyStopping(monitor="validation/los")).fit()


def test_a_validation_metric_without_a_validation_split_is_an_error_at_once():
    with pytest.raises(UsageError, match="there is no validation split"):
        engine(Tiny(validation_rows=0), EarlyStopping()).fit()


@pytest.mark.parametrize("ended_by", ["patience", "epochs", "another plugin"])
def test_restore_best_goes_back_to_the_best_weights_whatever_ended_the_run(ended_by):
    values = [3, 1, 2, 2, 2, 2]
    kept = {}

    def log(run):
        run.log({"figure": values[run.epoch - 1]})
        kept[run.epoch] = [w.copy() for w in weights(run)]
        if ended_by == "another plugin" and run.epoch == 3:
            run.stop("something else")

    patience = 2 if ended_by == "patience" else 9
    stopping = EarlyStopping(monitor="figure", mode="min", patience=patience, restore_best=True)
    run = engine(Tiny(test_rows=3), stopping, plugin("log", phase=Phase.MEASURE, epoch_end=log), epochs=6).fit()
    for restored, best in zip(weights(run), kept[2], strict=True):
        np.testing.assert_array_equal(restored, best)
    assert any((a != b).any() for a, b in zip(kept[2], kept[run.epoch], strict=True))


def test_several_instances_watch_side_by_side():
    first, second = (EarlyStopping(monitor=name, mode="min", patience=p) for name, p in (("a", 5), ("b", 1)))
    first.name, second.name = "early-stopping@a", "early-stopping@b"
    logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"a": 1, "b": 1}))
    run = engine(Tiny(), first, second, logging, epochs=9).fit()
    assert (run.epoch, run.decisions[0].plugin) == (2, "early-stopping@b")


def test_its_state_goes_through_json_and_on():
    import json

    def trained(stopping, values):
        logging = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log({"figure": values[run.epoch - 1]}))
        return engine(Tiny(), stopping, logging, epochs=len(values)).fit()

    first = EarlyStopping(monitor="figure", mode="min", patience=3)
    trained(first, [2, 1, 1])
    second = EarlyStopping(monitor="figure", mode="min", patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == first.state_dict()


def test_a_patience_of_nothing_is_refused():
    from trainer.options import build

    with pytest.raises(UsageError, match="patience: 0 does not fit: it should be greater than or equal to 1"):
        build(EarlyStopping, {"patience": 0}, where="")

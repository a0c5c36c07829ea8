"""The exact sequence of events: the contract that every plugin builds on."""

import os
import signal

import pytest
from tiny import Recorder, Tiny, engine, plugin, weights

from trainer import Interrupted, Phase, PluginError
from trainer.dispatch import Dispatch
from trainer.events import EVENTS

BATCH = ["batch_begin", "backward_end", "batch_end"]
EVALUATION = ["evaluate_begin", "evaluate_batch_end", "evaluate_end"]
BEGIN = ["setup", "fit_begin"]
END = ["fit_end", "teardown"]


def events(task=None, *plugins, **settings):
    """The events of a run, and the run; a run that raises gives what it raised."""
    recorder = Recorder()
    made = engine(task or Tiny(), recorder, *plugins, **settings)
    try:
        made.fit()
    except BaseException as error:
        return recorder.events, made.run, error
    return recorder.events, made.run, None


def test_two_epochs_of_two_batches_with_evaluation():
    epoch = ["epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end"]
    seen, run, error = events()
    assert seen == [*BEGIN, *epoch, *epoch, *END]
    assert (run.status, run.epoch, run.step, run.updates, error) == ("finished", 2, 4, 4, None)


def test_every_batch_of_an_evaluation_has_its_event():
    seen, _, _ = events(Tiny(validation_rows=5), epochs=1)
    assert seen.count("evaluate_batch_end") == 3


def test_without_a_validation_split_nothing_is_evaluated():
    seen, run, _ = events(Tiny(validation_rows=0), epochs=1)
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, "epoch_end", *END]
    assert "validation/loss" not in run.metrics


def test_the_test_split_has_events_of_its_own_after_training():
    seen, run, _ = events(Tiny(test_rows=3), epochs=1)
    tested = ["test_begin", "test_batch_end", "test_batch_end", "test_end"]
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end", "fit_end", *tested, "teardown"]
    assert "test/f1" in run.metrics


def test_the_calibration_split_is_evaluated_once_between_training_and_the_test():
    seen, run, _ = events(Tiny(calibration_rows=3, test_rows=2), epochs=2)
    calibrated = ["calibration_begin", "calibration_batch_end", "calibration_batch_end", "calibration_end"]
    tested = ["test_begin", "test_batch_end", "test_end"]
    assert seen[seen.index("fit_end") :] == ["fit_end", *calibrated, *tested, "teardown"]
    assert run.end_metrics["calibration/loss"] == run.metrics["calibration/loss"]
    assert "calibration/f1" not in run.history[-1]
    assert events(Tiny(calibration_rows=3), plugin(epoch_begin=fail))[0][-3:] == ["exception", *END]


def test_calibration_sees_the_weights_that_fit_end_has_left():
    zero = plugin(fit_end=lambda run: run.set_weights({name: 0 * each for name, each in run.copy_weights().items()}))
    found = []
    look = plugin("look", calibration_end=lambda run: found.append((run.split, run.evaluation.split, run.evaluation)))
    events(Tiny(calibration_rows=5), zero, look)
    assert found[0][:2] == ("calibration", "calibration")
    assert found[0][2].rows == 5
    assert (found[0][2].predictions == 0.5).all()


def test_stop_request_in_batch_end_ends_the_run_after_the_current_batch_and_evaluates():
    seen, run, _ = events(None, plugin(batch_end=lambda run: run.stop("enough")))
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *EVALUATION, "epoch_end", *END]
    assert (run.status, run.reason) == ("stopped", "enough")


def test_stop_request_in_epoch_end_ends_the_run_after_the_epoch():
    seen, run, _ = events(None, plugin(epoch_end=lambda run: run.stop("enough")))
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end", *END]
    assert run.status == "stopped"


def test_stop_request_in_evaluate_end_ends_the_run_after_the_epoch():
    seen, run, _ = events(None, plugin(evaluate_end=lambda run: run.stop("enough")))
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end", *END]
    assert run.status == "stopped"


def test_stop_request_before_the_first_epoch_trains_nothing():
    seen, run, _ = events(None, plugin(fit_begin=lambda run: run.stop("enough")))
    assert seen == [*BEGIN, *END]
    assert run.status == "stopped"


def test_stop_request_before_the_first_batch_ends_the_epoch_in_order():
    seen, run, _ = events(None, plugin(epoch_begin=lambda run: run.stop("enough")))
    assert seen == [*BEGIN, "epoch_begin", *EVALUATION, "epoch_end", *END]
    assert "train/loss" not in run.metrics


def test_end_epoch_request_continues_with_the_next_epoch():
    first = plugin(batch_end=lambda run: run.end_epoch("short") if run.step == 1 else None)
    seen, run, _ = events(None, first)
    short, whole = (["epoch_begin", *BATCH * count, *EVALUATION, "epoch_end"] for count in (1, 2))
    assert seen == [*BEGIN, *short, *whole, *END]
    assert (run.status, run.step) == ("finished", 3)


def test_end_epoch_request_at_the_last_batch_does_not_shorten_the_next_epoch():
    _, run, _ = events(None, plugin(batch_end=lambda run: run.end_epoch("over anyway") if run.step == 2 else None))
    assert run.step == 4


def test_evaluate_request_evaluates_after_the_current_batch():
    asking = plugin(batch_end=lambda run: run.evaluate("look") if run.step == 1 else None)
    seen, _, _ = events(None, asking, epochs=1)
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *EVALUATION, *BATCH, *EVALUATION, "epoch_end", *END]


def test_skip_update_request_leaves_the_weights_for_one_batch():
    before, after = [], []
    looking = plugin(
        backward_end=lambda run: run.skip_update("odd") if run.step == 2 else None,
        batch_begin=lambda run: before.append([w.copy() for w in weights(run)]),
        batch_end=lambda run: after.append([w.copy() for w in weights(run)]),
    )
    _, run, _ = events(None, looking, epochs=1)
    moved = [any((b != a).any() for b, a in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]
    assert moved == [True, False]
    assert (run.step, run.updates) == (2, 1)


def test_save_request_fires_checkpoint_once_it_is_on_disk(tmp_path):
    present = []
    asking = plugin(
        batch_end=lambda run: run.save("now") if run.step == 1 else None,
        checkpoint=lambda run: present.append(sorted(p.name for p in (run.folder / "checkpoints").iterdir())),
    )
    seen, _, _ = events(None, asking, epochs=1, folder=tmp_path / "run")
    assert seen == [*BEGIN, "epoch_begin", *BATCH, "checkpoint", *BATCH, *EVALUATION, "epoch_end", *END]
    assert present == [["step-00000001"]]


def test_steps_ends_the_run_after_so_many_batches():
    seen, run, _ = events(None, steps=3)
    assert (seen.count("batch_end"), run.step, run.status) == (3, 3, "stopped")
    assert run.decisions[-1].plugin == "engine"


def fail(run):
    raise ValueError("broken")


def test_an_error_in_a_plugins_batch_hook_names_it_and_fires_the_endings():
    seen, run, error = events(None, plugin("sensor", batch_end=fail))
    # The recorder reports, so it comes after the plugin that failed: it does not see this batch_end.
    assert seen == [*BEGIN, "epoch_begin", "batch_begin", "backward_end", "exception", *END]
    assert isinstance(error, PluginError)
    assert str(error) == "plugin 'sensor' in on_batch_end at epoch 1, step 1 raised ValueError: broken"
    assert isinstance(error.__cause__, ValueError)
    assert (run.status, run.exception) == ("failed", error)


@pytest.mark.parametrize("event", ["setup", "fit_begin", "epoch_begin", "evaluate_begin", "evaluate_end", "epoch_end"])
def test_an_error_in_any_event_fires_every_ending(event):
    seen, run, error = events(None, plugin(**{event: fail}))
    assert seen[-3:] == ["exception", *END]
    assert isinstance(error, PluginError)
    assert run.status == "failed"


def test_an_error_in_the_data_is_raised_as_it_is_after_the_endings():
    class Breaking:
        rows, batches_per_epoch, weighted = 4, 2, False

        def __init__(self, whole):
            self.whole = whole

        def sample(self):
            return self.whole.sample()

        def epoch(self, epoch, skip=0):
            yield next(iter(self.whole.epoch(epoch)))
            raise OSError("the disk went away")

    recorder = Recorder()
    made = engine(Tiny(), recorder)
    made.run.train = Breaking(made.run.train)
    with pytest.raises(OSError, match="the disk went away"):
        made.fit()
    assert recorder.events == [*BEGIN, "epoch_begin", *BATCH, "exception", *END]
    assert made.run.status == "failed"


@pytest.mark.parametrize("event", ["fit_end", "teardown"])
def test_an_error_in_an_ending_does_not_keep_the_others_from_theirs(event):
    seen, run, error = events(None, plugin("sensor", phase=Phase.MEASURE, **{event: fail}), epochs=1)
    rest = ["fit_end", "exception", "teardown"] if event == "fit_end" else END
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end", *rest]
    assert f"on_{event}" in str(error)
    assert run.status == "failed"


def test_the_first_error_is_the_one_that_is_raised(caplog):
    seen, _, error = events(None, plugin("sensor", batch_end=fail, exception=fail, fit_end=fail, teardown=fail))
    assert seen[-3:] == ["exception", *END]
    assert "on_batch_end" in str(error)
    assert [record.message.count("another error followed") for record in caplog.records] == [1, 1, 1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_current_batch(signum):
    seen, run, error = events(None, plugin(backward_end=lambda run: os.kill(os.getpid(), signum)))
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *END]
    assert isinstance(error, Interrupted)
    assert isinstance(error, KeyboardInterrupt)
    assert (error.signal, error.run, run.status, run.step) == (signum, run, "interrupted", 1)


def test_a_second_ctrl_c_stops_at_once_and_fires_the_endings():
    def twice(run):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    seen, run, error = events(None, plugin(batch_begin=twice))
    assert seen == [*BEGIN, "epoch_begin", "exception", *END]
    assert type(error) is KeyboardInterrupt
    assert run.status == "interrupted"


def test_signal_handlers_are_put_back_after_a_run():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    events()
    events(None, plugin(batch_end=fail))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_disabled_observer_is_heard_of_and_not_called_again(caplog):
    calls = []

    def once(run):
        calls.append(run.step)
        raise ValueError("broken")

    seen, run, error = events(None, plugin("watcher", on_error="disable", batch_end=once, teardown=once), epochs=1)
    assert error is None
    assert calls == [1]
    assert seen == [*BEGIN, "epoch_begin", *BATCH, *BATCH, *EVALUATION, "epoch_end", *END]
    assert [(d.plugin, d.action, d.step) for d in run.decisions] == [("watcher", "disable", 1)]
    assert "watcher" in caplog.text
    assert "switched off" in caplog.text


def test_an_event_without_listeners_has_no_handlers():
    dispatch = Dispatch([plugin(batch_end=lambda run: None)])
    assert {event for event in EVENTS if dispatch.hook(event).handlers} == {"batch_end"}


def test_the_loop_in_the_docstring_names_every_event_in_order():
    import trainer.events

    text = trainer.events.__doc__
    found = [word for word in text.replace(",", " ").split() if word.startswith("on_")]
    main = [event for event in EVENTS if event not in ("checkpoint", "exception")]
    first_seen = list(dict.fromkeys(word.removeprefix("on_") for word in found if word.removeprefix("on_") in EVENTS))
    assert [event for event in first_seen if event in main] == main
    assert set(first_seen) == set(EVENTS)


def test_requests_at_the_end_of_an_epoch_do_not_reach_into_the_next():
    def ask(run):
        if run.epoch == 1:
            run.end_epoch("too late")
            run.evaluate("too late")

    seen, _, _ = events(None, plugin(epoch_end=ask))
    usual, _, _ = events(None)
    assert seen == usual

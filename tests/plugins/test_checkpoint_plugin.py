"""checkpoint: when it saves, and what it keeps."""

import os
import signal

import pytest
from tiny import Tiny, engine, plugin

from trainer import Interrupted, PluginError, UsageError
from trainer.catalog.registry import create_plugin
from trainer.runs import checkpoint


def made(name="checkpoint", **options):
    given = {"every-minutes": 0, **{key.replace("_", "-"): value for key, value in options.items()}}
    return create_plugin(name, given, where="here")


def trained(tmp_path, *plugins, epochs=4, rows=6, **values):
    """Four epochs of three steps, unless something else is asked for."""
    return engine(Tiny(train_rows=rows), *plugins, folder=tmp_path / "run", epochs=epochs, **values).fit()


def kept(tmp_path):
    return [saved.folder.name for saved in reversed(checkpoint.complete_checkpoints(tmp_path / "run"))]


def end(epoch, steps=3):
    return f"step-{epoch * steps:08d}-epoch-{epoch:04d}"


def logging(values):
    """Logs one value an epoch, before anybody looks."""
    return plugin("log", epoch_end=lambda run: run.log({"figure": values[run.epoch - 1]}))


def test_the_end_of_training_is_always_saved(tmp_path):
    trained(tmp_path, made())
    assert kept(tmp_path) == [end(4)]


def test_it_saves_every_so_many_epochs(tmp_path):
    trained(tmp_path, made(every_epochs=2, keep_last=0), epochs=5)
    assert kept(tmp_path) == [end(2), end(4), end(5)]


def test_it_saves_every_so_many_steps(tmp_path):
    trained(tmp_path, made(every_steps=4, keep_last=0))
    assert kept(tmp_path) == ["step-00000004", "step-00000008", "step-00000012", end(4)]


def test_it_saves_every_so_many_minutes(tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 45))
    monkeypatch.setattr("trainer_plugins.checkpoint.perf_counter", lambda: float(next(clock)))
    trained(tmp_path, made(every_minutes=1, keep_last=0), epochs=2)
    # The clock goes on by 45 s at each look: two looks make a minute, and the one at a checkpoint starts it anew.
    assert kept(tmp_path) == ["step-00000002", "step-00000004", "step-00000006", end(2)]


def test_the_newest_are_kept(tmp_path):
    trained(tmp_path, made(every_epochs=1, keep_last=2))
    assert kept(tmp_path) == [end(3), end(4)]


def test_an_old_one_goes_only_when_the_new_one_is_complete(tmp_path):
    there = []
    looking = plugin("look", batch_end=lambda run: there.append(len(checkpoint.complete_checkpoints(run.folder))))
    trained(tmp_path, made(every_epochs=1, keep_last=1), looking)
    assert there == [0] * 3 + [1] * 9


@pytest.mark.parametrize(("mode", "best"), [("min", [2, 4]), ("max", [1, 3])])
def test_the_best_are_kept_beside_the_newest(tmp_path, mode, best):
    trained(
        tmp_path, logging([9, 1, 8, 2, 5, 5]), made(keep_best=2, keep_last=1, monitor="figure", mode=mode), epochs=6
    )
    assert kept(tmp_path) == [*map(end, best), end(6)]


def test_of_equal_ones_the_first_is_the_best(tmp_path):
    trained(tmp_path, logging([3, 1, 1, 2]), made(keep_best=1, keep_last=1, monitor="figure", mode="min"))
    assert kept(tmp_path) == [end(2), end(4)]


def test_a_metric_that_is_not_finite_is_never_the_best(tmp_path):
    values = [float("nan"), 1, float("-inf"), 2]
    trained(tmp_path, logging(values), made(keep_best=1, keep_last=1, monitor="figure", mode="min"))
    assert kept(tmp_path) == [end(2), end(4)]


def test_two_of_them_keep_out_of_each_others_way(tmp_path):
    best = made("checkpoint@best", keep_best=1, keep_last=1, monitor="figure", mode="min")
    newest = made("checkpoint@often", every_steps=2, keep_last=1)
    trained(tmp_path, logging([3, 1, 4, 5]), best, newest)
    assert kept(tmp_path) == [end(2), end(4)]


def test_an_interrupted_run_is_saved_where_it_was(tmp_path):
    def interrupt(run):
        if run.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        trained(tmp_path, made(), plugin("interrupt", batch_end=interrupt))
    assert kept(tmp_path) == ["step-00000005"]


def test_a_failed_run_is_saved_where_it_was(tmp_path):
    def fail(run):
        if run.step == 5:
            raise ValueError("broken")

    with pytest.raises(PluginError, match="broken"):
        trained(tmp_path, made(every_epochs=1), plugin("fail", batch_begin=fail))
    assert kept(tmp_path) == [end(1), "failed-00000005"]


def test_the_state_of_a_failed_step_goes_when_something_exact_is_newer(tmp_path):
    def fail(run):
        if run.step == 5 and not run.resumed:
            raise ValueError("broken")

    with pytest.raises(PluginError, match="broken"):
        trained(tmp_path, made(every_epochs=1), plugin("fail", batch_begin=fail))
    exact = next(saved for saved in checkpoint.complete_checkpoints(tmp_path / "run") if saved.is_exact)
    trained(tmp_path, made(every_epochs=1), plugin("fail", batch_begin=fail), resume_from=exact)
    assert kept(tmp_path) == [end(3), end(4)]


def test_a_stopped_run_is_saved_at_its_end(tmp_path):
    trained(tmp_path, made(), steps=5)
    assert kept(tmp_path) == ["step-00000005-epoch-0002"]


def test_a_run_that_failed_before_its_first_step_has_nothing_to_save(tmp_path):
    def fail(run):
        raise ValueError("broken")

    with pytest.raises(PluginError, match="broken"):
        trained(tmp_path, made(), plugin("fail", fit_begin=fail))
    assert kept(tmp_path) == []


def test_a_run_without_a_folder_saves_nothing():
    assert engine(Tiny(), made(every_steps=1, keep_best=1)).fit().status == "finished"


def test_a_monitor_that_is_never_logged_is_an_error_with_the_names(tmp_path):
    with pytest.raises(
        UsageError, match=r"plugin 'checkpoint': the metric 'validation/f2' is not logged.*Did you mean 'validation/f1'"
    ):
        trained(tmp_path, made(keep_best=1, monitor="validation/f2"))


def test_what_the_end_of_a_run_does_to_the_weights_is_not_in_it(tmp_path):
    def spoil(run):
        run.set_weights({name: value * 0 for name, value in run.copy_weights().items()})
        run.save("after the end")

    trained(tmp_path, made(), plugin("spoil", fit_end=spoil))
    (saved,) = checkpoint.complete_checkpoints(tmp_path / "run")
    assert any(value.any() for value in saved.read()["parameters"].values())


def test_old_checkpoints_are_kept_while_the_disk_refuses_new_ones(tmp_path, monkeypatch, caplog):
    write = checkpoint.write_json

    def full(path, value):
        if "00000008" in str(path):
            raise OSError(28, "No space left on device")
        write(path, value)

    monkeypatch.setattr("trainer.runs.checkpoint.write_json", full)
    monkeypatch.setattr("trainer.saver.PAUSES_SECONDS", (0.0,))
    run = trained(tmp_path, made(every_steps=4, keep_last=1))
    assert "the checkpoint of step 8 cannot be written: No space left on device. The run continues" in caplog.text
    assert run.status == "finished"
    assert [name[:13] for name in kept(tmp_path)] == ["step-00000012"]


def test_each_save_stands_in_the_record_with_its_reason(tmp_path):
    run = trained(tmp_path, made(every_epochs=1))
    assert [(each.plugin, each.action, each.reason, each.count) for each in run.decisions] == [
        ("checkpoint", "save", "every epoch", 4)
    ]


def test_what_saving_costs_is_on_the_account_of_the_plugin_that_asked(tmp_path):
    run = trained(tmp_path, made(every_epochs=1), plugin("other", batch_end=lambda run: run.save("now")))
    rows = {(row["plugin"], row["event"]): row for row in run.ledger()}
    assert rows["checkpoint", "save"]["calls"] == 4
    assert rows["other", "save"]["calls"] == 12
    assert rows["other", "save"]["seconds"] > rows["other", "batch_end"]["seconds"]


def test_an_unknown_monitor_is_complained_of_once(tmp_path, caplog):
    with pytest.raises(UsageError, match="the metric 'foo' is not logged"):
        trained(tmp_path, made(keep_best=1, monitor="foo"))
    assert "another error followed" not in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_two_that_ask_for_the_same_one_keep_it_as_long_as_either_wants_it(tmp_path, turned):
    often, seldom = (
        made("checkpoint@often", every_steps=1, keep_last=2),
        made("checkpoint@seldom", every_steps=5, keep_last=3),
    )
    trained(tmp_path, *([often, seldom] if turned else [seldom, often]), epochs=6)
    assert kept(tmp_path) == ["step-00000010", "step-00000015", "step-00000018", end(6)]

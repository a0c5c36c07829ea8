"""The Estimator's event handlers, and MXNet's schedulers and metrics, run unchanged in a run of the engine."""

import logging
import re
from copy import deepcopy

import numpy as np
import pytest

from trainer import UsageError, fit
from trainer.mxnet import gluon, mx
from trainer.runs import checkpoint
from trainer.testing import TinyTask, check_plugin, rows
from trainer_plugins.estimator import EstimatorHandlers, Scheduler

kinds = gluon.contrib.estimator


class TwoOutputs(TinyTask):
    """Two classes by a softmax, as Estimator's users have it: MXNet's Accuracy takes the highest output."""

    def net(self):
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Dense(2))
        net.hybridize()
        return net

    def loss(self):
        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self):
        return [mx.metric.Accuracy()]

    def predictions(self, outputs):
        return outputs.softmax()


class Noting(kinds.TrainBegin, kinds.TrainEnd, kinds.EpochBegin, kinds.EpochEnd, kinds.BatchBegin, kinds.BatchEnd):
    """A user's own: listens to everything."""

    def __init__(self, priority=0, notes=None, name=""):
        self.priority, self.name = priority, name
        self.notes = [] if notes is None else notes
        self.seen = []

    def train_begin(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}train_begin")

    def train_end(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}train_end")

    def epoch_begin(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}epoch_begin")

    def epoch_end(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}epoch_end")

    def batch_begin(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}batch_begin")
        self.seen.append(kwargs)

    def batch_end(self, estimator, *args, **kwargs):
        self.notes.append(f"{self.name}batch_end")
        self.seen.append({name: deepcopy(value) for name, value in kwargs.items()})
        self.estimator = estimator


def quiet():
    return logging.Logger("quiet")


def train(*handlers, task=None, epochs=2, **values):
    """A run of 8 rows in batches of 3, with these handlers; the plugin and the run."""
    given = {name: values.pop(name) for name in ("train_metrics", "val_metrics", "logger") if name in values}
    plugin = EstimatorHandlers(list(handlers), **{"logger": quiet(), **given})
    values = {"batch_size": 3, "runs_dir": None, **values}
    run = fit(task or TwoOutputs(8, 6), epochs=epochs, plugins=[plugin], **values)
    return plugin, run


def test_events_fire_as_the_estimator_fires_them_by_priority():
    notes = []
    handlers = [Noting(1, notes, "late "), Noting(-1, notes, "early ")]
    given = list(handlers)
    train(*handlers, epochs=1)
    expected = []
    for event in ["train_begin", "epoch_begin", *["batch_begin", "batch_end"] * 3, "epoch_end", "train_end"]:
        expected += [f"early {event}", f"late {event}"]
    assert notes == expected
    assert handlers == given


def test_a_batch_comes_with_data_label_predictions_and_a_loss_for_each_row():
    handler = Noting()
    _, run = train(handler, epochs=1)
    begun, ended = handler.seen[:2]
    assert [part.shape for part in begun["batch"]] == [(3, 3), (3,)]
    assert [part.shape for part in ended["batch"]] == [(3, 3), (3,)]
    (pred,), (label,), (loss,) = ended["pred"], ended["label"], ended["loss"]
    assert (pred.shape, label.shape, loss.shape) == ((3, 2), (3,), (3,))
    again = gluon.loss.SoftmaxCrossEntropyLoss()(pred, label)
    assert np.allclose(again.asnumpy(), loss.asnumpy(), atol=1e-6)
    view = handler.estimator
    assert view.net is run.net
    assert (view.max_epoch, view.max_batch, view.batch_axis, view.context) == (1, None, 0, [mx.cpu(0)])
    assert isinstance(view, kinds.Estimator)


def test_several_contexts_give_lists_and_one_whole_batch():
    handler = Noting()
    train(handler, epochs=1, devices="cpu:0,1")
    ended = handler.seen[1]
    assert [part.shape for part in ended["batch"]] == [(3, 3), (3,)]
    assert [part.shape for part in ended["pred"]] == [(2, 2), (1, 2)]
    assert [len(ended[name]) for name in ("label", "loss")] == [2, 2]


def test_the_metric_handler_counts_what_the_estimator_would():
    accuracy, loss = mx.metric.Accuracy(), mx.metric.Loss("softmax")
    plugin = EstimatorHandlers([kinds.MetricHandler([accuracy, loss])], train_metrics=[accuracy, loss], logger=quiet())
    run = fit(TwoOutputs(8, 6), epochs=3, batch_size=3, plugins=[plugin], runs_dir=None)
    assert accuracy.name == "training accuracy"
    assert loss.get()[1] == pytest.approx(run.metrics["train/loss"], rel=1e-5)
    assert accuracy.num_inst == 8


def test_without_handlers_for_them_metrics_are_fed_from_the_engines_own_batches_and_evaluation():
    accuracy, loss = mx.metric.Accuracy(), mx.metric.Loss("softmax")
    plugin, run = train(train_metrics=[accuracy, loss])
    assert [metric.name for metric in plugin.val_metrics] == ["validation accuracy", "validation softmax"]
    values = [metric.get()[1] for metric in plugin.val_metrics]
    assert values == pytest.approx([run.metrics["validation/accuracy"], run.metrics["validation/loss"]], rel=1e-5)
    assert loss.get()[1] == pytest.approx(run.metrics["train/loss"], rel=1e-5)


@pytest.mark.parametrize("interval", ["epoch", 2])
def test_the_logging_handler_logs_training_and_metrics(interval):
    lines = []
    logger = logging.Logger("to-list", logging.INFO)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    accuracy = mx.metric.Accuracy()
    train(kinds.LoggingHandler(interval, [accuracy]), train_metrics=[accuracy], logger=logger, learning_rate=0.5)
    assert lines[0] == "Training begin: using optimizer SGD with current learning rate 0.5000 "
    assert lines[1] == "Train for 2 epochs."
    assert lines[2] == "[Epoch 0] Begin, current learning rate: 0.5000"
    assert re.fullmatch(r"\[Epoch 1\] Finished in \d+\.\d+s, training accuracy: \d\.\d{4}", lines[-2])
    assert lines[-1].startswith("Train finished using total ")
    batches = [line for line in lines if line.startswith("[Epoch 0][Batch")]
    assert len(batches) == (0 if interval == "epoch" else 2)
    if batches:
        assert batches[0].startswith("[Epoch 0][Batch 0][Samples 3] time/interval: ")


def test_the_checkpoint_handler_writes_what_can_be_loaded_and_prunes(tmp_path):
    loss = mx.metric.Loss("softmax")
    with pytest.warns(UserWarning, match="operator will be used"):
        handler = kinds.CheckpointHandler(str(tmp_path), monitor=loss, save_best=True, max_checkpoints=2)
    handler.monitor_op, handler.best = np.less, np.inf
    _, run = train(handler, train_metrics=[loss], epochs=4, optimizer="adam")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "model-symbol.json" in names
    assert [name for name in names if name.endswith(".params")] == [
        "model-best.params",
        "model-epoch2batch9.params",
        "model-epoch3batch12.params",
    ]
    net = TwoOutputs().net()
    net.load_parameters(str(tmp_path / "model-epoch3batch12.params"))
    for mine, theirs in zip(net.collect_params().values(), run.net.collect_params().values(), strict=True):
        assert np.array_equal(mine.data().asnumpy(), theirs.data().asnumpy())
    with np.load(tmp_path / "model-best.states", allow_pickle=False) as states:
        assert {"counts", "num_update", "state0"} <= set(states.files)


def test_the_checkpoint_handler_continues_from_its_own_files(tmp_path):
    first = kinds.CheckpointHandler(str(tmp_path), epoch_period=1)
    _, straight = train(first, epochs=2, optimizer="adam")
    again = kinds.CheckpointHandler(str(tmp_path), epoch_period=1, resume_from_checkpoint=True)
    noting = Noting(-5)
    _, resumed = train(again, noting, epochs=4, optimizer="adam")
    assert noting.notes.count("epoch_end") == 2
    assert (resumed.status, resumed.reason) == ("stopped", "the handlers have reduced max_epoch to 2")
    assert resumed.optimizer.num_update == 2 * straight.optimizer.num_update
    assert any(path.name.startswith("model-epoch3") for path in tmp_path.iterdir())


def test_states_that_are_pickles_are_refused(tmp_path):
    (tmp_path / "model-epoch0batch3.states").write_bytes(b"\x80\x04N.")
    net = TwoOutputs().net()
    net.initialize()
    net(mx.nd.zeros((1, 3)))
    net.save_parameters(str(tmp_path / "model-epoch0batch3.params"))
    handler = kinds.CheckpointHandler(str(tmp_path), resume_from_checkpoint=True)
    with pytest.raises(UsageError, match="does not hold optimizer states saved by this class"):
        train(handler, epochs=4)


def test_the_stopping_handler_counts_the_runs_own_epochs_or_batches():
    handler = kinds.StoppingHandler()
    _, run = train(handler, epochs=3)
    assert (run.epoch, handler.current_epoch, handler.max_epoch, handler.max_batch) == (3, 3, 3, None)
    handler = kinds.StoppingHandler()
    _, run = train(handler, epochs=9, steps=4)
    assert (run.step, handler.current_batch, handler.max_batch, handler.max_epoch) == (4, 4, 4, None)


def test_the_early_stopping_handler_stops_by_the_engines_evaluation():
    accuracy = mx.metric.Accuracy()
    plugin = EstimatorHandlers(train_metrics=[accuracy], logger=quiet())
    handler = kinds.EarlyStoppingHandler(plugin.val_metrics[0], mode="max", patience=2, baseline=2.0)
    plugin.handlers = [handler]
    run = fit(TwoOutputs(8, 6), epochs=50, batch_size=3, plugins=[plugin], runs_dir=None)
    assert (run.status, run.epoch, handler.stopped_epoch) == ("stopped", 2, 1)
    assert run.reason == "EarlyStoppingHandler requested it"
    assert [(each.plugin, each.action) for each in run.decisions] == [("estimator-handlers", "stop")]


def test_the_validation_handler_evaluates_its_own_loader():
    data = rows(6, seed=1)
    loader = gluon.data.DataLoader(gluon.data.ArrayDataset(data.features, data.labels), batch_size=4)
    accuracy = mx.metric.Accuracy()
    plugin = EstimatorHandlers(train_metrics=[accuracy], logger=quiet())
    plugin.handlers = [kinds.ValidationHandler(loader, plugin.estimator.evaluate, batch_period=2)]
    run = fit(TwoOutputs(8, 6), epochs=2, batch_size=3, plugins=[plugin], runs_dir=None)
    assert plugin.val_metrics[0].get() == ("validation accuracy", run.metrics["validation/accuracy"])
    assert plugin.val_metrics[0].num_inst == 6


class StopsInBatch(kinds.BatchEnd):
    """Ends the epoch at its second batch; with `stop_training`, the run."""

    def __init__(self, stop_training=False):
        self.stop_training, self.batches = stop_training, 0

    def batch_end(self, estimator, *args, **kwargs):
        self.batches += 1
        return self.batches % 2 == 0


def test_true_from_batch_end_ends_the_epoch_and_stop_training_the_run():
    _, run = train(StopsInBatch(), epochs=3)
    assert (run.status, run.step, run.epoch) == ("finished", 6, 3)
    assert [(each.action, each.reason, each.count) for each in run.decisions] == [
        ("end_epoch", "StopsInBatch requested it", 3)
    ]
    _, run = train(StopsInBatch(stop_training=True), epochs=3)
    assert (run.status, run.step, run.reason) == ("stopped", 2, "StopsInBatch requested it")


def test_stop_training_on_the_estimator_stops_the_run():
    class Sets(kinds.EpochEnd):
        def epoch_end(self, estimator, *args, **kwargs):
            estimator.stop_training = True

    _, run = train(Sets(), epochs=9)
    assert (run.status, run.epoch) == ("stopped", 1)


def test_train_end_is_called_as_the_estimator_would():
    class Fails(kinds.BatchEnd):
        def batch_end(self, estimator, *args, **kwargs):
            raise RuntimeError("no disk")

    noting = Noting()
    with pytest.raises(Exception, match="no disk"):
        train(noting, Fails())
    assert "train_end" not in noting.notes


def test_the_update_stays_the_engines(caplog):
    _, run = train(kinds.GradientUpdateHandler(), epochs=1)
    assert "the GradientUpdateHandler is left out, since the engine updates the weights" in caplog.text
    plain = fit(TwoOutputs(8, 6), epochs=1, batch_size=3, runs_dir=None)
    assert run.metrics["train/loss"] == plain.metrics["train/loss"]

    class Own(kinds.GradientUpdateHandler):
        pass

    with pytest.raises(UsageError, match="Own updates the weights, which is"):
        train(Own())

    class Steps(kinds.BatchEnd):
        def batch_end(self, estimator, *args, **kwargs):
            estimator.trainer.step(1)

    with pytest.raises(UsageError, match="the engine updates the weights"):
        train(Steps())


@pytest.mark.parametrize("handler", ["text", object(), kinds.StoppingHandler])
def test_something_that_is_not_a_handler_is_refused(handler):
    with pytest.raises(UsageError, match="is not an event handler of the Estimator"):
        train(handler)


def make_handlers():
    loss = mx.metric.Loss("softmax")
    plugin = EstimatorHandlers(train_metrics=[loss], logger=quiet())
    plugin.handlers = [
        kinds.EarlyStoppingHandler(plugin.val_metrics[0], mode="min", patience=9),
        kinds.StoppingHandler(),
    ]
    return plugin


def test_handlers_keep_the_contract_of_a_plugin_resume_included():
    notes = check_plugin(make_handlers, task=lambda: TwoOutputs(21, 9, 5))
    assert "µs per batch" in notes["its-cost-is-known"]


def test_patience_continues_where_it_was_after_a_resume(tmp_path):
    def make(baseline):
        accuracy = mx.metric.Accuracy()
        plugin = EstimatorHandlers(train_metrics=[accuracy], logger=quiet())
        handler = kinds.EarlyStoppingHandler(plugin.val_metrics[0], mode="max", patience=5, baseline=baseline)
        plugin.handlers = [handler]
        return plugin, handler

    from trainer import Phase, Plugin
    from trainer.launch.resume import resume

    class Fails(Plugin):
        phase = Phase.REPORT

        def on_epoch_end(self, run):
            run.save("now")

        def on_checkpoint(self, run):
            if run.epoch == 3:
                raise KeyboardInterrupt

    plugin, _ = make(2.0)
    with pytest.raises(KeyboardInterrupt):
        fit(TwoOutputs(8, 6), epochs=50, batch_size=3, plugins=[plugin, Fails()], runs_dir=tmp_path, name="a")
    (folder,) = tmp_path.glob("*/a")
    assert checkpoint.complete_checkpoints(folder)
    plugin, handler = make(2.0)

    class Nothing(Plugin):
        name = "fails"

    run = resume(folder, task=TwoOutputs(8, 6), plugins=[plugin, Nothing()])
    assert (run.epoch, run.status, handler.wait, handler.current_epoch) == (5, "stopped", 5, 5)


# ---- what handlers keep and change -----------------------------------------------------------------------------------


class Keeping(kinds.BatchBegin, kinds.BatchEnd):
    """Collects everything over an epoch, without a copy."""

    def __init__(self, priority=0):
        self.priority, self.ended, self.then = priority, [], []

    def batch_begin(self, estimator, *args, **kwargs):
        self.begun = kwargs["batch"]

    def batch_end(self, estimator, *args, **kwargs):
        assert kwargs["batch"] is self.begun
        self.ended.append(kwargs)
        self.then.append(deepcopy(kwargs))


def flat(value):
    if isinstance(value, (list, tuple)):
        return [part for each in value for part in flat(each)]
    return [value.asnumpy()]


@pytest.mark.parametrize("priority", [0, -3000])
@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_what_a_handler_keeps_is_not_overwritten(devices, priority):
    """Predictions collected over an epoch were the last ones, once per batch."""
    handler = Keeping(priority)
    train(handler, devices=devices, epochs=2)
    assert len(handler.ended) == 6
    for kept, then in zip(handler.ended, handler.then, strict=True):
        for name in ("batch", "pred", "label", "loss"):
            assert all((a == b).all() for a, b in zip(flat(kept[name]), flat(then[name]), strict=True)), name
    assert len({part.tobytes() for kept in handler.ended for part in flat(kept["pred"])}) >= 6


class Doubling(kinds.BatchBegin):
    """Changes what is trained, in place or by another array."""

    def __init__(self, how):
        self.how = how

    def batch_begin(self, estimator, *args, **kwargs):
        batch = kwargs["batch"]
        if self.how == "in place":
            batch[0][:] = batch[0] * 2
        else:
            batch[0] = (batch[0] * 2).astype("float64")


class Doubled(TwoOutputs):
    def splits(self, run):
        splits = super().splits(run)
        splits.train.features[:] *= 2
        return splits


@pytest.mark.parametrize("how", ["in place", "another"])
@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
def test_what_batch_begin_changes_is_trained_on_any_number_of_devices(devices, how):
    _, run = train(Doubling(how), task=TwoOutputs(8, 0), devices=devices)
    _, expected = train(task=Doubled(8, 0), devices=devices)
    assert run.metrics["train/loss"] == pytest.approx(expected.metrics["train/loss"], rel=1e-6)
    _, unchanged = train(task=TwoOutputs(8, 0), devices=devices)
    assert run.metrics["train/loss"] != pytest.approx(unchanged.metrics["train/loss"], rel=1e-3)


def test_a_batch_of_another_shape_is_refused():
    class Cutting(kinds.BatchBegin):
        def batch_begin(self, estimator, *args, **kwargs):
            kwargs["batch"][0] = kwargs["batch"][0][:1]

    message = "a handler has changed the batch's arrays from (3, 3), (3,) to (1, 3), (3,)"
    with pytest.raises(UsageError, match=re.escape(message)):
        train(Cutting())


class Scales(kinds.BatchEnd):
    def __init__(self, factor, priority):
        self.factor, self.priority = factor, priority

    def batch_end(self, estimator, *args, **kwargs):
        for parameter in estimator.net.collect_params().values():
            for gradient in parameter.list_grad():
                gradient[:] = gradient * self.factor


@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1"])
@pytest.mark.parametrize(
    ("priority", "others", "obeyed"),
    [(-2001, [], True), (-2000, [], True), (-1999, [], False), (-1, [kinds.GradientUpdateHandler(0)], True)],
)
def test_a_handler_before_the_update_changes_gradients(priority, others, obeyed, devices):
    values = {"epochs": 1, "optimizer": "sgd", "devices": devices}
    _, run = train(Scales(0.5, priority), *others, learning_rate=0.2, **values)
    _, expected = train(learning_rate=0.1 if obeyed else 0.2, **values)
    for mine, theirs in zip(run.copy_weights().values(), expected.copy_weights().values(), strict=True):
        assert np.allclose(mine, theirs, atol=1e-6)


# ---- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (mx.metric.Accuracy(), ["training accuracy"]),
        ("acc", ["training accuracy"]),
        (["acc", mx.metric.TopKAccuracy(2)], ["training accuracy", "training top_k_accuracy_2"]),
        (mx.metric.CompositeEvalMetric(["acc", mx.metric.MSE()]), ["training accuracy", "training mse"]),
    ],
    ids=["one", "name", "several", "composite"],
)
def test_metrics_are_given_as_one_as_names_or_several(given, names):
    plugin, _ = train(train_metrics=given, epochs=1)
    assert [metric.name for metric in plugin.train_metrics] == names
    assert not any(np.isnan(metric.get()[1]) for metric in [*plugin.train_metrics, *plugin.val_metrics])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("acuracy", "train_metrics: MXNet has no metric 'acuracy'. Did you mean 'accuracy'?"),
        (mx.metric.Accuracy, "the class Accuracy is not a metric of MXNet. Give instances"),
        ([3], "3 is not a metric of MXNet"),
    ],
)
def test_something_that_is_not_a_metric_is_refused(given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        EstimatorHandlers(train_metrics=given)


def test_the_default_metrics_are_the_estimators():
    plugin, _ = train(epochs=1)
    assert [metric.name for metric in plugin.train_metrics] == ["training loss", "training accuracy"]
    assert [metric.name for metric in plugin.val_metrics] == ["validation loss", "validation accuracy"]
    plugin, _ = train(epochs=1, task=TinyTask())
    assert [metric.name for metric in plugin.train_metrics] == ["training loss"]


def test_a_metric_that_nothing_updates_is_refused():
    foreign = mx.metric.Accuracy()
    with pytest.raises(UsageError, match="EarlyStoppingHandler uses 'accuracy', a metric that nothing updates"):
        train(kinds.EarlyStoppingHandler(foreign, mode="max"))
    plugin = EstimatorHandlers(logger=quiet())
    plugin.handlers = [kinds.EarlyStoppingHandler(plugin.val_metrics[0], mode="min")]
    with pytest.raises(UsageError, match="uses 'validation loss', and there is no validation split"):
        fit(TwoOutputs(8, 0), epochs=1, plugins=[plugin], runs_dir=None)

    class Counts(kinds.BatchEnd):
        def __init__(self):
            self.mine = foreign

        def batch_end(self, estimator, *args, **kwargs):
            self.mine.update(kwargs["label"], kwargs["pred"])

    train(Counts(), kinds.EarlyStoppingHandler(foreign, mode="max"), epochs=1)


# ---- schedulers ------------------------------------------------------------------------------------------------------


def schedulers():
    return {
        "factor": mx.lr_scheduler.FactorScheduler(3, factor=0.5, base_lr=0.4),
        "multi-factor": mx.lr_scheduler.MultiFactorScheduler([2, 7], factor=0.1, base_lr=0.4),
        "poly": mx.lr_scheduler.PolyScheduler(10, base_lr=0.4, pwr=1),
        "cosine": mx.lr_scheduler.CosineScheduler(10, base_lr=0.4, warmup_steps=3, warmup_begin_lr=0.01),
    }


@pytest.mark.parametrize("name", schedulers())
def test_a_scheduler_gives_the_weights_that_gluons_trainer_would(name):
    run = fit(TwoOutputs(9, 0), epochs=4, batch_size=3, plugins=[Scheduler(schedulers()[name])], runs_dir=None)
    net = TwoOutputs().net()
    net.initialize()
    start = fit(TwoOutputs(9, 0), epochs=1, batch_size=3, learning_rate=0.0, runs_dir=None)
    net(mx.nd.zeros((1, 3)))
    for mine, theirs in zip(net.collect_params().values(), start.net.collect_params().values(), strict=True):
        mine.set_data(theirs.data())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"lr_scheduler": schedulers()[name]}, kvstore=None)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    assert run.train is not None
    for epoch in range(1, 5):
        for batch in run.train.epoch(epoch):
            with mx.autograd.record():
                value = loss(net(batch.data), batch.label)
            value.backward()
            trainer.step(batch.rows)
    for mine, theirs in zip(net.collect_params().values(), run.net.collect_params().values(), strict=True):
        assert np.allclose(mine.data().asnumpy(), theirs.data().asnumpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["factor", "multi-factor"])
def test_a_scheduler_keeps_the_contract_of_a_plugin(name):
    check_plugin(lambda: Scheduler(schedulers()[name]), ignore=["scheduler"])


def test_something_that_is_not_a_scheduler_is_refused():
    with pytest.raises(UsageError, match="is not a learning-rate scheduler"):
        fit(TinyTask(), plugins=[Scheduler(0.1)], runs_dir=None)
    with pytest.raises(UsageError, match="None is not a learning-rate scheduler"):
        fit(TinyTask(), plugins=[Scheduler()], runs_dir=None)

"""A mistyped metric is an error before the first epoch; the check leaves no trace in a run."""

import numpy as np
import pytest
from nets import Given, dense, regression
from packages import trainer
from tiny import Recorder, Tiny, engine, plugin, weights

from trainer import Plugin, UsageError
from trainer.catalog.registry import PLUGINS, create_plugin, installed, load
from trainer.metric_names import names_in
from trainer.metrics import BinaryClassification, Metric, MulticlassClassification
from trainer.testing.tiny import TinyImages, TinyWithThreshold


def made(name, **options):
    return create_plugin(name, {key.replace("_", "-"): value for key, value in options.items()}, where="here")


@pytest.mark.parametrize(
    "watching",
    [
        lambda name: made("early-stopping", monitor=name),
        lambda name: made("checkpoint", keep_best=1, monitor=name),
        lambda name: made("lr-schedule", schedule=("plateau",), monitor=name),
    ],
    ids=["early-stopping", "checkpoint", "lr-schedule"],
)
def test_what_a_plugin_watches_is_checked_before_training(watching):
    seen = Recorder()
    with pytest.raises(UsageError, match=r"'validation/lossy' is not logged. Did you mean 'validation/loss'\?"):
        engine(Tiny(), watching("validation/lossy"), seen)
    with pytest.raises(UsageError, match="not known whether higher or lower 'validation/true-positives' is better"):
        engine(Tiny(), watching("validation/true-positives"), seen)
    with pytest.raises(UsageError, match="the test split is evaluated after it"):
        engine(Tiny(test_rows=2), watching("test/loss"), seen)
    with pytest.raises(UsageError, match="there is no validation split to watch 'validation/loss' on"):
        engine(Tiny(validation_rows=0), watching("validation/loss"), seen)
    assert seen.events == []
    assert engine(Tiny(), watching("validation/roc-auc"), seen).run.metrics == {}


def test_what_other_plugins_log_counts():
    stopping = made("early-stopping", monitor="validation/tuned-f1")
    with pytest.raises(UsageError, match="'validation/tuned-f1' is not logged"):
        engine(TinyWithThreshold(), stopping)
    engine(TinyWithThreshold(), stopping, made("threshold-tuner"))


def test_a_declared_pattern_covers_names_that_depend_on_the_data():
    stopping = made("early-stopping", monitor="validation/gap/x", patience=0)
    gaps = iter([0.1, 0.3])
    watching = plugin("gaps", evaluate_end=lambda run: run.log({"validation/gap/x": next(gaps)}))
    type(watching).logs = {"validation/gap/*": "min", "validation/*/y": None}
    assert engine(Tiny(), stopping, watching).fit().status == "stopped"
    for name, message in (
        ("validation/gap/", "'validation/gap/' is not logged"),
        ("validation/gaps/x", "'validation/gaps/x' is not logged"),
        ("validation/x/y", "not known whether higher or lower 'validation/x/y' is better"),
    ):
        stopping.monitor = name
        with pytest.raises(UsageError, match=message):
            engine(Tiny(), stopping, watching)


def test_a_plugin_that_does_not_say_what_it_logs_may_log_anything():
    stopping = made("early-stopping", monitor="mine")
    silent = plugin("silent", epoch_begin=lambda run: run.log({"mine": 1.0}))
    stopping.mode = "min"
    assert engine(Tiny(), stopping, silent).fit().status == "finished"


def test_the_headline_is_checked_whatever_suggested_plugins_are_left_out():
    class Mistyped(Tiny):
        headline = ("train/loss", "validation/f2")

    with pytest.raises(UsageError, match="the headline of the task 'tiny': the metric 'validation/f2' is not logged"):
        engine(Mistyped())
    engine(Mistyped(validation_rows=0))
    Mistyped.defaults = type(Tiny.defaults)(plugins=("threshold-tuner", "progress"))
    with pytest.raises(UsageError, match="the metric 'validation/f2' is not logged"):
        engine(Mistyped())
    # What a plugin that is left out would log may be shown.
    Mistyped.headline = ("train/loss", "validation/tuned-f1", "validation/threshold")
    engine(Mistyped())
    Mistyped.headline = ("train/loss", "validation/tuned-f3")
    with pytest.raises(UsageError, match="the metric 'validation/tuned-f3' is not logged"):
        engine(Mistyped())
    # It cannot be asked if it is not installed.
    Mistyped.defaults = type(Tiny.defaults)(plugins=("not-installed",))
    engine(Mistyped())
    # A metric that only this plugin logs cannot be watched without it.
    Mistyped.headline = ("train/loss",)
    Mistyped.defaults = type(Tiny.defaults)(plugins=("threshold-tuner",))
    with pytest.raises(UsageError, match="'validation/tuned-f1' is not logged"):
        engine(Mistyped(), made("early-stopping", monitor="validation/tuned-f1"))


class PerClass(Metric):
    """Names that are known only with rows."""

    directions = {"class-1": "max"}  # noqa: RUF012

    def reset(self):
        self.counts = {}

    def update(self, predictions, labels, weights):
        for label in np.unique(labels):
            self.counts[f"class-{label:g}"] = float((labels == label).sum())

    def compute(self):
        if not self.counts:
            raise ZeroDivisionError("no rows")
        return self.counts

    state = add_state = None


class ByRows(Tiny):
    def metrics(self):
        return [PerClass()]


def dropout():
    from trainer.mxnet import gluon

    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(4), gluon.nn.Dropout(0.5), gluon.nn.Dense(1))
    return net


def test_a_name_that_depends_on_the_rows_is_looked_up_in_a_batch_and_changes_no_bit():
    def trained(*plugins):
        np.random.seed(1)
        task = ByRows(train_rows=8, validation_rows=8, make_net=dropout)
        return weights(engine(task, *plugins).fit()), np.random.random()

    seen = Recorder()
    plain, checked = trained(), trained(seen, made("early-stopping", monitor="validation/class-1", mode="max"))
    assert seen.events[:2] == ["setup", "fit_begin"]
    assert all(np.array_equal(*pair) for pair in zip(plain[0], checked[0], strict=True))
    assert plain[1] == checked[1]
    with pytest.raises(UsageError, match="Did you mean 'validation/class-1'"):
        engine(ByRows(validation_rows=8), made("early-stopping", monitor="validation/class-3"))


@pytest.mark.parametrize(
    "task",
    [
        Tiny(validation_rows=6),
        TinyImages(),
        Given(regression(12), regression(5, seed=1), make_net=lambda: dense(1)),
    ],
    ids=["two classes", "three classes", "numbers"],
)
def test_the_names_without_rows_are_those_of_an_evaluation(task):
    run = engine(task).fit()
    logged = {name.partition("/")[2] for name in run.metrics if name.startswith("validation/")} - {"loss"}
    assert names_in(run.task_metrics) == logged
    assert names_in([BinaryClassification(), MulticlassClassification()]) >= {"f1", "accuracy"}


def test_every_installed_plugin_that_needs_no_objects_says_what_it_logs():
    for entry in installed(PLUGINS):
        if entry.value.startswith("trainer_plugins"):
            cls = load(PLUGINS, entry.name)
            assert issubclass(cls, Plugin)
            # A property tells for its options, even for the defaults.
            logs = create_plugin(entry.name, {}, where="here").logs if isinstance(cls.logs, property) else cls.logs
            assert logs is not None, entry.name


def test_a_dry_run_and_a_search_refuse_a_mistyped_metric(tmp_path):
    typo = ("--plugin", "early-stopping", "--set", "early-stopping.monitor=validation/f11", "--dry-run")
    done = trainer("run", "logreg", "--train-rows", "50", *typo, cwd=tmp_path)
    expected = "the metric 'validation/f11' is not logged. Did you mean 'validation/f1'?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: plugin 'early-stopping': {expected}")
    search = ("--search", "learning-rate=0.1|0.2", "--monitor", "validation/f11", "--direction", "max")
    done = trainer("tune", "logreg", "--train-rows", "50", "--study", "one", *search, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: --monitor: {expected}")
    assert list(tmp_path.glob("runs/logreg/*")) == []

"""`fit` with a Gluon net and arrays: what goes in, what comes out, and what is refused."""

import json
import sys

import numpy as np
import pytest

from trainer import Arrays, UsageError, fit, load_model, resume
from trainer.mxnet import gluon, mx
from trainer_plugins.weight_averaging import WeightAveraging

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)
BINARY = (X[:, 0] > 0).astype(int)
SCE = "softmax-cross-entropy"
QUIET = {"progress": False}


def dense(*units, dropout=0.0):
    net = gluon.nn.HybridSequential()
    for count in units[:-1]:
        net.add(gluon.nn.Dense(count, activation="relu"))
        if dropout:
            net.add(gluon.nn.Dropout(dropout))
    net.add(gluon.nn.Dense(units[-1]))
    return net


def weights(net):
    return [parameter.data().asnumpy() for parameter in net.collect_params().values()]


# ---- what goes in ----------------------------------------------------------------------------------------------------


def test_one_line_trains_the_net_itself_in_shuffled_batches_of_32_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = dense(8, 3)
    run = fit(net, train=(X, Y), validation=(X[:30], Y[:30]), loss=SCE, epochs=20, optimizer="adam", learning_rate=0.05)
    assert (run.status, run.step, run.settings.batch_size) == ("finished", 60, 32)
    assert run.metrics["validation/accuracy"] > 0.9
    assert list(tmp_path.iterdir()) == []
    assert "epoch 20/20" in capsys.readouterr().out
    np.testing.assert_allclose(run.predict(X[:5]), net(mx.nd.array(X[:5])).asnumpy(), rtol=1e-6)
    orders = [np.concatenate([batch.indices for batch in run.train.epoch(epoch)]) for epoch in (1, 2)]
    assert sorted(orders[0]) == list(range(90))
    assert list(orders[0]) != list(orders[1])


def test_progress_is_shown_unless_it_is_switched_off(capsys):
    fit(dense(3), train=(X, Y), loss=SCE, epochs=1, progress=False)
    fit(dense(3), train=(X, Y), loss=SCE, epochs=1, without=["progress"])
    assert capsys.readouterr().out == ""


def sources():
    batches = [(X[start : start + 30], Y[start : start + 30]) for start in range(0, 90, 30)]
    dataset = gluon.data.ArrayDataset(X, Y.astype(np.float32))
    yield "arrays", (X, Y)
    yield "NDArrays", (mx.nd.array(X), mx.nd.array(Y))
    yield "float64", (X.astype(np.float64), Y.astype(np.float64))
    yield "lists", (X.tolist(), Y.tolist())
    yield "Arrays", Arrays(X, Y.astype(np.float32))
    yield "weighted", (X, Y, np.ones(90))
    yield "loader", gluon.data.DataLoader(dataset, batch_size=30)
    yield "batches", batches


@pytest.mark.parametrize(("kind", "source"), list(sources()), ids=[kind for kind, _ in sources()])
def test_rows_of_every_form_train(kind, source):
    run = fit(dense(3), train=source, loss=SCE, epochs=2, batch_size=30, **QUIET)
    assert run.step == 6
    assert np.isfinite(run.metrics["train/loss"])


def test_several_inputs_are_a_tuple():
    class Two(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.out = gluon.nn.Dense(1)

        def hybrid_forward(self, F, first, second):
            return self.out(F.concat(first, second, dim=1))

    run = fit(Two(), train=((X[:, :2], X[:, 2:]), BINARY), loss="sigmoid-binary-cross-entropy", epochs=1, **QUIET)
    assert run.predict((X[:7, :2], X[:7, 2:])).shape == (7, 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fraction_holds_rows_back_by_the_seed_and_in_proportion(seed):
    labels = np.repeat([0, 1, 2], [60, 20, 10])
    runs = [fit(dense(3), train=(X, labels), loss=SCE, validation=0.1, epochs=1, seed=seed, **QUIET) for _ in range(2)]
    assert (runs[0].train.rows, runs[0].validation.rows) == (81, 9)
    assert sorted(runs[0].evaluation.labels.tolist()) == [0] * 6 + [1] * 2 + [2]
    assert runs[0].history == runs[1].history


def test_rows_for_calibration_are_a_part_of_all_rows_or_rows_of_their_own(tmp_path):
    labels = np.repeat([0, 1, 2], [60, 20, 10])
    given = {"train": (X, labels), "loss": SCE, "epochs": 1, **QUIET}
    run = fit(dense(3), **given, validation=0.1, calibration=0.2, runs_dir=tmp_path)
    assert (run.train.rows, run.validation.rows, run.calibration.rows) == (63, 9, 18)
    assert sorted(run.evaluation.labels.tolist()) == [0] * 12 + [1] * 4 + [2] * 2
    assert set(run.end_metrics) >= {"calibration/loss", "calibration/accuracy"}
    record = json.loads((run.folder / "run.json").read_text())
    assert record["metrics"]["calibration/loss"] == run.metrics["calibration/loss"]
    run = fit(dense(3), **given, calibration=(X[:7], labels[:7]))
    assert (run.train.rows, run.validation, run.calibration.rows) == (90, None, 7)
    with pytest.raises(UsageError, match=r"calibration: 90 training rows are too few to take 0\.6 of them, as 45 are"):
        fit(dense(3), **given, validation=0.5, calibration=0.6)
    with pytest.raises(UsageError, match=r"calibration: 2 is not a part .*calibration=\(Xv, yv\)"):
        fit(dense(3), **given, calibration=2)


@pytest.mark.parametrize(
    ("loss", "labels", "outputs", "metric"),
    [
        (SCE, Y, 3, "accuracy"),
        (gluon.loss.SoftmaxCrossEntropyLoss(), Y, 3, "accuracy"),
        (gluon.loss.SoftmaxCELoss, Y, 3, "accuracy"),
        ("SoftmaxCrossEntropyLoss", Y, 3, "accuracy"),
        ("sigmoid-binary-cross-entropy", BINARY, 1, "accuracy"),
        ("l2", X[:, 0], 1, "root-mean-squared-error"),
        ("mse", X[:, 0], 1, "root-mean-squared-error"),
        ("l1", X[:, 0], 1, "mean-absolute-error"),
        ("huber", X[:, 0], 1, "mean-absolute-error"),
        ("hinge", 2 * BINARY - 1, 1, "accuracy"),
        ("logistic", 2 * BINARY - 1, 1, "accuracy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_loss_by_name_instance_or_class_has_its_metrics(loss, labels, outputs, metric):
    net = dense(outputs)
    run = fit(net, train=(X, labels), validation=(X, labels), loss=loss, epochs=1, **QUIET)
    assert f"validation/{metric}" in run.metrics


def test_a_function_is_a_loss():
    run = fit(dense(1), train=(X, X[:, 0]), loss=lambda out, y: (out.reshape((-1,)) - y).abs(), epochs=1, **QUIET)
    assert run.metrics["train/loss"] > 0


@pytest.mark.parametrize(
    "metrics", ["accuracy", ["accuracy", "macro-f1"], mx.metric.Accuracy(), [mx.metric.Accuracy(), "top-2-accuracy"]]
)
def test_metrics_by_name_and_mxnets_own_single_or_several(metrics):
    run = fit(dense(3), train=(X, Y), validation=(X, Y), loss=SCE, metrics=metrics, epochs=1, **QUIET)
    expected = (run.predict(X).argmax(axis=1) == Y).mean()
    assert run.metrics["validation/accuracy"] == pytest.approx(expected)


def test_weights_that_the_net_has_are_kept_and_others_follow_the_seed():
    net = dense(3)
    net.initialize(mx.init.Constant(0.25))
    net(mx.nd.array(X[:1]))
    run = fit(net, train=(X, Y), loss=SCE, epochs=1, learning_rate=0.0, optimizer="sgd", **QUIET)
    assert (run.copy_weights()["0.weight"] == 0.25).all()
    first, second = ([w.copy() for w in weights(net)] for net in [_trained(seed=3), _trained(seed=3)])
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert any((one != other).any() for one, other in zip(first, weights(_trained(seed=4)), strict=True))


def _trained(seed):
    net = dense(4, 3)
    fit(net, train=(X, Y), loss=SCE, epochs=1, seed=seed, **QUIET)
    return net


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", ["cpu", "cpu:0,1,2"])
def test_predict_gives_the_nets_outputs_and_predict_proba_probabilities(devices):
    net = dense(3)
    run = fit(net, train=(X, Y), loss=SCE, epochs=2, devices=devices, **QUIET)
    outputs = run.predict(X)
    np.testing.assert_allclose(outputs, net(mx.nd.array(X)).asnumpy(), rtol=1e-5, atol=1e-6)
    exponentials = np.exp(outputs)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.predict_proba(X), expected, rtol=1e-5)


def test_one_sigmoid_output_has_two_columns():
    run = fit(dense(1), train=(X, BINARY), loss="sigmoid-binary-cross-entropy", epochs=2, **QUIET)
    positive = 1 / (1 + np.exp(-run.predict(X)[:, 0]))
    np.testing.assert_allclose(run.predict_proba(X), np.stack([1 - positive, positive], axis=1), rtol=1e-5)


def test_a_loss_without_probabilities_says_so():
    run = fit(dense(1), train=(X, X[:, 0]), loss="l2", epochs=1, **QUIET)
    with pytest.raises(UsageError, match=r"the loss l2 gives no probabilities\. Use run\.predict\(X\)"):
        run.predict_proba(X)


def test_predict_uses_the_weights_that_evaluations_and_the_model_use(tmp_path):
    plugins = [WeightAveraging(decay=0.5)]
    run = fit(dense(3), train=(X, Y), loss=SCE, epochs=3, plugins=plugins, runs_dir=tmp_path, report=False, **QUIET)
    net = load_model(run.folder).net
    np.testing.assert_allclose(run.predict(X), net(mx.nd.array(X)).asnumpy(), rtol=1e-5, atol=1e-6)


def test_predict_of_a_task_takes_what_its_model_takes():
    run = fit("logreg", epochs=1, train_rows=50, without=["progress"], runs_dir=None)
    proba = run.predict_proba(np.zeros((3, 10)))
    assert proba.shape == (3, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)


def test_rows_of_another_shape_are_refused():
    run = fit(dense(3), train=(X, Y), loss=SCE, epochs=1, **QUIET)
    with pytest.raises(UsageError, match=r"the rows have shape \(3,\), and the net takes \(4,\)"):
        run.predict(X[:, :3])


def test_a_run_is_one_line_and_a_small_table():
    run = fit(dense(3), train=(X, Y), validation=0.2, loss=SCE, epochs=7, **QUIET)
    assert repr(run).startswith("<Run HybridSequential: finished, 7/7 epochs, 21 steps, train/loss ")
    assert "\n" not in repr(run)
    html = run._repr_html_()
    assert html.count("<tr>") == 6
    assert "validation/accuracy" in html


def test_the_history_as_a_data_frame():
    run = fit(dense(3), train=(X, Y), loss=SCE, epochs=3, **QUIET)
    frame = run.history_frame()
    assert list(frame.index) == [1, 2, 3]
    assert frame["train/loss"].tolist() == [entry["train/loss"] for entry in run.history]


def test_without_pandas_the_history_frame_says_what_to_install(monkeypatch):
    run = fit(dense(3), train=(X, Y), loss=SCE, epochs=1, **QUIET)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"needs pandas, which is not installed\. Install it: pip install pandas"):
        run.history_frame()


# ---- a run with a folder ---------------------------------------------------------------------------------------------


def test_a_folder_has_the_default_plugins_checkpoints_and_a_model_that_needs_no_net(tmp_path):
    run = fit(dense(5, 3), train=(X, Y), validation=0.2, loss=SCE, epochs=2, runs_dir=tmp_path, **QUIET)
    names = {path.name for path in run.folder.iterdir()}
    assert {"config.toml", "metrics.jsonl", "checkpoints", "tensorboard", "model", "run.json"} <= names
    table = load_model(run.folder).predict(X[:6])
    assert table["class"].to_pylist() == run.predict(X[:6]).argmax(axis=1).tolist()
    np.testing.assert_allclose(
        np.stack([table[f"probability-{number}"] for number in range(3)], axis=1), run.predict_proba(X[:6]), rtol=1e-5
    )


def test_resume_continues_to_the_same_bits(tmp_path):
    def train(epochs, **further):
        net = dense(6, 3, dropout=0.3)
        given = {"train": (X, Y), "validation": 0.2, "loss": SCE, "optimizer": "adam", "runs_dir": tmp_path}
        return fit(net, **given, epochs=epochs, **QUIET, **further)

    straight = train(4, name="straight")
    train(2, name="parted")
    parted = train(4, resume="parted")
    assert parted.history == straight.history
    for name, value in straight.copy_weights().items():
        assert (parted.copy_weights()[name] == value).all()
    with pytest.raises(UsageError, match=r"trained a net from Python.*fit\(net, train=…, loss=…, resume="):
        resume(parted.folder)
    with pytest.raises(UsageError, match="the run has loss 'softmax-cross-entropy', this call 'l2'"):
        fit(dense(6, 3), train=(X, X[:, :3]), loss="l2", validation=0.2, resume=parted.folder)


@pytest.mark.parametrize("optimizer", ["ftrl", "adam"])
def test_resume_of_a_net_with_an_embedding_continues_to_the_same_bits(tmp_path, optimizer):
    class Sums(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.table = gluon.nn.Embedding(500, 3, sparse_grad=True)
                self.dense = gluon.nn.Dense(3, in_units=X.shape[1])

        def hybrid_forward(self, F, x, ids):
            return self.dense(x) + self.table(ids).sum(axis=1)

    def train(epochs, **further):
        ids = np.random.default_rng(0).integers(0, 500, (len(X), 4)).astype(np.int32)
        given = {"train": ((X, ids), Y), "validation": 0.2, "loss": SCE, "optimizer": optimizer, "runs_dir": tmp_path}
        return fit(Sums(), **given, epochs=epochs, **QUIET, **further)

    straight = train(4, name="straight")
    assert straight.gradients.tables == ("table.weight",)
    train(2, name="parted")
    parted = train(4, resume="parted")
    assert parted.history == straight.history
    for name, value in straight.copy_weights().items():
        assert (parted.copy_weights()[name] == value).all()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, "there are no rows to train on"),
        ({"loss": None}, "no loss is given. Give a name"),
        ({"loss": "softmax-cross-entrpy"}, "Did you mean 'softmax-cross-entropy'"),
        ({"loss": 3}, "3 is not a loss"),
        ({"metrics": "acuracy"}, "Did you mean 'accuracy'"),
        ({"metrics": "f1"}, "the metric 'f1' does not go with the loss softmax-cross-entropy"),
        ({"train": (X, Y[:-1])}, "the numbers of rows differ: X has 90, y has 89"),
        ({"train": (X, Y + 1)}, "a label is 3, and the net gives 3 numbers per row"),
        ({"train": (X, np.array(["a", "b", "c"])[Y])}, "the labels are strings"),
        ({"train": X}, "one array is not rows with labels"),
        ({"train": (X[:0], Y[:0])}, "X has 0 rows"),
        ({"train": (np.where(X > 2, np.nan, X), Y)}, "holds nan in row"),
        ({"train": (row for row in [(X, Y)])}, "can be iterated only once"),
        ({"validation": 1.5}, "1.5 is not a part of the training rows"),
        ({"validation": (X[:, :2], Y)}, r"the rows of X have shape \(2,\), those of train \(4,\)"),
        ({"train": [(X, Y)], "validation": 0.2}, "can be taken from arrays only"),
        ({"optimizer": mx.optimizer.SGD()}, "it is a SGD, not a name or a dict"),
        ({"plugins": "progress"}, "'progress' is not a list. Give a list: plugins=.'progress'."),
        ({"without": "progress"}, "'progress' is not a list"),
        ({"plugins": [print]}, "A function becomes one with trainer.on"),
        ({"config": {"epochs": 2}}, "is not a path"),
        ({"epochs": 0}, "^epochs: 0 does not fit"),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, "has no argument 'momentun'. Did you mean 'momentum'"),
        ({"epoch": 3}, "fit has no option 'epoch' for a net. Did you mean 'epochs'"),
        ({"data": 3}, "fit has no option 'data' for a net. Did you mean 'train'"),
        ({"cache": "on"}, "'cache' is an option of tasks that read tables, not of a net. Name such a task: fit"),
        ({"name": "here"}, "name= needs a folder for runs"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_clear_line(change, message):
    given = {"train": (X, Y), "loss": SCE, "epochs": 1, **QUIET, **change}
    with pytest.raises(UsageError, match=message) as error:
        fit(dense(3), **given)
    assert "\n" not in str(error.value)


def test_rows_with_nan_are_refused_for_prediction_as_for_training(tmp_path):
    run = fit(dense(3), train=(X, Y), loss=SCE, epochs=1, runs_dir=tmp_path, report=False, **QUIET)
    for predict in (run.predict, run.predict_proba, load_model(run.folder).predict):
        with pytest.raises(UsageError, match="the data: X holds nan in row 1"):
            predict(np.where(np.arange(3)[:, None] == 1, np.nan, X[:3]))


def test_a_resumed_run_takes_the_optimizers_arguments_again_in_any_spelling(tmp_path):
    given = {"train": (X, Y), "loss": SCE, "runs_dir": tmp_path, "report": False, **QUIET}
    fit(dense(3), **given, epochs=1, optimizer={"name": "SGD", "momentum": 0.0, "learning_rate": 0.1}, name="a")
    run = fit(dense(3), **given, epochs=2, optimizer={"name": "sgd", "momentum": 0, "learning_rate": 0.1}, resume="a")
    assert run.epoch == 2
    with pytest.raises(UsageError, match=r"the run has momentum=0\.0, this call 0\.5"):
        fit(dense(3), **given, epochs=3, optimizer={"name": "sgd", "momentum": 0.5, "learning_rate": 0.1}, resume="a")


def test_the_class_of_a_net_is_not_a_net():
    with pytest.raises(UsageError, match="HybridSequential is a class"):
        fit(gluon.nn.HybridSequential, train=(X, Y), loss=SCE)


def test_a_net_whose_outputs_do_not_fit_the_labels_is_refused_before_training():
    with pytest.raises(UsageError, match="the net gives one number per row, and softmax-cross-entropy needs one per"):
        fit(dense(1), train=(X, Y), loss=SCE)
    with pytest.raises(UsageError, match=r"the net does not accept one row of the data"):
        fit(gluon.nn.Dense(3, in_units=7), train=(X, Y), loss=SCE)


def test_a_model_is_a_line_and_another_net_than_the_trained_one_is_named(tmp_path):
    from trainer.mxnet import gluon

    class Odd(gluon.Block):
        def __init__(self, units=1):
            super().__init__()
            with self.name_scope():
                self.dense = gluon.nn.Dense(units)

        def forward(self, rows):
            return self.dense(rows) if float(rows.sum().asscalar()) < 1e9 else rows

    rows = np.random.default_rng(0).uniform(size=(20, 3)).astype(np.float32)
    train = (rows, (rows[:, 0] > 0.5).astype(np.float32))
    run = fit(
        Odd(), train=train, loss="sigmoid-binary-cross-entropy", epochs=1, runs_dir=tmp_path, without=["progress"]
    )
    assert repr(load_model(run.folder, net=Odd())) == "<Model gluon-net: takes (rows, 3)>"
    with pytest.raises(UsageError, match=r"^net=: the net is not the one that was trained: dense.bias has the shape"):
        load_model(run.folder, net=Odd(5))
    net = gluon.nn.Sequential()
    net.add(gluon.nn.Dense(1))
    with pytest.raises(UsageError, match=r"0.weight was not saved.*Give the net that the run trained"):
        load_model(run.folder, net=net)

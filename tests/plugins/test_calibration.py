"""The calibration plugin: the model gives probabilities that hold, judged on rows that did not fit them."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Tiny, engine, plugin

from trainer import Arrays, Phase, Splits, UsageError, fit, load_model
from trainer.catalog.registry import create_plugin
from trainer.decisions.calibrators import Temperature, sigmoid
from trainer.metrics import BinaryClassification, MulticlassClassification
from trainer.mxnet import mx
from trainer_plugins.calibration import Calibration
from trainer_plugins.threshold_tuner import ThresholdTuner


def noisy(rows, seed, columns=3, classes=2, weighted=False):
    """Normal features; the class is drawn from the softmax of the first ones."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(rows, columns)).astype(np.float32)
    if classes == 2:
        labels = draw.random(rows) < sigmoid(1.5 * features[:, 0])
    else:
        labels = (1.5 * features[:, :classes] + draw.gumbel(size=(rows, classes))).argmax(axis=1)
    weights = draw.uniform(0.5, 2, (rows, 1)).astype(np.float32) if weighted else None
    return Arrays(features, labels.astype(np.float32), weights)


@dataclass
class Sharp(Tiny):
    """Predicts with logits that are three times too large."""

    threshold: float = 0.5
    rows: int = 600
    weighted: bool = False

    defaults = Tiny.defaults

    def splits(self, run):
        return Splits(*(noisy(self.rows, seed, weighted=self.weighted) for seed in range(3)))

    def predictions(self, outputs):
        return (3 * outputs).sigmoid().reshape(-1)


class Several(Sharp):
    """The same of three classes."""

    threshold = None

    def splits(self, run):
        return Splits(*(noisy(self.rows, seed, classes=3) for seed in range(3)))

    def net(self):
        from trainer.mxnet import gluon

        return gluon.nn.Dense(3)

    def loss(self):
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self):
        return [MulticlassClassification(log_loss=True)]

    def predictions(self, outputs):
        return (3 * outputs).softmax(axis=-1)


def trained(task, calibration, *others, **values):
    return engine(task, calibration, *others, **{"epochs": 3, "batch_size": 20, **values}).fit()


@pytest.mark.parametrize("weighted", [False, True])
def test_too_sure_a_net_is_calibrated_and_new_rows_show_it(weighted):
    run = trained(Sharp(weighted=weighted), Calibration())
    metrics = run.metrics
    assert run.calibrator.kind == "temperature"
    assert run.calibrator.temperature == pytest.approx(3, rel=0.3)
    for split in ("validation", "test"):
        assert metrics[f"{split}/calibrated-log-loss"] < 0.9 * metrics[f"{split}/log-loss"]
        assert metrics[f"{split}/calibrated-brier-score"] < metrics[f"{split}/brier-score"]
        assert metrics[f"{split}/calibrated-ece"] < 0.5 * metrics[f"{split}/ece"]
    # The test metrics are those of what the model gives.
    evaluation, judge = run.evaluation, BinaryClassification()
    judge.update(run.calibrated(evaluation.predictions), evaluation.labels, evaluation.weights)
    assert metrics["test/calibrated-log-loss"] == pytest.approx(judge.compute()["log-loss"], abs=1e-9)
    assert metrics["test/calibrated-brier-score"] == pytest.approx(judge.compute()["brier-score"], abs=1e-9)


def test_several_classes_are_calibrated():
    run = trained(Several(), Calibration())
    assert run.calibrator.kind in ("temperature", "vector")
    assert run.metrics["test/calibrated-log-loss"] < 0.9 * run.metrics["test/log-loss"]
    assert run.metrics["test/calibrated-ece"] < 0.5 * run.metrics["test/ece"]
    assert "test/calibrated-brier-score" not in run.metrics
    assert trained(Several(), Calibration(method="vector")).calibrator.kind == "vector"


@pytest.mark.parametrize("method", ["none", "temperature", "platt", "beta", "isotonic"])
def test_a_method_can_be_told(method):
    run = trained(Sharp(), Calibration(method=method))
    assert (run.calibrator and run.calibrator.kind) == (None if method == "none" else method)
    if method == "none":
        for name in ("log-loss", "brier-score"):
            assert run.metrics[f"test/calibrated-{name}"] == pytest.approx(run.metrics[f"test/{name}"], rel=1e-6)
        assert run.metrics["test/calibrated-ece"] == run.metrics["test/ece"]


def test_plain_metrics_stay_those_of_the_net():
    with_it, without = trained(Sharp(), Calibration()), engine(Sharp(), epochs=3, batch_size=20).fit()
    for name, value in without.metrics.items():
        assert with_it.metrics[name] == value


def test_the_validation_metrics_come_from_rows_that_did_not_fit_them():
    """Isotonic regression of rows that say nothing looks good on its own rows, and is worse than the base rate here."""

    class Random(Sharp):
        def splits(self, run):
            found = super().splits(run)
            draw = np.random.default_rng(5)
            found.validation.labels[:] = draw.random(len(found.validation)) < 0.5
            return found

    run = trained(Random(rows=100), Calibration(method="isotonic"))
    own = run.history[-1]
    assert own["validation/calibrated-log-loss"] > np.log(2) - 0.02


def test_it_acts_after_what_measures_and_before_the_threshold_is_tuned():
    seen = []
    looking = plugin("look", phase=Phase.DECIDE, evaluate_end=lambda run: seen.append(run.calibrator))
    tuner, calibration = create_plugin("threshold-tuner", {}, where=""), create_plugin("calibration", {}, where="")
    run = trained(Sharp(), tuner, looking, calibration)
    assert [each.name for each in run.plugins].index("calibration") < [each.name for each in run.plugins].index(
        "threshold-tuner"
    )
    assert all(isinstance(each, Temperature) for each in seen)
    assert isinstance(tuner, ThresholdTuner)


@pytest.mark.parametrize(
    ("calibration", "change", "said"),
    [
        ({}, lambda labels: labels * 0, "the 600 validation rows are all of one class"),
        ({"folds": 7}, lambda labels: np.arange(len(labels)) < 6, "class '1' has 6 of the 600 validation rows, fewer"),
        ({"folds": 5, "method": "platt"}, lambda labels: np.arange(len(labels)) < 4, "fewer than folds (5)"),
    ],
)
def test_rows_that_cannot_calibrate_keep_the_probabilities_and_are_named_once(caplog, calibration, change, said):
    class Odd(Sharp):
        def splits(self, run):
            found = super().splits(run)
            found.validation.labels[:] = change(found.validation.labels)
            return found

    run = trained(Odd(), Calibration(**calibration))
    assert run.calibrator is None
    assert [said in record.message for record in caplog.records] == [True]
    assert run.metrics["validation/calibrated-log-loss"] == pytest.approx(run.metrics["validation/log-loss"])


def test_few_rows_of_several_classes_and_predictions_that_are_nan_keep_them(caplog):
    run = trained(Several(rows=4), Calibration(), batch_size=2)
    assert run.calibrator is None
    assert "4 validation rows are fewer than folds (5)" in caplog.text

    def spoil(run):
        if run.epoch == 2:
            run.evaluation.predictions[3] = np.nan

    run = trained(Sharp(), plugin("spoil", phase=Phase.MEASURE, evaluate_end=spoil), Calibration(), epochs=2)
    assert run.calibrator is None
    assert "1 of the predictions are not numbers" in caplog.text
    assert np.isnan(run.history[-1]["validation/calibrated-log-loss"])


@pytest.mark.parametrize(
    ("task", "method", "said"),
    [
        (Several, "platt", "'platt' is not for several classes"),
        (Sharp, "vector", "'vector' is not for two classes"),
    ],
)
def test_a_method_for_other_numbers_of_classes_is_refused(task, method, said):
    with pytest.raises(UsageError, match=said):
        engine(task(), Calibration(method=method)).fit()


def test_tasks_without_probabilities_and_a_second_plugin_are_refused(caplog):
    class Numbers(Tiny):
        def metrics(self):
            return []

    with pytest.raises(UsageError, match="the task 'tiny' predicts no probabilities"):
        engine(Numbers(), Calibration()).fit()
    suggested = Calibration()
    suggested.suggested = True
    assert engine(Numbers(), suggested, epochs=1).fit().calibrator is None
    both = [create_plugin(name, {}, where="") for name in ("calibration@a", "calibration@b")]
    with pytest.raises(UsageError, match="'calibration@b' calibrates the run's probabilities already"):
        engine(Sharp(), *both).fit()
    engine(Tiny(validation_rows=0), create_plugin("calibration", {}, where=""), epochs=1).fit()
    assert "there are no validation rows" in caplog.text


def test_the_best_weights_have_their_calibrator(tmp_path):
    """Early stopping restores it with them."""
    chosen = {}
    looking = plugin(
        "look", phase=Phase.DECIDE, evaluate_end=lambda run: chosen.setdefault(run.epoch, run.calibrator.to_json())
    )
    stopping = create_plugin(
        "early-stopping", {"monitor": "validation/calibrated-log-loss", "patience": 2, "restore-best": True}, where=""
    )
    run = trained(Sharp(), Calibration(), stopping, looking, epochs=12)
    values = [line["validation/calibrated-log-loss"] for line in run.history]
    best = int(np.argmin(values)) + 1
    assert run.calibrator.to_json() == chosen[best]
    assert run.sign("validation/calibrated-ece") == -1


def test_the_saved_model_gives_calibrated_probabilities(tmp_path):
    made = Calibration(method="platt")
    run = fit("logreg", epochs=2, plugins=[made], runs_dir=tmp_path, seed=3)
    model = load_model(run.folder)
    assert model.calibrator == run.calibrator
    rows = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
    plain = run.task.predictions(model.net(mx.nd.array(rows))).asnumpy()
    found = model.predict(rows)["probability"].to_numpy()
    np.testing.assert_allclose(found, run.calibrator.apply(plain), rtol=1e-6)
    assert (found > model.threshold).astype(int).tolist() == [
        int(each) for each in model.predict(rows)["class"].to_pylist()
    ]


@given(st.sampled_from(["auto", "isotonic"]), st.booleans())
@settings(deadline=None, max_examples=3)
def test_a_run_is_the_same_every_time(method, weighted):
    first, second = (trained(Sharp(rows=100, weighted=weighted), Calibration(method=method)) for _ in range(2))
    assert first.history == second.history
    assert first.copy_decision() == second.copy_decision()


def test_scores_beyond_memory_calibrate_as_well():
    """Two classes from their ranking, several from a sample, which is named with its number of rows."""
    kept, ranked = (trained(Sharp(rows=2500), Calibration(), memory=memory, epochs=1) for memory in ("1GB", "20KB"))
    assert kept.evaluation.kept
    assert not ranked.evaluation.kept
    # Its rows come in another order, so its weights are not quite the same.
    assert ranked.calibrator.temperature == pytest.approx(kept.calibrator.temperature, rel=0.1)
    for name in ("validation/calibrated-log-loss", "test/calibrated-log-loss"):
        assert ranked.metrics[name] == pytest.approx(kept.metrics[name], rel=0.01)


def test_several_classes_beyond_memory_calibrate_on_a_sample(caplog):
    run = trained(Several(rows=2500), Calibration(), memory="20KB", epochs=1)
    assert run.calibrator is not None
    assert "of the 2500 validation rows: --memory does not keep the others" in caplog.text


def test_report_tensorboard_card_and_commands_say_how_it_was_calibrated(tmp_path, capfd):
    """With the reliability before and after."""
    import json

    from trainer.cli.model import evaluate
    from trainer_plugins.report.command import report

    table = noisy(300, 0)
    text = "a,b,c,y\n" + "\n".join(
        f"{a},{b},{c},{y:g}" for (a, b, c), y in zip(table.features, table.labels, strict=True)
    )
    (tmp_path / "data.csv").write_text(text)
    values = {"data": str(tmp_path / "data.csv"), "label": "y", "hidden": (), "epochs": 1, "runs_dir": tmp_path}
    run = fit("logreg", plugins=[Calibration(method="platt"), "report", "tensorboard"], **values)
    said = run.calibrator.describe()
    assert f"calibrated probabilities: {said}" in run.notes
    splits = json.loads((run.folder / "report.json").read_text())["splits"]
    for split in ("validation", "test"):
        found = splits[split]["reliability"]
        assert found["method"] == said
        assert found["before"]["ece"] == run.metrics[f"{split}/ece"]
        assert found["after"]["ece"] == run.metrics[f"{split}/calibrated-ece"]
        assert len(found["after"]["predicted"]) > 1
    report(str(run.folder))
    assert "Before and after calibration" in (run.folder / "report.html").read_text()
    events = b"".join(path.read_bytes() for path in (run.folder / "tensorboard").iterdir())
    assert b"validation/reliability" in events
    assert b"test/reliability" in events
    assert json.loads((run.folder / "model" / "model.json").read_text())["card"]["calibrated"] == said
    capfd.readouterr()
    evaluate(str(run.folder), [str(tmp_path / "data.csv")], as_json=True, memory="auto")
    out, err = capfd.readouterr()
    assert json.loads(out)["calibrated"] == said
    assert f"note: probabilities are calibrated: {said}" in err

"""Operating points are chosen on the validation rows, kept with the best weights, and decided by the saved model."""

import json

import numpy as np
import pytest
from tiny import Tiny, engine, plugin

from trainer import UsageError, fit, load_model
from trainer.catalog.registry import create_plugin
from trainer.decisions import Points
from trainer.testing.tiny import TinyImages, TinyWithThreshold
from trainer_plugins.operating_points import OperatingPoints

POINTS = ("review=recall-at-precision:0.8", "block=fpr:0.05")


def made(name="operating-points", **options):
    found = OperatingPoints(**options)
    found.name = name
    return found


def trained(*plugins, task=None, **values):
    return engine(task or TinyWithThreshold(200, 300, 300), *plugins, **{"batch_size": 20, **values}).fit()


def test_points_are_chosen_on_validation_rows_and_judged_on_both_splits():
    run = trained(made(points=POINTS))
    rule = run.rules["operating-points"]
    (review, low), (block, high) = rule.points
    assert (review, block) == ("review", "block")
    assert 0 < low < high < 1
    metrics = run.metrics
    assert metrics["validation/review-precision"] >= 0.8
    assert metrics["validation/block-fpr"] <= 0.05
    decided = np.array(rule.decisions)[rule.decide(run.evaluation.predictions)]
    labels = run.evaluation.labels.ravel()
    assert metrics["test/block-precision"] == pytest.approx(labels[decided == "block"].mean())
    assert metrics["test/review-recall"] == pytest.approx((decided != "none")[labels == 1].mean())
    assert metrics["test/review-share"] == pytest.approx((decided != "none").mean())
    assert metrics["test/block-threshold"] == high


def test_they_are_those_of_calibrated_probabilities():
    class Halved:
        def apply(self, probabilities):
            return probabilities / 2

        def to_json(self):
            return None

    def calibrate(run):
        run.calibrator = Halved()

    raw = trained(made(points=POINTS)).rules["operating-points"].points
    run = trained(plugin("halving", setup=calibrate), made(points=POINTS))
    halved = run.rules["operating-points"].points
    assert [cut for _, cut in halved] == pytest.approx([cut / 2 for _, cut in raw])
    assert run.metrics["validation/review-precision"] >= 0.8


def test_best_weights_come_back_with_their_points():
    stopping = create_plugin("early-stopping", {"restore-best": True, "monitor": "mine", "mode": "max"}, where="")
    values, kept = iter([1.0, 3.0, 2.0]), []

    def worse(run):
        run.log({"mine": next(values)})

    def keep(run):
        kept.append(run.rules["operating-points"])

    points = made(points=POINTS)
    run = trained(points, plugin("worse", evaluate_end=worse), stopping, plugin("keeps", epoch_end=keep), epochs=3)
    assert run.rules["operating-points"] == kept[1]
    assert kept[1] != kept[2]
    assert run.metrics["test/review-threshold"] == dict(kept[1].points)["review"]


@pytest.mark.parametrize("band", ["accuracy:0.97", "cost:0.2"])
def test_rows_between_two_cut_offs_go_to_a_person(band):
    run = trained(made(band=band, person="clerk"), epochs=1)
    rule, metrics = run.rules["operating-points"], run.metrics
    decided = np.array(rule.decisions)[rule.decide(run.evaluation.predictions)]
    labels = run.evaluation.labels.ravel()
    assert set(rule.decisions) == {"0", "clerk", "1"}
    share = (decided == "clerk").mean()
    assert metrics["test/band-share"] == pytest.approx(share)
    own = decided != "clerk"
    right = (decided[own] == "1") == (labels[own] == 1)
    assert metrics["test/band-accuracy"] == pytest.approx(right.mean())
    if band.startswith("acc"):
        assert metrics["validation/band-accuracy"] >= 0.97
        assert metrics["test/band-cost"] == pytest.approx((own.sum() - right.sum()) / len(own))
    else:
        assert metrics["test/band-cost"] == pytest.approx((own.sum() - right.sum() + 0.2 * (~own).sum()) / len(own))


def test_a_cost_matrix_decides_between_several_classes(tmp_path):
    matrix = "0,1,1; 1,0,1; 20,20,0"
    run = trained(made(cost_matrix=matrix), task=TinyImages(30, 30), folder=tmp_path / "run")
    costs = np.array(run.rules["operating-points"].costs)
    found, labels = run.evaluation.predictions, run.evaluation.labels.argmax(axis=1)
    decided = (found.astype(float) @ costs).argmin(axis=1)
    assert run.metrics["validation/decision-cost"] == pytest.approx(costs[labels, decided].mean())
    assert run.metrics["validation/argmax-cost"] == pytest.approx(costs[labels, found.argmax(axis=1)].mean())
    described = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert described["rules"][0]["decisions"] == ["top", "middle", "bottom"]


def test_the_saved_model_writes_the_decisions_of_two_instances(tmp_path):
    plugins = [made(points=POINTS), made("operating-points@person", band="cost:0.2")]
    run = fit("logreg", train_rows=200, validation_rows=200, epochs=1, plugins=plugins, runs_dir=tmp_path)
    rows = np.random.default_rng(0).normal(size=(50, 10))
    table = load_model(run.folder).predict(rows)
    assert table.column_names == ["probability", "class", "decision", "decision-person"]
    for name, column in (("operating-points", "decision"), ("operating-points@person", "decision-person")):
        rule = run.rules[name]
        expected = np.array(rule.decisions)[rule.decide(table["probability"].to_numpy())]
        assert table[column].to_pylist() == expected.tolist()
    assert {"validation/band-share-person", "validation/review-recall"} <= run.metrics.keys()


# ---- what it refuses, and what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": POINTS, "band": "cost:1"}, "points and band decide in different ways; use two instances"),
        ({"points": ("a=f1", "a=mcc")}, "the name 'a' is there twice"),
        ({"band": "cost:0"}, "'cost:0' is not a band"),
        ({"band": "accuracy:0.3"}, "from 0.5 to 1"),
        ({"fairness": "equal-opportunity"}, "fairness needs group"),
        ({"points": POINTS, "group": "sex"}, "group is for fairness"),
        ({"band": "cost:1", "false_positive_cost": 0.0, "false_negative_cost": 0.0}, "both costs are 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises((UsageError, ValueError)) as caught:
        OperatingPoints(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (TinyWithThreshold(), {}, "it has nothing to decide. Give one of points="),
        (Tiny(), {"points": POINTS}, "points is for two classes, and the task 'tiny' has none"),
        (TinyImages(), {"band": "cost:1"}, "has 3. For more classes give cost-matrix"),
        (TinyImages(), {"cost_matrix": "0,1;1,0"}, "the matrix is 2 × 2, and there are 3 classes: top, middle, bottom"),
        (Tiny(), {"cost_matrix": "0,1;1,0"}, "the task 'tiny' has no classes"),
        (
            TinyWithThreshold(validation_rows=0),
            {"points": POINTS},
            "there are no validation rows to choose on",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_refused(task, options, message):
    with pytest.raises(UsageError) as caught:
        trained(made(**options), task=task)
    assert message in str(caught.value)


def test_too_few_rows_or_one_class_decide_nothing_and_say_so(caplog):
    run = trained(made(points=POINTS), task=TinyWithThreshold(20, 5))
    assert (run.rules, [name for name in run.metrics if "review" in name]) == ({}, [])
    assert [each.message for each in caplog.records].count(
        "operating-points: 5 validation rows are fewer than min-rows (20)."
    ) == 1


def test_cut_offs_that_contradict_the_listed_order_are_said_once_at_the_end(caplog):
    points = ("rare=share:0.05", "often=threshold:0.01", "never=recall-at-precision:1.0")
    run = trained(made(points=points), epochs=1)
    said = [each.message for each in caplog.records if each.message.startswith("operating-points")]
    assert any("'often', listed after 'rare', has the lower cut-off" in text for text in said)
    assert len(said) == len(set(said))
    rule = run.rules["operating-points"]
    assert isinstance(rule, Points)
    assert rule.decisions[1] == "often"

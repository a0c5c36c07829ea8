"""Class weights change which rows the loss looks at, and not what a probability means."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import log_loss

from trainer import UsageError, fit, load_model
from trainer.decisions import without_class_weights
from trainer.decisions.calibrators import sigmoid
from trainer.metrics import MulticlassClassification
from trainer.model.coefficients import linear_of
from trainer.sklearn import GluonClassifier


def rare(rows, seed):
    """Six normal features; class 1 with probability σ(1.2 x₀ + x₁ - 4)."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(rows, 6))
    return features, (draw.random(rows) < sigmoid(1.2 * features[:, 0] + features[:, 1] - 4)).astype(int)


def several(rows, seed):
    """Three classes, the last of which are rare."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(rows, 6))
    scores = features[:, :3] * 1.2 + np.array([2.5, 0.5, 0])
    return features, (scores + draw.gumbel(size=scores.shape)).argmax(axis=1)


def written(path, features, labels):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*"abcdef", "y"])
        writer.writerows([*row, int(label)] for row, label in zip(features.tolist(), labels, strict=True))
    return path


def trained(path, folder, **options):
    values = {"hidden": (), "solver": "lbfgs", "test_split": 0.0, "seed": 1, **options}
    if values["solver"] is None:
        del values["solver"]
    return fit("logreg", data=str(path), label="y", runs_dir=folder, without=["progress"], **values)


def probabilities(run, features):
    found = load_model(run.folder).predict(features)
    names = [name for name in found.column_names if name.startswith("probability")]
    return np.column_stack([found[name].to_numpy() for name in names]), found["class"].to_numpy()


def test_balanced_classes_cost_no_log_loss_on_new_rows(tmp_path):
    path = written(tmp_path / "rare.csv", *rare(4000, 0))
    plain, balanced, kept = (
        trained(path, tmp_path, **options)
        for options in (
            {},
            {"class_weight": "balanced"},
            {"class_weight": "balanced", "keep_weighted_probabilities": True},
        )
    )
    features, labels = rare(50_000, 1)
    losses = {}
    decided = {}
    for name, run in (("plain", plain), ("balanced", balanced), ("kept", kept)):
        found, classes = probabilities(run, features)
        losses[name] = log_loss(labels, found[:, 0])
        given = load_model(run.folder).about.threshold.given
        decided[name] = found[:, 0] > given
        assert len(classes) == len(labels)
    assert losses["balanced"] == pytest.approx(losses["plain"], rel=0.01)
    assert losses["kept"] > 2 * losses["plain"]
    # The decisions are those of the weighted net, and so are all metrics of decisions.
    assert (decided["balanced"] == decided["kept"]).all()
    for name in ("f1", "recall", "accuracy"):
        assert balanced.metrics[f"validation/{name}"] == kept.metrics[f"validation/{name}"]
    assert balanced.metrics["validation/log-loss"] < 0.5 * kept.metrics["validation/log-loss"]
    # What is minimized is the same.
    assert balanced.metrics["train/loss"] == kept.metrics["train/loss"]
    assert any("the threshold 0.5 becomes 0.0" in note for note in balanced.task.notes())
    assert any("probabilities keep these weights" in note for note in kept.task.notes())
    assert not any("weighs rows" in note for note in plain.task.notes())
    # The coefficients are those of the probabilities.
    model = load_model(balanced.folder)
    linear = linear_of(model)
    values = np.array([each.values[0] for each in linear.coefficients])
    logit = features[:50] @ values + linear.intercepts[0]
    np.testing.assert_allclose(sigmoid(logit), probabilities(balanced, features[:50])[0][:, 0], rtol=1e-4)


def test_several_classes_are_corrected_and_decided_as_before(tmp_path):
    path = written(tmp_path / "several.csv", *several(3000, 0))
    plain, balanced, kept = (
        trained(path, tmp_path, **options)
        for options in (
            {},
            {"class_weight": "balanced"},
            {"class_weight": "balanced", "keep_weighted_probabilities": True},
        )
    )
    features, labels = several(20_000, 1)
    found = {name: probabilities(run, features) for name, run in (("p", plain), ("b", balanced), ("k", kept))}
    loss = {name: log_loss(labels, given) for name, (given, _) in found.items()}
    assert loss["b"] == pytest.approx(loss["p"], rel=0.01)
    assert loss["k"] > 1.2 * loss["p"]
    np.testing.assert_array_equal(found["b"][1], found["k"][1])
    for name in ("macro-f1", "accuracy", "recall/2"):
        assert balanced.metrics[f"validation/{name}"] == kept.metrics[f"validation/{name}"]
    # The report counts what is decided.
    counts = [json.loads((run.folder / "report.json").read_text())["splits"]["validation"] for run in (balanced, kept)]
    assert counts[0]["classes"] == counts[1]["classes"]
    assert counts[0]["by_class"] == counts[1]["by_class"]
    linear = linear_of(load_model(balanced.folder))
    values = np.array([each.values for each in linear.coefficients])
    scores = np.exp(features[:20] @ values + np.array(linear.intercepts))
    np.testing.assert_allclose(scores / scores.sum(axis=1, keepdims=True), found["b"][0][:20], rtol=1e-3)
    np.testing.assert_allclose(
        balanced.predict_proba(dict(zip("abcdef", features[:20].T, strict=True))), found["b"][0][:20], rtol=1e-5
    )


def test_a_given_threshold_stays_and_a_resumed_run_keeps_the_moved_one(tmp_path):
    path = written(tmp_path / "rare.csv", *rare(400, 0))
    options = {"class_weight": "balanced", "solver": None, "batch_size": 50}
    run = trained(path, tmp_path, threshold=0.3, epochs=1, **options)
    assert run.task.threshold == load_model(run.folder).about.threshold.given == 0.3
    whole = trained(path, tmp_path, epochs=2, **options)
    assert load_model(whole.folder).about.threshold.given == whole.task.threshold < 0.1


def test_keeping_weights_that_there_are_none_of_is_refused(tmp_path):
    path = written(tmp_path / "rare.csv", *rare(100, 0))
    with pytest.raises(UsageError, match="the classes have no weights"):
        trained(path, tmp_path, keep_weighted_probabilities=True)


@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 12.0}])
def test_the_classifier_for_scikit_learn_has_corrected_probabilities(weight):
    features, labels = rare(1500, 0)
    new, truth = rare(5000, 1)
    values = {"hidden": (), "epochs": 10, "random_state": 0}
    plain = GluonClassifier(**values).fit(features, labels)
    weighted = GluonClassifier(class_weight=weight, **values).fit(features, labels)
    losses = [log_loss(truth, each.predict_proba(new)) for each in (plain, weighted)]
    assert losses[1] == pytest.approx(losses[0], rel=0.08)
    assert weighted.predict(new).mean() > 3 * plain.predict(new).mean()
    # It decides as the logits of the weighted net do.
    assert (weighted.predict(new) == (weighted.decision_function(new) > 0)).mean() > 0.9999


def test_dividing_by_weights_undoes_them():
    draw = np.random.default_rng(0)
    given = draw.dirichlet([1, 1, 1], 20)
    weights = np.array([0.5, 2.0, 7.0])
    weighted = given * weights / (given * weights).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(without_class_weights(weighted, weights), given)
    two = given[:, 0]
    both = two * 3 / (two * 3 + (1 - two) * 0.5)
    np.testing.assert_allclose(without_class_weights(both, np.array([0.5, 3.0])), two)
    metric = MulticlassClassification(log_loss=True, class_weights=weights)
    metric.update(given, (weighted).argmax(axis=1), None)
    assert metric.compute()["accuracy"] == 1

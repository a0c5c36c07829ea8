"""Metrics by slice are those of the slice's rows; small slices are one; the gap can be watched."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import engine

from trainer import UsageError, fit, load_model
from trainer.catalog.registry import create_plugin
from trainer.data import Slices
from trainer.decisions import codes_of
from trainer.metrics import BinaryClassification
from trainer.testing.tiny import TinyWithThreshold
from trainer_plugins.conformal import Conformal
from trainer_plugins.operating_points import OperatingPoints
from trainer_plugins.slices import SliceMetrics, merged


def table(rows=1500, seed=0):
    """Two numbers, a label that one group's rows have more noise in, and the group."""
    generator = np.random.default_rng(seed)
    x, group = generator.normal(size=(rows, 2)), generator.choice(["a", "b", "rare"], rows, p=[0.6, 0.39, 0.01])
    noise = np.where(group == "b", 2.0, 0.3) * generator.normal(size=rows)
    return pa.table({"x": x[:, 0], "z": x[:, 1], "group": group, "y": np.where(x[:, 0] + noise > 0.5, "yes", "no")})


def trained(*plugins, **values):
    options = {
        "data": table(), "label": "y", "ignore": ("group",), "slice": ("group",), "validation_split": 0.3,
        "test_split": 0.3, "epochs": 2, "without": ("progress", "tensorboard", "report", "checkpoint"),
    }  # fmt: skip
    return fit("logreg", plugins=list(plugins), **{**options, **values})


def test_metrics_are_those_of_the_rows_and_small_slices_are_together():
    run = trained(SliceMetrics(bootstrap=50))
    found, slices = run.evaluation, run.slices("test")["group"]
    for number, name in enumerate(slices.names[:2]):
        metric, own = BinaryClassification(), slices.codes == number
        metric.update(found.predictions[own], found.labels[own], None)
        for key, value in metric.compute().items():
            assert run.metrics[f"test/slice/group={name}/{key}"] == pytest.approx(value)
        start = f"test/slice/group={name}/accuracy"
        assert run.metrics[f"{start}-low"] <= run.metrics[start] <= run.metrics[f"{start}-high"]
    by_name = [run.metrics[f"validation/slice/group={name}/accuracy"] for name in slices.names]
    assert run.metrics["validation/slice-gap/group/accuracy"] == pytest.approx(max(by_name) - min(by_name))
    assert "test/slice-gap/group/true-positives" not in run.metrics
    assert run.direction("validation/slice/group=a/log-loss") == "min"


def test_early_stopping_watches_the_gap_and_a_mistyped_one_is_refused():
    options = {"monitor": "validation/slice-gap/group/accuracy", "patience": 0}
    stopping = create_plugin("early-stopping", options, where="")
    assert trained(SliceMetrics(bootstrap=0), stopping, epochs=30).status == "stopped"
    wrong = create_plugin("early-stopping", {"monitor": "validation/slices/group/f1"}, where="")
    with pytest.raises(UsageError, match="'validation/slices/group/f1' is not logged"):
        trained(SliceMetrics(), wrong)


def test_without_slices_it_is_refused():
    made = SliceMetrics()
    made.name = "slices"
    with pytest.raises(UsageError, match=r"there are no slices of validation or test rows\. Name a column: --slice"):
        engine(TinyWithThreshold(), made).fit()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 10), st.integers(1, 7))
def test_merged_slices_keep_every_row_once_and_the_large_ones_their_names(drawn, min_rows, most):
    names, codes = ["a", "b", "other", "d", "e", "f", "unused"], np.array(drawn)
    new, numbers = merged(names, codes, min_rows, most)
    assert len(new) == len(set(new)) <= most + 1
    assert set(numbers) == set(range(len(new)))
    for name, number in zip(new, range(len(new)), strict=True):
        own = set(codes[numbers == number].tolist())
        assert own == {names.index(name)} if name in names else len(own) > 1 or most <= len(new)
    kept = {name for name in new if name in names}
    assert all(
        (codes == place).sum() < min_rows or name in kept or len(kept) >= most for place, name in enumerate(names)
    )


def test_slices_of_the_data_have_the_texts_by_which_rules_find_groups():
    column = pa.array([1.0, None, 2.0])
    slices = Slices(np.array([0, 2, 1], np.int32), ["1", "2", "missing"])
    assert codes_of(column, slices.names).tolist() == slices.codes.tolist()


# ---- what else uses slices -------------------------------------------------------------------------------------------


def test_sets_are_covered_in_each_group_and_the_model_reads_the_column(tmp_path):
    run = trained(Conformal(group="group"), calibration_split=0.3, runs_dir=tmp_path, name="one", data=table(4000))
    bounds = run.rules["conformal"].bounds
    assert {"a", "b"} <= set(bounds.by_group)
    assert bounds.by_group["a"] < bounds.by_group["b"]
    for name in ("a", "b"):
        assert run.metrics[f"test/coverage/group={name}"] == pytest.approx(0.9, abs=0.05)
    model, new = load_model(run.folder), table(50, seed=1)
    assert model.reads == ["group"]
    found = model.predict(new)
    own = bounds.of_rows(50, {"group": new["group"]})
    assert found["set"].to_pylist() == [
        [name for _, name in sorted([(-p, "yes"), (p - 1, "no")]) if (1 - p if name == "yes" else p) <= bound]
        for p, bound in zip(found["probability"].to_numpy().astype(float), own, strict=True)
    ]
    with pytest.raises(UsageError, match="columns are missing that the model's decisions read: group"):
        model.predict(new.drop(["group"]))
    with pytest.raises(UsageError, match=r"'z' is not a column of --slice\. Add --slice z"):
        trained(Conformal(group="z"), calibration_split=0.3)


@pytest.mark.parametrize("constraint", ["equal-opportunity", "demographic-parity"])
def test_fair_thresholds_keep_the_gap_on_the_rows_that_chose_them(constraint, caplog):
    run = trained(OperatingPoints(fairness=constraint, group="group", max_gap=0.01), data=table(4000))
    rule = run.rules["operating-points"]
    assert set(rule.thresholds) == {"a", "b"}
    assert run.metrics["validation/fairness-gap"] <= 0.01 + 1e-9
    assert run.metrics["test/fairness-gap"] < 0.2
    assert run.metrics["validation/group-threshold/group=a"] == rule.thresholds["a"]
    assert "group=rare has too few" in caplog.text

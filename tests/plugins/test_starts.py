"""Where nets of tables start: the best constant prediction, or random weights."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import weights

from trainer import NumberLoss, UsageError, fit
from trainer.mxnet import gluon, mx
from trainer_plugins.logreg import LogisticRegression
from trainer_plugins.table_starts import levels

QUIET = ["progress", "metrics-log", "threshold-tuner", "checkpoint", "tensorboard", "report"]
ROWS = 90
generator = np.random.default_rng(4)
FEATURES = {"a": generator.normal(size=ROWS), "b": generator.normal(size=ROWS)}
WEIGHTS = np.arange(ROWS) % 4 + 1.0


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("hidden", "optimizer", "is_said"), [("4", "ftrl", True), ("", "ftrl", False), ("4", "adam", False)]
)
def test_ftrl_with_hidden_layers_gets_a_note(caplog, hidden, optimizer, is_said):
    fit("logreg", hidden=hidden, optimizer=optimizer, train_rows=20, epochs=1, runs_dir=None, without=QUIET)
    assert ("ftrl pulls every weight to 0" in caplog.text) == is_said


def started(task, label, **options):
    """The last layer's weights and bias before the first step."""
    pq.write_table(pa.table({**FEATURES, "w": WEIGHTS, "y": label}), "rows.parquet")
    table = {"data": "rows.parquet", "label": "y", "validation_split": 0, "test_split": 0}
    if "sample_weight" not in options:
        table["ignore"] = "w"
    quiet = QUIET if task == "logreg" else [name for name in QUIET if name != "threshold-tuner"]
    still = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0, "runs_dir": None, "without": quiet}
    run = fit(task, **{"hidden": "", **table, **still, **options})
    *_, weight, bias = weights(run)
    return weight, bias


def two(share=0.3):
    return np.where(np.arange(ROWS) < share * ROWS, "yes", "no")


def test_two_classes_start_at_the_log_odds():
    weight, bias = started("logreg", two())
    assert not weight.any()
    np.testing.assert_allclose(bias, [np.log(0.3 / 0.7)], rtol=1e-6)


def test_weights_of_rows_and_classes_count():
    share = WEIGHTS[two() == "yes"].sum() / WEIGHTS.sum()
    _, bias = started("logreg", two(), sample_weight="w")
    np.testing.assert_allclose(bias, [np.log(share / (1 - share))], rtol=1e-5)
    _, bias = started("logreg", two(), class_weight="balanced")
    np.testing.assert_allclose(bias, [0], atol=1e-6)


def test_several_classes_start_at_the_centred_logs_of_their_shares():
    label = np.repeat(["p", "q", "r"], [45, 30, 15])
    weight, bias = started("logreg", label)
    logs = np.log([45, 30, 15])
    assert not weight.any()
    np.testing.assert_allclose(bias, logs - logs.mean(), rtol=1e-5)


NUMBERS = np.random.default_rng(7).gamma(2, 30, ROWS).round(1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, NUMBERS.mean()),
        ({"sample_weight": "w"}, np.average(NUMBERS, weights=WEIGHTS)),
        ({"objective": "absolute"}, np.median(NUMBERS)),
        ({"objective": "huber"}, np.median(NUMBERS)),
        ({"objective": "quantile"}, np.quantile(NUMBERS, [0.1, 0.5, 0.9])),
        ({"objective": "poisson", "sample_weight": "w"}, np.average(NUMBERS, weights=WEIGHTS)),
    ],
    ids=["squared", "weighted", "absolute", "huber", "quantile", "poisson"],
)
def test_numbers_start_at_their_mean_median_or_quantiles(options, expected):
    weight, bias = started("linreg", NUMBERS, **options)
    assert not weight.any()
    objective = options.get("objective", "squared")
    loss = NumberLoss.of(
        objective,
        offset=0 if objective == "poisson" else NUMBERS.mean(),
        scale=NUMBERS.mean() if objective == "poisson" else NUMBERS.std(),
        quantiles=(0.1, 0.5, 0.9) if objective == "quantile" else (0.5,),
    )
    predicted = loss.predictions(mx.nd.array(bias.reshape(1, -1))).asnumpy().reshape(-1)
    between = 3 if objective in ("absolute", "huber", "quantile") else 1e-3  # two rows may both be the median
    np.testing.assert_allclose(predicted, np.atleast_1d(expected), atol=between)


def test_hidden_layers_and_generated_rows_start_randomly_unless_told():
    weight, bias = started("logreg", two(), hidden=(3,))
    assert weight.all()
    assert not bias.any()
    weight, bias = started("logreg", two(), hidden=(3,), start="zero")
    assert not weight.any()
    np.testing.assert_allclose(bias, [np.log(0.3 / 0.7)], rtol=1e-6)
    assert started("logreg", two(), start="random")[0].all()
    still = {"epochs": 1, "learning_rate": 0, "train_rows": 50, "hidden": "", "runs_dir": None, "without": QUIET}
    assert all(value.all() for value in weights(fit("logreg", **still)) if value.ndim == 2)
    assert not any(value.any() for value in weights(fit("logreg", start="zero", **still)) if value.ndim == 2)


def one_layer(outputs):
    return gluon.nn.Dense(outputs)


def test_a_net_of_your_own_starts_as_it_does():
    with pytest.raises(UsageError, match="the net is your own"):
        fit(LogisticRegression(network=one_layer, start="zero"), runs_dir=None)
    task = LogisticRegression(network=one_layer)
    assert weights(fit(task, epochs=1, learning_rate=0, runs_dir=None, without=QUIET))[0].all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.floats(-100, 100, allow_nan=False), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
)
def test_quantiles_start_in_order_whatever_the_labels(labels, tenths):
    tenths = sorted(tenths)
    found = levels(np.array(labels), np.ones(len(labels)), [each / 10 for each in tenths])
    assert np.isfinite(found).all()
    steps = np.logaddexp(found[1:], 0)
    expected = [sorted(labels)[int(np.ceil(len(labels) * each / 10)) - 1] for each in tenths]
    np.testing.assert_allclose(found[0] + np.concatenate([[0], np.cumsum(steps)]), expected, atol=0.01)
